"""Loop closure: frames of the way back whose view had been seen on the way out.

Source: the question is that of the benchmarks that return to a place (MIND, MemoBench); which frames are one view, and
that no truth is needed for it, is our choice. What the truth itself scores is reported beside it, since a world that
goes on is not the same when one comes back; and a model that only copies scores well here, so that this number alone
says nothing about hidden state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from remind.evaluation.recovery_cases import RecoveryCase
from remind.geometry import away_and_back, rigid, rotation_pitch, rotation_yaw

MAX_TURN_DEG = 1.0
"""Our choice: poses closer than this, and closer than `MAX_SHIFT`, are one view."""
MAX_SHIFT = 0.02  # in units of the farthest that the camera goes from its first place
_STANDS = 1e-6  # a camera that goes no farther stays where it is
_EQUAL = 1e-9


@dataclass(frozen=True)
class Revisit:
    """A frame of the way back that has the pose of a frame of the way out.

    Args:
        first: frame of the way out, seen before the view was lost.
        last: frame of the way back.
        turn_deg: between the two, degrees.
    """

    first: int
    last: int
    turn_deg: float


def revisits(case: RecoveryCase) -> tuple[Revisit, ...]:
    """Pairs of frames with one pose: seen before a look away, and made after it. None for other interruptions.

    With cameras, poses are compared. Without, the turn of the window is, and the clip's own camera is taken to rest.
    Of the frames of the way out the nearest counts, and of equally near ones the last.
    """
    if case.kind != "lookaway":
        return ()
    cameras, event = case.degraded.cameras, case.schedule.interruptions[0]
    c2w = cameras.c2w.double() if cameras is not None and bool(cameras.valid.all()) else _turns_of_the_window(case)
    out = c2w[: event.hidden_start]
    reach = float((c2w[:, :3, 3] - c2w[0, :3, 3]).norm(dim=-1).max())
    found = []
    for frame in range(max(case.first_generated, event.hidden_stop), len(c2w)):
        chord = (out[:, :3, :3] - c2w[frame, :3, :3]).flatten(1).norm(dim=-1) / (2 * 2**0.5)
        turn = 2 * torch.rad2deg(torch.asin(chord.clamp(max=1)))
        shift = (out[:, :3, 3] - c2w[frame, :3, 3]).norm(dim=-1) / (reach if reach > _STANDS else 1.0)
        distance = turn / MAX_TURN_DEG + shift / MAX_SHIFT
        first = int((distance <= distance.min() + _EQUAL).nonzero()[-1])
        if turn[first] <= MAX_TURN_DEG and shift[first] <= MAX_SHIFT:
            found.append(Revisit(first, frame, round(float(turn[first]), 4)))
    return tuple(found)


def _turns_of_the_window(case: RecoveryCase) -> Float[Tensor, "t 4 4"]:
    times, style = case.recipe.events[0].interruption, case.recipe.events[0].style
    away = away_and_back(len(case.degraded), start=times.start, hidden_start=times.hidden_start,
                         hidden_stop=times.hidden_stop, stop=times.stop)  # fmt: skip
    yaw, pitch = style.turn_deg if style.kind == "lookaway" else (0.0, 0.0)
    return rigid(rotation_yaw(away * yaw) @ rotation_pitch(away * pitch), torch.zeros(len(away), 3).double())
