"""Signals that ask a run to stop: noted here, obeyed between two steps."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

WATCHED = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)


class StopSignal:
    """What was asked; `number` is None until something was."""

    def __init__(self) -> None:
        self.number: int | None = None


@contextmanager
def watched_signals() -> Iterator[StopSignal]:
    """Note SIGTERM, SIGINT and SIGUSR1 instead of ending; the second one of a kind does what it always did.

    Outside the main thread, where Python can watch no signals, none is ever noted.
    """
    asked = StopSignal()
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {number: signal.getsignal(number) for number in WATCHED}

    def note(number: int, _: FrameType | None) -> None:
        asked.number = number
        signal.signal(number, before[signal.Signals(number)])

    for number in WATCHED:
        signal.signal(number, note)
    try:
        yield asked
    finally:
        for number in WATCHED:
            signal.signal(number, before[number])


def outcome(number: int) -> BaseException | None:
    """How a run ends that was asked to stop and has saved: what to raise, None = return.

    Source: our choice. SIGTERM and SIGINT end as a shell expects of a process that they ended (143, 130), so that
    nothing takes the run for finished. SIGUSR1 is a scheduler's notice that time is nearly up: the run did what it was
    asked for, and whoever sent it knows that it is not finished; it ends with 0.
    """
    if number == signal.SIGINT:
        return KeyboardInterrupt()
    if number == signal.SIGTERM:
        return SystemExit(128 + number)
    return None
