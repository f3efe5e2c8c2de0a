"""Pictures for watching a training: what a model made of a clip, and which part of the past it read."""

from __future__ import annotations

import math
from collections.abc import Sequence

import matplotlib
import numpy as np
from jaxtyping import UInt8
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from remind.data.figure_style import INK, LINE, PAPER, ROLE_COLORS, ROLE_INK, SOFT, bare, style
from remind.evaluation.kv_importance import KVImportance
from remind.evaluation.report_media import PHASE_COLOURS, PHASES, phase_of, strip_frames
from remind.frame_graph import FrameGraph, Schedule

Picture = UInt8[np.ndarray, "height width 3"]
_CELL_PX = 84  # height of a frame in the strip; smaller frames are enlarged by a whole factor
_GAP_PX = 3
_LINE_PX = 15
_HEAD_PX = 46
_LEFT_PX = 78
_EMPTY = (236, 238, 241)
_DPI = 100


def recovery_strip(
    title: str, truth: UInt8[Tensor, "t h w 3"], given: UInt8[Tensor, "t h w 3"],
    generated: UInt8[Tensor, "t h w 3"], schedule: Schedule, first_generated: int,
    *, true_state: Sequence[float | None] = (), measured: Sequence[float | None] = (),
) -> Picture:
    """About twelve frames of a clip in three rows: the truth, what the model was given, what it generated.

    Above each column stand its frame and, in colour, its phase; under the frames the hidden state, if it is known.

    Args:
        title: the first line.
        truth: the same scene without its interruption: what went on out of sight.
        given: what was seen; frames from `first_generated` on are left out, for the model did not get them.
        generated: the full video; frames before `first_generated` are left out.
        schedule: colours the phases and chooses the frames.
        true_state, measured: per frame of the video; empty = not shown, None = not known.
    """  # fmt: skip
    frames = strip_frames(schedule)
    rows = [("truth", truth, range(len(truth)), true_state), ("given", given, range(first_generated), ()),
            ("generated", generated, range(first_generated, len(generated)), measured)]
    height, width = _shown_size(truth.shape[1], truth.shape[2])
    tops, bottom = [], _HEAD_PX
    for *_, states in rows:
        tops.append(bottom)
        bottom += height + _GAP_PX + (_LINE_PX if len(states) else 0)
    picture = Image.new("RGB", (_LEFT_PX + len(frames) * (width + _GAP_PX) + _GAP_PX, bottom + _GAP_PX), PAPER)
    draw = ImageDraw.Draw(picture)
    small, normal = ImageFont.load_default(11), ImageFont.load_default(13)
    right = picture.width - 8
    for phase in reversed(PHASES):
        draw.text((right, 4), phase, fill=PHASE_COLOURS[phase], font=small, anchor="ra")
        right -= int(small.getlength(phase)) + 12
    draw.text((6, 3), _fitting(title, normal, right - 12), fill=INK, font=normal)
    for column, frame in enumerate(frames):
        left = _LEFT_PX + column * (width + _GAP_PX)
        phase = phase_of(frame, schedule)
        draw.text((left + width / 2, 24), str(frame), fill=SOFT, font=small, anchor="ma")
        draw.rectangle((left, _HEAD_PX - 8, left + width - 1, _HEAD_PX - 4), fill=PHASE_COLOURS[phase])
        for top, (_, video, known, states) in zip(tops, rows, strict=True):
            box = (left, top, left + width - 1, top + height - 1)
            if frame not in known:
                draw.rectangle(box, fill=_EMPTY)
                continue
            picture.paste(_shown(video[frame].numpy(), (height, width)), (left, top))
            if frame < len(states):
                state = states[frame]
                text = "-" if state is None or math.isnan(state) else f"{state:.2f}"
                draw.text((left + width / 2, top + height + 1), text, fill=INK, font=small, anchor="ma")
    for top, (name, *_, states) in zip(tops, rows, strict=True):
        draw.text((6, top + height / 2), name, fill=INK, font=normal, anchor="lm")
        if len(states):
            draw.text((6, top + height + 1), "state", fill=SOFT, font=small)
    first = next((i for i, frame in enumerate(frames) if frame >= first_generated), len(frames))
    line = _LEFT_PX + first * (width + _GAP_PX) - 2
    draw.line((line, tops[0] - 8, line, bottom), fill=INK, width=1)
    return np.asarray(picture)


def _fitting(text: str, font: ImageFont.FreeTypeFont | ImageFont.ImageFont, width_px: int) -> str:
    """The text, cut where it would be too wide."""
    if font.getlength(text) <= width_px:
        return text
    while text and font.getlength(text + "...") > width_px:
        text = text[:-1]
    return text + "..."


def _shown_size(height: int, width: int) -> tuple[int, int]:
    if height < _CELL_PX:
        factor = math.ceil(_CELL_PX / height)
        return height * factor, width * factor
    return _CELL_PX, round(width * _CELL_PX / height)


def _shown(frame: UInt8[np.ndarray, "h w 3"], hw: tuple[int, int]) -> Image.Image:
    enlarged = hw[0] > frame.shape[0]
    return Image.fromarray(frame).resize(hw[::-1], Image.Resampling.NEAREST if enlarged else Image.Resampling.BOX)


def importance_heatmap(title: str, importance: KVImportance, graph: FrameGraph) -> Picture:
    """How much of its attention to the past each generated chunk gives to each earlier one; rows sum to one.

    Args:
        title: the first line.
        importance: of clips that all have this graph's roles.
        graph: marks the roles of chunks by colour and letter.
    """
    history = importance.history()
    rows = [k for k in range(len(history)) if np.isfinite(history[k]).any()]
    columns = range(max(rows, default=1))
    with style():
        figure = Figure(figsize=(max(4.2, 1.1 + 0.62 * len(columns)), 1.32 + 0.5 * len(rows)), facecolor=PAPER)
        canvas = FigureCanvasAgg(figure)
        size = figure.get_size_inches()
        width, height = 0.62 * len(columns) / size[0], 0.5 * len(rows) / size[1]
        axes = figure.add_axes((0.9 / size[0], 0.42 / size[1], width, height))
        bare(axes)
        axes.set_xlim(0, len(columns))
        axes.set_ylim(len(rows), 0)
        colours = matplotlib.colormaps["Blues"]
        for y, row in enumerate(rows):
            for column in columns:
                value = history[row, column]
                if not np.isfinite(value):
                    continue
                axes.add_patch(Rectangle((column, y), 1, 1, fc=colours(float(value)), ec=PAPER, lw=1.5))
                axes.text(column + 0.5, y + 0.5, f"{value:.2f}", ha="center", va="center", fontsize=8.5,
                          color=PAPER if value > 0.55 else INK)
        for column in columns:
            _role_mark(axes, graph, column, (column + 0.5, -0.34))
        for y, row in enumerate(rows):
            _role_mark(axes, graph, row, (-0.5, y + 0.5))
        axes.set_xticks([])
        axes.set_yticks([])
        figure.text(0.08 / size[0], 1 - 0.1 / size[1], title, va="top", fontsize=10, color=INK)
        figure.text(0.08 / size[0], 1 - 0.31 / size[1], f"columns: what is read; rows: the chunk that reads; "
                    f"{importance.num_clips} clips", va="top", fontsize=7.5, color=SOFT)
        roles = "A anchor   x degraded   R recovery   . clean"
        figure.text(0.08 / size[0], 0.24 / size[1], roles, va="center", fontsize=7.5, color=SOFT)
        figure.text(0.08 / size[0], 0.09 / size[1], importance.reduction, va="center", fontsize=6, color=SOFT)
        figure.set_dpi(_DPI)
        canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].copy()


def _role_mark(axes, graph: FrameGraph, chunk: int, at: tuple[float, float]) -> None:  # type: ignore[no-untyped-def]
    role = graph.roles[chunk]
    letter = graph.draw()[chunk]
    axes.text(*at, f"{chunk} {letter}", ha="center", va="center", fontsize=8.5, color=ROLE_INK[role], clip_on=False,
              bbox={"boxstyle": "round,pad=0.3", "fc": ROLE_COLORS[role], "ec": LINE, "lw": 0.5})
