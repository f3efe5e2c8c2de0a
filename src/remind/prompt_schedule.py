"""The prompts that announce an interruption: one per chunk, used alike in training, generation and measurement.

Source: our choice: without them an image-to-video model could not be asked for darkness.

`chunk_prompts` derives them from a schedule of interruptions. `PromptSchedule` holds what a user says when.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise

from remind.errors import InputError
from remind.frame_graph import Interruption, InterruptionKind, Schedule, chunk_of_frame, frames_of_chunk, num_chunks


@dataclass(frozen=True)
class Phrases:
    """What a prompt says while an interruption begins, lasts, ends, or does all of it within one chunk."""

    begins: str
    lasts: str
    ends: str
    passes: str


# Short: the weight-free text encoder reads 24 words, and the caption comes first.
PHRASES: dict[InterruptionKind, Phrases] = {
    "light_toggle": Phrases(
        "the lights go off", "the lights are off", "the lights come back on", "the lights flicker"
    ),
    "occluder": Phrases(
        "a panel covers the view", "a panel hides everything", "the panel moves away", "a panel passes by"
    ),
    "camera_loop": Phrases(
        "the camera turns away", "the camera looks away", "the camera turns back", "the camera glances away"
    ),
    "zoom": Phrases("the camera zooms in", "the camera is close", "the camera zooms out", "the zoom shakes"),
    "lookaway": Phrases(
        "the camera turns away", "the camera looks away", "the camera turns back", "the camera glances away"
    ),
    "cardboard": Phrases(
        "cardboard covers the view", "cardboard hides everything", "the cardboard moves away", "cardboard passes by"
    ),
    "curtain": Phrases(
        "a curtain closes", "a curtain hides everything", "the curtain opens", "a curtain sways past"
    ),
    "flicker": Phrases(
        "the lights flicker out", "the lights are off", "the lights flicker on", "the lights flicker"
    ),
    "blink": Phrases(
        "the view closes to black", "the view is black", "the view opens", "the view blinks"
    ),
}
CLEAR_AGAIN = "the view is clear"


def chunk_prompts(caption: str, schedule: Schedule) -> tuple[str, ...]:
    """One prompt per chunk: the caption, and what happens to the view in that chunk.

    Chunks before the first interruption carry the caption alone. Used alike in training and generation: else
    an image-to-video model could not be asked for an interruption.

    Args:
        caption: names the object and its change; may be empty.
        schedule: of 12k - 3 frames.
    """
    return tuple(_joined(caption, _phrase(chunk, schedule)) for chunk in range(num_chunks(schedule.num_frames)))


def _joined(caption: str, happens: str) -> str:
    return ", ".join(part for part in (caption.strip().rstrip(".,; "), happens) if part)


def _phrase(chunk: int, schedule: Schedule) -> str:
    """What happens in a chunk. Two events that touch the same chunk are told in order: the way back of the first,
    the way in of the second."""
    frames = frames_of_chunk(chunk)
    told = [moment for event in schedule.interruptions if (moment := _moment(frames, event))]
    if told:
        return ", then ".join(dict.fromkeys(told))
    return CLEAR_AGAIN if any(frames.start >= event.stop for event in schedule.interruptions) else ""


def _moment(frames: range, event: Interruption) -> str:
    """What one event does to some frames; empty if nothing."""

    def touches(start: int, stop: int) -> bool:
        return frames.start < stop and start < frames.stop

    begins = touches(event.start, max(event.hidden_start, event.start + 1))
    ends = touches(event.hidden_stop, max(event.stop, event.hidden_stop + 1))
    words = [PHRASES[kind] for kind in event.kinds]
    if begins and ends:
        parts = [w.passes for w in words]
    elif begins:
        parts = [w.begins for w in words]
    elif ends:
        parts = [w.ends for w in words]
    elif touches(event.hidden_start, event.hidden_stop):
        parts = [w.lasts for w in words]
    else:
        parts = []
    return " and ".join(parts)


FPS = 16
"""Frames per second by which seconds are counted: the rate of training clips and of generated videos."""
MAX_ENTRIES = 10_000
MAX_PROMPT = 4_000
"""Characters of one prompt. Text encoders read far fewer: 512 tokens are about 2,000."""
MAX_CHUNK = 100_000
WHOLE = "="
"""Begins a prompt that stands alone, without the base prompt before it."""

_SECONDS = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?) ?s")
_CHUNK = re.compile(r"[0-9]{1,6}")


@dataclass(frozen=True)
class PromptSchedule:
    """What a user says when: a base prompt, and from some chunks on what happens.

    A change holds until the next one. As `chunk_prompts` does, a prompt is the base prompt, a comma, and what happens:
    "a cup fills, the lights go off". A change that begins with "=" is the whole prompt instead. None is the base
    prompt again; chunks before the first change have the base prompt.

    Args:
        base: what is there and what it does; may be empty.
        changes: chunk from which on it holds, and what happens; in order of time, one a chunk.

    Raises:
        InputError: changes out of order, too many, too long, or at no possible chunk.
    """

    base: str = ""
    changes: tuple[tuple[int, str | None], ...] = ()

    def __post_init__(self) -> None:
        if len(self.changes) > MAX_ENTRIES:
            raise InputError("too many prompts", got=len(self.changes), expected=f"at most {MAX_ENTRIES}")
        if not all(0 <= chunk <= MAX_CHUNK for chunk, _ in self.changes):
            raise InputError("a prompt for no possible chunk", got=[chunk for chunk, _ in self.changes][:8],
                             expected=f"0..{MAX_CHUNK}")
        for (earlier, _), (later, _) in pairwise(self.changes):
            if not earlier < later:
                raise InputError("prompts must be in order of time, one a chunk", got=f"chunk {later} after {earlier}")
        longest = max(map(len, (self.base, *(text for _, text in self.changes if text is not None))))
        if longest > MAX_PROMPT:
            raise InputError("a prompt is too long", got=f"{longest} characters", expected=f"at most {MAX_PROMPT}")

    @classmethod
    def of(cls, written: object, *, base: str = "", fps: int = FPS) -> PromptSchedule:
        """From plain values, as JSON, YAML or `as_written` give them.

        Args:
            written: a mapping from chunk numbers (`3`, `"3"`) or seconds (`"2.5s"`, the chunk that shows that moment)
                to prompts, where the key `base` may hold the base prompt; or a list with a prompt for each chunk from
                the first one on; or one prompt for all; or None.
            base: the base prompt; only one of the two places may give it.
            fps: frames per second of the video, > 0.

        Raises:
            InputError: a key that is no time, two keys for one chunk, a prompt that is no text, two base prompts.
        """
        if written is None or isinstance(written, str):
            return cls(base, () if written is None else ((0, _prompt(written, "0")),))
        if isinstance(written, Mapping):
            entries = dict(written)
            own = entries.pop("base", None)
            if own is not None and base:
                raise InputError("the base prompt is given twice", got=f"{base[:40]!r} and {str(own)[:40]!r}",
                                 fix="give it beside the schedule or in it")
            base = base if own is None else _prompt(own, "base") or ""
        elif isinstance(written, Sequence):
            entries = dict(enumerate(written))
        else:
            raise InputError("no schedule of prompts", got=type(written).__name__, expected="a mapping or a list")
        found: dict[int, tuple[object, str | None]] = {}
        for key, value in entries.items():
            chunk = _chunk_of(key, fps)
            if chunk in found:
                raise InputError(f"two prompts for chunk {chunk}", got=f"{found[chunk][0]} and {key}",
                                 fix="keep one of them, or move one to another chunk")
            found[chunk] = key, _prompt(value, key)
        return cls(base, tuple((chunk, found[chunk][1]) for chunk in sorted(found)))

    @classmethod
    def of_interruption(cls, caption: str, schedule: Schedule) -> PromptSchedule:
        """The schedule whose `per_chunk` is `chunk_prompts(caption, schedule)`."""
        said = [_phrase(chunk, schedule) for chunk in range(num_chunks(schedule.num_frames))]
        changed = [chunk for chunk, phrase in enumerate(said) if phrase != (said[chunk - 1] if chunk else "")]
        return cls(caption, tuple((chunk, said[chunk] or None) for chunk in changed))

    def prompt_of(self, chunk: int) -> str:
        """The prompt of a chunk, >= 0."""
        place = bisect_right([start for start, _ in self.changes], chunk)
        happens = self.changes[place - 1][1] if place else None
        if happens is not None and happens.startswith(WHOLE):
            return happens.removeprefix(WHOLE).strip()
        return _joined(self.base, happens or "")

    def per_chunk(self, num_chunks: int) -> tuple[str, ...]:
        """One prompt for each chunk of a rollout.

        Raises:
            InputError: the schedule says something after the rollout's end.
        """
        if self.changes and self.changes[-1][0] >= num_chunks:
            last = self.changes[-1][0]
            raise InputError("the prompt schedule is longer than the rollout",
                             got=f"a prompt for chunk {last} ({frames_of_chunk(last).start / FPS:.2f} s)",
                             expected=f"chunks 0..{num_chunks - 1}, as the rollout has {num_chunks}",
                             fix=f"generate {last + 1} chunks or leave that prompt out")
        return tuple(self.prompt_of(chunk) for chunk in range(num_chunks))

    def as_written(self) -> dict[str, str | None]:
        """Plain values for a manifest; `of` reads them back."""
        return {"base": self.base, **{str(chunk): text for chunk, text in self.changes}}


def _chunk_of(key: object, fps: int) -> int:
    text = str(key).strip() if isinstance(key, str | int) and not isinstance(key, bool) else ""
    if _CHUNK.fullmatch(text):
        return int(text)
    if seconds := _SECONDS.fullmatch(text):
        return chunk_of_frame(int(Fraction(seconds[1]) * fps))
    raise InputError("a prompt at no time", got=repr(key)[:60],
                     expected="the number of a chunk, or seconds with an s", fix="e.g. 3 or 2.5s")


def _prompt(value: object, key: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InputError(f"the prompt at {str(key)[:20]} is no text", got=repr(value)[:60],
                         expected="text in quotes, or null for the base prompt")
    return None if value is None else " ".join(value.split()) or None
