"""The taxonomy on the terminal: a table of types, or all about one."""

from __future__ import annotations

from collections.abc import Iterable

from rich.markup import escape
from rich.table import Table

from remind.curation.taxonomy import EventType


def render_taxonomy_table(types: Iterable[EventType]) -> Table:
    """Event types, one a row, in the order given: id, group, what changes, keywords, importance."""
    types = tuple(types)
    table = Table(caption=f"{len(types)} event types; s f r = salience, frequency, recovery", caption_justify="left")
    for heading in ("type", "group"):
        table.add_column(heading, no_wrap=True)
    table.add_column("what changes", ratio=2)
    table.add_column("keywords", ratio=2)
    table.add_column("s f r", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    for event in types:
        factors = event.importance
        table.add_row(event.id, event.group, escape(what_changes(event)), escape(", ".join(event.keywords)),
                      f"{factors.salience} {factors.frequency} {factors.recovery}", f"{factors.score:.2f}")  # fmt: skip
    return table


def render_event_type(event: EventType, guidance: str) -> Table:
    """One type with all that is known about it, as name and value.

    Args:
        guidance: see `Taxonomy.caption_guidance`.
    """
    factors = event.importance
    table = Table(title=event.id, title_justify="left", show_header=False)
    table.add_column(no_wrap=True)
    table.add_column()
    for name, value in (
        ("group", event.group),
        ("keywords", ", ".join(event.keywords)),
        ("negatives", ", ".join(event.negatives)),
        ("objects", "; ".join(event.cues.objects)),
        ("what changes", what_changes(event)),
        ("importance", f"{factors.score:.2f}: salience {factors.salience}, frequency {factors.frequency}, "
                       f"recovery {factors.recovery}"),
        ("caption", guidance),
    ):  # fmt: skip
        table.add_row(name, escape(value))
    return table


def what_changes(event: EventType) -> str:
    """The state variable and its direction, or for discrete types before, trigger and after."""
    cues = event.cues
    if cues.direction is not None:
        return f"{cues.state} {cues.direction}"
    return f"{cues.before}; {cues.trigger}; {cues.after}"
