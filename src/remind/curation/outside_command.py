"""Running a program that is not ours: without a shell, with a time limit, and with nothing left behind. POSIX only."""

from __future__ import annotations

import math
import os
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from signal import SIGKILL, SIGTERM

from remind.errors import InputError

_GRACE_S = 5.0  # between asking a program to end and ending it
_TAIL_BYTES = 4000


@dataclass(frozen=True)
class CommandEnd:
    """How a command ended.

    Args:
        exit_code: negative for a signal.
        timed_out: it was stopped at its time limit.
        log_tail: the last lines that it printed, at most 4000 bytes.
    """

    exit_code: int
    timed_out: bool
    log_tail: str


def run_command(command: Sequence[str], log: Path, timeout_s: float, *, keep_open: Sequence[int] = ()) -> CommandEnd:
    """Run a command until it ends or its time is up; then its whole process group is ended.

    Args:
        command: program and arguments.
        log: file for all that it prints, written anew.
        timeout_s: > 0.
        keep_open: file descriptors that it inherits, e.g. of a lock that must hold for as long as it lives.

    Raises:
        InputError: a command that is no list, a time limit that is none, or a program that cannot be started.
    """
    if isinstance(command, str) or not command:
        raise InputError("a command must be a list of program and arguments", got=repr(command))
    if not (timeout_s > 0 and math.isfinite(timeout_s)):
        raise InputError("the time limit must be positive", got=timeout_s, expected="seconds, e.g. 3600")
    with log.open("wb") as output:
        try:
            process = subprocess.Popen(list(command), stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                       start_new_session=True, pass_fds=keep_open)  # fmt: skip
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            raise InputError("the program cannot be started", got=f"{command[0]}: {reason}",
                             fix="give the program's path") from None  # fmt: skip
        timed_out = False
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            timed_out = True
            _signal_group(process, SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_GRACE_S)
        finally:  # also when we are interrupted, and for children that outlive their parent
            _signal_group(process, SIGKILL)
            exit_code = process.wait()
    return CommandEnd(exit_code, timed_out, _tail(log))


def _signal_group(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):  # the whole group has ended
        os.killpg(process.pid, number)


def _tail(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _TAIL_BYTES))
        return file.read().decode("utf-8", "replace").strip()
