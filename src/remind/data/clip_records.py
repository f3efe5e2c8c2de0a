"""The JSON beside a stored clip: where it comes from, what happens in it, how it is interrupted. Checked on reading."""

from __future__ import annotations

import json
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

from remind.data.interrupt import InterruptionRecipe
from remind.errors import StoreError
from remind.world.families import Group

MAX_FRAMES = 100_000
MAX_JSON_BYTES = 1 << 20

Text = Annotated[str, Field(max_length=10_000)]
Pts = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Positive = Annotated[int, Field(gt=0, lt=2**63)]
Name = Annotated[str, Field(min_length=1, max_length=200)]
JudgedBy = Literal["vlm", "no_vlm", "world"]


class _FromOutside(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Provenance(_FromOutside):
    """Where a clip comes from and why it was kept.

    Args:
        source: name of the source, e.g. `local`, `openvid`.
        item_id: the video within its source, usually a relative path.
        sha256: of the video's bytes, in hex.
        start_pts: of the first frame, in `time_base`.
        stop_pts: of the last frame.
        time_base: seconds per pts, as numerator and denominator.
        shot: number of the shot within the video, from 0.
        scores: every number by which the clip was kept.
        verdicts: what each stage said, by stage.
        tool_versions: of what made it.
        facts: everything else that the source knows.
        url, author, licence, permission: where it was found, by whom, on what terms; empty if unknown.
    """

    source: Name
    item_id: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    start_pts: Pts
    stop_pts: Pts
    time_base: tuple[Positive, Positive]
    shot: int = Field(0, ge=0)
    scores: dict[str, float] = {}
    verdicts: dict[str, Text] = {}
    tool_versions: dict[str, str] = {}
    facts: dict[str, Text | float] = {}
    url: Text = ""
    author: Text = ""
    licence: Text = ""
    permission: Text = ""


class Event(_FromOutside):
    """What happens in a clip, and who says so.

    Args:
        types: event types of the taxonomy.
        groups: tag groups of ReMind Table 7; a clip may be in several.
        judged_by: `vlm`: a vision-language model looked; `world`: rendered, so its truth is known; `no_vlm`: nobody
            looked, the labels are the source's and the motion's.
        annotation: the model's record; given if and only if one looked.
        flow: statistics of the optical flow.
        safety_flags: names of the safety questions answered with yes; None: nobody asked, which promises nothing.
    """

    types: tuple[Name, ...] = ()
    groups: tuple[Group, ...] = ()
    judged_by: JudgedBy = "no_vlm"
    annotation: dict[str, JsonValue] = {}
    flow: dict[str, float] = {}
    safety_flags: tuple[Name, ...] | None = None

    @model_validator(mode="after")
    def _claims_only_what_was_looked_at(self) -> Event:
        if (self.judged_by == "vlm") != bool(self.annotation):
            raise ValueError("an annotation is there if and only if a VLM looked")
        if self.judged_by == "no_vlm" and self.safety_flags is not None:
            raise ValueError("nobody looked, so nothing is known about safety")
        return self

    @property
    def statement(self) -> str:
        """In words, who looked."""
        return {
            "vlm": "a vision-language model looked at this clip",
            "no_vlm": "no VLM looked at this clip: nothing is known about its content or safety beyond its motion",
            "world": "rendered by the embedded world: its state is known exactly",
        }[self.judged_by]


class Caption(_FromOutside):
    """`caption.json`."""

    caption: Text


class _Graph(_FromOutside):
    """`graph.json`; the recipe is opaque here, `InterruptionRecipe` reads and writes it."""

    num_frames: int = Field(ge=1, le=MAX_FRAMES)
    recipe: dict[str, JsonValue]
    prompts: tuple[Text, ...]


Record = TypeVar("Record", bound=BaseModel)


def read_record(record: type[Record], data: bytes) -> Record:
    """Validate a JSON file of a store.

    Raises:
        StoreError: too large, not JSON, an unknown field, or a value out of range.
    """
    if len(data) > MAX_JSON_BYTES:
        raise StoreError("a record is too large", got=f"{len(data)} bytes of JSON", expected=f"{MAX_JSON_BYTES}")
    try:
        return record.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the record"
        raise StoreError(f"{record.__name__.strip('_').lower()}: {where}", got=first["msg"]) from None


def write_record(record: BaseModel) -> bytes:
    """As JSON, UTF-8."""
    return record.model_dump_json().encode()


def printable(text: str) -> str:
    """Words from outside as they may be shown: an escape sequence in them commands no terminal and breaks no SVG."""
    return "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in text.replace("\t", " "))


def write_graph(num_frames: int, recipe: InterruptionRecipe, prompts: tuple[str, ...]) -> bytes:
    """The bytes of `graph.json`."""
    return write_record(_Graph(num_frames=num_frames, recipe=json.loads(recipe.to_json()), prompts=prompts))


def read_graph(data: bytes) -> tuple[int, InterruptionRecipe, tuple[str, ...]]:
    """Frames, recipe and per-chunk prompts of a `graph.json`.

    Raises:
        StoreError: not such a file.
        InputError, GraphError: not a recipe.
    """
    graph = read_record(_Graph, data)
    return graph.num_frames, InterruptionRecipe.from_json(json.dumps(graph.recipe)), graph.prompts
