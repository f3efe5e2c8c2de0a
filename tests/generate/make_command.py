"""Commands with real files around them, for the shipped small model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from remind.data.video_io import write_video
from remind.generate.command import GenerateCommand
from remind.generate.manifest import Manifest
from remind.generate.run import generate
from tests.inference.make_session import clean, nano


def make_files(folder: Path) -> Path:
    """start.png and moves.mp4 (81 frames) of a world scene, lights.txt."""
    folder.mkdir(exist_ok=True)
    Image.fromarray(clean(1)[0].numpy()).save(folder / "start.png")
    write_video(folder / "moves.mp4", clean(81), 16)
    (folder / "lights.txt").write_text("1: the lights go off\n2: the lights come back\n")
    return folder


def command(out: Path, **asked: Any) -> GenerateCommand:
    """Three chunks, of one denoising pass each."""
    asked = {"prompt": "a tank fills slowly", "chunks": 3, "steps": 1, "seed": 5, "device": "cpu", **asked}
    return GenerateCommand(out, **asked)


def make(out: Path, **asked: Any) -> Manifest:
    return generate(command(out, **asked), nano(), say=lambda _: None)
