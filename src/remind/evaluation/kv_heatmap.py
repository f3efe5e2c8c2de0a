"""Figure 5 as a PNG: query chunks by history chunks, several maps side by side, unavailable cells hatched."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from remind.data.figure_style import INK, LINE, PAPER, ROLE_COLORS, ROLE_INK, SOFT, bare, save, style
from remind.evaluation.kv_importance import KVImportance
from remind.frame_graph import FrameGraph

CELL_IN = 0.52
HATCH = "////"


def save_heatmaps(path: Path, title: str, maps: Mapping[str, tuple[KVImportance, FrameGraph]]) -> None:
    """Write maps of equal size.

    Args:
        path: a PNG or SVG; its folder is made.
        title: the first line.
        maps: by what is written over each, with the graph that marks the roles of its chunks.

    Raises:
        InputError: a place that cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = next(iter(maps.values()))[1].num_chunks - 1
    panel, left, top, bottom = cells * CELL_IN, 0.62, 0.98, 0.5
    width, height = len(maps) * (panel + left) + 0.15, panel + top + bottom
    with style():
        figure = Figure(figsize=(width, height), facecolor=PAPER)
        for i, (name, (importance, graph)) in enumerate(maps.items()):
            box = ((left + i * (panel + left)) / width, bottom / height, panel / width, panel / height)
            axes = figure.add_axes(box)
            draw_map(axes, importance, graph)
            axes.set_title(f"{name} (n = {importance.num_clips})", fontsize=9, color=INK, pad=22, loc="left")
        figure.text(0.08 / width, 1 - 0.1 / height, title, va="top", fontsize=10.5, color=INK)
        legend = ("rows: the chunk that reads; columns: what is read; rows sum to one; hatched: could not be read   "
                  "A anchor  x degraded  R recovery  . clean")  # fmt: skip
        figure.text(0.08 / width, 0.32 / height, legend, va="center", fontsize=7, color=SOFT)
        reduction = next(iter(maps.values()))[0].reduction
        figure.text(0.08 / width, 0.14 / height, reduction, va="center", fontsize=7, color=SOFT)
        save(figure, path)


def draw_map(axes: Axes, importance: KVImportance, graph: FrameGraph) -> None:
    """One map: shares of the attention to the past; hatched where a chunk of the past could not be read."""
    history, cells = importance.history(), importance.cells()
    bare(axes)
    axes.set_xlim(0, graph.num_chunks - 1)
    axes.set_ylim(graph.num_chunks, 1)
    colours = matplotlib.colormaps["Blues"]
    for query, chunk in cells["unavailable"]:
        axes.add_patch(Rectangle((chunk, query), 1, 1, fc=PAPER, ec=LINE, lw=0.8, hatch=HATCH))
    for query, chunk in cells["read"]:
        share = float(history[query, chunk])
        axes.add_patch(Rectangle((chunk, query), 1, 1, fc=colours(share), ec=PAPER, lw=1.2))
        axes.text(chunk + 0.5, query + 0.5, f"{share:.2f}", ha="center", va="center", fontsize=8,
                  color=PAPER if share > 0.55 else INK)  # fmt: skip
    for chunk in range(graph.num_chunks - 1):
        _mark(axes, graph, chunk, (chunk + 0.5, 0.68))
        _mark(axes, graph, chunk + 1, (-0.5, chunk + 1.5))
    axes.set_xticks([])
    axes.set_yticks([])


def _mark(axes: Axes, graph: FrameGraph, chunk: int, at: tuple[float, float]) -> None:
    role = graph.roles[chunk]
    axes.text(*at, f"{chunk} {graph.draw()[chunk]}", ha="center", va="center", fontsize=8, color=ROLE_INK[role],
              clip_on=False, bbox={"boxstyle": "round,pad=0.25", "fc": ROLE_COLORS[role], "ec": LINE, "lw": 0.5})
