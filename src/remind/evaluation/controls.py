"""Controls: what a video scores whose out-of-sight behaviour is known, because it was rendered that way.

Our choice: every control shows the interruption as it was asked for and renders the room perfectly, so that
it differs from the truth in nothing but the hidden state. They must rank oracle > linear > freeze =
copy_anchor > reset.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Literal, get_args

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.data.interrupt import apply_interruption
from remind.data.world_clips import WorldClip, loop_cameras
from remind.evaluation.case_meter import CaseMeter

Control = Literal["freeze", "reset", "copy_anchor", "middle", "linear", "oracle"]
CONTROLS: tuple[Control, ...] = get_args(Control)


def render_states(case: WorldClip, states: Float[Tensor, " t"]) -> UInt8[Tensor, "t h w 3"]:
    """The case as it would look had the world gone through other states: same cameras, same interruption.

    Args:
        case: whose scene, cameras and interruption.
        states: one per frame, 0..1; turns for a periodic scene.
    """
    cameras = loop_cameras(case.scene, case.recipe)
    looped = replace(case.clean, rgb=case.scene.render_rgb(states, cameras), cameras=cameras)
    return apply_interruption(looped, case.recipe.without("camera_loop")).rgb


def freeze_states(meter: CaseMeter) -> Float[Tensor, " t"]:
    """The world stops when it is last seen and never moves again."""
    states = meter.true_state.clone()
    states[meter.start :] = states[meter.start - 1]
    return states


def reset_states(meter: CaseMeter) -> Float[Tensor, " t"]:
    """The world jumps back to how it was in the first frame."""
    states = meter.true_state.clone()
    states[meter.start :] = states[0]
    return states


def linear_states(meter: CaseMeter) -> Float[Tensor, " t"]:
    """The line through the states *measured* before the interruption, drawn on to the end.

    Non-periodic states stop at 0 and 1. A clip whose state cannot be read before stays as it was last seen.
    """
    measured = meter.read(meter.case.degraded.rgb).state[meter.before].double()
    known = ~torch.isnan(measured)
    states = meter.true_state.clone()
    if int(known.sum()) < 2:
        return freeze_states(meter)
    frames = torch.arange(len(states), dtype=torch.float64)
    x, y = frames[meter.before][known], measured[known]
    slope = ((x - x.mean()) * (y - y.mean())).sum() / (x - x.mean()).square().sum()
    line = y.mean() + slope * (frames - x.mean())
    if not meter.case.scene.periodic:
        line = line.clamp(0, 1)
    states[meter.start :] = line[meter.start :].to(states.dtype)
    return states


def middle_states(meter: CaseMeter) -> Float[Tensor, " t"]:
    """The middle of the state's range: what one may say of a scene without having watched it.

    Our choice: the level that ignorance reaches. States start anywhere and cross the middle, so it is not zero.
    """
    states = meter.true_state.clone()
    states[meter.start :] = 0.5
    return states


_STATES: dict[str, Callable[[CaseMeter], Tensor]] = {
    "freeze": freeze_states, "reset": reset_states, "middle": middle_states, "linear": linear_states,
}  # fmt: skip


def run_control(
    name: Control,
    meter: CaseMeter,
    *,
    generated_from: int | None = None,
    round_trip: Callable[[Tensor], Tensor] | None = None,
) -> UInt8[Tensor, "t h w 3"]:
    """The video of a control: the given prefix, then what the control generates.

    Args:
        name: freeze, reset, middle, linear (states), copy_anchor (the last clear frame's pixels, whatever was asked
            for) or oracle (the truth).
        meter: of the case.
        generated_from: first generated frame, >= 1; None = where video-to-video generation starts.
        round_trip: a codec that generated frames pass through, as a model's would; None = perfect pictures.
    """
    case = meter.case
    first = meter.first_generated_v2v if generated_from is None else generated_from
    if name == "oracle":
        video = case.degraded.rgb
    elif name == "copy_anchor":
        video = case.degraded.rgb.clone()
        video[first:] = case.degraded.rgb[min(first, meter.start) - 1]
    else:
        video = render_states(case, _STATES[name](meter))
    out = (video if round_trip is None else round_trip(video)).clone()
    out[:first] = case.degraded.rgb[:first]
    return out
