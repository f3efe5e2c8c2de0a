"""Bytes under the name of their hash: what workers hand to the one process that packs, through a file system."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from remind.errors import StoreError
from remind.whole_file import whole_file

Place = tuple[str, int, int]
"""Shard file, offset, size."""


@dataclass(frozen=True)
class Blobs:
    """Write once, read by hash. Bytes that a store has packed already are read from its shards.

    Args:
        folder: of loose blobs; shared by all workers.
        shards: folder of the store's shards.
        packed: what lies in them.
    """

    folder: Path
    shards: Path
    packed: Mapping[str, Place] = field(default_factory=dict)

    def put(self, data: bytes) -> str:
        """Keep bytes; their sha256.

        Raises:
            StoreError: a full disk.
        """
        digest = hashlib.sha256(data).hexdigest()
        if self.has(digest):
            return digest
        try:
            with whole_file(self._path(digest), synced=False) as file:  # `get` holds it against its hash
                file.write_bytes(data)
        except OSError as error:
            raise StoreError("cannot write the store", got=error.strerror,
                             fix="free some space and run again") from None
        return digest

    def has(self, digest: str) -> bool:
        return digest in self.packed or self._path(digest).is_file()

    def get(self, digest: str) -> bytes:
        """Raises StoreError where the bytes are gone or were changed."""
        try:
            if digest in self.packed:
                shard, offset, size = self.packed[digest]
                with (self.shards / shard).open("rb") as file:
                    file.seek(offset)
                    data = file.read(size)
            else:
                data = self._path(digest).read_bytes()
        except OSError as error:
            raise StoreError("a part of the store is gone", got=f"{digest[:12]}: {error.strerror}",
                             fix="delete the store's .work folder and build again") from None
        if hashlib.sha256(data).hexdigest() != digest:
            raise StoreError("a part of the store was changed", got=digest[:12],
                             fix="delete the store's .work folder and build again")
        return data

    def prune(self, used: Collection[str], packed: Collection[str]) -> None:
        """Delete loose blobs that nothing points at or that the store holds now."""
        for path in self.folder.glob("*/*"):
            if path.name not in used or path.name in packed:
                path.unlink(missing_ok=True)
        for folder in self.folder.glob("*"):
            with suppress(OSError):  # not empty
                folder.rmdir()
        with suppress(OSError):
            self.folder.rmdir()

    def _path(self, digest: str) -> Path:
        return self.folder / digest[:2] / digest
