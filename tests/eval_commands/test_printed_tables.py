from __future__ import annotations

import io

from rich.console import Console

from remind.eval_commands.printed_tables import print_tables
from remind.evaluation.score_cells import count_cell, mean_cell, row, share_cell, table


def printed(*tables: dict[str, object]) -> str:
    out = io.StringIO()
    print_tables({"tables": list(tables)}, Console(file=out, width=80))
    return out.getvalue()


def test_numbers_are_whole_on_a_narrow_terminal() -> None:
    columns = {f"Some Long Metric {number}": share_cell([True] * 32 + [False] * 189) for number in range(7)}
    text = printed(table("T", [row("model", {**columns, "Judge failures": count_cell(3, 90)})], "a [note] in brackets"))
    assert text.count("14.48 [10.4, 19.7] (32/221)") == 7
    assert "3/90" in text
    assert "a [note] in brackets" in text
    assert "…" not in text


def test_what_is_not_known_is_said() -> None:
    text = printed(table("T", [row("a", {"x": share_cell([]), "y": mean_cell([1.5])}), row("b", {"y": mean_cell([])})]))
    assert "none (0/0)" in text
    assert "1.5 (n 1)" in text
    assert "none (n 0)" in text
