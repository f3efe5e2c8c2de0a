"""The progress bar of a build."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class BuildBar:
    """Items done, clips kept, rate, time left; nothing without a console."""

    def __init__(self, console: Console | None, total: int):
        counts = TextColumn("videos, {task.fields[clips]} clips {task.fields[rate]}")
        columns = (TextColumn("build"), BarColumn(), MofNCompleteColumn(), counts, TimeElapsedColumn(),
                   TextColumn("left"), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, disable=console is None)
        self._clips, self._task = 0, self._progress.add_task("build", total=total, clips=0, rate="")

    def __enter__(self) -> BuildBar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, clips: int) -> None:
        self._clips += clips
        elapsed = self._progress.tasks[0].elapsed or 0
        rate = f"{60 * self._clips / elapsed:.0f} clips/min" if elapsed > 1 else ""
        self._progress.update(self._task, advance=1, clips=self._clips, rate=rate)
