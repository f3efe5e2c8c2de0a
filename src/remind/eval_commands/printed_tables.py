"""Tables of a summary in the terminal: value, interval, counts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table


def print_tables(summary: Mapping[str, Any], console: Console, *, first: int | None = None) -> None:
    """Print the tables of a summary, or the first of them, each with its note."""
    for told in summary["tables"][:first]:
        columns = list(dict.fromkeys(column for line in told["rows"] for column in line["cells"]))
        table = Table(title=told["title"], caption=told["note"] or None, title_justify="left", caption_justify="left")
        table.add_column("")
        for column in columns:
            table.add_column(column, justify="right")
        for line in told["rows"]:
            table.add_row(line["name"], *(_said(line["cells"].get(column)) for column in columns))
        console.print(table)


def _said(cell: Mapping[str, Any] | None) -> str:
    if cell is None:
        return ""
    counts = f"{cell['k']}/{cell['n']}" if "k" in cell else f"n {cell['n']}"
    if cell["value"] is None:
        return f"none\n{counts}"
    if cell["low"] is None:
        return counts if "k" in cell and cell["value"] == cell["k"] else f"{cell['value']:.4g}\n{counts}"
    return f"{cell['value']:.4g}\n[{cell['low']:.4g}, {cell['high']:.4g}]\n{counts}"
