"""Faults put into true videos, which a suite that can be trusted must find.

Our choice: each changes the frames after the interruption alone, by an amount that anyone would see, and leaves the
room as it is. What is caught is a clip that is no longer both plausible and coherent, or steady.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from remind.data.world_clips import loop_cameras
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.controls import render_states
from remind.world.renderer import ACTOR_INSTANCE, distinct_cameras

Mutation = Literal["teleport", "flicker", "recolour", "jitter"]
MUTATIONS: tuple[Mutation, ...] = get_args(Mutation)

JUMP = 0.5  # of the range, or of a turn
DEPENDS = 20  # of 255, over all states
HOLD_FRAMES = 2  # how long a flickering object looks one way


def mutate(
    name: Mutation, meter: CaseMeter, *, round_trip: Callable[[Tensor], Tensor] | None = None
) -> UInt8[Tensor, "t h w 3"]:
    """The true video of a case with a fault in it.

    Args:
        name: teleport (half-way through, the state jumps by half its range, a switch to its other rest, and goes on
            from there), flicker (the object is bright and dark in turn), recolour (other colours from the return on),
            or jitter (as a teleport there and back, in every second pair of frames).
        round_trip: a codec that pictures pass through before the fault is put in; None = perfect pictures.
    """

    def through(video: Tensor) -> UInt8[Tensor, "t h w 3"]:
        return video.clone() if round_trip is None else round_trip(video).clone()

    video, frames = through(meter.case.degraded.rgb), torch.arange(len(meter.true_state))
    in_turn = (frames >= meter.stop) & ((frames - meter.stop) // HOLD_FRAMES % 2 == 1)
    if name == "recolour":
        return _painted(video, meter, frames >= meter.stop, _other_colours)
    if name == "flicker":
        return _painted(video, meter, in_turn, _other_brightness)
    wrong = in_turn if name == "jitter" else frames >= (meter.settled.start + len(frames)) // 2
    video[wrong] = through(render_states(meter.case, elsewhere(meter)))[wrong]
    return video


def elsewhere(meter: CaseMeter) -> Float[Tensor, " t"]:
    """The true states of a case, half their range away; switched where they rest at an end."""
    states, scene = meter.true_state, meter.case.scene
    if scene.periodic:
        return states + JUMP
    return 1 - states if scene.discrete else torch.where(states > 0.5, states - JUMP, states + JUMP)


def _painted(
    video: UInt8[Tensor, "t h w 3"], meter: CaseMeter, frames: Bool[Tensor, " t"],
    paint: Callable[[Float[Tensor, "n 3"]], Float[Tensor, "n 3"]],
) -> UInt8[Tensor, "t h w 3"]:  # fmt: skip
    chosen = frames.nonzero()[:, 0]
    masks = object_masks(meter, chosen)
    pixels = video[chosen]
    pixels[masks] = paint(pixels[masks].float()).round().clamp(0, 255).to(torch.uint8)
    video[chosen] = pixels
    return video


def _other_colours(pixels: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """Negative, or channels swapped: what is farther from what it was."""
    candidates = torch.stack([255 - pixels, pixels.roll(1, -1), 255 - pixels.flip(-1)])
    return candidates[(candidates - pixels).square().mean((1, 2)).argmax()]


def _other_brightness(pixels: Float[Tensor, "n 3"]) -> Float[Tensor, "n 3"]:
    """A third of it, or of what it lacks."""
    return pixels / 3 if pixels.mean() > 100 else 255 - (255 - pixels) / 3


def object_masks(meter: CaseMeter, frames: Tensor) -> Bool[Tensor, "n h w"]:
    """Where the object is in some frames: actor pixels that depend on the state; all that depend on it where the state
    is a matter of light."""
    scene, cameras = meter.case.scene, loop_cameras(meter.case.scene, meter.case.recipe)[frames]
    probes = scene.probe_states(9)
    firsts, run_of_frame = distinct_cameras(cameras)
    reach = []
    for first in firsts.tolist():
        views = scene.render_rgb(probes, cameras[torch.full((len(probes),), first)], samples=1).int()
        reach.append((views.amax(0) - views.amin(0)).amax(-1) > DEPENDS)
    depends = torch.stack(reach)[run_of_frame]
    actor = (scene.render(scene.states[frames], cameras, samples=1).instances == ACTOR_INSTANCE) & depends
    is_thing = actor.flatten(1).sum(1) >= 0.1 * depends.flatten(1).sum(1)
    return torch.where(is_thing[:, None, None], actor, depends)
