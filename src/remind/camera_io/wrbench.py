"""WRBench's camera grammar: `yaw:left:60@40,yaw:right:60@41`, degrees or units over frames.

Moves joined by `+` share their frames. Turns are about the camera's own axes; `pan` (sideways), `dolly` and `crane`
move along the axes of the first camera, however it has turned. A segment's first frame is still where the one
before ended, its last frame is where it leads; that is how the benchmark's own reference trajectories are built.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor

from remind.camera_io.strings import whole_ends
from remind.errors import CameraError
from remind.geometry import rotation_pitch, rotation_roll, rotation_yaw

_MAX_TEXT = 10_000
_MAX_AMOUNT = 1e4
_NUMBER = r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:e[+-]?[0-9]{1,3})?"
_MOVE = re.compile(rf"([a-z]+):([a-z]+):({_NUMBER})")
_TURNS = {
    ("yaw", "right"): 1, ("yaw", "left"): -1, ("pitch", "up"): 1, ("pitch", "down"): -1,
    ("roll", "left"): 1, ("roll", "ccw"): 1, ("roll", "right"): -1, ("roll", "cw"): -1,
}  # fmt: skip
_SHIFTS = {
    ("pan", "right"): (1, 0, 0), ("pan", "left"): (-1, 0, 0), ("crane", "up"): (0, -1, 0), ("crane", "down"): (0, 1, 0),
    ("dolly", "forward"): (0, 0, 1), ("dolly", "back"): (0, 0, -1), ("dolly", "backward"): (0, 0, -1),
}  # fmt: skip
_ROTATIONS = {"yaw": rotation_yaw, "pitch": rotation_pitch, "roll": rotation_roll}


@dataclass(frozen=True)
class _Segment:
    turns: tuple[tuple[str, float], ...]  # kind and signed degrees, in the order written
    shift: tuple[float, float, float]
    num_frames: int | None


def wrbench_c2w(text: str, *, num_frames: int | None = None) -> Float[Tensor, "t 4 4"]:
    """Poses of a script, the first one the identity.

    Args:
        text: comma-separated segments; kinds yaw, pitch, roll, pan, dolly, crane, static.
        num_frames: None for the script's own length, the sum of its segments. Another length stretches all
            segments alike and keeps their angles and distances.

    Raises:
        CameraError: a segment that is not one, frames missing, or too few of them.
    """
    if len(text) > _MAX_TEXT:
        raise CameraError("the camera script is too long", got=f"{len(text)} characters", expected=f"<= {_MAX_TEXT}")
    segments = [_parse(number, part.strip().lower()) for number, part in enumerate(text.split(","), 1)]
    start = torch.eye(4, dtype=torch.float64)
    poses: list[Tensor] = []
    for segment, frames in zip(segments, _frames(segments, num_frames), strict=True):
        share = torch.linspace(0, 1, frames, dtype=torch.float64) if frames > 1 else torch.ones(1, dtype=torch.float64)
        poses.append(_move(start, segment, share))
        start = poses[-1][-1]
    return torch.cat(poses)


def _move(start: Float[Tensor, "4 4"], segment: _Segment, share: Float[Tensor, " t"]) -> Float[Tensor, "t 4 4"]:
    c2w = start.repeat(len(share), 1, 1)
    for kind, degrees in segment.turns:
        c2w[:, :3, :3] = c2w[:, :3, :3] @ _ROTATIONS[kind](share * degrees)
    c2w[:, :3, 3] += share[:, None] * torch.tensor(segment.shift, dtype=torch.float64)
    return c2w


def _frames(segments: list[_Segment], num_frames: int | None) -> list[int]:
    given = [segment.num_frames for segment in segments]
    if given == [None] and num_frames is not None:
        given = [num_frames]
    ends, total = [], 0
    for number, frames in enumerate(given, 1):
        if frames is None:
            raise CameraError(f"camera segment {number} has no length", expected="kind:way:value@frames")
        total += frames
        ends.append(total)
    cuts = [0, *whole_ends(ends, total if num_frames is None else num_frames)]
    return [stop - start for start, stop in pairwise(cuts)]


def _parse(number: int, text: str) -> _Segment:
    body, at, frames = text.partition("@")
    if at and not (re.fullmatch(r"[0-9]{1,6}", frames.strip()) and int(frames) >= 1):
        raise _not_a_segment(number, text)
    turns, shift = [], torch.zeros(3, dtype=torch.float64)
    for move in body.split("+"):
        if move.strip() == "static":
            continue
        match = _MOVE.fullmatch(move.strip())
        if match is None or not abs(amount := float(match[3])) <= _MAX_AMOUNT:
            raise _not_a_segment(number, text)
        kind, way = match[1], match[2]
        if (kind, way) in _TURNS:
            turns.append((kind, _TURNS[kind, way] * amount))
        elif (kind, way) in _SHIFTS:
            shift += amount * torch.tensor(_SHIFTS[kind, way], dtype=torch.float64)
        else:
            raise _not_a_segment(number, text)
    right, down, forward = shift.tolist()
    return _Segment(tuple(turns), (right, down, forward), int(frames) if at else None)


def _not_a_segment(number: int, text: str) -> CameraError:
    ways = ", ".join(f"{kind}:{way}" for kind, way in (*_TURNS, *_SHIFTS))
    return CameraError(f"camera segment {number} is not one", got=repr(text[:60]),
                       expected=f"static@frames or kind:way:value@frames with {ways}",
                       fix="e.g. 'yaw:left:60@40,yaw:right:60@41'")  # fmt: skip
