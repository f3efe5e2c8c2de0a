"""A second of work is counted once, whatever happened to the run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from remind.errors import InputError
from remind.recipes import recipe
from remind.training import run_budget, run_record
from remind.training.run_budget import Amount, sum_budgets
from remind.training.run_record import SESSIONS, SessionLog, append_session, read_sessions, write_record


class Run:
    """A run in a folder with a clock that is set by hand: a second and ten tokens a step."""

    def __init__(self, out: Path, *, devices: int = 1, device: str = "cpu"):
        self.out, self.devices, self.device, self.now = out, devices, device, 0.0

    def session(self, first: int, last: int, *, every: int = 10, end: str | None = None) -> None:
        config = recipe("nano")
        facts = write_record(self.out, config, command=["remind"], data={}, world_size=self.devices, resumed=first > 0)
        log = SessionLog(self.out, facts, step=first, tokens=10 * first, device=self.device, devices=self.devices,
                         clock=lambda: self.now)  # fmt: skip
        for step in range(first + 1, last + 1):
            self.now += 1
            log.step(step, 10 * step)
            if step % every == 0 or (end is not None and step == last):
                log.saved(step, 10 * step)
        if end is not None:
            log.end(last, 10 * last, end)


def test_a_run_without_a_stop_keeps_all_it_spent(tmp_path: Path) -> None:
    Run(tmp_path).session(0, 100, end="done")
    budgets = sum_budgets([tmp_path])
    assert budgets.spent == budgets.kept == Amount(100.0, 100, 1000)
    (run,) = budgets.runs
    assert (run.recipe, run.steps_planned, run.sessions[0].ended) == ("nano", 2800, "done")


def test_five_resumes_count_every_second_once_and_what_was_lost_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_record, "EVERY_S", 1.0)
    run = Run(tmp_path, devices=4, device="NVIDIA H100")
    for first, last in ((0, 13), (10, 18), (10, 39), (30, 30), (30, 45)):  # killed; checkpoints every ten steps
        run.session(first, last)
    run.session(40, 60, end="done")
    budgets = sum_budgets([tmp_path])
    worked = 13 + 8 + 29 + 0 + 15 + 20
    assert budgets.spent == Amount(4.0 * worked, worked, 10 * worked)
    assert budgets.kept == Amount(4 * 60.0, 60, 600)
    (found,) = budgets.runs
    assert [s.kept.steps for s in found.sessions] == [10, 0, 20, 0, 10, 20]
    assert [s.ended for s in found.sessions] == ["", "", "", "", "", "done"]
    assert budgets.hours_by_device == {"NVIDIA H100": budgets.spent.device_s / 3600}


def test_lost_work_is_spent_and_not_kept(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.session(0, 65, every=20)  # lines at steps 20, 40, 60; killed
    run.session(40, 80, end="SIGTERM")  # the checkpoint of step 60 was damaged
    first, second = sum_budgets([tmp_path]).runs[0].sessions
    assert (first.spent.steps, first.kept) == (60, Amount(40.0, 40, 400))
    assert second.spent == second.kept == Amount(40.0, 40, 400)


def test_a_run_that_goes_on_keeps_what_its_checkpoint_holds(tmp_path: Path) -> None:
    Run(tmp_path).session(0, 75, every=50)
    budgets = sum_budgets([tmp_path])
    assert budgets.kept.steps == 50
    assert budgets.spent.steps == 50
    append_session(tmp_path, {"session": 1, "event": "going", "seconds": 75, "step": 75, "tokens": 750, "devices": 1,
                              "device": "cpu"})  # fmt: skip
    assert sum_budgets([tmp_path]).spent == Amount(75.0, 75, 750)


def test_half_lines_and_foreign_lines_are_passed_over(tmp_path: Path) -> None:
    Run(tmp_path).session(0, 20, end="done")
    good = sum_budgets([tmp_path]).to_json()
    with (tmp_path / SESSIONS).open("ab") as file:
        file.write(b'[1]\n{"session": 1}\n\xff\xfe\n{"session": 1, "event": "going", "seconds": 1e9, "st')
    assert sum_budgets([tmp_path]).to_json() == good


def test_runs_are_summed_each_once(tmp_path: Path) -> None:
    Run(tmp_path / "a").session(0, 20, end="done")
    Run(tmp_path / "tables" / "b", devices=2).session(0, 30, end="done")
    budgets = sum_budgets([tmp_path, tmp_path / "a", tmp_path / "tables"])
    assert len(budgets.runs) == 2
    assert budgets.spent == Amount(20.0 + 60.0, 50, 500)


def test_the_table_and_the_json_say_the_sum(tmp_path: Path) -> None:
    Run(tmp_path / "a", devices=2).session(0, 1800, end="done")
    Run(tmp_path / "b").session(0, 3600, end="done")
    text = StringIO()
    run_budget.show([tmp_path], Console(file=text, width=200))
    assert "2.000 cpu" in text.getvalue()
    text = StringIO()
    run_budget.show([tmp_path], Console(file=text, width=200), as_json=True)
    assert json.loads(text.getvalue())["device_hours"] == {"cpu": 2.0}


def test_folders_without_runs_are_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run"):
        sum_budgets([tmp_path])
    with pytest.raises(InputError, match="no folder"):
        sum_budgets([tmp_path / "nowhere"])


WORK = """
import sys, time
from pathlib import Path
from remind.recipes import recipe
from remind.training import run_record
run_record.EVERY_S = 0.0
out = Path(sys.argv[1])
facts = run_record.write_record(out, recipe("nano"), command=["x"], data={}, world_size=1, resumed=True)
log = run_record.SessionLog(out, facts, step=int(sys.argv[2]), tokens=0, device="cpu", devices=1)
for step in range(int(sys.argv[2]) + 1, 1000000):
    log.step(step, step)
    if step % 5 == 0:
        log.saved(step, step)
        print(step, flush=True)
"""


def test_a_session_that_is_killed_is_accounted_for(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", WORK, str(tmp_path), "0"], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        for _ in range(20):
            process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    (session,) = sum_budgets([tmp_path]).runs[0].sessions
    assert session.kept.steps >= 100
    assert session.kept.steps % 5 == 0
    assert session.spent.steps >= session.kept.steps
    assert session.ended == ""
    assert read_sessions(tmp_path)[0]["event"] == "start"
