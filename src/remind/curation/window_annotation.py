"""What a vision-language model says of one window, and what follows for its clip: event, caption, keep or drop."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import torch

from remind.curation.annotate import annotate
from remind.curation.annotation import Annotated, TagGroup, outcome_from_json, outcome_to_json
from remind.curation.scan import ScanOptions, Window
from remind.curation.taxonomy import Taxonomy
from remind.curation.windows import read_window, shown_at
from remind.data.clip_records import Event
from remind.data.video_io import encode_mp4
from remind.errors import RemindError
from remind.vlm import VLM, OpenAICompatibleVLM, RequestLimits, TransformersVLM


class Unanswered(RemindError):
    """The model gave nothing to keep: not the window's fault, so it is asked again in the next run."""


@dataclass(frozen=True)
class Look:
    """Whom to ask, and at what size; plain data, so that it goes to any process.

    Args:
        base_url: of a server, or empty: the model then runs in the process that asks.
        model: its name there, or its folder here.
        side_px: longest side of the pictures it is shown.
        api_key: of the server.
        max_concurrent: questions under way at a time in one process.
    """

    base_url: str
    model: str
    side_px: int
    api_key: str | None = field(default=None, repr=False)
    max_concurrent: int = 8

    def at(self, path: Path, window: Window, hw: tuple[int, int], options: ScanOptions, taxonomy: Taxonomy) -> str:
        """The record of an answer, as JSON; also of one that breaks the schema, which is an outcome of its own.

        Args:
            hw: of the video.

        Raises:
            Unanswered: no reply, for now or at all.
        """
        frames = read_window(path, window, shown_at(options, hw, self.side_px))
        preview = encode_mp4(frames, Fraction(options.fps), crf=23)
        found = annotate(preview, _vlm(self), groups_of(taxonomy), duration_s=len(frames) / options.fps)
        if found.kind == "vlm_failed":
            raise Unanswered(found.why)
        return outcome_to_json(found)


@lru_cache(maxsize=1)
def _vlm(look: Look) -> VLM:
    """One for the life of this process: loading a model for every window is unaffordable."""
    if look.base_url:
        limits = RequestLimits(max_concurrent=look.max_concurrent)
        return OpenAICompatibleVLM(look.base_url, look.model, look.api_key, limits=limits)
    return TransformersVLM(look.model, device="cuda" if torch.cuda.is_available() else "cpu")


def groups_of(taxonomy: Taxonomy) -> Mapping[str, TagGroup]:
    """The tag group of every event type."""
    return {event.id: event.group for event in taxonomy.types}


def read_annotation(record: str) -> Annotated | None:
    """A record's answer; None where the reply broke the schema."""
    outcome = outcome_from_json(record)
    return outcome if isinstance(outcome, Annotated) else None


def why_no_answer(record: str) -> str:
    """Why there is no annotation in a record."""
    return str(getattr(outcome_from_json(record), "why", "the reply holds no answer"))


def event_of(found: Annotated, record: str, flow: dict[str, float], taxonomy: Taxonomy) -> Event:
    """What the clip's `event.json` says, with the whole record: raw reply, model, hash of the question."""
    types = found.annotation.events
    flags = found.annotation.flags.raised(unsure_too=False)
    return Event(types=types, groups=taxonomy.groups_of(types), judged_by="vlm", annotation=json.loads(record),
                 flow=flow, safety_flags=flags)  # fmt: skip
