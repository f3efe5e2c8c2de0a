"""Observation control from pixels: was the view lost as asked, and did it come back? On any video, without a judge.

Source: the question is that of STEVO-Bench's `occlusion_done` and of ReMind Table 3; the checks and their thresholds
are our choice. The same video always gets the same answer. `observation.py` asks the same of world clips with the truth
beside it. Measured on 21 world clips of test seeds, seven kinds, each made to obey and to disobey in several ways
(experiments/pixel_control, 32 and 64 px, times known): precision 60 of 61, recall 60 of 63 as rendered; 57 of 58 and 57
of 63 through the codec. It has seen no videos of models.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from remind.clip import Cameras
from remind.data.kinds import KINDS
from remind.errors import InputError
from remind.evaluation.view_in_sight import next_in_sight, view_in_sight
from remind.frame_graph import Interruption, InterruptionKind
from remind.inference.roles import AWAY_OVERLAP, DARK_LEVEL, OF_USUAL, Looks, looks_hidden, looks_of
from remind.inference.view_overlap import view_overlap

VERSION = "pixel-control-1"
MIN_SHARE = 0.8
"""Of the frames asked to be hidden those that must be, and of the frames after those in which the view must be back."""
IN_SIGHT = 0.6
"""A frame looks at the view before if it has this share of what clear frames of the same video show of it."""
SAME_PLACE = 0.5
"""The same after darkness or a cover, which do not move the camera: less is needed to know the place again."""
BACK_OVERLAP = 0.8  # of the anchor's view, where measured cameras say what is in sight
CUT_SHARE = 0.45
"""A cut: a frame shows less than this of the view right before it. In 40 validation clips without one, neighbours
showed 0.78 or more, 0.55 through the codec; frames of different clips 0.23 or less."""
MIN_RUN_S = 0.25  # where no times were asked for: the view must be lost for so long
OPENING_S = 0.5  # and these first frames are taken to be clear
RAMP_S = 0.5  # and so much may pass until it is whole again
LEAST_USUAL = 0.3


@dataclass(frozen=True)
class PixelControl:
    """What was found.

    Args:
        passed: hidden as asked, back afterwards, and no cut.
        why: what is missing, one of few kinds; empty if it passed.
        hidden_share: of the frames asked to be hidden, those that are; without times 1 if a run was found, else 0.
        returned_share: of the frames after, those that show the view from before; None if there are none.
        cuts: first frames of new shots, outside of the interruption.
        hidden: per frame, whether the view is lost in the way that was asked for.
        in_sight: per frame, how much of the view before it shows, 0..1.
    """

    passed: bool
    why: str
    hidden_share: float
    returned_share: float | None
    cuts: tuple[int, ...]
    hidden: tuple[bool, ...]
    in_sight: tuple[float, ...]


def check_control(
    rgb: UInt8[Tensor, "t h w 3"],
    kind: InterruptionKind,
    *,
    times: Interruption | None = None,
    cameras: Cameras | None = None,
    fps: int | float = 16,
) -> PixelControl:
    """Check one interruption of a video.

    What counts as hidden follows the kind. Light and blink: dark, the brightest hundredth of the pixels below 0.08 and
    below a quarter of what is usual. Occluder, cardboard, curtain: uniformly covered, the colours of 8 x 8 blocks in
    one plane (`roles.looks_hidden`), or dark; a cover of many colours is missed. Look away: not dark, and the view from
    before is not in sight; a cover passes too, since a bare wall looks like one. The view is back in a frame that is
    not hidden and shows that view again: the camera is taken to be where it was, as all interruptions here have it.

    Args:
        rgb: the whole video.
        kind: what was asked for.
        times: when; None = at any time after the first half second.
        cameras: of every frame as *measured* on the video, for a look away; asked-for ones would answer for the video.
        fps: of the video.

    Raises:
        InputError: a kind that hides nothing, times beyond the video, or too short a video.
    """
    if not KINDS[kind].hides:
        raise InputError("this interruption hides nothing that could be checked", got=kind)
    before = range(times.start if times is not None else max(1, round(OPENING_S * fps)))
    if len(before) >= len(rgb) or (times is not None and times.stop > len(rgb)):
        raise InputError("the video ends before the interruption does", got=f"{len(rgb)} frames",
                         expected=f"more than {max(len(before), 0 if times is None else times.stop)}")  # fmt: skip
    anchor = before[-1]
    looks = looks_of(rgb)
    clear = Looks(looks.light[: len(before)], looks.volume[: len(before)])
    unseen, dark = looks_hidden(rgb, clean=clear), looks.light < min(DARK_LEVEL, OF_USUAL * float(clear.light.median()))
    sight = view_in_sight(rgb[anchor], rgb)
    usual = max(LEAST_USUAL, float(sight[: len(before)].median()))
    layer = KINDS[kind].layer
    shown = sight >= (IN_SIGHT if layer == "view" else SAME_PLACE) * usual
    if cameras is not None and layer == "view":
        overlap = _overlaps(cameras, anchor)
        known = cameras.valid
        away = torch.where(known, overlap < AWAY_OVERLAP, ~shown)
        shown = torch.where(known, overlap >= BACK_OVERLAP, shown)
    else:
        away = ~shown
    hidden = {"light": dark, "shutter": dark, "front": unseen, "view": away & ~dark}[layer]
    asked, after, lost = _where(hidden, times, fps)
    hidden_share = float(hidden[list(asked)].float().mean()) if len(asked) else 0.0
    back = shown & ~unseen
    returned = float(back[list(after)].float().mean()) if len(after) else None
    cuts = find_cuts(rgb, unseen, lost)
    why = ("never hidden" if hidden_share < MIN_SHARE else "never back" if returned is None or returned < MIN_SHARE
           else "cut" if cuts else "")  # fmt: skip
    return PixelControl(not why, why, hidden_share, returned, cuts, tuple(hidden.tolist()),
                        tuple(round(v, 4) for v in sight.tolist()))  # fmt: skip


def find_cuts(
    rgb: UInt8[Tensor, "t h w 3"], unseen: Bool[Tensor, " t"] | None = None, lost: Sequence[int] = ()
) -> tuple[int, ...]:
    """First frames of new shots: nearly nothing of the frame before is in sight.

    Args:
        unseen: frames that show nothing; None = as they look. Going dark is no cut, and neither is coming back.
        lost: frames in which an interruption is under way; a panel that passes is no cut.
    """
    unseen = looks_hidden(rgb) if unseen is None else unseen
    new = (next_in_sight(rgb) < CUT_SHARE) & ~unseen[1:] & ~unseen[:-1]
    skipped = set(lost)
    return tuple(frame for frame in (1 + new.nonzero()[:, 0]).tolist() if frame not in skipped)


def _overlaps(cameras: Cameras, anchor: int) -> Float[Tensor, " t"]:
    """Of the anchor's view; 0 where a pose is unknown."""
    at = cameras[slice(anchor, anchor + 1)]
    if not bool(at.valid.all()):
        raise InputError("the pose of the last clear frame is not known", got=f"frame {anchor}",
                         fix="check without cameras")  # fmt: skip
    return torch.tensor([view_overlap(cameras[slice(t, t + 1)], at) for t in range(len(cameras))])


def _where(hidden: Bool[Tensor, " t"], times: Interruption | None, fps: int | float) -> tuple[range, range, range]:
    """Frames that should hide, frames that should show, and frames in between included in which it is under way."""
    length = len(hidden)
    if times is not None:
        under_way = range(times.start, times.stop + 1)
        return range(times.hidden_start, times.hidden_stop), range(times.stop, length), under_way
    run = _longest_run(hidden.tolist())
    if len(run) < max(1, round(MIN_RUN_S * fps)):
        return range(0), range(0), range(0)
    ramp = round(RAMP_S * fps)
    return run, range(min(run.stop + ramp, length), length), range(max(0, run.start - ramp), run.stop + ramp + 1)


def _longest_run(flags: Sequence[bool]) -> range:
    best = range(0)
    start = None
    for frame, flag in enumerate([*flags, False]):
        if flag and start is None:
            start = frame
        elif not flag and start is not None:
            best, start = max(best, range(start, frame), key=len), None
    return best
