"""Clips that someone asked to have removed: reading such a list, matching clips, removing them from a store."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from remind.data.clip_records import Provenance
from remind.data.clip_store import ClipStore
from remind.data.clip_store_writer import ClipStoreWriter
from remind.errors import InputError

_MAX_BYTES = 16 * 2**20


@dataclass(frozen=True)
class Takedown:
    """What must go: clip ids, sha256 of source files, addresses of sources, authors. One line each.

    Args:
        lines: as written, without comments and blank lines.
    """

    lines: tuple[str, ...]

    @staticmethod
    def read(path: Path) -> Takedown:
        """Read a list: one entry per line; `#` begins a comment at the line's start or after a space.

        Raises:
            InputError: no such file, or one that is not text.
        """
        try:
            with path.open("rb") as file:
                data = file.read(_MAX_BYTES + 1)
            text = data.decode("utf-8-sig")
        except OSError as error:
            raise InputError("the takedown list cannot be read", got=f"{path}: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InputError("the takedown list is not text", got=path, expected="UTF-8") from None
        if len(data) > _MAX_BYTES:
            raise InputError("the takedown list is too long", got=path, expected=f"at most {_MAX_BYTES >> 20} MiB")
        lines = (line if not line.startswith("#") else "" for line in text.splitlines())
        entries = (line.split(" #", 1)[0].strip() for line in lines)
        return Takedown(tuple(dict.fromkeys(entry for entry in entries if entry)))

    def matches(self, clip_id: str, provenance: Provenance) -> tuple[str, ...]:
        """The lines that ask for a clip; none if it may stay.

        Ids are compared exactly, hashes and authors without regard to case, addresses without scheme, `www.` and a
        slash at the end.
        """
        keys = {("clip", clip_id), ("sha256", provenance.sha256), ("url", _plain_url(provenance.url)),
                ("author", _plain_name(provenance.author))}  # fmt: skip
        return tuple(line for line in self.lines if keys & _readings(line))

    def unmatched(self, matched: Iterable[str]) -> tuple[str, ...]:
        """Lines that asked for nothing that was there: said aloud, since each may be a spelling mistake."""
        found = set(matched)
        return tuple(line for line in self.lines if line not in found)


@dataclass(frozen=True)
class TakedownReport:
    """Clips that were removed, and lines that matched none."""

    removed: tuple[str, ...]
    unmatched: tuple[str, ...]


def take_down(root: Path, takedown: Takedown) -> TakedownReport:
    """Remove clips from a store; the others stay bit for bit. The store is the old one or the new one at any moment.

    Latents of removed clips stay in caches until these are built again, and copies elsewhere stay altogether.

    Args:
        root: of the store. Left untouched where nothing matches.

    Raises:
        StoreError: no store, a damaged clip among those that stay, or a full disk.
    """
    store = ClipStore.open(root)
    matched: set[str] = set()
    removed: list[str] = []
    kept: list[int] = []
    for index, clip_id in enumerate(store.clip_ids):
        lines = takedown.matches(clip_id, store.records(index).provenance)
        matched.update(lines)
        if lines:
            removed.append(clip_id)
        else:
            kept.append(index)
    if removed:
        with ClipStoreWriter(root) as writer:
            for index in kept:
                writer.add_members(store.clip_ids[index], store.members(index), store.facts(index))
    return TakedownReport(tuple(removed), takedown.unmatched(matched))


def _readings(line: str) -> set[tuple[str, str]]:
    """What a line may stand for; never for what is empty in a clip."""
    readings = {("clip", line), ("sha256", line.casefold()), ("url", _plain_url(line)), ("author", _plain_name(line))}
    return {(kind, text) for kind, text in readings if text}


def _plain_name(name: str) -> str:
    return " ".join(name.casefold().split())


def _plain_url(url: str) -> str:
    """Host and the rest of an address, or nothing for what is none; paths keep their case."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return ""
    if parts.scheme not in ("http", "https") or not parts.netloc:
        return ""
    query = f"?{parts.query}" if parts.query else ""
    return f"//{parts.netloc.casefold().removeprefix('www.')}{parts.path.rstrip('/')}{query}"
