"""From scores of clips to a table: means with bootstrap intervals, per model, family, kind and group."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

from remind.errors import InputError
from remind.evaluation.statistics import Estimate, Statistic, bootstrap, paired_difference
from remind.evaluation.world_benchmark import CaseScore

Table = dict[str, Any]


def _entry(estimate: Estimate) -> Table:
    return {"mean": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}


def _collect(scores: Sequence[CaseScore], value: Callable[[CaseScore], float | bool | None]) -> list[float]:
    return [float(v) for v in map(value, scores) if v is not None]


def _summarise(
    scores: Sequence[CaseScore],
    value: Callable[[CaseScore], float | bool | None],
    statistic: Statistic = "mean",
) -> Table:
    return _entry(bootstrap(_collect(scores, value), statistic))


def _progress(scores: Sequence[CaseScore]) -> Table:
    values = _collect(scores, lambda s: s.progress)
    median = bootstrap(values, "median")
    return {
        **_entry(bootstrap(values)),
        "median": median.value,
        "median_low": median.low,
        "median_high": median.high,
    }


def _measures(scores: Sequence[CaseScore]) -> Table:
    """All measures of a set of clips; headline progress takes eligible ramps alone."""
    ramps, periodic, discrete = (
        [s for s in scores if s.motion == m] for m in ("ramp", "periodic", "discrete")
    )
    moved = [s for s in discrete if s.eligible]
    return {
        "state_progress": _progress(ramps),
        "within_15": _summarise(ramps, lambda s: s.within_15, "share"),
        "shown": _summarise(scores, lambda s: s.shown_share),
        "plausible": _summarise(scores, lambda s: s.plausible, "share"),
        "coherent": _summarise(scores, lambda s: s.coherent, "share"),
        "observation_control": _summarise(scores, lambda s: s.observation, "share"),
        "action_control": _summarise(scores, lambda s: s.action, "share"),
        "background_psnr": _summarise(scores, lambda s: s.background_psnr_db),
        "before_error": _summarise(scores, lambda s: s.before_error),
        "after_error": _summarise(scores, lambda s: s.after_error),
        "periodic": {
            "state_progress": _progress(periodic),
            "in_phase": _summarise(periodic, lambda s: s.in_phase, "share"),
            "phase_error_turns": _summarise(periodic, lambda s: s.after_error),
        },
        "discrete": {
            "accuracy": _summarise(discrete, lambda s: s.accuracy),
            "accuracy_changed_while_hidden": _summarise(moved, lambda s: s.accuracy),
        },
    }


def _counts(scores: Sequence[CaseScore]) -> Table:
    """How many clips each number leaves out, and why."""
    return {
        "clips": len(scores),
        "not_observable_after": sum(not s.observable for s in scores),
        "hidden_change_too_small": sum(not s.eligible for s in scores if s.motion != "discrete"),
        "no_background": sum(s.background_psnr_db is None for s in scores),
        "periodic": sum(s.motion == "periodic" for s in scores),
        "discrete": sum(s.motion == "discrete" for s in scores),
        "without_trigger": sum(s.motion == "discrete" and s.observable and s.action is None for s in scores),
    }


def _by(scores: Sequence[CaseScore], key: Callable[[CaseScore], Hashable]) -> Table:
    names = sorted({str(key(s)) for s in scores})
    return {name: _measures([s for s in scores if key(s) == name]) for name in names}


def aggregate(scores: Sequence[CaseScore]) -> Table:
    """One model's summary: each measure as {"mean", "low", "high", "n"}; overall, by family, kind and group.

    Shares are means of yes and no. `state_progress` has its median too. A measure that no clip could be
    scored on has mean None and n 0.

    Args:
        scores: one model's, a clip each.

    Raises:
        InputError: no score at all.
    """
    if not scores:
        raise InputError("nothing to aggregate", got="no scores", expected="at least one")
    return {
        **_measures(scores),
        "counts": _counts(scores),
        "by_family": _by(scores, lambda s: s.family),
        "by_kind": _by(scores, lambda s: s.kind),
        "by_group": _by(scores, lambda s: s.group),
    }


def compare(first: Sequence[CaseScore], second: Sequence[CaseScore]) -> Table:
    """Differences first - second on the same clips, with paired intervals.

    Raises:
        InputError: scores of different clips.
    """
    if [s.case_id for s in first] != [s.case_id for s in second]:
        raise InputError("a comparison needs the same clips in the same order", got=(len(first), len(second)))

    def differ(value: Callable[[CaseScore], float | bool | None], statistic: Statistic = "mean") -> Table:
        return _entry(
            paired_difference(
                [_number(value(s)) for s in first], [_number(value(s)) for s in second], statistic
            )
        )

    def ramp(s: CaseScore) -> float | None:
        return s.progress if s.motion == "ramp" else None

    return {
        "state_progress": differ(ramp),
        "state_progress_median": differ(ramp, "median"),
        "within_15": differ(lambda s: s.within_15 if s.motion == "ramp" else None),
        "after_error": differ(lambda s: s.after_error),
        "shown": differ(lambda s: s.shown_share),
        "plausible": differ(lambda s: s.plausible),
        "coherent": differ(lambda s: s.coherent),
        "background_psnr": differ(lambda s: s.background_psnr_db),
    }


def _number(value: float | bool | None) -> float | None:
    return None if value is None else float(value)
