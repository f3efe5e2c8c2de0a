"""What the stress suite varies: one thing at a time, on clips alike in all else.

Source: ReMind Fig. 1 (d) and Sec. 3.3.

    gap          how long the view is hidden, everything remembered; clips grow with it, and so do their scenes' times
    distractors  how many hidden chunks lie in memory between anchors and recovery, at one and the same gap in time
    reference    how far back a clean reference stands that is all that is known, the time that has passed being true

A longer gap has more distractors too; that is why the second study holds the time still.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from remind.data.world_clips import WorldClip
from remind.errors import InputError
from remind.evaluation.continuation import Script, from_reference, interrupted
from remind.evaluation.fixed_clock import RAMP_FRAMES, fixed_interruption
from remind.frame_graph import Interruption, InterruptionKind, frames_of_chunk
from remind.inference.session import CHUNK_FRAMES, FIRST_FRAMES
from remind.prompt_schedule import FPS

Study = Literal["gap", "distractors", "reference"]
Mode = Literal["v2v", "i2v"]

MIN_ANCHORS = 2  # our choice, as in training: a rate can be seen
ANCHOR_SHARE = 1 / 3  # our choice: anchors per hidden chunk, so that the view is hidden for over half of a long clip
AFTER_CHUNKS = 1  # as the benchmark has at least: a whole clear chunk after the one in which the view returns
X_LABELS: dict[Study, str] = {
    "gap": "hidden for, s", "distractors": "hidden chunks in memory", "reference": "chunks since the reference",
}  # fmt: skip


@dataclass(frozen=True)
class StressPoint:
    """One setting of one study.

    Args:
        study: what is varied.
        mode: a video is continued, or everything but the first frame is made.
        x: its value: seconds, or chunks.
        interruption: of the clips.
        num_chunks: of the clips.
        offset: chunk with which the video begins; above 0 only a reference is known of what came before.
    """

    study: Study
    mode: Mode
    x: float
    interruption: Interruption
    num_chunks: int
    offset: int = 0

    @property
    def name(self) -> str:
        """Also part of a file name."""
        return f"{self.study}-{self.mode}-{self.x:g}"

    @property
    def label(self) -> str:
        return f"{self.x:g} s" if self.study == "gap" else f"{self.x:g}"

    @property
    def hidden_s(self) -> float:
        return (self.interruption.hidden_stop - self.interruption.hidden_start) / FPS

    def script(self, case: WorldClip) -> Script:
        """What a model is given of a clip of this setting."""
        if self.offset:
            return from_reference(case, offset=self.offset)
        return interrupted(case, image=self.mode == "i2v")

    def witnesses(self, case: WorldClip) -> tuple[int, ...]:
        """Chunks in memory that show the state."""
        return (-1,) if self.offset else case.graph.witnesses

    def dropped(self, case: WorldClip) -> tuple[int, ...]:
        """Hidden chunks that are taken out of memory so that as many distractors are left as is asked for: the last."""
        if self.study != "distractors":
            return ()
        hidden = hidden_chunks(case)
        return hidden[: len(hidden) - int(self.x)]

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def hidden_chunks(case: WorldClip) -> tuple[int, ...]:
    """Chunks before the recovery that show nothing."""
    return tuple(k for k in range(case.graph.frontier or 0) if k not in case.graph.witnesses)


def gap_point(seconds: int | float, kind: InterruptionKind, mode: Mode) -> StressPoint:
    """A view that is hidden for so long: anchors before it, the clip's end after it.

    Raises:
        InputError: no whole frame, or over ten minutes.
    """
    hidden = round(FPS * seconds)
    if not 1 <= hidden <= 600 * FPS:
        raise InputError("the view is hidden for some time", got=f"{seconds:g} s", expected="0.0625 to 600 s")
    anchors = max(MIN_ANCHORS, math.ceil(ANCHOR_SHARE * hidden / CHUNK_FRAMES))
    return StressPoint("gap", mode, float(seconds), *_hidden_after(anchors, hidden, kind))


def _hidden_after(anchors: int, hidden: int, kind: InterruptionKind) -> tuple[Interruption, int]:
    start = frames_of_chunk(anchors).start
    frontier = anchors + 1
    while frames_of_chunk(frontier).start - start < hidden + RAMP_FRAMES:
        frontier += 1
    return fixed_interruption(kind, start=start, frontier=frontier, hidden_frames=hidden), frontier + 1 + AFTER_CHUNKS



def distractor_points(counts: Sequence[int], seconds: float, kind: InterruptionKind) -> list[StressPoint]:
    """So many hidden chunks in memory, at one gap.

    Raises:
        InputError: more than the gap has.
    """
    gap = gap_point(seconds, kind, "v2v")
    hidden = range(gap.interruption.hidden_start, gap.interruption.hidden_stop)
    most = sum(set(frames_of_chunk(k)) <= set(hidden) for k in range(gap.num_chunks))
    if not all(0 <= count <= most for count in counts):
        raise InputError("a gap has so many hidden chunks and no more", got=list(counts),
                         expected=f"0 to {most} within {seconds:g} s", fix="hide the view for longer")  # fmt: skip
    return [StressPoint("distractors", "v2v", float(count), gap.interruption, gap.num_chunks) for count in counts]


def reference_point(gap_chunks: int, kind: InterruptionKind) -> StressPoint:
    """A reference of the clip's first 9 frames, and then the video, so many chunks after it: the paper's G.

    Raises:
        InputError: too near for anything to have been hidden, or too far.
    """
    if not 2 <= gap_chunks <= 1000:
        raise InputError("a reference stands some chunks before the video", got=gap_chunks, expected="2 to 1000")
    interruption = fixed_interruption(kind, start=FIRST_FRAMES, frontier=gap_chunks)
    return StressPoint("reference", "v2v", float(gap_chunks), interruption, gap_chunks + 1 + AFTER_CHUNKS,
                       offset=gap_chunks)  # fmt: skip


@dataclass(frozen=True)
class StressPlan:
    """All settings of a run.

    Args:
        studies: which.
        gaps_s: of study `gap`, seconds.
        modes: of study `gap`.
        distractors: of study `distractors`, hidden chunks left in memory.
        distractor_gap_s: at which gap, seconds.
        reference_gaps: of study `reference`, chunks.
        kind: of interruption.
        memories: see `stress_memory.memory_of`; or the name of one control.
        clips: of every setting, >= 1; the same for all memories.
        seed: of the noise.
    """

    studies: tuple[Study, ...] = ("gap", "distractors", "reference")
    gaps_s: tuple[float, ...] = (1.5, 3.0, 5.0, 10.0, 20.0, 30.0)
    modes: tuple[Mode, ...] = ("v2v",)
    distractors: tuple[int, ...] = (0, 1, 2, 4, 8)
    distractor_gap_s: float = 10.0
    reference_gaps: tuple[int, ...] = (2, 4, 6, 12, 24)
    kind: InterruptionKind = "light_toggle"
    memories: tuple[str, ...] = ("full", "window:6", "sink_window:1+5", "anchors:2", "retrieve:4", "knocked_out")
    clips: int = 16
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.studies or not self.memories or len(set(self.memories)) < len(self.memories):
            raise InputError("a stress test needs studies and different memories",
                             got=f"studies {list(self.studies)}, memories {list(self.memories)}")  # fmt: skip
        names = [point.name for point in self.points()]
        if len(set(names)) < len(names) or not names:
            raise InputError("every setting is run once", got=names, fix="leave out what is there twice")

    def points(self) -> tuple[StressPoint, ...]:
        """All settings, study by study."""
        return tuple(self._points())

    def _points(self) -> Iterator[StressPoint]:
        for study in self.studies:
            if study == "gap":
                yield from (gap_point(gap, self.kind, mode) for mode in self.modes for gap in self.gaps_s)
            elif study == "distractors":
                yield from distractor_points(self.distractors, self.distractor_gap_s, self.kind)
            else:
                yield from (reference_point(gap, self.kind) for gap in self.reference_gaps)
