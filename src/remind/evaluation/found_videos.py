"""A folder of anyone's videos against the names that a test set expects: what is there, what is not, and why."""

from __future__ import annotations

import difflib
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from jaxtyping import UInt8
from torch import Tensor

from remind.data.video_io import decode_all, probe
from remind.errors import InputError, RemindError

Problem = Literal["missing", "truncated or damaged", "wrong length", "wrong size"]


@dataclass(frozen=True)
class FoundVideos:
    """What a folder holds.

    Args:
        paths: by example, of the videos that are there.
        missing: examples without a video, and a file that may have been meant, or "".
        extra: names of mp4 files that no example expects.
    """

    paths: Mapping[str, Path]
    missing: Mapping[str, str]
    extra: tuple[str, ...]


class VideoProblem(RemindError):
    """A video that cannot be scored; `kind` is what is counted."""

    def __init__(self, kind: Problem, *, got: object, expected: object):
        super().__init__(f"the video cannot be scored: {kind}", got=got, expected=expected)
        self.kind = kind


def find_videos(folder: Path, expected: Mapping[str, str]) -> FoundVideos:
    """Compare a folder with what is expected.

    Args:
        expected: file name, relative to the folder, of each example.

    Raises:
        InputError: no such folder, or none of the expected videos in it.
    """
    if not folder.is_dir():
        raise InputError("no such folder of videos", got=folder)
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*.mp4")}
    paths = {example: folder / name for example, name in expected.items() if name in there}
    extra = sorted(there - set(expected.values()))
    if not paths:
        raise InputError("none of the expected videos is in the folder", got=f"{folder}: {extra[:3] or 'no mp4 files'}",
                         expected=f"e.g. {next(iter(expected.values()))}")  # fmt: skip
    meant = {example: next(iter(difflib.get_close_matches(name, extra, 1, 0.8)), "")
             for example, name in expected.items() if name not in there}  # fmt: skip
    return FoundVideos(paths, meant, tuple(extra))


def read_video(
    path: Path, *, num_frames: int | None = None, hw: tuple[int, int] | None = None
) -> UInt8[Tensor, "t h w 3"]:
    """All frames of a video, exactly as many and as large as expected.

    Raises:
        VideoProblem: damaged, of another length, or of another size.
    """
    try:
        info = probe(path)
        if hw is not None and tuple(info.hw) != hw:
            raise VideoProblem("wrong size", got=f"{path.name}: {info.hw}", expected=hw)
        frames = decode_all(path)
    except VideoProblem:
        raise
    except RemindError as error:
        raise VideoProblem("truncated or damaged", got=str(error), expected="a whole video") from None
    if num_frames is not None and len(frames) != num_frames:
        raise VideoProblem("wrong length", got=f"{path.name}: {len(frames)} frames", expected=num_frames)
    return frames


def sha256_of(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
