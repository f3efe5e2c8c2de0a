"""Tables of a summary in the terminal: value, interval, counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

_WIDE = 4  # more columns than this are printed as lines, so that numbers need no cutting


def print_tables(summary: Mapping[str, Any], console: Console, *, first: int | None = None) -> None:
    """Print the tables of a summary, or the first of them, each with its note."""
    for told in summary["tables"][:first]:
        names = [line["name"] for line in told["rows"]]
        columns = list(dict.fromkeys(column for line in told["rows"] for column in line["cells"]))
        cells = {(line["name"], column): _said(line["cells"].get(column))
                 for line in told["rows"] for column in columns}  # fmt: skip
        turned = len(columns) > _WIDE and len(names) <= _WIDE
        table = Table(title=told["title"], title_justify="left", box=box.SIMPLE)
        table.add_column("")
        for head in names if turned else columns:
            table.add_column(head, justify="right", overflow="fold")
        for head in columns if turned else names:
            others = names if turned else columns
            table.add_row(head, *(cells[(other, head) if turned else (head, other)] for other in others))
        console.print(table)
        if told["note"]:
            console.print(told["note"], markup=False, highlight=False)


def _said(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    counts = f"{cell['k']}/{cell['n']}" if "k" in cell else f"n {cell['n']}"
    if cell["value"] is None:
        return f"none ({counts})"
    if cell["low"] is None:
        return counts if cell["value"] == cell.get("k") else f"{cell['value']:.4g} ({counts})"
    return f"{cell['value']:.4g} [{cell['low']:.3g}, {cell['high']:.3g}] ({counts})"
