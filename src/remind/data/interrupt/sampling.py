"""Drawing recipes: one interruption as the world benchmark has it, or the richer compositions that training reads.

`sample_recipe` is frozen: shipped weights, test clips and cached banks were made with its draws, and a test pins them.
What is new goes into `RecipeDistribution`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from remind.data.events import most_events, sample_interruption, sample_times
from remind.data.interrupt.lookaway_plan import Direction, LookawayPlan, plan_lookaway
from remind.data.interrupt.panel import PANEL_COLORS
from remind.data.interrupt.recipe import InterruptionRecipe, View
from remind.data.interrupt.styles import Strict
from remind.data.kinds import KINDS, Split, kinds_of
from remind.errors import InputError
from remind.frame_graph import Interruption, InterruptionKind

MAX_PARTIAL_OVERLAP = 0.8  # our choice: a camera that turns less does not look away at all


def sample_recipe(
    kind: InterruptionKind,
    num_frames: int,
    generator: np.random.Generator,
    *,
    hidden_frames: tuple[int, int] | None = None,
) -> InterruptionRecipe:
    """Draw times and looks; a pure function of the generator's state. Arguments as `sample_interruption`.

    Raises:
        InputError: a clip too short, or a lookaway, whose turn depends on the clip: see `sample_composition`.
    """
    interruption = sample_interruption(kind, num_frames, generator, hidden_frames=hidden_frames)
    seed = int(generator.integers(2**31))
    return InterruptionRecipe.model_validate(
        {"interruption": interruption, "style": _sample_looks(kind, generator), "seed": seed}
    )


def _sample_looks(kind: InterruptionKind, generator: np.random.Generator) -> dict[str, Any]:
    """The fields of a style. The draws of the first four kinds must stay as they are."""
    uniform, choice = generator.uniform, generator.choice
    looks: dict[str, Any] = {"kind": kind}
    if kind == "light_toggle":
        looks["curve"] = round(float(uniform(1.0, 2.5)), 3)
    elif kind == "occluder":
        first, second = (int(i) for i in choice(len(PANEL_COLORS), 2, replace=False))
        looks |= {
            "side": str(choice(["left", "right", "top", "bottom"])),
            "leaves": str(choice(["through", "back"])),
            "texture": str(choice(["plain", "stripes", "checker", "grain"])),
            "colors": (PANEL_COLORS[first], PANEL_COLORS[second]),
            "period": round(float(uniform(0.12, 0.5)), 3),
            "shading": round(float(uniform(0.1, 0.4)), 3),
        }
    elif kind == "zoom":
        looks |= {
            "peak_scale": round(float(uniform(1.3, 2.2)), 3),
            "pan": tuple(round(float(v), 3) for v in uniform(-0.7, 0.7, 2)),
            "shake": round(float(choice([0.0, uniform(0.02, 0.15)])), 3),
        }
    elif kind == "cardboard":
        tone = uniform(0.8, 1.1)
        looks |= {
            "side": str(choice(["left", "right", "top", "bottom"])),
            "slant": round(float(uniform(-0.45, 0.45)), 3),
            "color": tuple(int(c * tone) for c in (176, 138, 98)),
            "flutes": int(generator.integers(12, 49)),
        }
    elif kind == "curtain":
        looks |= {
            "comes": str(choice(["above", "sides"])),
            "color": tuple(int(c) for c in generator.integers(40, 200, 3)),
            "folds": int(generator.integers(5, 17)),
            "shading": round(float(uniform(0.3, 0.7)), 3),
        }
    elif kind == "flicker":
        looks |= {"curve": round(float(uniform(0.8, 2.0)), 3), "depth": round(float(uniform(0.4, 0.9)), 3)}
    elif kind == "blink":
        looks["shape"] = str(choice(["iris", "lids"]))
    elif kind == "lookaway":
        raise InputError("how far to look away depends on the clip", got="lookaway without a stored size",
                         fix="call sample_composition with a Window")  # fmt: skip
    return looks


class Window(Strict):
    """A clip that is stored wider than what the model sees.

    Args:
        stored_hw: height and width of the stored pictures, px.
        view_hw: of what the model sees, px of the same pictures.
        intrinsics_px: fx, fy, cx, cy of the stored pictures, or None where they are unknown.
        assumed_fov_deg: horizontal field of view of the stored pictures to assume then; recorded in the recipe.
    """

    stored_hw: tuple[int, int]
    view_hw: tuple[int, int]
    intrinsics_px: tuple[float, float, float, float] | None = None
    assumed_fov_deg: float = 60.0

    def plan(self, direction: Direction) -> LookawayPlan:
        """See `plan_lookaway`."""
        given = self.intrinsics_px
        intrinsics = None if given is None else torch.tensor(given, dtype=torch.float64)
        return plan_lookaway(self.stored_hw, self.view_hw, direction, intrinsics_px=intrinsics,
                             assumed_fov_deg=self.assumed_fov_deg)  # fmt: skip

    @property
    def at_rest(self) -> View | None:
        """The middle of the stored pictures; None if they are no larger than the view."""
        if self.view_hw == self.stored_hw:
            return None
        return View(hw=self.view_hw, assumed_fov_deg=self.assumed_fov_deg if self.intrinsics_px is None else None)


@dataclass(frozen=True)
class RecipeDistribution:
    """What interruptions of finished frames are drawn from. Source: ReMind F.2; the shares are our choice.

    Args:
        kinds: with their weights, > 0; `lookaway` needs a `Window` when drawn.
        split: which kinds are allowed, so that a held-out one cannot slip into training.
        several_share: chance of one more interruption, again and again while the clip has room, 0..1.
        together_share: chance that a second kind acts on the same clock, e.g. the light goes off while a panel
            passes, 0..1.
        clean_share: of clips that stay undisturbed, as controls, 0..1.
        hidden_frames: fewest and most fully hidden frames, see `sample_times`.
    """

    kinds: tuple[tuple[InterruptionKind, float], ...] = (("light_toggle", 1.0), ("occluder", 1.0), ("zoom", 0.5))
    split: Split = "train"
    several_share: float = 0.35
    together_share: float = 0.1
    clean_share: float = 0.0
    hidden_frames: tuple[int, int] = (8, 40)

    def __post_init__(self) -> None:
        wrong = [kind for kind, _ in self.kinds if kind == "camera_loop" or kind not in kinds_of(self.split)]
        if wrong or not self.kinds or not all(0 < weight < float("inf") for _, weight in self.kinds):
            possible = [kind for kind in kinds_of(self.split) if kind != "camera_loop"]
            raise InputError(f"no distribution of {self.split} interruptions", got=self.kinds,
                             expected=f"positive weights of {', '.join(possible)}")  # fmt: skip
        shares = (self.several_share, self.together_share, self.clean_share)
        if not all(0 <= share <= 1 for share in shares):
            raise InputError("shares must lie in 0..1", got=shares)

    def draw_kind(self, generator: np.random.Generator, *, beside: InterruptionKind | None = None) -> InterruptionKind:
        """One kind by weight; `beside` another one, a kind that acts in another layer (or the same kind again if there
        is none)."""
        rows = [(k, w) for k, w in self.kinds if beside is None or KINDS[k].layer != KINDS[beside].layer]
        if not rows:
            assert beside is not None
            return beside
        weights = np.array([weight for _, weight in rows])
        return rows[int(generator.choice(len(rows), p=weights / weights.sum()))][0]


HELD_OUT = RecipeDistribution(tuple((kind, 1.0) for kind in kinds_of("held_out")), split="held_out")
"""Every held-out kind, equally likely: for tests of generalisation."""


def sample_composition(
    num_frames: int,
    generator: np.random.Generator,
    distribution: RecipeDistribution = RecipeDistribution(),
    *,
    window: Window | None = None,
) -> InterruptionRecipe:
    """Draw a recipe of any number of interruptions; a pure function of the generator's state.

    Args:
        num_frames: 12k - 3 frames.
        window: where the clip is stored wider than the model's view.

    Raises:
        InputError: a lookaway without a window, or a clip with no room for an interruption.
    """
    view = None if window is None else window.at_rest
    if generator.random() < distribution.clean_share:
        return InterruptionRecipe(events=(), view=view)
    kinds = [distribution.draw_kind(generator)]
    while len(kinds) < most_events(num_frames) and generator.random() < distribution.several_share:
        kinds.append(distribution.draw_kind(generator))
    groups = [_with_company(kind, generator, distribution) for kind in kinds]
    plan = _draw_plan(window, generator) if any("lookaway" in group for group in groups) else None
    view = view if plan is None else plan.view

    def hides(kind: InterruptionKind) -> bool:
        return KINDS[kind].hides and (kind != "lookaway" or (plan is not None and plan.hides))

    # What hides gives an event its name and its ramps.
    groups = [tuple(sorted(group, key=lambda kind: not hides(kind))) for group in groups]
    times = _sample_fitting(groups, num_frames, generator, distribution, [any(map(hides, g)) for g in groups])
    events = []
    for event, group in zip(times, groups, strict=False):
        seed = int(generator.integers(2**31))
        looks = [_richer_looks(kind, generator, plan) for kind in group]
        events.append({"interruption": event, "style": looks[0], "seed": seed, "also": tuple(looks[1:])})
    return InterruptionRecipe.model_validate({"events": tuple(events), "view": view})


def _with_company(
    kind: InterruptionKind, generator: np.random.Generator, distribution: RecipeDistribution
) -> tuple[InterruptionKind, ...]:
    if generator.random() >= distribution.together_share:
        return (kind,)
    other = distribution.draw_kind(generator, beside=kind)
    return (kind,) if other == kind else (kind, other)


def _sample_fitting(
    groups: list[tuple[InterruptionKind, ...]],
    num_frames: int,
    generator: np.random.Generator,
    distribution: RecipeDistribution,
    hides: list[bool],
) -> tuple[Interruption, ...]:
    """Times for as many of the groups as fit, from the first on: some kinds are slower than `most_events` assumes."""
    for count in range(len(groups), 1, -1):
        try:
            return sample_times([g[0] for g in groups[:count]], num_frames, generator,
                                hidden_frames=distribution.hidden_frames, hides=hides[:count])  # fmt: skip
        except InputError:
            continue
    return sample_times([groups[0][0]], num_frames, generator, hidden_frames=distribution.hidden_frames,
                        hides=hides[:1])  # fmt: skip


def _richer_looks(
    kind: InterruptionKind, generator: np.random.Generator, plan: LookawayPlan | None
) -> dict[str, Any]:
    """As `_sample_looks`, and what later versions can vary."""
    if kind == "lookaway":
        assert plan is not None
        return plan.style.model_dump()
    looks = _sample_looks(kind, generator)
    if kind == "occluder":  # half the panels are near the lens, out of focus
        looks["softness"] = round(float(generator.choice([0.0, generator.uniform(0.02, 0.2)])), 3)
    return looks


def _draw_plan(window: Window | None, generator: np.random.Generator) -> LookawayPlan:
    """A direction in which a look away hides the view; where there is none, the one that leaves least in sight."""
    if window is None:
        raise InputError("a lookaway needs to know how wide the clip is stored", got="no window",
                         fix="pass window=Window(...), or leave lookaway out of the kinds")  # fmt: skip
    directions: tuple[Direction, ...] = ("left", "right", "up", "down")
    plans = [window.plan(direction) for direction in directions]
    hiding = [plan for plan in plans if plan.hides]
    if hiding:
        return hiding[int(generator.integers(len(hiding)))]
    best = min(plans, key=lambda plan: plan.overlap)
    if best.overlap > MAX_PARTIAL_OVERLAP:
        raise InputError("no room to look away", got=best.reason, fix="store the clips wider and somewhat higher")
    return best
