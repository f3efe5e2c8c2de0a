"""When a clip is interrupted.

Source: ReMind F.2 (the four families of interruptions). Lengths and alignments are our choice, said at each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from remind.data.kinds import KINDS
from remind.errors import InputError
from remind.frame_graph import Interruption, InterruptionKind, Schedule, frames_of_chunk, num_chunks

# Our choice: two clean chunks, so that the rate of change can be seen before the view is lost.
MIN_CLEAN_CHUNKS = 2
# Our choice: 1.5 to 2.5 s at 16 fps within an 81-frame clip; longer and shorter clips scale them.
HIDDEN_FRAMES_OF_81 = (24, 40)
MIN_HIDDEN_FRAMES = 4
RAMP_FRAMES: dict[InterruptionKind, tuple[int, int]] = {kind: info.ramp_frames for kind, info in KINDS.items()}


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
    if KINDS[kind].hides and hidden_frames is None:
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
    if not KINDS[kind].hides:
        if hidden_frames is not None:
            raise InputError(f"{kind} hides nothing", got=f"hidden_frames={hidden_frames}", fix="leave it out")
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


def most_events(num_frames: int) -> int:
    """How many interruptions of two chunks each fit with a clean chunk before, between and after them (81 -> 2)."""
    return max(1, (num_chunks(num_frames) - 1) // 3)


def sample_times(
    kinds: Sequence[InterruptionKind],
    num_frames: int,
    generator: np.random.Generator,
    *,
    hidden_frames: tuple[int, int] = (8, 40),
    hides: Sequence[bool] | None = None,
) -> tuple[Interruption, ...]:
    """Draw the times of several interruptions, in order, so that their frame graph exists and each has its recovery.

    Our choices: as in `sample_interruption`, but every chunk at which a view can return is as likely as any other,
    which makes many hidden stretches short: with fixed long ones, what travels returned at frame 57 of 81 always. A
    whole clean chunk lies between two interruptions, the recovery of the one and the anchor of the next. A single
    interruption leaves `MIN_CLEAN_CHUNKS` clean chunks before it where the clip has room; several leave one.

    Args:
        kinds: of the interruptions, in order of time; at least one.
        num_frames: 12k - 3 pixel frames.
        hidden_frames: fewest (where there is room) and most fully hidden frames; the most grows with the clip.
        hides: per interruption, whether it hides; None = what `KINDS` says.

    Raises:
        InputError: more interruptions than the clip has room for, or hidden lengths that are no range.
    """
    if not kinds or not 1 <= hidden_frames[0] <= hidden_frames[1]:
        raise InputError("hidden frames must be a range, and there must be an interruption",
                         got=(list(kinds), hidden_frames), expected="1 <= fewest <= most")  # fmt: skip
    hiding = [KINDS[kind].hides for kind in kinds] if hides is None else list(hides)
    least = [min(MIN_HIDDEN_FRAMES, hidden_frames[0]) if h else 0 for h in hiding]
    most = [round(hidden_frames[1] * max(1.0, num_frames / 81)) if h else 0 for h in hiding]
    ramps = [RAMP_FRAMES[kind][0] for kind in kinds]
    leads = (MIN_CLEAN_CHUNKS, 1) if len(kinds) == 1 else (1,)
    lead = next((lead for lead in leads if _slack(ramps, least, lead, num_frames) >= 0), None)
    if lead is None:
        raise InputError(
            f"{len(kinds)} interruptions do not fit into the clip" if len(kinds) > 1 else f"no {kinds[0]} fits",
            got=f"{', '.join(kinds)} in {num_frames} frames",
            expected=f"at most {most_events(num_frames)}, each with a clean chunk before and after it",
            fix="use a longer clip or fewer interruptions",
        )
    for i in generator.permutation(len(kinds)):  # as slow as drawn, where the clip has room for it
        lowest, highest = RAMP_FRAMES[kinds[i]]
        fitting = [r for r in range(lowest, highest + 1)
                   if _slack([*ramps[:i], r, *ramps[i + 1 :]], least, lead, num_frames) >= 0]  # fmt: skip
        ramps[i] = int(generator.choice(fitting))
    # Stars and bars: every way to hand out the chunks that are left is equally likely.
    slack = _slack(ramps, least, lead, num_frames)
    spare = np.sort(generator.choice(slack + len(kinds), len(kinds), replace=False)) - np.arange(len(kinds))
    events: list[Interruption] = []
    floor = lead  # first chunk that may be degraded
    taken = 0
    for i, kind in enumerate(kinds):
        returns = floor + _chunks(ramps[i] + least[i]) + int(spare[i]) - taken
        taken = int(spare[i])
        hidden_stop = frames_of_chunk(returns).start
        room = hidden_stop - ramps[i] - frames_of_chunk(floor).start
        low, high = min(hidden_frames[0], room) if hiding[i] else 0, min(most[i], room)
        hidden = int(generator.integers(low, max(low, high) + 1))
        hidden_start = hidden_stop - hidden
        events.append(Interruption(kind, hidden_start - ramps[i], hidden_start, hidden_stop, hidden_stop + ramps[i]))
        floor = returns + _chunks(ramps[i]) + 1
    return tuple(events)


def _chunks(frames: int) -> int:
    """Chunks that this many frames reach into, counted from a chunk's edge."""
    return math.ceil(frames / len(frames_of_chunk(1)))


def _slack(ramps: Sequence[int], least: Sequence[int], lead: int, num_frames: int) -> int:
    """Chunks to spare when every interruption is as short as it can be; negative if they do not fit."""
    used = sum(_chunks(r + h) + _chunks(r) + 1 for r, h in zip(ramps, least, strict=True))  # and a clean one after it
    return num_chunks(num_frames) - lead - used
