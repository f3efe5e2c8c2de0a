"""The panels of a clip's picture: what lies along its time, and what its cameras do."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import groupby

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, Polygon, Rectangle
from matplotlib.path import Path as Curve

from remind.clip import Cameras, Clip
from remind.data.figure_fonts import drawable
from remind.data.figure_style import BLUE, INK, KIND_COLORS, LINE, ORANGE, ROLE_COLORS, ROLE_INK, SOFT, VERMILION, bare
from remind.frame_graph import FrameGraph, Schedule, frames_of_chunk

_STILL = 1e-6  # poses that differ by less are the same
_CHARACTER_IN = 0.075  # mean width of a character of 8 pt


def draw_strip(axes: Axes, clip: Clip, shown: Sequence[int], cell_hw_in: tuple[float, float], marked: frozenset[int]
               ) -> None:  # fmt: skip
    """Frames side by side, each in the middle of the time that it stands for; marked ones are framed."""
    bare(axes)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_xlim(0, len(shown))
    axes.set_ylim(1, 0)
    height, width = clip.hw
    scale = min(cell_hw_in[0] / height, 0.97 * cell_hw_in[1] / width)
    half_w, half_h = width * scale / cell_hw_in[1] / 2, height * scale / cell_hw_in[0] / 2
    for place, frame in enumerate(shown):
        x = place + 0.5
        box = (x - half_w, x + half_w, 0.5 + half_h, 0.5 - half_h)
        axes.imshow(clip.rgb[frame].numpy(), extent=box, aspect="auto", interpolation="antialiased", zorder=1)
        color = VERMILION if frame in marked else LINE
        axes.add_patch(Rectangle((box[0], box[3]), 2 * half_w, 2 * half_h, fill=False, ec=color, lw=1.4, zorder=2))


def draw_graph(axes: Axes, graph: FrameGraph, width_in: float) -> None:
    """A box a chunk in the colour of its role, and an arrow from each recovery back to its anchors."""
    _time_axis(axes, graph.schedule.num_frames)
    axes.set_ylim(0, 1)
    for chunk, role in enumerate(graph.roles):
        frames = frames_of_chunk(chunk)
        axes.add_patch(Rectangle((frames.start + 0.1, 0.02), len(frames) - 0.2, 0.4, fc=ROLE_COLORS[role], ec="none"))
        name = f"{chunk}  {role}" if len(frames) * width_in / graph.schedule.num_frames > 0.95 else str(chunk)
        axes.text(_middle(frames), 0.22, name, ha="center", va="center", fontsize=8.5, color=ROLE_INK[role])
    gaps = sorted({edge.gap_chunks for edge in graph.edges})
    for edge in graph.edges:
        start, stop = _middle(frames_of_chunk(edge.recovery)), _middle(frames_of_chunk(edge.anchor))
        top = 0.92 - 0.34 * (1 - (gaps.index(edge.gap_chunks) + 1) / len(gaps))
        control = (top - 0.25 * 0.44) / 0.75  # a cubic with both controls at this height peaks at `top`
        axes.add_patch(_curve(np.array([[start, 0.44], [start, control], [stop, control], [stop, 0.44]])))
        if len(gaps) > 3 and edge.gap_chunks not in (gaps[0], gaps[-1]):
            continue  # labels of many neighbours would cover each other
        axes.text((start + stop) / 2, top, f"G = {edge.gap_chunks}", ha="center", va="center", fontsize=7.5, color=INK,
                  bbox={"fc": "white", "ec": "none", "pad": 1.2})


def wrap_prompts(prompts: Sequence[str], caption: str, num_frames: int, width_in: float) -> list[tuple[range, str]]:
    """What chunks are prompted with beside the caption, wrapped to their width; equal neighbours share one text."""
    wrapped, chunk = [], 0
    for phrase, run in groupby(drawable(beside_caption(prompt, caption)) for prompt in prompts):
        count = len(list(run))
        frames = range(frames_of_chunk(chunk).start, frames_of_chunk(chunk + count - 1).stop)
        columns = max(4, int(len(frames) * width_in / num_frames / _CHARACTER_IN))
        wrapped.append((frames, textwrap.fill(phrase or "(the caption alone)", columns, max_lines=6, placeholder="…")))
        chunk += count
    return wrapped


def draw_prompts(axes: Axes, wrapped: Sequence[tuple[range, str]], num_frames: int) -> None:
    """Texts from `wrap_prompts` under the frames that they belong to."""
    _time_axis(axes, num_frames)
    axes.set_ylim(1, 0)
    for frames, text in wrapped:
        axes.plot([frames.start + 0.4, frames.stop - 0.4], [0.02, 0.02], color=SOFT, lw=1)
        axes.text(_middle(frames), 0.1, text, ha="center", va="top", fontsize=8, color=INK, linespacing=1.25)


def draw_interruptions(axes: Axes, schedule: Schedule) -> None:
    """A row an interruption: how far gone the view is, with the frames at which that changes."""
    _time_axis(axes, schedule.num_frames)
    rows = max(1, len(schedule.interruptions))
    axes.set_ylim(rows, 0)
    if not schedule.interruptions:
        axes.text(schedule.num_frames / 2, 0.5, "nothing interrupts this clip", ha="center", va="center", color=SOFT)
    for row, event in enumerate(schedule.interruptions):
        low, high = row + 0.72, row + 0.3
        corners = [(event.start, low), (event.hidden_start, high), (event.hidden_stop, high), (event.stop, low)]
        axes.add_patch(Polygon(corners, closed=True, fc=KIND_COLORS.get(event.kind, ORANGE), ec=INK, lw=0.8))
        hidden = event.hidden_stop - event.hidden_start
        name = f"{event.kind}: {hidden} frames hidden" if hidden else f"{event.kind}: nothing hidden"
        axes.text(event.start - 0.8, (low + high) / 2, name, ha="right", va="center", fontsize=8.5, color=INK)
        for frame in (event.start, event.stop):
            axes.text(frame, low + 0.03, str(frame), ha="center", va="top", fontsize=7.5, color=SOFT)
        for frame in sorted({event.hidden_start, event.hidden_stop}):
            axes.plot([frame, frame], [low, high], color=INK, lw=0.8)
            axes.text(frame, high - 0.03, str(frame), ha="center", va="bottom", fontsize=7.5, color=SOFT)


def draw_line(axes: Axes, lines: dict[str, tuple[str, Float[np.ndarray, " t"]]], num_frames: int,
              marked: frozenset[int], *, last: bool, least_range: float = 1e-6) -> None:  # fmt: skip
    """Values over time, named at the right; degraded frames are tinted.

    Args:
        lines: colour and values of each, by name.
        last: the frame numbers go below this panel.
        least_range: of the axis of values, so that noise does not fill it.
    """
    _time_axis(axes, num_frames, labelled=last)
    for frame in marked:
        axes.axvspan(frame, frame + 1, color="#f1f2f4", lw=0, zorder=0)
    for name, (color, values) in lines.items():
        axes.plot(np.arange(len(values)) + 0.5, values, color=color, lw=1.5, label=name)
    finite = np.concatenate([values[np.isfinite(values)] for _, values in lines.values()])
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    room = 0.12 * max(high - low, least_range)
    middle, half = (low + high) / 2, max(high - low, least_range) / 2
    axes.set_ylim(middle - half - room, middle + half + room)
    axes.set_yticks([low, high] if high - low > least_range / 4 else [middle])
    axes.yaxis.set_major_formatter(lambda value, _: f"{value + 0.0:.3g}")
    if low < 0 < high:
        axes.axhline(0, color=LINE, lw=0.8, zorder=0)
    if len(lines) > 1:
        axes.legend(loc="upper left", bbox_to_anchor=(0, 1.32), ncols=4, fontsize=7.5, frameon=False, handlelength=1.4)


def draw_path(axes: Axes, cameras: Cameras) -> None:
    """The cameras from above: a dot a frame from early (dark) to late (light), a tick where each fifth looks."""
    frames = np.flatnonzero(cameras.valid.numpy())
    c2w = cameras.c2w.numpy()[frames]
    x, z = c2w[:, 0, 3], c2w[:, 2, 3]
    extent = max(np.ptp(x), np.ptp(z))
    look = 0.18 * extent if extent > _STILL else 1.0
    bare(axes)
    for i in range(0, len(frames), 5):
        axes.plot([x[i], x[i] + look * c2w[i, 0, 2]], [z[i], z[i] + look * c2w[i, 2, 2]], color=SOFT, lw=0.8, zorder=1)
    axes.scatter(x, z, c=frames, cmap="cividis", s=12, zorder=2)
    for i, word in ((0, "first"), (-1, "last")):
        at = (x[i] + 1.05 * look * c2w[i, 0, 2], z[i] + 1.05 * look * c2w[i, 2, 2])  # where it looks, not where it is
        axes.annotate(f"{word} ({frames[i]})", at if extent <= _STILL else (x[i], z[i]), textcoords="offset points",
                      xytext=(5, -9 if i else 6), fontsize=7.5, color=INK, zorder=3,
                      bbox={"fc": "white", "ec": "none", "pad": 0.8, "alpha": 0.85})  # fmt: skip
    axes.set_aspect("equal", adjustable="datalim")
    axes.margins(0.25)
    axes.set_xlabel("right", fontsize=8, color=SOFT)
    axes.set_ylabel("forward", fontsize=8, color=SOFT)
    axes.grid(color="#eceef1", lw=0.8)
    axes.set_axisbelow(True)
    if extent <= _STILL:
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.5, 0.02, "turns on the spot", transform=axes.transAxes, ha="center", fontsize=8, color=SOFT)


def moves(cameras: Cameras) -> bool:
    """Whether the valid poses differ at all."""
    c2w = cameras.c2w[cameras.valid]
    return len(c2w) > 1 and (c2w - c2w[0]).abs().max().item() > _STILL


def yaw_and_pitch_deg(cameras: Cameras) -> tuple[Float[np.ndarray, " t"], Float[np.ndarray, " t"]]:
    """To the right and upwards, degrees against the first frame's axes; NaN where the pose is not valid."""
    forward = cameras.c2w.numpy()[:, :3, 2]
    yaw = np.degrees(np.unwrap(np.arctan2(forward[:, 0], forward[:, 2])))
    pitch = np.degrees(np.arcsin(np.clip(-forward[:, 1], -1, 1)))
    valid = cameras.valid.numpy()
    return np.where(valid, yaw, np.nan), np.where(valid, pitch, np.nan)


def beside_caption(prompt: str, caption: str) -> str:
    """What a chunk's prompt says beyond the caption."""
    head = caption.strip().rstrip(".,; ")
    return prompt[len(head) :].lstrip(" ,") if head and prompt.startswith(head) else prompt


def luma_change(clip: Clip) -> Float[np.ndarray, " t"]:
    """Mean change of luma against the frame before, in percent; none for the first."""
    luma = clip.rgb.float().numpy() @ np.array([0.2126, 0.7152, 0.0722], dtype=np.float32) / 2.55
    return np.concatenate([[np.nan], np.abs(np.diff(luma, axis=0)).mean((1, 2))]).astype(np.float64)


def _time_axis(axes: Axes, num_frames: int, *, labelled: bool = False) -> None:
    bare(axes)
    axes.set_xlim(0, num_frames)
    axes.set_yticks([])
    step = 8 if num_frames <= 120 else 16 * max(1, round(num_frames / 320))
    axes.set_xticks(range(0, num_frames, step) if labelled else [])


def _middle(frames: range) -> float:
    return (frames.start + frames.stop) / 2


def _curve(points: Float[np.ndarray, "4 2"]) -> FancyArrowPatch:
    codes = [Curve.MOVETO, Curve.CURVE4, Curve.CURVE4, Curve.CURVE4]
    return FancyArrowPatch(path=Curve(points, codes), arrowstyle="-|>", mutation_scale=9, color=BLUE, lw=1.2)
