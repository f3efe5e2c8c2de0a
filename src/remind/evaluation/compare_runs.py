"""Two or more evaluations of one test set, example by example: paired differences, intervals and tests."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

from remind.errors import InputError
from remind.evaluation.eval_run import Record, open_run, read_json
from remind.evaluation.score_cells import row, table
from remind.evaluation.statistics import holm, paired_difference, paired_p_value

SUBJECT = frozenset({
    "base", "checkpoint", "checkpoint_hash", "control", "frames_through", "hw", "knock_out", "made_by", "made_with",
    "memory_noise", "model", "name", "reports", "results", "sampler", "seed", "videos",
})  # fmt: skip
"""Keys of an identity that say who is measured. All others say what is measured and how, and must agree."""


@dataclass(frozen=True)
class LoadedRun:
    """A finished evaluation.

    Args:
        name: in tables; of its folder, made distinct.
        folder: where it is.
        identity: what was measured.
        records: of all examples.
        counts: how many were scored, how many failed and why.
        summary: as the suite wrote it.
    """

    name: str
    folder: Path
    identity: Mapping[str, Any]
    records: Mapping[str, Record]
    counts: Mapping[str, Any]
    summary: Mapping[str, Any]

    @property
    def suite(self) -> str:
        return str(self.identity.get("suite"))


def load_runs(folders: Sequence[Path]) -> list[LoadedRun]:
    """Evaluations on disk, each with a name of its own.

    Raises:
        InputError: none, one twice, one that is damaged or was not run to its end.
    """
    if not folders:
        raise InputError("a report needs evaluations", got="none", expected="one folder or more")
    resolved = [folder.resolve() for folder in folders]
    if len(set(resolved)) < len(resolved):
        raise InputError("an evaluation is given twice", got=", ".join(map(str, folders)))
    names = [folder.name for folder in resolved]
    if len(set(names)) < len(names):
        names = [f"{folder.parent.name}/{folder.name}" for folder in resolved]
    if len(set(names)) < len(names):
        names = [f"{name} ({i + 1})" for i, name in enumerate(names)]
    return [_load(folder, name) for folder, name in zip(folders, names, strict=True)]


def _load(folder: Path, name: str) -> LoadedRun:
    identity, records = open_run(folder)
    if not (folder / "scores.json").is_file():
        raise InputError("the evaluation is not done", got=f"{folder}: {len(records)} examples and no scores.json",
                         fix="run it again: it goes on where it stopped")  # fmt: skip
    whole = read_json(folder / "scores.json")
    try:
        counts, summary, expected = whole["counts"], whole["summary"], int(whole["counts"]["examples"])
        tables = summary["tables"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError("the scores are damaged", got=f"{folder / 'scores.json'}: no {error}") from None
    if whole.get("identity") != identity or not isinstance(tables, list):
        raise InputError("scores and evaluation do not belong together", got=folder, fix="run the evaluation again")
    if expected != len(records):
        raise InputError("examples are missing or damaged", got=f"{folder}: {len(records)} of {expected} can be read",
                         fix="run the evaluation again: it redoes them")  # fmt: skip
    return LoadedRun(name, folder, identity, records, counts, summary)


def check_same_test(runs: Sequence[LoadedRun]) -> None:
    """Refuse runs whose examples or measures are not the same ones.

    Raises:
        InputError: what differs, by name.
    """
    first = runs[0]
    for other in runs[1:]:
        keys = sorted((first.identity.keys() | other.identity.keys()) - SUBJECT)
        for key in keys:
            a, b = first.identity.get(key), other.identity.get(key)
            if a != b:
                raise InputError(f"runs of different tests cannot be compared: {key} differs",
                                 got=f"{first.name}: {_told(a, b)}; {other.name}: {_told(b, a)}",
                                 fix="compare runs of one test set, under the same conditions")  # fmt: skip
        strange = sorted(first.records.keys() ^ other.records.keys())
        if strange:
            raise InputError(f"runs of different examples cannot be compared: {first.name} and {other.name}",
                             got=f"{len(strange)} that only one of them has, e.g. {strange[0]}")  # fmt: skip


def _told(value: object, other: object) -> str:
    """A value, of a mapping only what is not alike."""
    if isinstance(value, Mapping) and isinstance(other, Mapping):
        return ", ".join(f"{k} {str(v)[:60]}" for k, v in value.items() if other.get(k) != v) or "less"
    return str(value)[:100]


def measures_of(runs: Sequence[LoadedRun]) -> dict[str, dict[str, str]]:
    """What runs of one suite can be compared by: what the suite names, or every number that its examples have."""
    named = runs[0].summary.get("measures")
    if isinstance(named, Mapping):
        return {str(key): dict(value) for key, value in named.items() if isinstance(value, Mapping)}
    found: dict[str, dict[str, str]] = {}
    for run in runs:
        for record in run.records.values():
            for key, value in record.scores.items():
                if isinstance(value, bool | int | float):
                    found.setdefault(key, {"title": key.replace("_", " ")})
    return found


def values_of(run: LoadedRun, key: str, measure: Mapping[str, str], part: str | None = None) -> list[float | None]:
    """One value an example in order of names; None where it failed, has none, or the measure is not for it.

    Args:
        part: of the test set; None = all of it.
    """
    found: list[float | None] = []
    for name in sorted(run.records):
        record = run.records[name]
        if part is not None and record.about.get("part") != part:
            continue
        value = record.scores.get(key) if record.status == "scored" else None
        only = measure.get("only")
        fits = only is None or record.scores.get("motion") == only
        found.append(float(value) if fits and isinstance(value, bool | int | float) else None)
    return found


def compare_runs(runs: Sequence[LoadedRun]) -> list[dict[str, Any]]:
    """A table for each pair, and part of the test set: differences first - second on the examples that both have.

    Intervals are bootstrap intervals over examples; `p` is of a sign-flip test, `p_holm` corrected for the measures of
    the pair.

    Raises:
        InputError: runs of different tests.
    """
    check_same_test(runs)
    measures = measures_of(runs)
    parts = list(dict.fromkeys(record.about.get("part") for record in runs[0].records.values()))
    parts.sort(key=lambda part: (part != "main", str(part)))
    return [_pair(a, b, measures, part) for a, b in combinations(runs, 2) for part in parts]


def _pair(a: LoadedRun, b: LoadedRun, measures: Mapping[str, Mapping[str, str]], part: str | None) -> dict[str, Any]:
    columns = {key: (values_of(a, key, m, part), values_of(b, key, m, part)) for key, m in measures.items()}
    shown = [key for key, (x, y) in columns.items() if any(v is not None for v in x) or any(v is not None for v in y)]
    p_values = [paired_p_value(*columns[key]) for key in shown]
    rows = []
    for key, p, corrected in zip(shown, p_values, holm(p_values), strict=True):
        found = paired_difference(*columns[key])
        measure = measures[key]
        better = f" ({measure['better']} is better)" if "better" in measure else ""
        one, two = (_mean_on_pairs(columns[key], side) for side in (0, 1))
        rows.append(row(measure["title"] + better, {
            a.name: {"value": one, "low": None, "high": None, "n": found.n},
            b.name: {"value": two, "low": None, "high": None, "n": found.n},
            "difference": {"value": found.value, "low": found.low, "high": found.high, "n": found.n},
            "p": {"value": p, "low": None, "high": None, "n": found.n},
            "p, Holm": {"value": corrected, "low": None, "high": None, "n": found.n},
        }))  # fmt: skip
    here = [n for n, record in a.records.items() if part in (None, record.about.get("part"))]
    both = sum(a.records[n].status == b.records[n].status == "scored" for n in here)
    note = (f"On the {both} of {len(here)} examples that were scored in both. Means and differences of the same "
            "examples; shares as numbers from 0 to 1; p of a sign-flip test.")  # fmt: skip
    return table(f"{a.name} minus {b.name}" + ("" if part is None else f", {part}"), rows, note)


def _mean_on_pairs(columns: tuple[list[float | None], list[float | None]], side: int) -> float | None:
    kept = [pair[side] for pair in zip(*columns, strict=True) if None not in pair]
    return sum(v for v in kept if v is not None) / len(kept) if kept else None
