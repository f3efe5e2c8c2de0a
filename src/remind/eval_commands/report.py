"""`remind eval report`: one page of one or more evaluations."""

from __future__ import annotations

from pathlib import Path

import tyro


def report(
    runs: tyro.conf.Positional[tuple[Path, ...]],
    /,
    out: Path,
    title: str = "Evaluations",
    examples: int = 6,
) -> None:
    """Report evaluations, and compare those of one suite example by example.

    Runs of one suite must be of one test set and protocol; others are refused by what differs. Writes OUT/report.html,
    one file that loads nothing, and the same numbers as OUT/summary.json, tables.csv, examples.csv and tables.tex.

    Args:
        runs: Folders that `remind eval` wrote, run to their end. Differences are first minus second.
        out: The folder of the report.
        title: Of the page.
        examples: To show with their videos, of every suite, from the best to the worst of the first run.
    """
    from remind.errors import InputError
    from remind.evaluation.suite_report import write_suite_report
    from remind.training.machine import git_commit, machine_facts

    if examples < 0:
        raise InputError("a number of examples", got=examples, expected="0 or more")
    for path in write_suite_report(runs, out, title=title, machine={**machine_facts(), "commit": git_commit()},
                                   num_examples=examples):  # fmt: skip
        print(path)
