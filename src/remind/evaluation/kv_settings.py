"""Settings of the KV suite: a video that is continued after an interruption, or a loop made from one image (Fig. 5)."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from remind.errors import InputError
from remind.evaluation.fixed_clock import fixed_interruption
from remind.frame_graph import FrameGraph, Interruption, InterruptionKind, Schedule, frames_of_chunk

Mode = Literal["v2v", "i2v"]

NUM_CHUNKS = 7
ANCHORS = 2
"""Our choice: with two, the one that is no sink can be told from the one that is."""
FRONTIER = 5


@dataclass(frozen=True)
class KVSetting:
    """One layout of chunks, AAxxxxR: two anchors, four chunks of interruption, the recovery.

    Args:
        mode: a video is continued, or everything but the first frame is made.
        kind: of interruption.
    """

    mode: Mode
    kind: InterruptionKind

    @staticmethod
    def of(words: str) -> KVSetting:
        """From its name.

        Raises:
            InputError: no such setting.
        """
        mode, _, kind = words.partition("-")
        if mode not in ("v2v", "i2v") or kind not in ("occluder", "light_toggle", "camera_loop"):
            raise InputError("no such setting", got=words, expected="v2v or i2v, -, and occluder, light_toggle or "
                             "camera_loop", fix="e.g. v2v-occluder")  # fmt: skip
        return KVSetting(mode, kind)  # type: ignore[arg-type]  # checked just above

    @property
    def name(self) -> str:
        """Also part of a file name."""
        return f"{self.mode}-{self.kind}"

    @property
    def interruption(self) -> Interruption:
        return fixed_interruption(self.kind, start=frames_of_chunk(ANCHORS).start, frontier=FRONTIER)

    @property
    def graph(self) -> FrameGraph:
        return FrameGraph(Schedule(frames_of_chunk(NUM_CHUNKS - 1).stop, (self.interruption,)))

    @property
    def calm(self) -> FrameGraph:
        """Of the same clip without its interruption."""
        return FrameGraph(Schedule(self.graph.schedule.num_frames))

    @property
    def readers(self) -> dict[str, int]:
        """Chunks whose attention is summed up: the one in which the view returns, which must recall, and the first that
        is wholly clear, which may copy from it."""
        return {"return": FRONTIER, "recovery": self.graph.roles.index("recovery")}


@dataclass(frozen=True)
class KVPlan:
    """All that a run of the suite does.

    Args:
        settings: names of settings.
        clips: of each, >= 1.
        layers: see `reduction_of`.
        heads: how heads are reduced.
        seed: of the noise.
    """

    settings: tuple[str, ...] = ("v2v-occluder", "i2v-camera_loop")
    clips: int = 32
    layers: str = "paper"
    heads: Literal["mean", "max"] = "mean"
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.settings or len(set(self.settings)) < len(self.settings):
            raise InputError("every setting is run once", got=list(self.settings), expected="e.g. v2v-occluder")
        for words in self.settings:
            KVSetting.of(words)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)
