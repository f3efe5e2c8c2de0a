"""The prompts that announce an interruption: one per chunk, used alike in training, generation and measurement.

Source: our choice: without them an image-to-video model could not be asked for darkness.
"""

from __future__ import annotations

from dataclasses import dataclass

from remind.frame_graph import Interruption, InterruptionKind, Schedule, frames_of_chunk, num_chunks


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
    return tuple(
        ", ".join(part for part in (caption.strip().rstrip(".,; "), _phrase(chunk, schedule)) if part)
        for chunk in range(num_chunks(schedule.num_frames))
    )


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
