"""Programs that fail, hang, ignore signals or leave children behind."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from remind.curation import outside_command
from remind.curation.outside_command import run_command
from remind.errors import InputError


def python(*lines: str) -> list[str]:
    return [sys.executable, "-c", "\n".join(lines)]


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_end_and_last_words_are_told(tmp_path: Path) -> None:
    code = python("import sys", "print('x' * 9000)", "print('no memory', file=sys.stderr)", "sys.exit(3)")
    end = run_command(code, tmp_path / "log", 30.0)
    assert (end.exit_code, end.timed_out) == (3, False)
    assert end.log_tail.endswith("\nno memory")
    assert len(end.log_tail) <= 4000
    assert len((tmp_path / "log").read_text()) > 9000


def test_no_shell_reads_the_arguments(tmp_path: Path) -> None:
    text = "$(touch spoiled); `id` && {x} | 'y'"
    assert run_command([*python("import sys", "print(sys.argv[1])"), text], tmp_path / "log", 30.0).log_tail == text


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to look at processes")
def test_when_time_is_up_nothing_lives_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that ignores SIGTERM, and its child."""
    monkeypatch.setattr(outside_command, "_GRACE_S", 0.3)
    code = python(
        "import os, signal, subprocess, sys, time",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)",
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])",
        "print(os.getpid(), child.pid, flush=True)",
        "time.sleep(60)",
    )
    started = time.monotonic()
    end = run_command(code, tmp_path / "log", 2.0)
    assert time.monotonic() - started < 20
    assert end.timed_out
    assert end.exit_code == -9
    pids = [int(word) for word in end.log_tail.split()]
    deadline = time.monotonic() + 10
    while any(map(alive, pids)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(pids) == 2
    assert not any(map(alive, pids))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to look at processes")
def test_children_that_outlive_a_program_are_ended(tmp_path: Path) -> None:
    code = python(
        "import subprocess, sys",
        "print(subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']).pid)",
    )
    end = run_command(code, tmp_path / "log", 30.0)
    assert (end.exit_code, end.timed_out) == (0, False)
    deadline = time.monotonic() + 10
    while alive(int(end.log_tail)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(int(end.log_tail))


def test_files_kept_open_are_inherited_and_others_are_not(tmp_path: Path) -> None:
    kept, other = os.open(tmp_path, os.O_RDONLY), os.open(tmp_path, os.O_RDONLY)
    try:
        code = python("import os, sys", f"os.fstat({kept})", f"os.fstat({other})")
        end = run_command(code, tmp_path / "log", 30.0, keep_open=(kept,))
    finally:
        os.close(kept)
        os.close(other)
    assert end.exit_code == 1
    assert "line 3" in end.log_tail


@pytest.mark.parametrize(
    ("command", "timeout_s", "line"),
    [
        (["/no/such/program"], 1.0, "cannot be started; got /no/such/program: No such file"),
        (["/"], 1.0, "cannot be started"),
        (["a\0b"], 1.0, "cannot be started"),
        ([], 1.0, "must be a list"),
        ("ls -l", 1.0, "must be a list"),
        (["true"], 0.0, "time limit"),
        (["true"], float("nan"), "time limit"),
        (["true"], float("inf"), "time limit"),
    ],
)
def test_what_cannot_be_run_is_refused(tmp_path: Path, command: list[str], timeout_s: float, line: str) -> None:
    with pytest.raises(InputError, match=line):
        run_command(command, tmp_path / "log", timeout_s)
