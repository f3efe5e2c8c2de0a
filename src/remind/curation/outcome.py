"""What goes into a worker and what comes out: plain data, so that it crosses process borders."""

from __future__ import annotations

from dataclasses import dataclass

from remind.curation.build_report import Dropped, Quarantined
from remind.curation.item import SourceItem
from remind.curation.ledger import Result
from remind.data.store_format import ClipFacts


@dataclass(frozen=True)
class Task:
    """One item and what is known of it; `number` is its place in the source."""

    number: int
    item: SourceItem
    known: tuple[Result, ...] = ()


@dataclass(frozen=True)
class PackedClip:
    """A finished clip: the digest of each of its files, and its row in the index."""

    clip_id: str
    members: dict[str, str]
    facts: ClipFacts


@dataclass(frozen=True)
class Outcome:
    """What became of an item.

    Args:
        sha256: empty where its content could not be had.
        blobs: digests of all that it points at.
        duplicate_of: the earlier item that has the same content, for whose sake nothing was done; else empty.
        listed: lines of the takedown list that asked for it or for some of its windows.
    """

    number: int
    item_id: str
    sha256: str
    results: tuple[Result, ...]
    clips: tuple[PackedClip, ...]
    dropped: tuple[Dropped, ...]
    failed: tuple[Quarantined, ...]
    blobs: tuple[str, ...] = ()
    duplicate_of: str = ""
    listed: tuple[str, ...] = ()

    @property
    def taken_down(self) -> bool:
        """Whether all of it is on the takedown list, and not only some windows."""
        return any(d.stage == "takedown" and d.item == self.item_id for d in self.dropped)
