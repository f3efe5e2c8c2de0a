"""When a clip is interrupted.

Source: ReMind F.2 (the four families of interruptions). Lengths and alignments are our choice, said at each.
"""

from __future__ import annotations

import numpy as np

from remind.errors import InputError
from remind.frame_graph import Interruption, InterruptionKind, Schedule, frames_of_chunk, num_chunks

# Our choice: two clean chunks, so that the rate of change can be seen before the view is lost.
MIN_CLEAN_CHUNKS = 2
# Our choice: 1.5 to 2.5 s at 16 fps within an 81-frame clip; longer and shorter clips scale them.
HIDDEN_FRAMES_OF_81 = (24, 40)
MIN_HIDDEN_FRAMES = 4
# Frames from the first change to full cover. Lights may go out at once; a panel or a camera has to travel.
RAMP_FRAMES: dict[InterruptionKind, tuple[int, int]] = {
    "light_toggle": (0, 6),
    "occluder": (2, 6),
    "camera_loop": (2, 6),
    "zoom": (10, 24),
}


def sample_interruption(
    kind: InterruptionKind,
    num_frames: int,
    generator: np.random.Generator,
    *,
    hidden_frames: tuple[int, int] | None = None,
) -> Interruption:
    """Draw the times of one interruption so that its frame graph always exists.

    Our choices: the first two chunks stay clean; the way in and the way out take equally long, so that the
    moment of the return can be inferred; `hidden_stop` is the first frame of a chunk, so that a prefix cut
    there leaks nothing; at least one whole clean chunk follows. Zoom hides nothing: its `hidden_start` and
    `hidden_stop` coincide at the closest moment, and its ramps take the length that hiding takes elsewhere.

    Args:
        num_frames: 12k - 3 pixel frames, e.g. 81.
        generator: advanced by three draws.
        hidden_frames: fewest and most fully hidden frames, 1 or more; by default 24..40 for 81 frames, scaled
            with the clip's length and lowered where a short clip has no room.

    Raises:
        InputError: a clip too short for this kind, or hidden lengths that do not fit it.
    """
    chunks = num_chunks(num_frames)
    first_start = frames_of_chunk(MIN_CLEAN_CHUNKS).start
    least, most = _hidden_range(kind, num_frames, hidden_frames)

    def stops(ramp: int, hidden: int) -> list[int]:
        """Chunk starts at which the view may begin to return."""
        candidates = [frames_of_chunk(k).start for k in range(MIN_CLEAN_CHUNKS, chunks)]
        last_chunk = frames_of_chunk(chunks - 1).start
        return [s for s in candidates if s - hidden - ramp >= first_start and s + ramp <= last_chunk]

    lowest, highest = RAMP_FRAMES[kind]
    if kind != "zoom" and hidden_frames is None:
        room = [h for h in range(least, 0, -1) if h >= MIN_HIDDEN_FRAMES and stops(lowest, h)]
        least = room[0] if room else MIN_HIDDEN_FRAMES
    ramps = [r for r in range(lowest, highest + 1) if stops(r, least)]
    if not ramps:
        raise InputError(
            f"no {kind} interruption fits into the clip",
            got=f"{num_frames} frames, at least {least} of them hidden",
            expected=f"{MIN_CLEAN_CHUNKS} clean chunks, the interruption, then a clean chunk",
            fix="use a longer clip (81 frames) or fewer hidden frames",
        )
    ramp = int(generator.choice(ramps))
    hidden_stop = int(generator.choice(stops(ramp, least)))
    longest = min(most, hidden_stop - ramp - first_start)
    hidden = int(generator.integers(least, max(least, longest) + 1))
    hidden_start = hidden_stop - hidden
    return Interruption(kind, hidden_start - ramp, hidden_start, hidden_stop, hidden_stop + ramp)


def _hidden_range(
    kind: InterruptionKind, num_frames: int, hidden_frames: tuple[int, int] | None
) -> tuple[int, int]:
    if kind == "zoom":
        if hidden_frames is not None:
            raise InputError("zoom hides nothing", got=f"hidden_frames={hidden_frames}", fix="leave it out")
        return 0, 0
    if hidden_frames is None:
        scale = (num_frames - 1) / 80
        low, high = (max(MIN_HIDDEN_FRAMES, round(h * scale)) for h in HIDDEN_FRAMES_OF_81)
        return low, high
    if not 1 <= hidden_frames[0] <= hidden_frames[1]:
        raise InputError("hidden frames must be a range", got=hidden_frames, expected="1 <= fewest <= most")
    return hidden_frames


def sample_schedule(
    kind: InterruptionKind,
    num_frames: int,
    generator: np.random.Generator,
    *,
    hidden_frames: tuple[int, int] | None = None,
) -> Schedule:
    """A schedule of one interruption; arguments and errors as in `sample_interruption`."""
    interruption = sample_interruption(kind, num_frames, generator, hidden_frames=hidden_frames)
    return Schedule(num_frames, (interruption,))
