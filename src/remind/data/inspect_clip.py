"""One picture of one clip: everything that a store knows about it, along one axis of time."""

from __future__ import annotations

import textwrap
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from remind.clip import Cameras, Clip
from remind.data.clip_records import printable
from remind.data.clip_store import ClipStore
from remind.data.figure_fonts import drawable
from remind.data.figure_style import BLUE, GREEN, ORANGE, PURPLE, SOFT, VERMILION, save, style
from remind.data.inspect_panels import (
    draw_graph,
    draw_interruptions,
    draw_line,
    draw_path,
    draw_prompts,
    draw_strip,
    luma_change,
    moves,
    wrap_prompts,
    yaw_and_pitch_deg,
)
from remind.data.memory_clip import MemoryClip
from remind.errors import RemindError

_WIDTH_IN, _LEFT_IN, _RIGHT_IN = 15.0, 1.3, 0.3
_TIME_IN = _WIDTH_IN - _LEFT_IN - _RIGHT_IN
_MOST_STRIP_IN = 1.5
_NUM_SHOWN = 14  # two a chunk of an 81-frame clip
_LINE_IN = 0.165
_MOST_LINES = 22  # of a text at the foot


def inspect_clip(store: ClipStore, clip_id: str, out: Path) -> RenderableType:
    """Draw a clip: clean and degraded frames, roles and memory edges, prompts, times, motion, cameras, provenance.

    Args:
        out: a PNG or SVG file.

    Returns:
        The same in words, for a terminal.

    Raises:
        StoreError: no such clip, or a damaged one.
        InputError: a file that cannot be written.
    """
    clip = store.by_id(clip_id)
    draw_clip(clip, out)
    return describe_clip(clip)


def draw_clip(clip: MemoryClip, out: Path) -> None:
    """As `inspect_clip`, for a clip in memory."""
    try:
        degraded, why_not = clip.degraded(), ""
    except RemindError as error:  # e.g. a camera loop, which needs a renderer
        degraded, why_not = None, error.what
    moving = clip.clean.cameras if clip.clean.cameras is not None and moves(clip.clean.cameras) else None
    height, width = clip.clean.hw
    strip_in = min(_MOST_STRIP_IN, _TIME_IN / _NUM_SHOWN * height / width)
    rows = 0.55 * max(1, len(clip.schedule.interruptions))
    columns = _columns(clip, characters=66 if moving is None else 34)
    lines = max(len(text.splitlines()) for _, text in columns)
    prompts = wrap_prompts(clip.prompts, clip.clean.caption, len(clip.clean), _TIME_IN)
    prompts_in = 0.1 + _LINE_IN * max(len(text.splitlines()) for _, text in prompts)
    heights = {"head": 1.0, "clean": strip_in, "degraded": strip_in, "graph": 1.0, "prompts": prompts_in,
               "hidden": rows, "motion": 0.62} | ({"state": 0.62} if clip.states is not None else {})  # fmt: skip
    heights |= {"foot": max(2.5 if moving else 1.0, _LINE_IN * lines + 0.1)}
    gaps = {"clean": 0.22, "degraded": 0.1, "graph": 0.1, "prompts": 0.04, "hidden": 0.14, "motion": 0.28,
            "state": 0.22, "foot": 0.75}  # fmt: skip
    total = sum(heights.values()) + sum(gaps[name] for name in heights if name in gaps) + 0.3
    with style():
        figure = Figure(figsize=(_WIDTH_IN, total))
        y = total
        panels: dict[str, Axes] = {}
        for name, row in heights.items():
            y -= row + gaps.get(name, 0)
            if name in ("head", "foot"):
                continue
            panels[name] = figure.add_axes((_LEFT_IN / _WIDTH_IN, y / total, _TIME_IN / _WIDTH_IN, row / total))
            _row_name(figure, name, (y + row * (0.22 if name == "graph" else 0.5)) / total)
        _head(figure, clip, total)
        draw_prompts(panels["prompts"], prompts, len(clip.clean))
        _along_time(panels, clip, degraded, why_not, strip_in)
        _foot(figure, moving, columns, top_in=y + heights["foot"])
        save(figure, out)


def _head(figure: Figure, clip: MemoryClip, total: float) -> None:
    clean = clip.clean
    figure.text(0.02, 1 - 0.3 / total, clean.clip_id, fontsize=16, fontweight="bold", va="center")
    depth = "no depth" if clip.depth is None else f"depth {clip.depth.hw[1]}x{clip.depth.hw[0]}"
    facts = [f"{len(clean)} frames", f"{clean.hw[1]}x{clean.hw[0]}", f"{clean.fps:g} fps",
             f"{len(clean) / clean.fps:.2f} s", _camera_words(clip), depth]  # fmt: skip
    figure.text(1 - _RIGHT_IN / _WIDTH_IN, 1 - 0.3 / total, "   ·   ".join(facts), fontsize=9, color=SOFT,
                va="center", ha="right")
    caption = textwrap.fill(drawable(clean.caption) or "(no caption)", 150, max_lines=2, placeholder="…")
    figure.text(0.02, 1 - 0.58 / total, caption, fontsize=11, va="top", linespacing=1.3,
                color="black" if clean.caption else SOFT)


def _along_time(panels: dict[str, Axes], clip: MemoryClip, degraded: Clip | None, why_not: str, strip_in: float
                ) -> None:  # fmt: skip
    num_frames = len(clip.clean)
    shown = [int((i + 0.5) * num_frames / _NUM_SHOWN) for i in range(_NUM_SHOWN)]
    cell = (strip_in, _TIME_IN / _NUM_SHOWN)
    marked = clip.schedule.degraded_frames()
    draw_strip(panels["clean"], clip.clean, shown, cell, frozenset())
    for place, frame in enumerate(shown):
        panels["clean"].text(place + 0.5, -0.04, str(frame), ha="center", va="bottom", fontsize=7.5, color=SOFT)
    lines = {"clean": (BLUE, luma_change(clip.clean))}
    if degraded is None:
        panels["degraded"].axis("off")
        axes = panels["degraded"]
        axes.text(0.5, 0.5, f"cannot be shown: {drawable(why_not)}", transform=axes.transAxes, ha="center",
                  va="center", color=SOFT)  # fmt: skip
    else:
        draw_strip(panels["degraded"], degraded, shown, cell, marked)
        lines["degraded"] = (VERMILION, luma_change(degraded))
    draw_graph(panels["graph"], clip.graph, _TIME_IN)
    draw_interruptions(panels["hidden"], clip.schedule)
    draw_line(panels["motion"], lines, num_frames, marked, last=clip.states is None)
    if clip.states is not None:
        draw_line(panels["state"], {"state": (GREEN, clip.states.numpy())}, num_frames, marked, last=True)


def _foot(figure: Figure, cameras: Cameras | None, columns: list[tuple[str, str]], *, top_in: float) -> None:
    total = figure.get_figheight()
    x = 0.02 * _WIDTH_IN
    if cameras is not None:
        path = figure.add_axes(((x + 0.45) / _WIDTH_IN, (top_in - 2.35) / total, 2.6 / _WIDTH_IN, 2.2 / total))
        draw_path(path, cameras)
        turn = figure.add_axes(((x + 4.15) / _WIDTH_IN, (top_in - 2.35) / total, 2.6 / _WIDTH_IN, 2.0 / total))
        yaw, pitch = yaw_and_pitch_deg(cameras)
        draw_line(turn, {"yaw": (PURPLE, yaw), "pitch": (ORANGE, pitch)}, len(cameras), frozenset(), last=True,
                  least_range=2.0)
        turn.legend(loc="upper left", fontsize=7.5, frameon=False, ncols=2, handlelength=1.4, bbox_to_anchor=(0, 1.12))
        turn.set_xticks(turn.get_xticks()[::2])
        for name, at in (("Camera path from above", x), ("Turn in degrees, by frame", x + 3.75)):
            figure.text(at / _WIDTH_IN, (top_in + 0.12) / total, name, fontsize=10, fontweight="bold")
        x += 7.3
    width = (_WIDTH_IN - _RIGHT_IN - x) / len(columns)
    for i, (name, text) in enumerate(columns):
        at = (x + i * width) / _WIDTH_IN
        figure.text(at, (top_in + 0.12) / total, name, fontsize=10, fontweight="bold")
        figure.text(at, (top_in - 0.02) / total, text, fontsize=8, va="top", linespacing=1.4, color="#3b424d")


def _columns(clip: MemoryClip, *, characters: int) -> list[tuple[str, str]]:
    """The texts at the foot, wrapped to their columns."""
    texts = {"Event": _event_lines(clip), "Scores and verdicts": _score_lines(clip), "Provenance": _source_lines(clip)}
    wrapped = {}
    for name, lines in texts.items():
        kept = [part for line in lines for part in textwrap.wrap(
            drawable(line), characters, subsequent_indent="   ", max_lines=4, placeholder="…")]  # fmt: skip
        wrapped[name] = "\n".join(kept[:_MOST_LINES] + (["…"] if len(kept) > _MOST_LINES else []))
    return list(wrapped.items())


def _event_lines(clip: MemoryClip) -> list[str]:
    event = clip.event
    flags = "not asked" if event.safety_flags is None else ", ".join(event.safety_flags) or "none raised"
    return [
        f"types: {', '.join(event.types) or '-'}", f"groups: {', '.join(event.groups) or '-'}",
        f"safety flags: {flags}", event.statement,
        *(f"{name}: {value}" for name, value in event.annotation.items()),
        *(f"flow, {name}: {value:.4g}" for name, value in event.flow.items()),
    ]  # fmt: skip


def _score_lines(clip: MemoryClip) -> list[str]:
    provenance = clip.provenance
    scores = [f"{name}: {value:.4g}" for name, value in provenance.scores.items()]
    return scores + [f"{stage}: {verdict}" for stage, verdict in provenance.verdicts.items()] or ["none"]


def _source_lines(clip: MemoryClip) -> list[str]:
    p = clip.provenance
    seconds = [pts * p.time_base[0] / p.time_base[1] for pts in (p.start_pts, p.stop_pts)]
    named = {"url": p.url, "author": p.author, "licence": p.licence or "unknown", "permission": p.permission}
    return [
        f"{p.source}: {p.item_id}", f"shot {p.shot}, {seconds[0]:.3f} to {seconds[1]:.3f} s",
        f"pts {p.start_pts} to {p.stop_pts} at {p.time_base[0]}/{p.time_base[1]} s",
        *(f"{name}: {value}" for name, value in named.items() if value), f"sha256 {p.sha256[:16]}…",
        *(f"{name}: {value}" for name, value in p.facts.items()),
        ", ".join(f"{tool} {version}" for tool, version in p.tool_versions.items()),
    ]  # fmt: skip


def _camera_words(clip: MemoryClip) -> str:
    cameras = clip.clean.cameras
    if cameras is None or not cameras.valid.any():
        return "no cameras"
    valid = int(cameras.valid.sum())
    which = "cameras" if valid == len(cameras) else f"{valid} of {len(cameras)} cameras valid"
    return f"{which}, {clip.scale_kind} scale" + ("" if moves(cameras) else ", standing still")


def _row_name(figure: Figure, name: str, y: float) -> None:
    words = {"graph": "chunk, role", "prompts": "prompted with", "hidden": "interruption",
             "motion": "change of\nluma, %", "state": "hidden state"}  # fmt: skip
    figure.text(0.02, y, words.get(name, name), fontsize=8.5, color=SOFT, va="center", linespacing=1.25)


def describe_clip(clip: MemoryClip) -> RenderableType:
    """What the store knows about a clip, in words for a terminal."""
    head = Text.assemble(
        (clip.clean.clip_id, "bold"), f"  {len(clip.clean)} frames, {clip.clean.hw[1]}x{clip.clean.hw[0]}, ",
        f"{clip.clean.fps:g} fps, {_camera_words(clip)}   ", (clip.graph.draw(), "bold cyan"),
    )  # fmt: skip
    table = Table(box=box.SIMPLE, show_header=False, pad_edge=False)
    table.add_column(style="dim")
    table.add_column(overflow="fold")
    table.add_row("caption", Text(printable(clip.clean.caption) or "-"))
    for chunk, prompt in enumerate(clip.prompts):
        table.add_row(f"chunk {chunk} {clip.graph.roles[chunk]}", Text(printable(prompt) or "-"))
    for event in clip.schedule.interruptions:
        times = f"start {event.start}, hidden {event.hidden_start} to {event.hidden_stop}, stop {event.stop}"
        table.add_row(event.kind, times)
    parts = (("event", _event_lines(clip)), ("scores", _score_lines(clip)), ("provenance", _source_lines(clip)))
    for name, lines in parts:
        table.add_row(name, Text(printable("\n".join(line for line in lines if line))))
    return Group(head, table)


