"""Charts of the report as inline SVG: they take the page's colours, stay sharp, and need no script."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
from jaxtyping import Float

from remind.evaluation.kv_importance import KVImportance
from remind.evaluation.report_media import PHASE_COLOURS
from remind.frame_graph import Schedule

MODEL_COLOURS = {
    "truth": "currentColor",
    "remind": "#2f6fed",
    "matched": "#b05bc6",
    "base": "#e4572e",
    "remind_anchor_knocked_out": "#7b9bd6",
    "freeze": "#8d99ae",
    "linear": "#3f9b6b",
    "copy_anchor": "#c2a83e",
    "reset": "#a0785a",
    "middle": "#9a8fb0",
    "oracle": "#1b998b",
}
_SPARE = ("#d1495b", "#00798c", "#edae49", "#66a182", "#6a4c93")


def colour_of(model: str) -> str:
    """The same colour for a model everywhere; unknown names get one of a few by their letters."""
    return MODEL_COLOURS.get(model, _SPARE[sum(map(ord, model)) % len(_SPARE)])


def _lines(values: Float[np.ndarray, " t"], x: np.ndarray, y: np.ndarray) -> list[str]:
    """Coordinates of every unbroken run of finite values."""
    runs: list[list[str]] = [[]]
    for value, px, py in zip(values, x, y, strict=True):
        if math.isfinite(value):
            runs[-1].append(f"{px:.1f},{py:.1f}")
        elif runs[-1]:
            runs.append([])
    return [" ".join(run) for run in runs if run]


def state_curves(
    truth: Float[np.ndarray, " t"],
    measured: Mapping[str, Float[np.ndarray, " t"]],
    schedule: Schedule,
    *,
    label: str = "state",
) -> str:
    """State over time: the truth as a thick line, each model's measured state, hidden stretches shaded.

    Args:
        truth: true state per frame.
        measured: model -> state per frame, NaN where the frame does not show it.
        schedule: which frames are hidden.
        label: of the vertical axis.
    """
    width, height, left, right, top, bottom = 640, 276, 44, 10, 26, 40
    stack = np.concatenate([truth, *measured.values()])
    low, high = float(np.nanmin(stack)), float(np.nanmax(stack))
    pad = 0.06 * (high - low or 1.0)
    low, high = low - pad, high + pad
    last = max(1, len(truth) - 1)

    def at(frames: Any) -> Any:
        return left + frames / last * (width - left - right)

    def up(values: Any) -> Any:
        return top + (high - values) / (high - low) * (height - top - bottom)

    parts = [f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="{escape(label)}">']
    for event in schedule.interruptions:
        for start, stop, colour, opacity in (
            (event.start, event.stop, PHASE_COLOURS["changing"], 0.14),
            (event.hidden_start, event.hidden_stop, PHASE_COLOURS["hidden"], 0.32),
        ):
            parts.append(
                f'<rect x="{at(start - 0.5):.1f}" y="{top}" width="{max(0.0, at(stop) - at(start)):.1f}" '
                f'height="{height - top - bottom}" fill="{colour}" opacity="{opacity}"/>'
            )
        middle = at((event.hidden_start + event.hidden_stop - 1) / 2)
        parts.append(f'<text x="{middle:.1f}" y="{top - 8}" text-anchor="middle" class="tick">hidden</text>')
    for tick in np.linspace(low + pad, high - pad, 4):
        parts.append(
            f'<line x1="{left}" x2="{width - right}" y1="{up(tick):.1f}" y2="{up(tick):.1f}" class="grid"/>'
            f'<text x="{left - 6}" y="{up(tick) + 4:.1f}" text-anchor="end" class="tick">{tick:.2f}</text>'
        )
    for frame in range(0, last + 1, 16):
        parts.append(
            f'<text x="{at(frame):.1f}" y="{height - 22}" text-anchor="middle" class="tick">{frame}</text>'
        )
    parts.append(f'<text x="{width - right}" y="{height - 5}" text-anchor="end" class="tick">frame</text>')
    parts.append(f'<text x="{left}" y="{top - 8}" class="tick">{escape(label)}</text>')
    x = at(np.arange(len(truth), dtype=np.float64))
    for name, values in {"truth": truth, **measured}.items():
        style = 'stroke-width="5" opacity="0.35"' if name == "truth" else 'stroke-width="2"'
        for run in _lines(values, x, up(values)):
            parts.append(
                f'<polyline points="{run}" fill="none" stroke="{colour_of(name)}" stroke-linejoin="round" '
                f'stroke-linecap="round" {style}/>'
            )
    parts.append("</svg>")
    keys = "".join(
        f'<span class="key"><i style="background:{colour_of(n)}"></i>{escape(n)}</span>'
        for n in ("truth", *measured)
    )
    return f'{"".join(parts)}<p class="legend">{keys}</p>'


def heatmap(importance: KVImportance, title: str, query_chunks: Sequence[int] | None = None) -> str:
    """Query chunk by history chunk; a hatched cell is a chunk that could not be read.

    Args:
        importance: its mass among earlier chunks is drawn.
        title: shown above.
        query_chunks: rows; None = every chunk that was generated.
    """
    matrix = importance.history()
    if query_chunks is None:
        rows = [q for q in range(len(matrix)) if np.isfinite(matrix[q]).any()]
    else:
        rows = list(query_chunks)
    columns = range(matrix.shape[1] - 1)
    cell, left, top = 46, 66, 44
    width, height = left + cell * len(columns) + 6, top + cell * len(rows) + 6
    name = "hatch" + "".join(c for c in title if c.isalnum())
    parts = [
        f'<svg class="heat" viewBox="0 0 {width} {height}" style="max-width:{width}px" role="img" '
        f'aria-label="{escape(title)}"><defs><pattern id="{name}" width="7" height="7" '
        'patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><line x1="0" y1="0" x2="0" y2="7" '
        'class="hatch"/></pattern></defs>'
        f'<text x="{left}" y="14" class="tick">history chunk (what is read)</text>'
    ]
    for i, k in enumerate(columns):
        parts.append(
            f'<text x="{left + (i + 0.5) * cell}" y="{top - 8}" text-anchor="middle" class="tick">c{k}</text>'
        )
    for j, q in enumerate(rows):
        y = top + j * cell
        parts.append(
            f'<text x="{left - 8}" y="{y + cell / 2 + 4}" text-anchor="end" class="tick">query c{q}</text>'
        )
        for i, k in enumerate(columns):
            if k >= q:
                continue  # the future is no chunk that could not be read
            value, x = float(matrix[q, k]), left + i * cell
            box = f'x="{x + 1}" y="{y + 1}" width="{cell - 2}" height="{cell - 2}" rx="4"'
            if not math.isfinite(value):
                parts.append(f'<rect {box} fill="url(#{name})" class="absent"/>')
                continue
            strength = max(0.0, min(1.0, value))
            ink = "#fff" if strength > 0.65 else "currentColor"
            parts.append(
                f'<rect {box} fill="#2f6fed" fill-opacity="{0.06 + 0.94 * strength:.3f}"/>'
                f'<text x="{x + cell / 2}" y="{y + cell / 2 + 4}" text-anchor="middle" class="cell" '
                f'fill="{ink}">{value:.2f}</text>'
            )
    parts.append("</svg>")
    return f"<figure><figcaption>{escape(title)}</figcaption>{''.join(parts)}</figure>"


def progress_bars(rows: Sequence[tuple[str, float | None, float | None, float | None]]) -> str:
    """State progress of every model with its interval, on one axis where 0 is standing still and 1 the truth.

    Args:
        rows: model, value, low, high; None where there is none.
    """
    row, left, width = 26, 230, 1000
    low, high = -1.0, 2.0
    height = 28 + row * len(rows) + 22

    def at(x: float) -> float:
        return left + (min(max(x, low), high) - low) / (high - low) * (width - left - 14)

    parts = [
        f'<svg class="chart" viewBox="0 0 {width} {height}" role="img" aria-label="state progress by model">'
    ]
    for mark, word in ((-1.0, "-1"), (0.0, "0 = stood still"), (1.0, "1 = as it truly went"), (2.0, "2")):
        parts.append(
            f'<line x1="{at(mark):.1f}" x2="{at(mark):.1f}" y1="22" y2="{height - 22}" class="grid"/>'
            f'<text x="{at(mark):.1f}" y="14" text-anchor="middle" class="tick">{word}</text>'
        )
    for i, (name, value, lower, upper) in enumerate(rows):
        y = 28 + row * (i + 0.5)
        parts.append(
            f'<text x="{left - 10}" y="{y + 4:.1f}" text-anchor="end" class="name">{escape(name)}</text>'
        )
        if value is None:
            parts.append(f'<text x="{at(0.0) + 8:.1f}" y="{y + 4:.1f}" class="tick">no clip to score</text>')
            continue
        if lower is not None and upper is not None:
            parts.append(
                f'<line x1="{at(lower):.1f}" x2="{at(upper):.1f}" y1="{y:.1f}" y2="{y:.1f}" '
                f'stroke="{colour_of(name)}" stroke-width="6" stroke-linecap="round" opacity="0.45"/>'
            )
        parts.append(f'<circle cx="{at(value):.1f}" cy="{y:.1f}" r="6" fill="{colour_of(name)}"/>')
    note = "dot: mean; bar: 95 % bootstrap interval over clips"
    parts.append(f'<text x="{left}" y="{height - 4}" class="tick">{note}</text></svg>')
    return "".join(parts)
