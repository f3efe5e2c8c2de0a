"""The statistics of a store as one figure of bars."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remind.data.figure_fonts import drawable
from remind.data.figure_style import BLUE, GREEN, INK, ORANGE, SKY, SOFT, VERMILION, bare, save, style
from remind.data.store_stats import StoreStats

_WIDTH_IN, _HEAD_IN, _BAR_IN, _GAP_IN = 13.0, 1.1, 0.24, 0.6
_MOST_BARS = 12
_NAME_LENGTH = 34


def draw_stats(stats: StoreStats, out: Path) -> None:
    """Draw tag groups, event types, interruptions, sources and reasons for dropping.

    Args:
        out: a PNG or SVG file.

    Raises:
        InputError: a file that cannot be written.
    """
    left = (
        ("Tag groups", "as in Table 7; a clip may be in several", stats.named_groups, BLUE),
        ("Event types", "", stats.event_types, SKY),
    )
    note = "by stage and reason" if stats.dropped is not None else "no report"
    right = (
        ("Interruptions", "", stats.kinds, ORANGE),
        ("Sources", "", stats.sources, GREEN),
        ("Dropped", note, stats.reasons, VERMILION),
    )
    height = _HEAD_IN + max(sum(_height_in(counts) for _, _, counts, _ in side) for side in (left, right))
    with style():
        figure = Figure(figsize=(_WIDTH_IN, height))
        _head(figure, stats)
        for x, side in zip((0.02, 0.52), (left, right), strict=True):
            y = height - _HEAD_IN
            for name, note, counts, color in side:
                shown = _longest(counts)
                bars = _BAR_IN * max(len(shown), 1)
                figure.text(x, (y + 0.18) / height, name, fontsize=10.5, fontweight="bold", va="center")
                figure.text(x + 0.46, (y + 0.18) / height, note, fontsize=8, color=SOFT, va="center", ha="right")
                _bars(figure.add_axes((x + 0.2, (y - bars) / height, 0.23, bars / height)), shown, color)
                y -= _height_in(counts)
        save(figure, out)


def _head(figure: Figure, stats: StoreStats) -> None:
    y = 1 - 0.35 / figure.get_figheight()
    size = sum(stats.num_bytes.values()) / 2**20
    facts = [f"{stats.seconds / 60:.1f} min", f"{size:.1f} MiB", f"{stats.with_cameras} with cameras",
             f"{stats.with_depth} with depth", *(f"{n} of {name}" for name, n in list(stats.sizes.items())[:2])]
    figure.text(0.02, y, f"{stats.clips} memory clips", fontsize=15, fontweight="bold", va="center")
    figure.text(0.98, y, "   ·   ".join(facts), fontsize=9, color=SOFT, va="center", ha="right")


def _height_in(counts: Mapping[str, int]) -> float:
    return _BAR_IN * max(min(len(counts), _MOST_BARS), 1) + _GAP_IN


def _longest(counts: Mapping[str, int]) -> dict[str, int]:
    entries = list(counts.items())
    if len(entries) <= _MOST_BARS:
        return dict(entries)
    rest = entries[_MOST_BARS - 1 :]
    return dict(entries[: _MOST_BARS - 1]) | {f"{len(rest)} more": sum(n for _, n in rest)}


def _bars(axes: Axes, counts: Mapping[str, int], color: str) -> None:
    bare(axes)
    axes.set_xticks([])
    if not counts:
        axes.set_yticks([])
        axes.text(0, 0.5, "none", transform=axes.transAxes, fontsize=8, color=SOFT, va="center")
        return
    names = [textwrap.shorten(drawable(name), _NAME_LENGTH, placeholder="…") for name in counts]
    places, values = range(len(counts)), list(counts.values())
    axes.barh(places, values, height=0.68, color=color)
    axes.set_yticks(places, names, color=INK, fontsize=8.5)
    axes.set_ylim(len(counts) - 0.5, -0.5)
    longest = max(values)
    axes.set_xlim(0, max(longest, 1))
    for place, value in zip(places, values, strict=True):
        axes.text(value + 0.015 * max(longest, 1), place, f"{value:,}", va="center", fontsize=8, color=SOFT)
