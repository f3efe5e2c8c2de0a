"""Camera paths in words: moves, scripts, and makers that fit any length.

| written | means |
|---|---|
| `right-20, left-20` | moves over so many latents (`camera_io.strings`) |
| `yaw:left:60@40,yaw:right:60@41` | degrees and units over so many frames (`camera_io.wrbench`) |
| `lookaway`, `lookaway:-75` | rest, turn away by so many degrees (right if positive), stay, turn back, rest |
| `orbit:30`, `orbit:-90:5` | circle about what is straight ahead, by degrees, at a distance |
| `loop`, `loop:SPEC` | go any of these, and come back the same way |
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from remind.camera_io import pose_string_c2w, wrbench_c2w
from remind.errors import CameraError
from remind.geometry import lookaway_trajectory, orbit_trajectory, there_and_back

LOOKAWAY_DEG = 60.0
"""Farther than the usual view is wide, so that nothing of it is left in sight; what `right-20` turns, too."""
ORBIT_DEG = 30.0
ORBIT_DISTANCE = 3.3
"""Where the embedded world has its stage, in its units. The camera gauge divides by the path's own first steps, so that
the distance matters only where other moves come first."""
MAX_ANGLE_DEG = 3600.0
_REST_FRAMES = (9, 12)  # the first chunk and the last: a clean anchor, a clean recovery
_TURN_FRAMES = 24  # 1.5 s at most, however long the video
_MAKERS = ("lookaway", "orbit", "loop")
_NUMBER = re.compile(r"[+-]?(?:[0-9]{1,6}\.?[0-9]{0,6}|\.[0-9]{1,6})")


def is_maker(text: str) -> bool:
    """Whether words name a path that fits any length, and has none of its own."""
    return text.strip().lower().partition(":")[0].strip() in _MAKERS


def spoken_c2w(
    text: str, *, num_frames: int | None, start: Float[Tensor, "4 4"] | None = None
) -> Float[Tensor, "t 4 4"]:
    """Poses of a path in words, the first one the identity.

    Args:
        num_frames: moves and scripts are stretched to it and keep their angles; None for their own length, which
            makers do not have.
        start: the first pose instead of the identity; the path goes on from there, in the axes of that camera.

    Raises:
        CameraError: words that are no path, or a length that does not hold it.
    """
    spec = text.strip().lower()
    name = spec.partition(":")[0].strip()
    if name in _MAKERS:
        if num_frames is None:
            raise CameraError(f"{name} has no length of its own", fix="say how many frames it shall take")
        c2w = _made(spec, num_frames)
    elif ":" in spec or name.partition("@")[0] == "static":
        c2w = wrbench_c2w(spec, num_frames=num_frames)
    elif "-" in spec:
        return pose_string_c2w(spec, num_frames=num_frames, start=start)
    else:
        raise CameraError("no camera path", got=repr(text[:60]),
                          expected="moves ('right-20, left-20'), a script ('yaw:left:60@40'), lookaway, orbit or loop, "
                                   "or a file that ends in .json, .npy, .npz or .txt")  # fmt: skip
    return c2w if start is None else start @ c2w


def _made(spec: str, num_frames: int) -> Float[Tensor, "t 4 4"]:
    name, *given = (part.strip() for part in spec.split(":"))
    if num_frames < 1:
        raise CameraError("a camera path needs frames", got=num_frames)
    if name == "loop":
        inner = spec.partition(":")[2].strip() or f"orbit:{ORBIT_DEG}"
        if inner.startswith(("loop", "lookaway")):
            raise CameraError("a loop of what comes back by itself", got=spec[:60], fix=f"write {inner[:40]!r} alone")
        out = spoken_c2w(inner, num_frames=(num_frames + 1) // 2)
        # A loop of an even length has no middle frame to turn at: it shows the farthest pose twice.
        return there_and_back(out) if num_frames % 2 else torch.cat([out, out.flip(0)])
    if name == "lookaway":
        (yaw_deg,) = _numbers(spec, given, (LOOKAWAY_DEG,))
        return _lookaway(num_frames, yaw_deg)
    angle_deg, distance = _numbers(spec, given, (ORBIT_DEG, ORBIT_DISTANCE))
    if not distance > 0:
        raise CameraError("an orbit needs a point in front of the camera", got=spec[:60], expected="a distance > 0")
    return orbit_trajectory(max(2, num_frames), angle_deg=angle_deg, distance=distance)[:num_frames]


def _lookaway(num_frames: int, yaw_deg: float) -> Float[Tensor, "t 4 4"]:
    """Rests for the first chunk and for the last one, turns within at most 1.5 s, and is away for the time between."""
    head = min(_REST_FRAMES[0], max(1, num_frames * _REST_FRAMES[0] // 81))
    stop = num_frames - min(_REST_FRAMES[1], max(1, num_frames * _REST_FRAMES[1] // 81))
    turn = min(_TURN_FRAMES, (stop - head) // 3)
    if turn < 1:
        raise CameraError("too few frames to look away and back", got=num_frames, expected="6 or more")
    return lookaway_trajectory(num_frames, start=head, hidden_start=head + turn, hidden_stop=stop - turn, stop=stop,
                               yaw_deg=yaw_deg)  # fmt: skip


def _numbers(spec: str, given: Sequence[str], default: tuple[float, ...]) -> tuple[float, ...]:
    numbers = [float(text) if _NUMBER.fullmatch(text) else math.nan for text in given]
    if len(numbers) > len(default) or not all(abs(number) <= MAX_ANGLE_DEG for number in numbers):
        raise CameraError("not such a camera path", got=repr(spec[:60]),
                          expected=f"at most {len(default)} numbers of up to {MAX_ANGLE_DEG:g}",
                          fix="e.g. 'lookaway:60' or 'orbit:30:3.3'")  # fmt: skip
    return (*numbers, *default[len(numbers) :])
