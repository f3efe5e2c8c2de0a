"""Sequence plans as pictures: a PNG for several of them, and coloured text for the terminal.

A plan's picture has its entries in rows, in their order in the sequence. On the left each entry's three latent frames
stand at their positions in time, coloured by role, filled by noise level, underlined where they are in the loss; arrows
are memory edges. On the right is what each row attends: the columns are the same entries.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle
from rich.text import Text

from remind.data.figure_style import INK, LINE, PAPER, ROLE_COLORS, SOFT, VERMILION, save, style
from remind.errors import InputError
from remind.frame_graph import LATENTS_PER_CHUNK, MemoryEdge, Role
from remind.sequence_plan import SequencePlan, SigmaRule

_SAYS = {
    "all_history": "every chunk is generated from all chunks before it",
    "noisy_memory": "past chunks are noised at random; one anchor of each recovery stays clean",
    "node_drop": "interruption chunks are pure noise in memory; one anchor of each recovery survives",
    "v2v_frontier": "a prefix is given; only the recovery suffix is in the loss",
    "reference_cache": "clean references at old positions, the target after a gap",
}
_FILL: dict[SigmaRule, tuple[float, str]] = {"zero": (1.0, ""), "sampled": (0.3, ""), "memory": (0.45, "....."),
                                             "one": (0.0, "xxxxx")}  # fmt: skip
"""Opacity of the role's colour, and the hatching over it."""
_HEAD, _FOOT = 1.9, 1.1  # above and below the rows of a plan, in rows
_TERMINAL = {"clean": "white", "anchor": "bold bright_blue", "degraded": "bright_black", "recovery": "bold yellow",
             "reference": "bold magenta"}  # fmt: skip


def save_plans(plans: Sequence[SequencePlan], path: Path, *, told: Sequence[Sequence[str]] | None = None) -> None:
    """Draw plans below each other.

    Args:
        plans: one of each regime, say.
        path: where; .png or .svg, appears whole or not at all.
        told: per plan the prompts of its entries, see `SequencePlan.told`; they stand beside the rows.

    Raises:
        InputError: no plans, prompts that do not belong to them, or a path that cannot be written.
    """
    if not plans:
        raise InputError("there is no plan to draw")
    if told is not None and [len(prompts) for prompts in told] != [len(plan.entries) for plan in plans]:
        raise InputError("the prompts do not belong to the plans", got=[len(prompts) for prompts in told],
                         expected=[len(plan.entries) for plan in plans])
    heights = [len(plan.entries) + _HEAD + _FOOT for plan in plans] + [4.5]
    widths = (6.6, 3.2, 4.6) if told is not None else (6.6, 3.2)
    with style():
        figure = Figure(figsize=(sum(widths) + 1.6, 0.19 * sum(heights)))
        grid = figure.add_gridspec(len(heights), len(widths), height_ratios=heights, width_ratios=widths, hspace=0,
                                   wspace=0.03, left=1.5 / (sum(widths) + 1.6), right=0.995, top=1, bottom=0)
        for row, plan in enumerate(plans):
            panels = [_panel(figure.add_subplot(grid[row, column]), plan) for column in range(len(widths))]
            _draw_time(panels[0], plan)
            _draw_attention(panels[1], plan)
            if told is not None:
                _draw_prompts(panels[2], told[row])
        _draw_legend(figure.add_subplot(grid[len(plans), :]))
        save(figure, path)


def colored(plan: SequencePlan, told: Sequence[str] = ()) -> Text:
    """`SequencePlan.draw` in the colours of the roles, for a rich console; what is in the loss is green."""
    head, *rows = plan.draw(told).split("\n")
    text = Text(head)
    for entry, row in zip(plan.entries, rows, strict=True):
        line = Text("\n" + row, style=_TERMINAL[entry.role])
        line.highlight_regex(r"s\*", "bold green")
        text.append_text(line)
    return text


def memory_edges(plan: SequencePlan) -> list[tuple[int, int, MemoryEdge]]:
    """Memory edges that the plan trains, as (reading entry, entry read, edge).

    A supervised recovery reads the clean chunks right before its interruption; the first target after a reference cache
    reads the references. Found by the roles, since a plan does not carry its graph.
    """
    degraded = {entry.chunk for entry in plan.entries if entry.role == "degraded"}
    reading = [i for i, entry in enumerate(plan.entries) if entry.is_supervised]
    found = []
    for i in reading:
        entry = plan.entries[i]
        anchors: range | None = None
        if entry.role == "recovery" and entry.chunk - 1 in degraded:
            start = next(k for k in range(entry.chunk - 1, -2, -1) if k not in degraded) + 1
            anchors = range(max((k for k in degraded if k < start), default=-1) + 1, start)
        for j in entry.sees:
            seen = plan.entries[j]
            is_reference = seen.role == "reference" and i == reading[0]
            if is_reference or (anchors is not None and seen.role != "reference" and seen.chunk in anchors):
                found.append((i, j, MemoryEdge(entry.chunk, seen.chunk)))
    return found


def _panel(axes: Axes, plan: SequencePlan) -> Axes:
    """Rows of equal height in all panels of the figure."""
    axes.set_ylim(len(plan.entries) + _FOOT, -_HEAD)
    axes.axis("off")
    return axes


def _draw_cells(axes: Axes, cells: Sequence[tuple[int, int, Role, SigmaRule]]) -> None:
    """Latent frames, or pairs of the attention matrix: column, row, role, noise. Few collections draw faster than many
    rectangles."""
    kinds: dict[tuple[Role, SigmaRule], list[Rectangle]] = {}
    for column, row, role, rule in cells:
        kinds.setdefault((role, rule), []).append(Rectangle((column + 0.05, row + 0.09), 0.9, 0.82))
    for (role, rule), rectangles in kinds.items():
        (opacity, hatch), color = _FILL[rule], ROLE_COLORS[role]
        edge = SOFT if role == "clean" else color  # its grey is too light for a line
        axes.add_collection(PatchCollection(rectangles, facecolors=[to_rgba(color, opacity)], edgecolors=[edge],
                                            hatch=hatch or None, linewidths=0.8))  # fmt: skip


def _draw_time(axes: Axes, plan: SequencePlan) -> None:
    """Entries at their positions in time."""
    num = len(plan.entries)
    end = max(entry.position for entry in plan.entries) + LATENTS_PER_CHUNK
    axes.set_xlim(0, end)
    for x in range(0, end + 1, LATENTS_PER_CHUNK):
        axes.plot((x, x), (0, num), color=LINE, linewidth=0.7, zorder=0)
    for x in range(0, end, LATENTS_PER_CHUNK):
        axes.text(x + 0.1, num + 0.1, f"t={x}", fontsize=7, color=SOFT, va="top")
    _draw_cells(axes, [(entry.position + offset, row, entry.role, rule) for row, entry in enumerate(plan.entries)
                       for offset, rule in enumerate(entry.sigma)])  # fmt: skip
    in_loss = [(entry.position + offset, row) for row, entry in enumerate(plan.entries)
               for offset, on in enumerate(entry.supervised) if on]  # fmt: skip
    marks = [Rectangle((column + 0.05, row + 0.7), 0.9, 0.21) for column, row in in_loss]
    axes.add_collection(PatchCollection(marks, facecolors=[VERMILION], linewidths=0))
    for row, entry in enumerate(plan.entries):
        part = "target" if "sampled" in entry.sigma else "memory"
        axes.text(-0.25, row + 0.5, f"{part} {entry.chunk}, {entry.role}", fontsize=7, color=SOFT, ha="right",
                  va="center")
    for reader, read, edge in memory_edges(plan):
        _draw_edge(axes, plan, reader, read, edge)
    gap = next((entry.position for entry in plan.entries if entry.is_supervised), 0)
    if plan.entries[0].role == "reference":
        axes.annotate("", (gap, -0.25), (0, -0.25), arrowprops={"arrowstyle": "<->", "color": INK, "linewidth": 0.8})
        axes.text(gap + 0.15, -0.2, f"G = {gap // LATENTS_PER_CHUNK}", fontsize=7, va="center")
    shared = all(entry.is_supervised for entry in plan.entries) and num > 1
    name = plan.regime.replace("_", " ") + (", shared pass" if shared else "")
    title = axes.text(0, -1.15, name, fontsize=10.5, fontweight="bold", va="center")
    axes.annotate(f"{_SAYS.get(plan.regime, '')} ({plan.entries[-1].track} version)", (1, 0.5), (10, 0), xycoords=title,
                  textcoords="offset points", fontsize=8, color=SOFT, va="center")


def _draw_edge(axes: Axes, plan: SequencePlan, reader: int, read: int, edge: MemoryEdge) -> None:
    """An arrow back in time, dotted where what it leads to is noisy."""
    entry, seen = plan.entries[reader], plan.entries[read]
    trusted = set(seen.sigma) == {"zero"}
    axes.add_patch(FancyArrowPatch(
        (entry.position, reader + 0.5), (seen.position + LATENTS_PER_CHUNK, read + 0.5), arrowstyle="-|>",
        mutation_scale=8, connectionstyle="arc3,rad=0.1", color=INK if trusted else SOFT, linewidth=0.9,
        linestyle="-" if trusted else ":", shrinkA=0, shrinkB=0, zorder=3,
    ))  # fmt: skip
    axes.text(seen.position + LATENTS_PER_CHUNK + 0.5, read + 0.32, f"{edge.gap_chunks} back", fontsize=6.5,
              va="center", color=INK if trusted else SOFT,
              bbox={"facecolor": PAPER, "linewidth": 0, "pad": 0.8}, zorder=4)


def _draw_attention(axes: Axes, plan: SequencePlan) -> None:
    num = len(plan.entries)
    axes.set_xlim(0, max(num, 13))
    axes.add_patch(Rectangle((0, 0), num, num, fill=False, edgecolor=LINE, linewidth=0.8))
    _draw_cells(axes, [(column, row, plan.entries[column].role, plan.entries[column].sigma[-1])
                       for row, seen in enumerate(plan.visibility) for column in seen])  # fmt: skip
    axes.text(0, -0.35, "attends", fontsize=7, color=SOFT, va="center")
    axes.text(0, num + 0.1, f"{num} entries, reaches {plan.largest_distance} latent frames back", fontsize=7,
              color=SOFT, va="top")


def _draw_prompts(axes: Axes, told: Sequence[str]) -> None:
    axes.text(0, -0.35, "is told", fontsize=7, color=SOFT, va="center")
    for row, prompt in enumerate(told):
        short = prompt if len(prompt) <= 64 else f"{prompt[:30]} … {prompt[-31:]}"
        axes.text(0, row + 0.5, short, fontsize=7, va="center")


def _draw_legend(axes: Axes) -> None:
    axes.set(xlim=(0, 60), ylim=(4.5, 0))
    axes.axis("off")
    for number, role in enumerate(ROLE_COLORS):
        axes.add_patch(Rectangle((9 * number, 0.6), 1.2, 0.8, facecolor=ROLE_COLORS[role], linewidth=0))
        axes.text(9 * number + 1.5, 1.0, role, fontsize=8, va="center")
    words = {"zero": "sigma 0, clean", "sampled": "sigma of its own", "memory": "high sigma", "one": "pure noise"}
    for number, (rule, (opacity, hatch)) in enumerate(_FILL.items()):
        place = (9 * number, 2.0)
        axes.add_patch(Rectangle(place, 1.2, 0.8, facecolor=SOFT, alpha=opacity, linewidth=0))
        axes.add_patch(Rectangle(place, 1.2, 0.8, fill=False, hatch=hatch, edgecolor=SOFT, linewidth=0.8))
        axes.text(9 * number + 1.5, 2.4, words[rule], fontsize=8, va="center")
    axes.add_patch(Rectangle((36, 2.55), 1.2, 0.25, facecolor=VERMILION, linewidth=0))
    axes.text(37.5, 2.4, "in the loss", fontsize=8, va="center")
    axes.text(45, 1.0, "arrow: memory edge, with its gap in chunks", fontsize=8, va="center")
    axes.text(45, 2.4, "dotted: what it leads to is noisy", fontsize=8, va="center")
