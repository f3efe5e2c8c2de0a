"""Sections of the report as HTML. Everything that comes from outside passes through `html.escape`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from html import escape
from typing import Any

from remind.evaluation import report_charts as charts
from remind.evaluation.kv_importance import KVImportance
from remind.evaluation.report_text import CAVEATS, KIND_WORDS, MEASURES, MODEL_WORDS

World = Mapping[str, Mapping[str, Any]]

_SHARES = ("within_15", "shown", "plausible", "coherent", "observation_control", "action_control", "share")
_FORMATS = {**dict.fromkeys(_SHARES, (100, 0, " %")), "background_psnr": (1, 1, "")}
_CONTROLS = ("linear", "freeze", "copy_anchor", "reset", "middle", "oracle")


def cell(entry: Mapping[str, Any] | None, key: str = "", *, value: str = "mean") -> str:
    """A table cell: a value and, in small print, its interval.

    Args:
        entry: {"mean", "low", "high", ...}; None or a missing value gives a dash.
        key: the measure, which decides the format.
        value: "mean" or "median".
    """
    if not entry or entry.get(value) is None:
        return '<td><span class="soft">&ndash;</span></td>'
    low, high = ("median_low", "median_high") if value == "median" else ("low", "high")

    def show(x: float) -> str:
        scale, digits, unit = _FORMATS.get(key, (1, 2, ""))
        return f"{round(scale * x, digits) + 0.0:.{digits}f}{unit}"  # + 0.0: no minus before a zero

    interval = "" if entry.get(low) is None else f"<small>{show(entry[low])} to {show(entry[high])}</small>"
    return f"<td>{show(entry[value])}{interval}</td>"


def table(heads: Iterable[str], rows: Iterable[str]) -> str:
    """A card with a table that scrolls sideways on a narrow screen.

    Args:
        heads: plain text.
        rows: finished <tr> elements.
    """
    head = "".join(f"<th>{escape(h)}</th>" for h in heads)
    body = "".join(rows)
    return (
        f'<div class="card scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'
    )


def words(entries: Iterable[tuple[str, str]]) -> str:
    """A card of terms and their meaning."""
    inside = "".join(f"<dt>{escape(term)}</dt><dd>{escape(meaning)}</dd>" for term, meaning in entries)
    return f'<dl class="words card">{inside}</dl>'


def _model_row(name: str, cells: str, world: World) -> str:
    first_control = next((n for n in world if n in _CONTROLS), None)
    kind = ' class="ours"' if name == "remind" else ' class="first"' if name == first_control else ""
    dot = f'<span class="dot" style="background:{charts.colour_of(name)}"></span>'
    title = escape(MODEL_WORDS.get(name, ""), quote=True)
    return f'<tr{kind}><td title="{title}">{dot}{escape(name)}</td>{cells}</tr>'


def header(title: str, world: World, facts: Mapping[str, object]) -> str:
    """What this is, what came out, and what was run where."""
    grid = "".join(f"<div><dt>{escape(str(k))}</dt><dd>{escape(str(v))}</dd></div>" for k, v in facts.items())
    return (
        f"<h1>{escape(title)}</h1><p class='lead'>A video model sees a scene, loses sight of it, and has "
        "to go on when the view returns. What was changing must have gone on changing meanwhile. "
        f"{_result_in_words(world)}</p><dl class='run'>{grid}</dl>"
    )


def _result_in_words(world: World) -> str:
    said = []
    for name in ("remind", "matched", "base"):
        entry = world.get(name, {}).get("state_progress", {})
        if entry.get("mean") is not None:
            low, high = entry.get("low"), entry.get("high")
            interval = "" if low is None else f" ({low:.2f} to {high:.2f})"
            said.append(f"<b>{name}</b> {entry['mean']:.2f}{interval}")
    if not said:
        return ""
    clips = max(e.get("state_progress", {}).get("n", 0) for e in world.values())
    return (
        f"State progress on {clips} clips of unseen scenes, where 0 is a world that stood still and 1 the "
        f"truth: {', '.join(said)}."
    )


def measures_table(world: World) -> str:
    """One row per model, one column per measure that anyone was scored on."""
    shown = [
        (t, k) for t, k, _ in MEASURES if any(e.get(k, {}).get("mean") is not None for e in world.values())
    ]
    heads = ["model"]
    for title, key in shown:
        heads += [title, "median"] if key == "state_progress" else [title]

    def cells(entry: Mapping[str, Any]) -> str:
        out = ""
        for _, key in shown:
            out += cell(entry.get(key), key)
            if key == "state_progress":
                out += cell(entry.get(key), key, value="median")
        return out + f"<td>{entry.get('state_progress', {}).get('n', 0)}</td>"

    return table([*heads, "clips"], [_model_row(name, cells(entry), world) for name, entry in world.items()])


def image_to_video(world: World) -> str:
    """The same measures where only the first frame was given and prompts asked for the interruption."""
    if not world:
        return ""
    return (
        "<h2>From one image</h2><p>Only the first frame is given. The prompts of each chunk ask for the "
        "interruption and for its end, so the model has to make both; that it did is <i>observation control</i>. "
        "One frame shows no rate: the caption says slowly, steadily or quickly, so state progress is a looser "
        f"measure here.</p>{measures_table(world)}"
    )


def results(world: World, comparisons: World) -> str:
    """The headline: bars, the table of all models and controls, and paired differences."""
    progress = {name: entry.get("state_progress", {}) for name, entry in world.items()}
    bars = charts.progress_bars(
        [(n, p.get("mean"), p.get("low"), p.get("high")) for n, p in progress.items()]
    )
    out = (
        f'<h2>Results</h2><div class="card"><div class="scroll">{bars}</div></div>'
        f"{measures_table(world)}"
        "<p class='soft'>Small print: 95 % bootstrap intervals over clips. The last column counts the clips "
        "behind state progress. Definitions are at the end.</p>"
    )
    if not comparisons:
        return out
    keys = [(t, k) for t, k, _ in MEASURES if any(k in entry for entry in comparisons.values())]
    rows = [
        f"<tr><td>{escape(name)}</td>{''.join(cell(entry.get(k), k) for _, k in keys)}</tr>"
        for name, entry in comparisons.items()
    ]
    heads = ["first minus second", *(t for t, _ in keys)]
    return f"{out}<h3>Differences on the same clips</h3>{table(heads, rows)}"


def memory(maps: Mapping[str, KVImportance]) -> str:
    """Heatmaps of what was read."""
    if not maps:
        return ""
    figures = "".join(charts.heatmap(found, name) for name, found in maps.items())
    first = next(iter(maps.values()))
    clips = f"{first.num_clips} clip{'s' if first.num_clips != 1 else ''}"
    return (
        "<h2>Where the models look</h2><p>Each row is a generated chunk, each column a chunk of its past. "
        "The number is the share of its attention to the past that falls there. "
        "Hatched: could not be read.</p>"
        f'<div class="card heats">{figures}</div><p class="soft">Exact, from log-sum-exps: '
        f"{escape(first.reduction)}; mean over {clips}; each row scaled to one.</p>"
    )


def breakdown(
    world: World, key: str, title: str, meanings: Mapping[str, str], *, folded: bool = False
) -> str:
    """One row per family, kind or group, one column per model.

    Args:
        world: model -> aggregate.
        key: "by_kind", "by_group" or "by_family".
        title: of the section.
        meanings: a phrase per row.
        folded: hide it behind a click.
    """
    names = [n for n in world if world[n].get(key)]
    parts = sorted({part for n in names for part in world[n][key]})
    if not parts:
        return ""

    def value(name: str, part: str) -> str:
        entry = world[name][key].get(part, {})
        ramp, in_phase = entry.get("state_progress", {}), entry.get("periodic", {}).get("in_phase", {})
        accuracy = entry.get("discrete", {}).get("accuracy", {})
        if ramp.get("mean") is not None:
            return cell(ramp)
        if in_phase.get("mean") is not None:
            return cell(in_phase, "share")
        return cell(accuracy, "share")

    rows = [
        f"<tr><td class='part'>{escape(p)}<small>{escape(meanings.get(p, ''))}</small></td>"
        f"{''.join(value(n, p) for n in names)}</tr>"
        for p in parts
    ]
    inside = (
        "<p class='soft'>State progress; for turning scenes the share in phase, for switching ones "
        "the share of frames on the right side.</p>"
        f"{table(['', *(n.replace('_', ' ') for n in names)], rows)}"
    )
    if folded:
        inside = f"<details><summary>show {len(parts)} rows</summary>{inside}</details>"
    return f"<h2>{escape(title)}</h2>{inside}"


def apart(world: World) -> str:
    """Scenes that turn or switch, which have no place in the headline, and what was left out of it."""
    heads = (
        "model",
        "in phase",
        "phase error, turns (chance 0.25)",
        "switch right",
        "right, switched while hidden",
    )
    rows = []
    for name, entry in world.items():
        turning, switching = entry.get("periodic", {}), entry.get("discrete", {})
        cells = (
            cell(turning.get("in_phase"), "share"),
            cell(turning.get("phase_error_turns")),
            cell(switching.get("accuracy"), "share"),
            cell(switching.get("accuracy_changed_while_hidden"), "share"),
        )
        rows.append(_model_row(name, "".join(cells), world))
    counts = next(iter(world.values())).get("counts", {})
    counted = ", ".join(f"{str(k).replace('_', ' ')}: {v}" for k, v in counts.items())
    return (
        f"<h2>Turning and switching scenes</h2>{table(heads, rows)}"
        f"<p class='soft'>Counted: {escape(counted)}.</p>"
    )


def explanations(world: World, caveats: Iterable[str]) -> str:
    """Definitions and limits."""
    models = ((n, MODEL_WORDS[n]) for n in world if n in MODEL_WORDS)
    limits = "".join(f"<li>{escape(c)}</li>" for c in (*caveats, *CAVEATS))
    return (
        f"<h2>What the measures mean</h2>{words((t, w) for t, _, w in MEASURES)}"
        f"<h2>Who is compared</h2>{words(models)}<h2>Interruptions</h2>{words(KIND_WORDS.items())}"
        f'<h2>What this does not show</h2><ul class="card">{limits}</ul>'
    )
