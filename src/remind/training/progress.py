"""A bar in the terminal with count, time that is left and a note; rich prints nothing where there is no terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class progress_bar:
    """`with progress_bar(text, console) as (bar, task)`: a bar with count, speed and ETA."""

    def __init__(self, text: str, console: Console, total: int | None = None, *, done: int = 0):
        self.bar = Progress(
            TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(),
            TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}"), console=console,
        )
        self.text, self.total, self.done = text, total, done

    def __enter__(self) -> tuple[Progress, Any]:
        self.bar.start()
        return self.bar, self.bar.add_task(self.text, total=self.total, completed=self.done, note="")

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
