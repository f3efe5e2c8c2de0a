"""Asking a vision-language model about a window: cut, events, occupancy, duration, caption, safety flags.

Source: ReMind F.1 for what is asked; the words of the question are our choice. Reading an answer never invents one: an
answer that breaks the schema or contradicts itself is `ParseFailed`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, get_args

from pydantic import ValidationError

from remind.curation.annotation import (
    Annotated,
    Annotation,
    AnnotationOutcome,
    ParseFailed,
    Question,
    TagGroup,
    VLMFailed,
    first_breach,
)
from remind.errors import InputError
from remind.vlm import VLM, Reply, VLMError, VLMMalformed, hash_of_prompt

# Raised with every change of the question or the schema; the hash that is recorded beside it tells the rest.
PROMPT_VERSION = 1

_QUESTION = """\
You are shown a video clip of {duration_s:.2f} seconds. Report what can be seen in it, as data for training a video \
model. Judge only what is visible; do not guess what happens before or after. Answer with a single JSON object and \
nothing else.

has_cut: true if the clip jumps, dissolves or fades from one shot to another at any time. Fast motion, a camera that \
moves or a light that goes off is not a cut.
cut_time_s: when the first cut happens, in seconds from the start of the clip; null if there is none.
events: which of the event types listed below take place, the most prominent first, by their exact names; an empty \
list if none does. Something that merely could move, but does not, is no event.
occupancy: the share of the picture, from 0 to 1, that the changing region covers: the area swept by everything that \
moves or changes of its own accord. Motion of the camera alone does not count.
visible_share: the share of the clip's duration, from 0 to 1, in which this change is in view.
caption: what happens, in these parts.
  text: one or two sentences that name the object, what about it changes, and in which direction.
  object: the thing that changes.
  state_variable: the quantity that changes, such as position, fill level, size, brightness or angle.
  direction: how that quantity runs over time, such as rising, falling, left to right or back and forth.
  trigger, before, after: if one of the events belongs to the group "discrete": what sets it off, the state before it \
and the state after it. Otherwise null for all three.
  Without any event: text describes the scene, and object, state_variable and direction are empty strings.
flags: for each of these, "yes", "no", or "unsure" if the picture does not allow a judgement.
  nudity: naked or sexualised bodies.
  violence: harm done to people or animals, blood, weapons in use.
  minors: people who appear to be younger than 18.
  identifiable_faces: faces large and sharp enough to recognise a person.
  watermark: logos, captions, time stamps or other marks laid over the picture.

Event types by group:
{event_types}
"""


def annotate(window_mp4: bytes, vlm: VLM, taxonomy: Mapping[str, TagGroup], *, duration_s: float) -> AnnotationOutcome:
    """Ask a model about a window.

    Args:
        window_mp4: the window as an mp4 file.
        vlm: whom to ask.
        taxonomy: every event type that may be answered, with its tag group (ReMind Table 7).
        duration_s: of the window, > 0.

    Raises:
        InputError: an empty taxonomy or a window that is no video; failures of the model are outcomes, not errors.
    """
    if not taxonomy or not duration_s > 0:
        raise InputError("nothing to ask a VLM about", got=f"{len(taxonomy)} event types, {duration_s} s")
    prompt, schema = question_text(taxonomy, duration_s), answer_schema(taxonomy)
    question = Question(vlm.model, PROMPT_VERSION, hash_of_prompt(prompt, schema))
    try:
        reply = vlm.ask(window_mp4, (), prompt, schema)
    except VLMMalformed as error:
        return ParseFailed(str(error), question, error.raw)
    except VLMError as error:
        return VLMFailed(str(error), error.transient, question)
    return read_answer(reply, taxonomy, duration_s)


def question_text(taxonomy: Mapping[str, TagGroup], duration_s: float) -> str:
    """The whole question: the same for all windows of one length and one taxonomy."""
    by_group = {group: sorted(event for event, its in taxonomy.items() if its == group) for group in get_args(TagGroup)}
    lines = [f"{group}: {', '.join(events)}" for group, events in by_group.items() if events]
    return _QUESTION.format(duration_s=duration_s, event_types="\n".join(lines))


def answer_schema(taxonomy: Mapping[str, TagGroup]) -> dict[str, Any]:
    """JSON schema of an `Annotation` whose events are of this taxonomy."""
    schema = Annotation.model_json_schema()
    schema["properties"]["events"]["items"] = {"type": "string", "enum": sorted(taxonomy)}
    return schema


def read_answer(reply: Reply, taxonomy: Mapping[str, TagGroup], duration_s: float) -> AnnotationOutcome:
    """A reply as an annotation, if it is one."""
    question = Question(reply.model, PROMPT_VERSION, reply.prompt_hash)
    if reply.parsed is None:
        return ParseFailed("the reply does not hold exactly one JSON object", question, reply.raw)
    try:
        annotation = Annotation.model_validate_json(json.dumps(reply.parsed))  # JSON again: lists become tuples
    except ValidationError as error:
        return ParseFailed(first_breach(error), question, reply.raw)
    if breach := _not_of_this_clip(annotation, taxonomy, duration_s):
        return ParseFailed(breach, question, reply.raw)
    return Annotated(annotation, question, reply.usage, reply.raw)


def _not_of_this_clip(annotation: Annotation, taxonomy: Mapping[str, TagGroup], duration_s: float) -> str | None:
    """What is wrong with an answer, given the clip and the taxonomy that it was asked about."""
    if annotation.cut_time_s is not None and annotation.cut_time_s > duration_s:
        return f"cut_time_s: a cut at {annotation.cut_time_s} s in a clip of {duration_s:.2f} s"
    if unknown := [event for event in annotation.events if event not in taxonomy]:
        return f"events: {unknown[0][:60]!r} is not in the taxonomy"
    caption = annotation.caption
    discrete = any(taxonomy[event] == "discrete" for event in annotation.events)
    if discrete and not (caption.trigger and caption.before and caption.after):
        return "caption: a discrete event without trigger, before and after"
    return None
