"""What a generation is asked for, drawn before anything is generated: prompts, roles and the camera's path.

`preview_table` is for the terminal; `save_preview` writes a picture: above, time from left to right, with a band a
prompt, the roles of the chunks and the camera's angles; below, the camera's path from above and from the side.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Polygon, Rectangle
from rich.table import Table
from rich.text import Text
from torch import Tensor

from remind.clip import Cameras
from remind.data.clip_records import printable
from remind.data.figure_fonts import drawable
from remind.data.figure_style import (
    BLUE,
    GREEN,
    INK,
    LINE,
    PAPER,
    ROLE_COLORS,
    ROLE_INK,
    SOFT,
    VERMILION,
    bare,
    save,
    style,
)
from remind.errors import InputError
from remind.frame_graph import Role, frames_of_chunk

LETTERS: dict[Role, str] = {"anchor": "A", "degraded": "x", "recovery": "R", "clean": ".", "reference": "r"}
_TERMINAL = {"clean": "white", "anchor": "bold bright_blue", "degraded": "bright_black", "recovery": "bold yellow",
             "reference": "bold magenta"}  # fmt: skip
_BANDS = ("#e8edf3", "#d3dde8")
_MOVES = 1e-6  # a path that is shorter turns on the spot
_WIDTH, _LEFT, _RIGHT = 10.0, 0.75, 0.2  # of the picture, inches
_INNER = _WIDTH - _LEFT - _RIGHT
_MAX_LINES, _MAX_LISTED, _MAX_WEDGES = 6, 40, 16
_AS_ABOVE = "as above"


@dataclass(frozen=True)
class Preview:
    """What is asked for.

    Args:
        prompts: one a chunk.
        roles: one a chunk.
        cameras: one a frame, frame 0 the identity, or None.
        given_frames: frames from the start that are not generated: 1 for an image, more for a video.
        fps: of the video.
    """

    prompts: tuple[str, ...]
    roles: tuple[Role, ...]
    cameras: Cameras | None = None
    given_frames: int = 0
    fps: int = 16

    def __post_init__(self) -> None:
        if not self.prompts or len(self.prompts) != len(self.roles):
            raise InputError("a preview needs a prompt and a role for each chunk",
                             got=(len(self.prompts), len(self.roles)))
        if self.cameras is not None and len(self.cameras) != self.num_frames:
            raise InputError("cameras for another number of frames", got=len(self.cameras), expected=self.num_frames)

    @property
    def num_frames(self) -> int:
        """Frames of all chunks."""
        return frames_of_chunk(len(self.prompts) - 1).stop


def angles_deg(c2w: Float[Tensor, "t 4 4"]) -> tuple[Float[Tensor, " t"], Float[Tensor, " t"]]:
    """Yaw to the right, unwrapped, and pitch upwards, of where cameras look; degrees."""
    ahead = c2w[:, :3, 2]
    yaw = torch.rad2deg(torch.atan2(ahead[:, 0], ahead[:, 2])).numpy()
    pitch = torch.rad2deg(torch.asin((-ahead[:, 1]).clamp(-1, 1)))
    return torch.from_numpy(np.unwrap(yaw, period=360.0)), pitch


def preview_table(preview: Preview) -> Table:
    """A row a chunk: time, role, where the camera is at its end, and the prompt; what repeats is left out."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for name in ("chunk", "s", "role"):
        table.add_column(name, justify="right" if name != "role" else "left", no_wrap=True)
    cameras = preview.cameras
    if cameras is not None:
        for name in ("yaw°", "pitch°", "right", "down", "forward"):
            table.add_column(name, justify="right", no_wrap=True)
        yaw, pitch = angles_deg(cameras.c2w)
    table.add_column("prompt", overflow="fold")
    for chunk, (prompt, role) in enumerate(zip(preview.prompts, preview.roles, strict=True)):
        frames = frames_of_chunk(chunk)
        cells = [str(chunk), f"{frames.start / preview.fps:.2f}", f"{LETTERS[role]} {role}"]
        if cameras is not None:
            at = frames.stop - 1
            where = (float(yaw[at]), float(pitch[at]), *cameras.c2w[at, :3, 3].tolist())
            shown = [f"{number:.{1 if place < 2 else 2}f}" for place, number in enumerate(where)]
            cells += [number.removeprefix("-") if float(number) == 0 else number for number in shown]
            if not cameras.valid[at]:
                cells[-5:] = ["?"] * 5
        repeats = chunk and prompt == preview.prompts[chunk - 1]
        words = Text("″", style="dim") if repeats else Text(printable(prompt).replace("\n", " "))
        table.add_row(*(Text(cell) for cell in cells), words, style=_TERMINAL[role])
    return table


def save_preview(preview: Preview, path: Path) -> None:
    """Draw it; the same preview gives the same bytes.

    Args:
        path: .png or .svg, appears whole or not at all.

    Raises:
        InputError: another suffix, or a place that cannot be written.
    """
    base, runs = _told(preview.prompts)
    in_bands = [_wrapped(words, chunks, preview) for chunks, words in runs]
    listed = max(text.count("\n") + 1 for text in in_bands) > _MAX_LINES
    moves = preview.cameras is not None and bool(preview.cameras.valid.any())
    title = textwrap.wrap(drawable(base), 110, max_lines=3, placeholder=" …") or ["Each prompt in its band"]
    rows = _listed(runs, preview) if listed else []
    heights = {"title": 0.2 + 0.19 * len(title), "prompts": 0.3 if listed else 0.14 + 0.15 * _lines(in_bands),
               "list": 0.16 * -(-len(rows) // 2), "roles": 0.26, "angles": 1.6 if moves else 0.0,
               "path": 4.1 if moves else 0.0}  # fmt: skip
    total = sum(heights.values()) + (1.45 if moves else 0.4) + (0.1 if listed else 0.0)
    with style():
        figure = Figure(figsize=(_WIDTH, total))
        figure.text(_LEFT / _WIDTH, 1 - 0.12 / total, "\n".join(title), fontsize=10.5, fontweight="bold", va="top",
                    linespacing=1.3)  # fmt: skip
        top = total - heights["title"]

        def place(height: float, left: float = _LEFT, width: float = _INNER) -> Axes:
            return figure.add_axes((left / _WIDTH, (top - height) / total, width / _WIDTH, height / total))

        _draw_prompts(place(heights["prompts"]), preview, runs, None if listed else in_bands)
        top -= heights["prompts"] + 0.04
        _draw_roles(place(heights["roles"]), preview, named=not moves)
        top -= heights["roles"] + 0.1
        if moves:
            _draw_angles(place(heights["angles"]), preview)
            top -= heights["angles"] + 0.75
            half = (_INNER - 0.6) / 2
            _draw_path(place(heights["path"], width=half), preview, from_above=True)
            _draw_path(place(heights["path"], left=_LEFT + half + 0.6, width=half), preview, from_above=False)
        for number, row in enumerate(rows):
            column, line = divmod(number, -(-len(rows) // 2))
            figure.text((_LEFT + column * _INNER / 2) / _WIDTH, (heights["list"] + 0.08 - 0.16 * line) / total, row,
                        fontsize=7.5, va="top")  # fmt: skip
        save(figure, path)


def _told(prompts: Sequence[str]) -> tuple[str, list[tuple[range, str]]]:
    """What all prompts begin with, and runs of chunks with what each adds to it."""
    parts = [prompt.split(", ") for prompt in prompts]
    shared = 0
    while all(len(some) > shared and some[shared] == parts[0][shared] for some in parts):
        shared += 1
    found, start = [], 0
    for words, group in groupby(", ".join(some[shared:]) for some in parts):
        stop = start + len(list(group))
        found.append((range(start, stop), words))
        start = stop
    return ", ".join(parts[0][:shared]), found


def _span_s(chunks: range, preview: Preview) -> tuple[float, float]:
    return frames_of_chunk(chunks.start).start / preview.fps, frames_of_chunk(chunks[-1]).stop / preview.fps


def _wrapped(words: str, chunks: range, preview: Preview) -> str:
    start, stop = _span_s(chunks, preview)
    room = int((stop - start) / (preview.num_frames / preview.fps) * _INNER / 0.064) - 1
    return "\n".join(textwrap.wrap(drawable(words), max(4, room)))


def _lines(texts: Sequence[str]) -> int:
    return max(text.count("\n") + 1 for text in texts)


def _listed(runs: Sequence[tuple[range, str]], preview: Preview) -> list[str]:
    """Prompts that find no place in their bands, a line each."""
    rows = []
    for number, (chunks, words) in enumerate(runs[:_MAX_LISTED], 1):
        start, stop = _span_s(chunks, preview)
        text = textwrap.shorten(drawable(words), 52, placeholder=" …") or _AS_ABOVE
        rows.append(f"{number}   {start:.2f} - {stop:.2f} s   {text}")
    return rows if len(runs) <= _MAX_LISTED else [*rows, f"… and {len(runs) - _MAX_LISTED} more"]


def _over_time(axes: Axes, preview: Preview) -> None:
    axes.set_xlim(0, preview.num_frames / preview.fps)
    bare(axes)
    axes.set(xticks=[], yticks=[])


def _draw_prompts(
    axes: Axes, preview: Preview, runs: Sequence[tuple[range, str]], in_bands: Sequence[str] | None
) -> None:
    _over_time(axes, preview)
    axes.set_ylim(0, 1)
    for number, (chunks, _) in enumerate(runs):
        start, stop = _span_s(chunks, preview)
        axes.add_patch(Rectangle((start, 0), stop - start, 1, facecolor=_BANDS[number % 2], linewidth=0))
        shown = (in_bands[number] or _AS_ABOVE) if in_bands is not None else str(number + 1)
        wide = (stop - start) / (preview.num_frames / preview.fps) * _INNER > 0.16
        if in_bands is not None or wide:
            axes.text(start + 0.06 / _INNER * axes.get_xlim()[1], 0.5, shown, fontsize=8, va="center", linespacing=1.25,
                      clip_on=True, color=SOFT if shown == _AS_ABOVE else INK)  # fmt: skip
    axes.text(-0.008, 0.5, "prompt", transform=axes.transAxes, ha="right", va="center", fontsize=8, color=SOFT)


def _draw_roles(axes: Axes, preview: Preview, *, named: bool) -> None:
    """A cell a chunk; what is given and not generated is underlined."""
    _over_time(axes, preview)
    axes.set_ylim(0, 1)
    width = _INNER / len(preview.roles)
    for chunk, role in enumerate(preview.roles):
        start, stop = _span_s(range(chunk, chunk + 1), preview)
        axes.add_patch(Rectangle((start, 0), stop - start, 1, facecolor=ROLE_COLORS[role], edgecolor=PAPER,
                                 linewidth=0.8 if width > 0.1 else 0))  # fmt: skip
        text = f"{chunk} {role}" if width > 0.85 else str(chunk) if width > 0.2 else ""
        axes.text((start + stop) / 2, 0.5, text, fontsize=7.5, color=ROLE_INK[role], ha="center", va="center")
    axes.text(-0.008, 0.5, "chunk", transform=axes.transAxes, ha="right", va="center", fontsize=8, color=SOFT)
    if preview.given_frames:
        given = preview.given_frames / preview.fps
        axes.add_patch(Rectangle((0, -0.18), given, 0.18, facecolor=GREEN, linewidth=0, clip_on=False))
        many = "the first frame" if preview.given_frames == 1 else f"{preview.given_frames} frames"
        axes.text(given + 0.004 * axes.get_xlim()[1], -0.14, f"given: {many}", fontsize=6.5,
                  color=GREEN, va="top" if named else "center", bbox={"facecolor": PAPER, "linewidth": 0, "pad": 0.4},
                  zorder=5)  # fmt: skip


def _draw_angles(axes: Axes, preview: Preview) -> None:
    cameras = preview.cameras
    assert cameras is not None
    yaw, pitch = angles_deg(cameras.c2w)
    seconds = torch.arange(len(cameras)) / preview.fps
    unknown = torch.tensor(float("nan"), dtype=torch.float64)
    axes.set_xlim(0, preview.num_frames / preview.fps)
    bare(axes, keep=("bottom",))
    axes.axhline(0, color=LINE, linewidth=0.8, zorder=0)
    for chunk, role in enumerate(preview.roles):
        start, stop = _span_s(range(chunk, chunk + 1), preview)
        if role == "degraded":
            axes.axvspan(start, stop, color="#eeeff2", linewidth=0, zorder=-2)
        if chunk and len(preview.roles) <= 40:
            axes.axvline(start, color=LINE, linewidth=0.6, zorder=-1)
    low, high = -5.0, 5.0
    for angle, color, name in ((pitch, VERMILION, "pitch up"), (yaw, BLUE, "yaw right")):
        shown = torch.where(cameras.valid, angle, unknown)
        axes.plot(seconds.numpy(), shown.numpy(), color=color, linewidth=1.8, solid_capstyle="round", label=name)
        known = angle[cameras.valid]
        low, high = min(low, float(known.min())), max(high, float(known.max()))
    room = 0.12 * (high - low)
    axes.set_ylim(low - room, high + room)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}°")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} s")
    axes.legend(loc="upper right", bbox_to_anchor=(1.0, -0.17), ncols=2, frameon=False, fontsize=8, labelcolor=INK,
                borderpad=0, borderaxespad=0)  # fmt: skip


def _draw_path(axes: Axes, preview: Preview, *, from_above: bool) -> None:
    """Where the camera goes, and what it looks at in the middle of a chunk: its field of view as a wedge, with the
    chunk's number. Chunks that look the same way from the same place share one; of many chunks only some are shown."""
    cameras = preview.cameras
    assert cameras is not None
    across, along = ((1.0, 0, 0), (0, 0, 1.0)) if from_above else ((0, 0, 1.0), (0, -1.0, 0))
    plane = torch.tensor([across, along], dtype=torch.float64)
    known = cameras.valid
    places = cameras.c2w[:, :3, 3] @ plane.T
    extent = float((places[known].amax(0) - places[known].amin(0)).max())
    reach = 0.3 * extent if extent > _MOVES else 1.0
    half = 0 if from_above else 1
    size = cameras.hw[1 - half]
    bare(axes, keep=("bottom", "left"))
    groups: list[tuple[int, Role, list[int]]] = []
    for chunk, role in list(enumerate(preview.roles))[:: -(-len(preview.roles) // _MAX_WEDGES)]:
        frames = frames_of_chunk(chunk)
        at = (frames.start + frames.stop) // 2 if chunk else 0
        if known[at]:
            near = [chunks for other, _, chunks in groups if _looks_alike(cameras.c2w[at], cameras.c2w[other], reach)]
            if near:
                near[0].append(chunk)
            else:
                groups.append((at, role, [chunk]))
    drawn, named = [places[known]], from_above or float(angles_deg(cameras.c2w[known])[1].abs().max()) > 1
    for at, role, chunks in groups:
        slope = size / (2 * float(cameras.intrinsics_px[at, half]))
        rays = torch.tensor([[0, 0, 1], [-slope, 0, 1], [slope, 0, 1]], dtype=torch.float64)
        rays = rays if from_above else rays[:, [1, 0, 2]]
        rays = rays / rays.norm(dim=-1, keepdim=True)
        ahead, *edges = (rays @ cameras.c2w[at, :3, :3].T) @ plane.T * reach
        corners = places[at] + torch.stack([torch.zeros(2).double(), edges[0], ahead, edges[1]])
        color = SOFT if role == "clean" else ROLE_COLORS[role]  # its grey is too light for a line
        axes.add_patch(Polygon(corners.numpy(), facecolor=color, alpha=0.14, linewidth=0, zorder=1))
        axes.plot(*torch.stack([places[at], places[at] + ahead]).T.numpy(), color=color, linewidth=1.3, zorder=3)
        drawn += [corners, (places[at] + 1.15 * ahead)[None]]
        if named and float(ahead.norm()) > 0.3 * reach:
            x, y = (places[at] + 1.1 * ahead).tolist()
            axes.text(x, y, _names(chunks), fontsize=7.5, ha="center", va="center", zorder=6,
                      bbox={"facecolor": PAPER, "linewidth": 0, "pad": 0.6, "alpha": 0.8})  # fmt: skip
    axes.plot(*places.where(known[:, None], torch.tensor(float("nan")).double()).T.numpy(), color=INK, linewidth=1.2,
              zorder=4)  # fmt: skip
    first = int(known.nonzero()[0])
    axes.plot(*places[first].tolist(), marker="o", color=INK, markersize=5, zorder=5)
    points = torch.cat(drawn)
    middle, side = (points.amax(0) + points.amin(0)) / 2, float((points.amax(0) - points.amin(0)).max()) * 0.56
    axes.set_xlim(float(middle[0]) - side, float(middle[0]) + side)
    axes.set_ylim(float(middle[1]) - side, float(middle[1]) + side)
    axes.set_aspect("equal")
    axes.set_title("from above" if from_above else "from the left side", fontsize=9, loc="left", color=INK)
    names = ("right", "forward") if from_above else ("forward", "up")
    axes.set_xlabel(names[0], fontsize=8, color=SOFT, labelpad=2)
    axes.set_ylabel(names[1], fontsize=8, color=SOFT, labelpad=2)


def _looks_alike(a: Float[Tensor, "4 4"], b: Float[Tensor, "4 4"], reach: float) -> bool:
    """Whether two wedges of that length would lie on each other."""
    return bool((a[:3, 2] - b[:3, 2]).norm() < 0.15 and (a[:3, 3] - b[:3, 3]).norm() < 0.1 * reach)


def _names(chunks: Sequence[int]) -> str:
    """Numbers of chunks that look the same way from the same place: 0, 4-6."""
    runs: list[list[int]] = []
    for chunk in chunks:
        if runs and runs[-1][-1] == chunk - 1:
            runs[-1].append(chunk)
        else:
            runs.append([chunk])
    return ", ".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
