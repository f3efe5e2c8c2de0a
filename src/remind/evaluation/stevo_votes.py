"""From a judge's votes to a verdict, with votes that failed counted and never guessed.

Source: STEVO-Bench's rules: a strict majority, ties for no; for coherence, "no" only if all say so. Our choice: where
votes are missing, the verdict is what every possible outcome of the missing ones would give, and there is none if they
could change it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from remind.evaluation.stevo_questions import Metric

Rule = Literal["majority", "false only if all say so"]
NUM_VOTES = 3


@dataclass(frozen=True)
class Votes:
    """What a judge said about one metric of one video.

    Args:
        said: each vote, True for the better; None for one that failed.
        failures: why those failed, one of few words each.
        asked: False where the metric is true by definition: nothing was asked for.
    """

    said: tuple[bool | None, ...]
    failures: tuple[str, ...] = ()
    asked: bool = True


def rule_of(metric: Metric) -> Rule:
    """How votes on a metric are counted."""
    return "false only if all say so" if metric == "coherence" else "majority"


def verdict(metric: Metric, votes: Sequence[bool | None]) -> bool | None:
    """The verdict, or None if the votes that failed could change it.

    Args:
        votes: True for the better.
    """
    missing = sum(vote is None for vote in votes)
    yes = sum(vote is True for vote in votes)
    worst, best = (_decide(metric, count, len(votes)) for count in (yes, yes + missing))
    return worst if votes and worst == best else None


def _decide(metric: Metric, yes: int, num: int) -> bool:
    if rule_of(metric) == "false only if all say so":
        return yes > 0
    if metric == "plausibility":  # the official vote is on the artifact, so that a tie finds none
        return 2 * (num - yes) <= num
    return 2 * yes > num
