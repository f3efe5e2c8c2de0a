"""World clips whose interruption happens at stated times, so that clips of one layout can be averaged and compared.

The benchmark draws when a clip is interrupted. A diagnostic must not: a map of chunks averages clips in which chunk 5
means the same, and a curve over the gap changes the gap alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from remind.data.interrupt import Event, InterruptionRecipe, sample_recipe
from remind.data.world_clips import TEST_SEEDS, WorldClip, make_world_clip
from remind.errors import InputError
from remind.evaluation.world_benchmark import MIN_HIDDEN_CHANGE
from remind.evaluation.world_validator import RAMPS
from remind.frame_graph import Interruption, InterruptionKind, frames_of_chunk
from remind.world import sample_scene

RAMP_FRAMES = 5  # our choice: within what training saw of every kind
FIRST_SEED = TEST_SEEDS.start + 40_000_000
"""Apart from the seeds of the benchmark and the demo; still of those that report."""
_ATTEMPTS = 64  # per clip that is wanted


@dataclass(frozen=True)
class FixedCase:
    """A test clip by what makes it again.

    Args:
        seed: of the scene, its looks and the interruption's looks.
        family: of the scene.
        interruption: its times and kind.
        num_chunks: of the clip.
        hw: px.
    """

    seed: int
    family: str
    interruption: Interruption
    num_chunks: int
    hw: tuple[int, int]

    @property
    def num_frames(self) -> int:
        return frames_of_chunk(self.num_chunks - 1).stop

    def render(self) -> WorldClip:
        """The clip. Its looks are drawn as those of any world clip; only the times are given."""
        drawn = sample_recipe(self.interruption.kind, 81, np.random.default_rng([self.seed, 0x57E5]))
        like = drawn.events[0]
        event = Event(interruption=self.interruption, style=like.style, seed=like.seed, also=())
        return make_world_clip(self.seed, hw=self.hw, num_frames=self.num_frames, family=self.family,
                               recipe=InterruptionRecipe(events=(event,)))  # fmt: skip


def fixed_interruption(
    kind: InterruptionKind, *, start: int, frontier: int, hidden_frames: int | None = None
) -> Interruption:
    """An interruption whose view begins to return with a chunk, so that a prefix cut there leaks nothing.

    Args:
        start: first frame that may differ.
        frontier: the chunk with which the view begins to return.
        hidden_frames: how many are fully hidden; None = all from `start` on that the ramp leaves.

    Raises:
        InputError: no room for it.
    """
    hidden_stop = frames_of_chunk(frontier).start
    longest = hidden_stop - start - RAMP_FRAMES
    hidden = longest if hidden_frames is None else hidden_frames
    if not 0 < hidden <= longest:
        raise InputError("the interruption does not fit", got=f"{hidden} hidden frames", expected=f"1 to {longest}")
    hidden_start = hidden_stop - hidden
    return Interruption(kind, hidden_start - RAMP_FRAMES, hidden_start, hidden_stop, hidden_stop + RAMP_FRAMES)


def fixed_cases(
    count: int, interruption: Interruption, num_chunks: int, hw: tuple[int, int], *, families: Sequence[str] = RAMPS
) -> list[FixedCase]:
    """Test clips in which enough happens out of sight, walking through families in turn.

    Our choice, as for validation: ramps under cameras at rest, whose meter is fast. Nothing is picked by a result.

    Args:
        count: >= 1.
        interruption: of all clips.
        num_chunks: of all clips.
        hw: px.
        families: whose state runs from one end to the other.

    Raises:
        InputError: nothing is asked for, or too little happens while the clips are hidden.
    """
    if count < 1:
        raise InputError("an evaluation needs clips", got=count, expected="1 or more")
    found: list[FixedCase] = []
    for attempt in range(_ATTEMPTS * count):
        case = FixedCase(FIRST_SEED + attempt, families[attempt % len(families)], interruption, num_chunks, hw)
        scene = sample_scene(case.seed, family=case.family, num_frames=case.num_frames, hw=hw)
        change = float(scene.states[interruption.stop] - scene.states[interruption.start - 1])
        c2w = scene.cameras.c2w
        if abs(change) >= MIN_HIDDEN_CHANGE and bool((c2w == c2w[:1]).all()):
            found.append(case)
        if len(found) == count:
            return found
    raise InputError("too little happens while world clips are hidden", got=f"{len(found)} of {count} clips found",
                     expected=f"a state that changes by {MIN_HIDDEN_CHANGE:g}", fix="hide them for longer")
