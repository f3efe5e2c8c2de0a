"""KV importance of a generation: takes in what `RemindPipeline` lets one see, for clips of one layout."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from remind.evaluation.kv_importance import KVImportance, KVImportanceRecorder, average, paper_reduction
from remind.frame_graph import FrameGraph
from remind.inference.rollout import Glance


class LayoutGlances:
    """A `glance` for the pipeline that keeps clips of the commonest layout alone: a chunk of the map has one role.

    Args:
        graphs: of the clips that will be generated, in order; at least one.
    """

    def __init__(self, graphs: Sequence[FrameGraph]):
        layouts = Counter(graph.draw() for graph in graphs)
        commonest = max(sorted(layouts), key=lambda layout: layouts[layout])
        self.clips = frozenset(i for i, graph in enumerate(graphs) if graph.draw() == commonest)
        self.graph = graphs[min(self.clips)]
        self._recorders: dict[int, KVImportanceRecorder] = {}

    def __call__(self, members: list[int], glance: Glance) -> None:
        """Take in one denoising pass over a batch.

        Args:
            members: which clips the rows of the batch are.
        """
        tokens = glance.lse[0].shape[2]
        for row, clip in enumerate(members):
            if clip in self.clips:
                recorder = self._recorders.setdefault(
                    clip, KVImportanceRecorder(self.graph.num_chunks, paper_reduction(len(glance.lse)))
                )
                recorder.add(glance.chunk, [entry.chunk for entry in glance.entries],
                             [layer[row] for layer in glance.lse], [tokens] * len(glance.entries))

    def result(self) -> KVImportance:
        """The mean over the clips.

        Raises:
            InputError: nothing has been generated.
        """
        return average([recorder.result() for recorder in self._recorders.values()])

    def mass_on_anchors(self) -> float | None:
        """Share of the attention to the past that generated recovery chunks give to anchors; None if there is none."""
        history = self.result().history()
        roles = np.array(self.graph.roles)
        read = history[(roles == "recovery") & np.isfinite(history).any(1)]
        return float(np.nansum(read[:, roles == "anchor"], 1).mean()) if len(read) else None
