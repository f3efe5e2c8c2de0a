"""From a clean clip and a recipe to what was seen. Nothing here is stored: clips are degraded when they are loaded."""

from __future__ import annotations

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from remind.clip import Cameras, Clip
from remind.data.interrupt.canvas import Stretch, clock
from remind.data.interrupt.light import dim, flicker
from remind.data.interrupt.lookaway import look, stored_intrinsics
from remind.data.interrupt.lookaway_plan import HIDDEN_OVERLAP
from remind.data.interrupt.panel import draw_curtain, hold_cardboard, slide_panel
from remind.data.interrupt.recipe import Event, InterruptionRecipe, kind_of
from remind.data.interrupt.shutter import blink
from remind.data.interrupt.styles import (
    AnyStyle,
    BlinkStyle,
    CardboardStyle,
    CurtainStyle,
    FlickerStyle,
    LightStyle,
    LookawayStyle,
    OccluderStyle,
    ZoomStyle,
)  # fmt: skip
from remind.data.interrupt.virtual_camera import view_overlap
from remind.data.interrupt.zoom import zoom
from remind.data.kinds import KINDS, LAYERS
from remind.errors import InputError


def apply_interruption(clip: Clip, recipe: InterruptionRecipe) -> Clip:
    """The degraded clip; `recipe.schedule(len(clip))` says when. The clean clip is left as it is.

    Frames outside of all events are those of `clean_view`, bit for bit. Light changes the colours alone. What stands
    in front also blanks the depth behind it (0 = unknown). Zoom and lookaway give exact cameras and take depth from
    the nearest pixel. Events do not overlap, so their order is irrelevant; styles on one clock act from the scene
    to the sensor (`kinds.LAYERS`).

    Raises:
        InputError: a camera loop that is to be rendered, which cannot be made from finished frames; or a lookaway that
            leaves the stored pictures, or that hides less than its times say.
        GraphError: an event that ends after the clip.
    """
    recipe.schedule(len(clip))  # refuses an event that ends after the clip
    for event in recipe.events:
        if any(style.kind == "camera_loop" for style in event.styles):
            raise InputError(
                "a camera loop needs true geometry and cannot be applied to finished frames",
                got="camera_loop",
                expected="a style that can, or `given` where the clip's own camera makes the loop",
                fix="for world scenes call remind.world.interrupt_camera_loop(scene, interruption)",
            )
    seen = _looked(clip, recipe)
    effects = [(e, s) for layer in LAYERS for e in recipe.events for s in e.styles if _draws(e, s, layer)]
    if not effects:
        return seen
    touches_depth = any(KINDS[kind_of(style)].layer != "light" for _, style in effects)
    rgb = seen.rgb.clone()
    depth = seen.depth.clone() if seen.depth is not None and touches_depth else seen.depth
    cameras = seen.cameras
    intrinsics = None
    if cameras is not None and any(isinstance(style, ZoomStyle) for _, style in effects):
        intrinsics = cameras.intrinsics_px.clone()
        cameras = Cameras(cameras.c2w, intrinsics, cameras.hw, cameras.valid)
    for event, style in effects:
        times = event.interruption
        frames = slice(times.start, times.stop)
        stretch = Stretch(
            rgb[frames],
            None if depth is None else depth[frames],
            None if intrinsics is None else intrinsics[frames],
            seen.hw if cameras is None else cameras.hw,
            clock(times, len(clip))[frames],
            range(times.hidden_start - times.start, times.hidden_stop - times.start),
        )
        _draw(stretch, style, event.seed)
    return replace(seen, rgb=rgb, depth=depth, cameras=cameras)


def clean_view(clip: Clip, recipe: InterruptionRecipe) -> Clip:
    """The undegraded clip as the model sees it: through the recipe's view where the clip is stored wider.

    Raises:
        InputError: a view that leaves the stored pictures.
    """
    return clip if recipe.view is None else look(clip, recipe.view)


def _looked(clip: Clip, recipe: InterruptionRecipe) -> Clip:
    """The clip through the recipe's view, turned by its lookaways."""
    if recipe.view is None:
        return clip
    turns: list[tuple[Float[Tensor, " t"], LookawayStyle]] = []
    for event in recipe.events:
        for style in event.styles:
            if isinstance(style, LookawayStyle):
                _check_hides(clip, recipe, event, style)
                turns.append((clock(event.interruption, len(clip)), style))
    return look(clip, recipe.view, turns)


def _check_hides(clip: Clip, recipe: InterruptionRecipe, event: Event, style: LookawayStyle) -> None:
    """A lookaway that alone is said to hide must do so."""
    times = event.interruption
    hides_otherwise = any(KINDS[kind].hides and KINDS[kind].layer != "view" for kind in event.kinds)
    if times.hidden_start == times.hidden_stop or hides_otherwise:
        return
    assert recipe.view is not None
    inner = stored_intrinsics(clip, recipe.view)[times.hidden_start : times.hidden_stop]
    overlap = max(view_overlap(px, recipe.view.hw, style.turn_deg) for px in inner.unique(dim=0))
    if overlap > HIDDEN_OVERLAP:
        raise InputError(
            "a lookaway that is said to hide leaves part of the view in sight",
            got=f"{overlap:.0%} of it",
            expected=f"at most {HIDDEN_OVERLAP:.0%}",
            fix="turn farther, or let hidden_start and hidden_stop coincide",
        )


def _draws(event: Event, style: AnyStyle, layer: str) -> bool:
    """Whether a style acts in this layer by drawing on frames."""
    drawn = style.kind not in ("given", "lookaway")
    return drawn and KINDS[kind_of(style)].layer == layer and event.interruption.start < event.interruption.stop


def _draw(stretch: Stretch, style: AnyStyle, seed: int) -> None:
    match style:
        case LightStyle():
            dim(stretch, style)
        case FlickerStyle():
            flicker(stretch, style, seed)
        case OccluderStyle():
            slide_panel(stretch, style, seed)
        case CardboardStyle():
            hold_cardboard(stretch, style, seed)
        case CurtainStyle():
            draw_curtain(stretch, style, seed)
        case BlinkStyle():
            blink(stretch, style)
        case ZoomStyle():
            zoom(stretch, style, seed)
