"""What stands in for a video that its source had to refuse, so that the refusal is listed and counted."""

from __future__ import annotations

from dataclasses import dataclass

from remind.curation.item import FileMedia, SourceItem


@dataclass(frozen=True)
class RefusedMedia(FileMedia):
    """Media that cannot be read, and why.

    Our choice: a damaged entry becomes an item whose fetching fails, so it passes through ledger and report as every
    bad video does. The path stays empty, so that whoever opens it without looking opens nothing.

    Args:
        path: always empty.
        reason: one line for the report.
    """

    reason: str = ""


def refuse(item_id: str, source: str, reason: str) -> SourceItem:
    """An item that fails with `reason` when it is fetched."""
    return SourceItem(item_id, source, RefusedMedia("", reason))
