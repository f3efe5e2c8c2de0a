"""What a user gives, as frames of the model's size and rate; a sentence says each liberty that is taken."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from remind.data.video_io import probe, sample, shown
from remind.errors import InputError
from remind.frame_graph import frames_of_chunk, num_chunks
from remind.generate.pictures import DEFAULT_LIMITS, PictureLimits, decode_picture, scaling_notices

FPS = 16
"""Frames per second of the models."""
SHORTEST = frames_of_chunk(0).stop
"""Frames of the shortest prefix, one chunk: 9, or 0.56 s."""

Notice = str
"""One sentence on how an input was adapted; for the console and the manifest."""


@dataclass(frozen=True)
class Given:
    """An input as it enters generation.

    Args:
        rgb: frames, sRGB; one for a picture.
        sha256: of the file's bytes.
        notices: how it was adapted, in the order of what was done.
    """

    rgb: UInt8[Tensor, "t h w 3"]
    sha256: str
    notices: tuple[Notice, ...]


def read_picture(
    path: Path,
    hw: tuple[int, int],
    *,
    background: tuple[int, int, int] = (255, 255, 255),
    limits: PictureLimits = DEFAULT_LIMITS,
) -> Given:
    """One picture of any kind, upright, opaque, in sRGB; arguments and errors as `decode_picture`."""
    rgb, notices = decode_picture(path, hw, background=background, limits=limits)
    return Given(torch.from_numpy(rgb.copy())[None], file_sha256(path), notices)


def read_prefix(
    path: Path,
    hw: tuple[int, int],
    *,
    max_frames: int,
    fps: int = FPS,
    start_s: float = 0.0,
    hold: bool = False,
) -> Given:
    """The beginning of a video from `start_s` on, in whole chunks: 12k - 3 frames.

    Our choice: what does not fill a chunk is left out at the end, so that `start_s` names the first frame always.

    Args:
        hw: size that the model needs; frames are scaled to cover it and their middle is kept.
        max_frames: most frames to return, >= 9.
        fps: of the frames that are returned, > 0.
        start_s: where in the video to start, s, >= 0, from its first picture.
        hold: a video shorter than one chunk is held at its last picture, instead of being refused.

    Raises:
        VideoError: a video that cannot be read.
        InputError: a picture, a start beyond the end, or a video shorter than one chunk.
    """
    if not (math.isfinite(start_s) and start_s >= 0):
        raise InputError("a video is read from a time on", got=f"start {start_s} s", expected="0 or more seconds")
    if max_frames < SHORTEST:
        raise InputError("a prefix is at least one chunk", got=f"{max_frames} frames", expected=f"{SHORTEST} or more")
    info = probe(path)
    if info.container.endswith("_pipe"):
        raise InputError(f"{path.name} is a picture", got=info.codec, expected="a video",
                         fix="give it as --image")  # fmt: skip
    start_pts = None
    if start_s > 0:
        first = next(shown(path, fps=fps)).pts  # a transport stream does not start at 0
        start_pts = first + int(start_s / info.time_base)
    frames: list[np.ndarray] = []
    longer = False
    for item in sample(path, fps=fps, hw=hw, start_pts=start_pts):
        longer = len(frames) == max_frames
        if longer:
            break
        frames.append(item.rgb)
    notices = scaling_notices(path.name, info.hw, hw)
    if info.fps is not None and abs(float(info.fps) - fps) > 0.01 * fps:
        notices.append(f"{path.name} has {float(info.fps):.4g} fps: pictures are shown at {fps} fps, "
                       f"{'repeated' if info.fps < fps else 'left out'} as a viewer would see them")  # fmt: skip
    if not frames:
        raise InputError(f"{path.name}: the start lies behind the end", got=f"start {start_s:g} s",
                         expected=f"less than {_length(path, fps)}", fix="start earlier")  # fmt: skip
    if len(frames) < SHORTEST:
        frames = _held(frames, path.name, start_s, fps, hold, notices)
    kept = _whole_chunks(len(frames))
    if kept < len(frames):
        more = " at least" if longer else ""
        notices.append(f"{path.name}: {kept} frames, {num_chunks(kept)} whole chunks, are used; the last{more} "
                       f"{len(frames) - kept + longer} of its frames from {start_s:g} s on are left out")  # fmt: skip
    elif longer:
        notices.append(f"{path.name}: the {kept} frames from {start_s:g} s on are used, the video goes on after them")
    return Given(torch.from_numpy(np.stack(frames[:kept])), file_sha256(path), tuple(notices))


def file_sha256(path: Path) -> str:
    """Of a file's bytes, in hex.

    Raises:
        InputError: a file that cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError("the file cannot be read", got=f"{path}: {error.strerror}",
                         fix="check the path and its permissions") from None  # fmt: skip


def _whole_chunks(num_frames: int) -> int:
    """The most frames up to this many that are whole chunks."""
    chunk = len(frames_of_chunk(1))
    return SHORTEST + (num_frames - SHORTEST) // chunk * chunk


def _held(
    frames: list[np.ndarray], name: str, start_s: float, fps: int, hold: bool, notices: list[Notice]
) -> list[np.ndarray]:
    if not hold:
        raise InputError(f"{name}: shorter than one chunk",
                         got=f"{len(frames)} frames at {fps} fps from {start_s:g} s on",
                         expected=f"{SHORTEST} frames or more ({SHORTEST / fps:.2f} s at {fps} fps)",
                         fix="use a longer video, start earlier, hold its last frame (--hold), or give an --image",
                         )  # fmt: skip
    missing = SHORTEST - len(frames)
    notices.append(f"{name} has only {len(frames)} frames: its last one is held for {missing} more, "
                   "so it seems to stand still there")  # fmt: skip
    return frames + [frames[-1]] * missing


def _length(path: Path, fps: int) -> str:
    """How long a video is that turned out too short for its start."""
    return f"{sum(1 for _ in shown(path, fps=fps)) / fps:.2f} s"
