"""Generation from files: pictures, videos, words and camera paths in; mp4 and manifest out.

`command` is what a user says, `prepare` reads what it names, `run` makes the video, `manifest` says how it was made,
`batch` does many.
"""

from remind.generate.command import GenerateCommand
from remind.generate.manifest import Manifest
from remind.generate.run import generate, generate_again

__all__ = ["GenerateCommand", "Manifest", "generate", "generate_again"]
