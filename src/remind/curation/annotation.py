"""What an annotation holds, how it fails, and the record that is kept of either.

Source: ReMind F.1 for the fields; the safety flags and the limits are our choice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated as With
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from remind.errors import StoreError
from remind.vlm import Usage

TagGroup = Literal[
    "translational", "monotonic_state", "deformation", "lighting_weather", "interaction", "periodic", "discrete"
]
Flag = Literal["nudity", "violence", "minors", "identifiable_faces", "watermark"]
FLAGS: tuple[Flag, ...] = get_args(Flag)
Verdict = Literal["yes", "no", "unsure"]
Share = With[float, Field(ge=0, le=1)]
_Phrase = With[str, Field(max_length=200)]
_EXCERPT = 300  # characters of a complaint
_STRICT = ConfigDict(extra="forbid", strict=True)


class _Checked(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        allow_inf_nan=False,
        str_strip_whitespace=True,
        json_schema_extra=lambda schema: schema.pop("description", None),  # docstrings are not for the model
    )


class Caption(_Checked):
    """What changes and how; the last three only for discrete events."""

    text: str = Field(min_length=1, max_length=1000)
    object: _Phrase
    state_variable: _Phrase
    direction: _Phrase
    trigger: _Phrase | None
    before: _Phrase | None
    after: _Phrase | None


class SafetyFlags(_Checked):
    """The model's opinion on what some uses must leave out. It is no guarantee; see docs/guides/vlm.md."""

    nudity: Verdict
    violence: Verdict
    minors: Verdict
    identifiable_faces: Verdict
    watermark: Verdict

    def raised(self, *, unsure_too: bool) -> tuple[Flag, ...]:
        """Names of the flags answered with yes, or also with unsure."""
        loud = ("yes", "unsure") if unsure_too else ("yes",)
        return tuple(flag for flag in FLAGS if getattr(self, flag) in loud)


class Annotation(_Checked):
    """A valid answer; the order of the fields is that of the question.

    Args:
        cut_time_s: seconds from the window's start; None exactly if there is no cut.
        events: of the taxonomy, most prominent first.
        occupancy: area share of the dynamic region, 0..1.
        visible_share: share of the window's duration in which the change is in view, 0..1.
    """

    has_cut: bool
    cut_time_s: With[float, Field(ge=0)] | None
    events: tuple[str, ...] = Field(max_length=16)
    occupancy: Share
    visible_share: Share
    caption: Caption
    flags: SafetyFlags

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Annotation:
        if self.has_cut != (self.cut_time_s is not None):
            raise ValueError(f"has_cut is {self.has_cut} but cut_time_s is {self.cut_time_s}")
        if len(set(self.events)) != len(self.events):
            raise ValueError("an event is named twice")
        caption = self.caption
        if self.events and not (caption.object and caption.state_variable and caption.direction):
            raise ValueError("an event without object, state_variable and direction")
        return self


@dataclass(frozen=True)
class Question:
    """What a record keeps of the question, to ask it again."""

    __pydantic_config__ = _STRICT
    model: str
    prompt_version: int
    prompt_hash: str


@dataclass(frozen=True)
class Annotated:
    """A valid answer, and all that the model sent."""

    __pydantic_config__ = _STRICT
    annotation: Annotation
    question: Question
    usage: Usage | None
    raw: str
    kind: Literal["annotated"] = "annotated"


@dataclass(frozen=True)
class ParseFailed:
    """A reply that is no valid answer; asking again would give the same one."""

    __pydantic_config__ = _STRICT
    why: str
    question: Question
    raw: str
    kind: Literal["parse_failed"] = "parse_failed"


@dataclass(frozen=True)
class VLMFailed:
    """No reply; `transient` says whether a later try may get one."""

    __pydantic_config__ = _STRICT
    why: str
    transient: bool
    question: Question
    kind: Literal["vlm_failed"] = "vlm_failed"


AnnotationOutcome = Annotated | ParseFailed | VLMFailed

_RECORD: TypeAdapter[AnnotationOutcome] = TypeAdapter(With[AnnotationOutcome, Field(discriminator="kind")])


def outcome_to_json(outcome: AnnotationOutcome) -> str:
    """The annotation record on one line."""
    return _RECORD.dump_json(outcome).decode()


def outcome_from_json(text: str | bytes) -> AnnotationOutcome:
    """An annotation record, checked like a fresh answer but for the taxonomy, which may have grown since.

    Raises:
        StoreError: a damaged record.
    """
    try:
        return _RECORD.validate_json(text)
    except ValidationError as error:
        raise StoreError("the annotation record is damaged", got=first_breach(error)) from None


def first_breach(error: ValidationError) -> str:
    """The first thing that is wrong, in one line without the offending value, which may be anything."""
    first = error.errors(include_input=False, include_url=False, include_context=False)[0]
    where = ".".join(map(str, first["loc"]))[:_EXCERPT]
    others = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    return f"{where or 'answer'}: {first['msg'][:_EXCERPT]}{others}"
