"""What runs cost: device-hours, steps and tokens of every session, of every run, and of many runs together.

A second of work counts once, however often a run was stopped and resumed. What a session did after the checkpoint from
which the next one went on is *spent* but not *kept*; both are reported. Not known, and so in neither, is what a killed
session worked after its last line: at most `run_record.EVERY_S` seconds or one step, whichever is longer.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from remind.errors import InputError
from remind.training.run_record import RECORD, SESSIONS, read_sessions


@dataclass(frozen=True)
class Amount:
    """Of work.

    Args:
        device_s: seconds times devices.
        steps, tokens: done in them.
    """

    device_s: float = 0.0
    steps: int = 0
    tokens: int = 0

    def __add__(self, other: Amount) -> Amount:
        return Amount(self.device_s + other.device_s, self.steps + other.steps, self.tokens + other.tokens)


@dataclass(frozen=True)
class SessionBudget:
    """One session of a run.

    Args:
        session: its number, from 1.
        device, devices: kind, and how many worked together.
        first_step: that the run had when it started.
        last_step: the last one it spoke of.
        spent: all of its work.
        kept: its work that later sessions built on, or that a checkpoint holds.
        ended: "done", what stopped it, or "" for one that was killed or goes on.
    """

    session: int
    device: str
    devices: int
    first_step: int
    last_step: int
    spent: Amount
    kept: Amount
    ended: str


@dataclass(frozen=True)
class RunBudget:
    """One run: a folder with a record and sessions."""

    folder: Path
    recipe: str
    steps_planned: int | None
    sessions: tuple[SessionBudget, ...]

    @property
    def spent(self) -> Amount:
        return sum((session.spent for session in self.sessions), Amount())

    @property
    def kept(self) -> Amount:
        return sum((session.kept for session in self.sessions), Amount())

    @property
    def devices(self) -> str:
        return ", ".join(dict.fromkeys(f"{session.devices} x {session.device}" for session in self.sessions))

    def to_json(self) -> dict[str, Any]:
        return {
            "folder": str(self.folder), "recipe": self.recipe, "steps_planned": self.steps_planned,
            "spent": vars(self.spent), "kept": vars(self.kept),
            "sessions": [vars(s) | {"spent": vars(s.spent), "kept": vars(s.kept)} for s in self.sessions],
        }  # fmt: skip


@dataclass(frozen=True)
class Budgets:
    """Many runs."""

    runs: tuple[RunBudget, ...]

    @property
    def spent(self) -> Amount:
        return sum((run.spent for run in self.runs), Amount())

    @property
    def kept(self) -> Amount:
        return sum((run.kept for run in self.runs), Amount())

    @property
    def hours_by_device(self) -> dict[str, float]:
        """Device-hours spent on every kind of device."""
        hours: dict[str, float] = {}
        for session in (s for run in self.runs for s in run.sessions):
            hours[session.device] = hours.get(session.device, 0.0) + session.spent.device_s / 3600
        return hours

    def to_json(self) -> dict[str, Any]:
        return {"runs": [run.to_json() for run in self.runs], "spent": vars(self.spent), "kept": vars(self.kept),
                "device_hours": self.hours_by_device}  # fmt: skip


def run_budget(folder: Path) -> RunBudget:
    """What one run has cost so far, from its sessions.jsonl and run.json; damaged lines and files say nothing."""
    recipe, planned = "?", None
    try:
        config = json.loads((folder / RECORD).read_text())["config"]
        recipe, planned = str(config["recipe"]), int(config["steps"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return RunBudget(folder, recipe, planned, tuple(_sessions(folder)))


def sum_budgets(paths: Iterable[Path]) -> Budgets:
    """Budgets of runs: of the folders, and of all runs anywhere in them; each run once.

    Raises:
        InputError: a path that is no folder, or that holds no run.
    """
    found: dict[Path, None] = {}
    for path in paths:
        if not path.is_dir():
            raise InputError("this is no folder of runs", got=path, expected="run folders, or folders of them")
        runs = sorted({file.parent.resolve() for name in (SESSIONS, RECORD) for file in path.rglob(name)})
        if not runs:
            raise InputError("there is no run in this folder", got=path, expected=f"{SESSIONS} in it or below",
                             fix="name the --out of a training run")  # fmt: skip
        found |= dict.fromkeys(runs)
    return Budgets(tuple(run_budget(folder) for folder in found))


def runs_table(budgets: Budgets) -> Table:
    """One row a run, the sum below."""
    table = Table(title="What the runs cost", caption="spent: all work; kept: what checkpoints hold", show_footer=True)
    total, kept = budgets.spent, budgets.kept
    sessions = sum(len(run.sessions) for run in budgets.runs)
    hours = "\n".join(f"{hours:,.3f} {device}" for device, hours in budgets.hours_by_device.items())
    for name, footer in (
        ("run", "sum" if len(budgets.runs) > 1 else ""), ("recipe", ""), ("sessions", str(sessions)),
        ("devices", ""), ("steps", ""), ("device-hours spent", hours), ("kept", f"{kept.device_s / 3600:,.3f}"),
        ("tokens spent", f"{total.tokens:,}"), ("kept", f"{kept.tokens:,}"),
    ):  # fmt: skip
        table.add_column(name, footer=footer, justify="left" if name in ("run", "recipe", "devices") else "right")
    for run in budgets.runs:
        planned = "?" if run.steps_planned is None else f"{run.steps_planned:,}"
        table.add_row(
            str(run.folder), run.recipe, str(len(run.sessions)), run.devices, f"{run.kept.steps:,} of {planned}",
            f"{run.spent.device_s / 3600:,.3f}", f"{run.kept.device_s / 3600:,.3f}", f"{run.spent.tokens:,}",
            f"{run.kept.tokens:,}",
        )  # fmt: skip
    return table


def show(paths: Iterable[Path], console: Console, as_json: bool = False) -> None:
    """Print the budgets of runs, as a table or as JSON: the command `remind runs`.

    Raises:
        InputError: as `sum_budgets`.
    """
    budgets = sum_budgets(paths)
    if as_json:
        console.print_json(json.dumps(budgets.to_json(), default=str))
    else:
        console.print(runs_table(budgets))


def _sessions(folder: Path) -> list[SessionBudget]:
    by_session: dict[int, list[_Line]] = {}
    for content in read_sessions(folder):
        line = _Line.of(content)
        if line is not None:
            by_session.setdefault(content["session"], []).append(line)
    sessions = list(by_session.items())
    # What a session did counts as kept up to where any later session went back to, and the last one's up to its last
    # checkpoint; an end without one keeps nothing more.
    kept_to = _saved(sessions[-1][1]) if sessions else 0
    found: list[SessionBudget] = []
    for number, lines in reversed(sessions):
        first, last = lines[0], max(lines, key=lambda line: (line.seconds, line.step))
        firm = [line for line in lines if line.event in ("start", "saved", "end") and line.step <= kept_to]
        kept = max(firm, key=lambda line: (line.step, line.seconds), default=first)
        found.append(SessionBudget(
            number, first.device, first.devices, first.step, last.step, _between(first, last),
            _between(first, kept) if kept.step > first.step else Amount(), lines[-1].ended,
        ))  # fmt: skip
        kept_to = min(kept_to, first.step)
    return found[::-1]


def _saved(lines: list[_Line]) -> int:
    """The last step of a session that a checkpoint holds."""
    return max(line.step for line in lines if line.event in ("start", "saved"))


@dataclass(frozen=True)
class _Line:
    event: str
    seconds: float
    step: int
    tokens: int
    device: str
    devices: int
    ended: str

    @staticmethod
    def of(found: dict[str, Any]) -> _Line | None:
        try:
            return _Line(str(found["event"]), float(found["seconds"]), int(found["step"]), int(found["tokens"]),
                         str(found["device"]), int(found["devices"]), str(found.get("why", "")))  # fmt: skip
        except (KeyError, TypeError, ValueError):
            return None


def _between(first: _Line, last: _Line) -> Amount:
    return Amount(last.seconds * first.devices, last.step - first.step, last.tokens - first.tokens)
