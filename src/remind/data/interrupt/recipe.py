"""The recipe of a degraded clip: which interruptions, when, how they look, and the view they are seen through.

Source: ReMind F.2. A recipe is all that is stored of an interruption. Schedule, frame graph, prompts and the degraded
frames are derived from it, so they cannot disagree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Annotated, Any

from pydantic import Field, ValidationError, field_validator, model_serializer, model_validator

from remind.data.interrupt.styles import AnyStyle, Strict, Style
from remind.data.kinds import KINDS
from remind.errors import InputError
from remind.frame_graph import Interruption, InterruptionKind, Schedule

MAX_EVENTS = 64

Side_px = Annotated[int, Field(ge=8, le=8192)]
RestYaw = Annotated[float, Field(ge=-80, le=80)]


def kind_of(style: AnyStyle) -> InterruptionKind:
    """The kind of event that a style makes; a given camera loop is a camera loop."""
    return "camera_loop" if style.kind == "given" else style.kind


class Event(Strict):
    """One interruption: its times, its looks, and the seed of what is random in them.

    Args:
        interruption: the times, in pixel frames.
        style: the looks; its kind is the interruption's.
        seed: of textures, tremor and stutter, >= 0.
        also: further styles on the same clock, each in a layer of its own (`kinds.LAYERS`): the light goes off while
            a panel passes. Their order does not matter.
    """

    interruption: Interruption
    style: Style
    seed: int = Field(0, ge=0, lt=2**63)
    also: tuple[Style, ...] = Field((), max_length=3)

    @model_validator(mode="after")
    def _fits_together(self) -> Event:
        event = self.interruption
        if kind_of(self.style) != event.kind:
            raise ValueError(f"style {self.style.kind!r} does not fit a {event.kind!r}")
        if event.also:
            raise ValueError("what happens on the same clock is said by `also` of the event, as styles")
        layers = [KINDS[kind].layer for kind in self.kinds]
        if len(set(layers)) != len(layers):
            raise ValueError(f"{' and '.join(self.kinds)} act in the same place at once; give them times of their own")
        if event.hidden_start < event.hidden_stop and not any(KINDS[kind].hides for kind in self.kinds):
            raise ValueError(f"a {event.kind!r} hides nothing: hidden_start and hidden_stop must coincide")
        return self

    @model_serializer(mode="wrap")
    def _compact(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Without what is empty: an event of one style reads as it did when there was no other."""
        data: dict[str, Any] = handler(self)
        data["interruption"] = {k: v for k, v in data["interruption"].items() if k != "also"}
        return {k: v for k, v in data.items() if k != "also" or v}

    @property
    def kind(self) -> InterruptionKind:
        return self.interruption.kind

    @property
    def styles(self) -> tuple[AnyStyle, ...]:
        """All looks, first the one that gives the event its kind."""
        return (self.style, *self.also)

    @property
    def kinds(self) -> tuple[InterruptionKind, ...]:
        return tuple(kind_of(style) for style in self.styles)


class View(Strict):
    """The window through which a wider stored clip is seen: a virtual camera at the same place.

    It has the stored pictures' focal length in pixels, so that at rest in the middle it is a plain crop.

    Args:
        hw: height and width of what the model sees, px.
        rest_deg: where it looks outside of lookaways, from the stored camera's axis to the right, degrees, -80..80.
        assumed_fov_deg: horizontal field of view of the stored clip where its intrinsics are unknown, 5..170; None
            = they are known.
    """

    hw: tuple[Side_px, Side_px]
    rest_deg: RestYaw = 0.0
    assumed_fov_deg: Annotated[float, Field(ge=5, le=170)] | None = None


class InterruptionRecipe(Strict):
    """All that is needed to degrade a clip again.

    `InterruptionRecipe(events=(event, ...))` in any order; they are kept in order of time and must not overlap. No
    event at all is a clean control. Recipes of one event without a view are written as, and read from, the event's own
    fields: `{"interruption", "style", "seed"}`.

    Args:
        events: disjoint in time.
        view: where the stored clip is wider than what the model sees; a lookaway needs it.
    """

    events: tuple[Event, ...] = Field(max_length=MAX_EVENTS)
    view: View | None = None

    @model_validator(mode="before")
    @classmethod
    def _single(cls, data: Any) -> Any:
        """Accept the fields of one event in place of a list of one."""
        data = _with_tuples(data)  # what passes through here is no longer JSON, where lists would do
        if isinstance(data, dict) and "interruption" in data and "events" not in data:
            return {"events": (data,)}
        return data

    @field_validator("events")
    @classmethod
    def _in_order(cls, events: tuple[Event, ...]) -> tuple[Event, ...]:
        return tuple(sorted(events, key=lambda e: (e.interruption.start, e.interruption.stop)))

    @model_validator(mode="after")
    def _possible(self) -> InterruptionRecipe:
        stop = max((e.interruption.stop for e in self.events), default=0)
        Schedule(max(1, stop), self._interruptions())  # refuses what overlaps
        if self.view is None and any("lookaway" in e.kinds for e in self.events):
            raise ValueError("a lookaway needs a `view`: the part of the wider clip that is seen")
        return self

    @model_serializer(mode="wrap")
    def _compact(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        data: dict[str, Any] = handler(self)
        if self.view is None:
            del data["view"]
            if len(self.events) == 1:
                return data["events"][0]
        return data

    def _interruptions(self) -> tuple[Interruption, ...]:
        return tuple(replace(e.interruption, also=e.kinds[1:]) for e in self.events)

    @property
    def event(self) -> Event:
        """The only event.

        Raises:
            InputError: none, or several.
        """
        if len(self.events) != 1:
            raise InputError("this recipe has not exactly one event", got=f"{len(self.events)}: {self.kind}",
                             fix="go through recipe.events")
        return self.events[0]

    @property
    def interruption(self) -> Interruption:
        """The times of the only event."""
        return self.event.interruption

    @property
    def style(self) -> AnyStyle:
        """The looks of the only event."""
        return self.event.style

    @property
    def kinds(self) -> tuple[InterruptionKind, ...]:
        """Every kind that occurs, in order of time."""
        return tuple(kind for e in self.events for kind in e.kinds)

    @property
    def kind(self) -> str:
        """In one word: the kinds in order of time, `&` = at once, `+` = later; `clean` if there are none."""
        return "+".join("&".join(e.kinds) for e in self.events) or "clean"

    def schedule(self, num_frames: int) -> Schedule:
        """The schedule of a clip of `num_frames` frames under this recipe.

        Raises:
            GraphError: an event that ends after the clip.
        """
        return Schedule(num_frames, self._interruptions())

    def without(self, *kinds: InterruptionKind) -> InterruptionRecipe:
        """The recipe less the styles of some kinds; what happened on the same clock stays, on its times.

        Used where something else than `apply_interruption` makes them: the world renders camera loops.
        """
        events = []
        for e in self.events:
            styles = tuple(style for style in e.styles if kind_of(style) not in kinds)
            if styles:
                times = replace(e.interruption, kind=kind_of(styles[0]))
                events.append(Event(interruption=times, style=styles[0], seed=e.seed, also=styles[1:]))
        return InterruptionRecipe(events=tuple(events), view=self.view)

    def to_json(self) -> str:
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> InterruptionRecipe:
        """Read a recipe written by `to_json`, trusting nothing.

        Raises:
            InputError: not JSON, an unknown field or kind, or a value out of range.
            GraphError: times out of order, or events that overlap.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "recipe"
            raise InputError(
                f"not an interruption recipe: {where}",
                got=str(first.get("input"))[:80],
                expected=first["msg"],
            ) from None


def _with_tuples(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _with_tuples(value) for key, value in data.items()}
    return tuple(_with_tuples(value) for value in data) if isinstance(data, list) else data
