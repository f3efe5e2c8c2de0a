"""Curves of recovery as a PNG: one line a memory, its interval as a band, and where training ended."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remind.data.figure_style import (
    BLUE,
    GREEN,
    INK,
    LINE,
    ORANGE,
    PAPER,
    PURPLE,
    SKY,
    SOFT,
    VERMILION,
    bare,
    save,
    style,
)
from remind.evaluation.statistics import Estimate

COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY)
MARKERS = "osD^vP"


@dataclass(frozen=True)
class CurvePoint:
    """A value of what is varied, and what was measured there."""

    x: float
    estimate: Estimate


@dataclass(frozen=True)
class Curve:
    """One line.

    Args:
        name: in the legend.
        points: in order of x; those without a value leave a gap.
        reference: drawn dashed and grey: nobody's result.
    """

    name: str
    points: tuple[CurvePoint, ...]
    reference: bool = False

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "points": [
            {"x": p.x, "value": p.estimate.value, "low": p.estimate.low, "high": p.estimate.high, "n": p.estimate.n}
            for p in self.points
        ]}  # fmt: skip


def draw_curves(path: Path, curves: Sequence[Curve], *, x_label: str, beyond: float | None = None) -> None:
    """State progress over what is varied.

    Args:
        path: a PNG or SVG; its folder is made.
        curves: of one study.
        x_label: what is varied.
        beyond: the first value at which attention reaches farther back than in training; shaded from there on.

    Raises:
        InputError: a place that cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with style():
        figure = Figure(figsize=(6.4, 3.6), facecolor=PAPER, layout="constrained")
        axes = figure.add_subplot()
        bare(axes, keep=("left", "bottom"))
        for level, word in ((0.0, "stood still"), (1.0, "the truth")):
            axes.axhline(level, color=LINE, lw=1)
            axes.annotate(word, (1, level), xycoords=("axes fraction", "data"), xytext=(0, 2),
                          textcoords="offset points", ha="right", fontsize=7, color=SOFT)  # fmt: skip
        places = {x: float(i) for i, x in enumerate(dict.fromkeys(p.x for curve in curves for p in curve.points))}
        width = 0.06
        for i, curve in enumerate(curves):
            _draw(axes, curve, places, shift=0.0 if curve.reference else width * (i - (len(curves) - 2) / 2),
                  colour=SOFT if curve.reference else COLOURS[i % len(COLOURS)],
                  marker="" if curve.reference else MARKERS[i % len(MARKERS)])  # fmt: skip
        if beyond is not None:
            edge = places[beyond] - 0.5
            axes.axvspan(edge, len(places) - 0.5, color=LINE, alpha=0.35, lw=0, zorder=0)
            axes.annotate("farther back than in training", (edge, 1), xycoords=("data", "axes fraction"),
                          xytext=(4, -2), textcoords="offset points", va="top", fontsize=7, color=SOFT)  # fmt: skip
        axes.set_xticks(list(places.values()), [f"{x:g}" for x in places])
        axes.set_xlim(-0.5, len(places) - 0.5)
        axes.set_xlabel(x_label, color=INK)
        axes.set_ylabel("state progress", color=INK)
        axes.legend(loc="upper left", bbox_to_anchor=(1, 1), frameon=False, fontsize=8)
        save(figure, path)


def _draw(axes: Axes, curve: Curve, places: dict[float, float], *, shift: float, colour: str, marker: str) -> None:
    """One line with bars; values are as many and as far apart as the settings, whatever lies between them."""
    known = [p for p in curve.points if p.estimate.value is not None]
    x = [places[p.x] + shift for p in known]
    values = [v for p in known if (v := p.estimate.value) is not None]
    axes.plot(x, values, color=colour, marker=marker, ms=4.5, lw=1.6, ls="--" if curve.reference else "-",
              label=curve.name)  # fmt: skip
    if curve.reference:
        return
    for place, point in zip(x, known, strict=True):
        if point.estimate.low is not None and point.estimate.high is not None:
            axes.plot([place, place], [point.estimate.low, point.estimate.high], color=colour, lw=1, alpha=0.7)
