"""Clips that someone asked to have removed: reading such a list, matching clips, removing them from a store.

A store remembers in `takedown.txt` what it must not hold, so that no later build brings it back. That file has hashes
alone: who asked for their videos to be removed does not want to be named beside them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import urlsplit

from remind.data.clip_records import Provenance
from remind.data.clip_store import ClipStore
from remind.data.clip_store_writer import ClipStoreWriter
from remind.errors import InputError, StoreError
from remind.whole_file import whole_file

TAKEDOWN_NAME = "takedown.txt"
_MAX_BYTES = 16 * 2**20
_HASHED = re.compile(r"~[0-9a-f]{64}")


@dataclass(frozen=True)
class Takedown:
    """What must go: ids of clips or items, sha256 of source files, addresses of sources, authors. One line each.

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

    @staticmethod
    def of_store(root: Path) -> Takedown:
        """What a store never takes in again; nothing where it has no such list.

        Raises:
            InputError: a list that cannot be read: to go on without it would break a promise.
        """
        path = root / TAKEDOWN_NAME
        return Takedown.read(path) if path.is_file() else Takedown(())

    def __add__(self, other: Takedown) -> Takedown:
        return Takedown(tuple(dict.fromkeys((*self.lines, *other.lines))))

    def matches(self, clip_id: str, provenance: Provenance) -> tuple[str, ...]:
        """The lines that ask for a clip; none if it may stay. A clip that was rendered from another goes with it."""
        source_clip = provenance.facts.get("source_clip", "")
        lines = self.lines_about(clip_id=clip_id, item_id=provenance.item_id, sha256=provenance.sha256,
                                 url=provenance.url, author=provenance.author)  # fmt: skip
        more = self.lines_about(clip_id=source_clip) if isinstance(source_clip, str) else ()
        return tuple(dict.fromkeys((*lines, *more)))

    def lines_about(
        self, *, clip_id: str = "", item_id: str = "", sha256: str = "", url: str = "", author: str = ""
    ) -> tuple[str, ...]:
        """The lines that ask for anything that has one of these names, in the list's order.

        Ids are compared exactly, hashes and authors without regard to case, addresses without scheme, `www.` and a
        slash at the end. What is empty is asked for by nobody.
        """
        keys = {("id", clip_id), ("id", item_id), ("sha256", sha256.casefold()), ("url", _plain_url(url)),
                ("author", _plain_name(author))}  # fmt: skip
        names = {key for key in keys if key[1]} if self.lines else set()
        names |= {("hash", _hashed(key)) for key in names}
        found = {number for name in names for number in self._numbers.get(name, ())}
        return tuple(self.lines[number] for number in sorted(found))

    def unmatched(self, matched: Iterable[str]) -> tuple[str, ...]:
        """Lines that asked for nothing that was there: said aloud, since each may be a spelling mistake."""
        found = set(matched)
        return tuple(line for line in self.lines if line not in found)

    @cached_property
    def _numbers(self) -> dict[tuple[str, str], list[int]]:
        """Lines by all that they may stand for."""
        numbers: dict[tuple[str, str], list[int]] = {}
        for number, line in enumerate(self.lines):
            for reading in _readings(line):
                numbers.setdefault(reading, []).append(number)
        return numbers


@dataclass(frozen=True)
class TakedownReport:
    """Clips that were removed, and lines that matched none."""

    removed: tuple[str, ...]
    unmatched: tuple[str, ...]


def take_down(root: Path, takedown: Takedown) -> TakedownReport:
    """Remove clips from a store; the others stay bit for bit. The store is the old one or the new one at any moment.

    What the lines that matched name is remembered in the store, with the contents of videos that went altogether: later
    builds leave it out, under other names too. Latents of removed clips stay in caches until these are built again, and
    copies elsewhere stay altogether.

    Args:
        root: of the store. Left untouched where nothing matches.

    Raises:
        StoreError: no store, a damaged clip among those that stay, or a full disk.
    """
    store = ClipStore.open(root)
    matched: set[str] = set()
    contents: set[str] = set()
    removed: list[str] = []
    kept: list[int] = []
    for index, clip_id in enumerate(store.clip_ids):
        provenance = store.records(index).provenance
        lines = takedown.matches(clip_id, provenance)
        matched.update(lines)
        if lines:
            removed.append(clip_id)
            if set(lines) - {clip_id, provenance.facts.get("source_clip")}:  # more than this clip of the video
                contents.add(provenance.sha256)
        else:
            kept.append(index)
    if removed:
        with ClipStoreWriter(root) as writer:
            for index in kept:
                writer.add_members(store.clip_ids[index], store.members(index), store.facts(index))
        asked = (line for line in takedown.lines if line in matched)
        keep_list(root, Takedown((*asked, *sorted(contents))))
    return TakedownReport(tuple(removed), takedown.unmatched(matched))


def keep_list(root: Path, takedown: Takedown) -> Takedown:
    """Add lines to a store's own list, as hashes; returns all of it.

    Raises:
        StoreError: a full disk.
    """
    known = Takedown.of_store(root)
    hashed = [line if _HASHED.fullmatch(line) else _hashed(reading)
              for line in takedown.lines for reading in sorted(_readings(line))]  # fmt: skip
    whole = known + Takedown(tuple(dict.fromkeys(hashed)))
    if whole != known:
        try:
            with whole_file(root / TAKEDOWN_NAME) as file:
                file.write_text("".join(f"{line}\n" for line in whole.lines))
        except OSError as error:
            raise StoreError("the takedown list cannot be written", got=error.strerror,
                             fix="free some space") from None  # fmt: skip
    return whole


def _readings(line: str) -> set[tuple[str, str]]:
    """What a line may stand for; never for what is empty in a clip."""
    if _HASHED.fullmatch(line):
        return {("hash", line)}
    readings = {("id", line), ("sha256", line.casefold()), ("url", _plain_url(line)), ("author", _plain_name(line))}
    return {(kind, text) for kind, text in readings if text}


def _hashed(reading: tuple[str, str]) -> str:
    return "~" + hashlib.sha256("\n".join(reading).encode()).hexdigest()


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
