"""The video behind a score, as a file of the run, and what a record says of it."""

from __future__ import annotations

import hashlib

from jaxtyping import UInt8
from torch import Tensor

from remind.data.video_io import encode_mp4
from remind.errors import InputError
from remind.evaluation.eval_run import EvalRun
from remind.prompt_schedule import FPS
from remind.whole_file import whole_file


def keep_video(run: EvalRun, name: str, rgb: UInt8[Tensor, "t h w 3"]) -> dict[str, str]:
    """Write a video of a run: path from its folder, and hash.

    Scores are read off the frames before they are compressed; the file is for eyes, and for tracing.

    Raises:
        InputError: it cannot be written.
    """
    data, path = encode_mp4(rgb, FPS), run.video(name)
    try:
        with whole_file(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise InputError("the evaluation cannot be written", got=f"{path}: {error.strerror}",
                         fix="make room, or choose another --out; run it again to go on") from None  # fmt: skip
    return {"path": path.relative_to(run.folder).as_posix(), "sha256": hashlib.sha256(data).hexdigest()}
