"""Writing a clip store: clips become bytes in any process, one writer packs them. Layout: `store_format`."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import tarfile
import tempfile
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from remind.data.clip_members import encode_members
from remind.data.memory_clip import MemoryClip
from remind.data.store_format import (
    CLIP_ID,
    INDEX_NAME,
    MEMBER_NAMES,
    REQUIRED,
    SCHEMA,
    SHARD_FOLDER,
    SHARD_NAME,
    TAR_BLOCK,
    WORK_PREFIX,
    ClipFacts,
    members_sha256,
)
from remind.errors import StoreError

try:
    import fcntl
except ImportError:  # Windows has other locks, and does not lock folders
    fcntl = None  # type: ignore[assignment]


def _lock(folder: Path) -> int | None:
    """Hold a folder until the descriptor is closed, or the process dies, however it dies."""
    if fcntl is None:
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        raise StoreError("another process is writing this store", got=folder, fix="wait for it to end") from None
    except OSError:  # a file system without locks: as safe as without this
        os.close(descriptor)
        return None
    return descriptor


class ClipStoreWriter:
    """Pack clips; the store appears, or replaces the one before, when the `with` block ends without an error.

    Args:
        root: folder of the store; made if missing. Its parent must exist.
        shard_bytes: a new shard begins once this is passed.

    Raises:
        StoreError: a folder that cannot be written, one that another writer is writing, or a full disk.
    """

    def __init__(self, root: Path, *, shard_bytes: int = 512 * 2**20):
        self.root, self.shard_bytes = root, shard_bytes
        self._rows: list[dict[str, Any]] = []
        self._ids: set[str] = set()
        self._done: list[tuple[Path, str]] = []  # closed shards and the names they will get
        self._shard: io.BufferedWriter | None = None
        self._digest = hashlib.sha256()
        self._failure: OSError | None = None
        self._made_root = not root.exists()
        try:
            root.mkdir(exist_ok=True)
            self._lock = _lock(root)
            for left_over in root.glob(f"{WORK_PREFIX}*"):  # of a build that was killed
                shutil.rmtree(left_over, ignore_errors=True)
            self._work = Path(tempfile.mkdtemp(dir=root, prefix=WORK_PREFIX))
        except OSError as error:
            raise StoreError(
                "cannot write the store",
                got=f"{root}: {error.strerror}",
                expected="a writable folder whose parent exists",
                fix="create it or choose another",
            ) from None

    def __len__(self) -> int:
        return len(self._rows)

    def __enter__(self) -> ClipStoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._refuse_after_failure()
                self._commit()
        except OSError as failure:
            raise StoreError("cannot write the store", got=failure, fix="free some space and run again") from None
        finally:
            if self._shard is not None:
                with suppress(OSError):  # what is still buffered may have no room; it is thrown away below
                    self._shard.close()
            shutil.rmtree(self._work, ignore_errors=True)
            if kind is not None and self._made_root and not any(self.root.iterdir()):
                self.root.rmdir()
            if self._lock is not None:
                os.close(self._lock)

    def add(self, clip: MemoryClip, *, crf: int = 18) -> None:
        """Encode and append one clip; it must have a `clip_id` of its own. Raises as `add_members`."""
        self._check_id(clip.clean.clip_id)  # before the work
        self.add_members(clip.clean.clip_id, encode_members(clip, crf=crf), clip.facts)

    def add_members(self, clip_id: str, members: Mapping[str, bytes], facts: ClipFacts) -> None:
        """Append one clip that is encoded already.

        Args:
            clip_id: 1 to 80 letters, digits, - or _, not used before.
            members: its files, from `encode_members` or `ClipStore.members`.
            facts: its row in the index, from `MemoryClip.facts` or `ClipStore.facts`.

        Raises:
            StoreError: an id that is empty, odd or taken, files that are missing or unknown, or a full disk.
        """
        self._check_id(clip_id)
        self._refuse_after_failure()
        wrong = set(REQUIRED) - members.keys() | members.keys() - set(MEMBER_NAMES)
        if wrong:
            raise StoreError("a clip has other files than a store's", got=", ".join(sorted(members)),
                             expected=", ".join(MEMBER_NAMES))
        try:
            stored = [self._append(clip_id, name, members[name]) for name in MEMBER_NAMES if name in members]
        except OSError as error:
            self._failure = error
            self._refuse_after_failure()
        self._ids.add(clip_id)
        self._rows.append({
            "clip_id": clip_id,
            **facts.to_row(),
            "sha256": members_sha256(members),
            "shard": len(self._done),  # a number until the shard has its name
            "members": stored,
        })  # fmt: skip
        if self._shard is not None and self._shard.tell() >= self.shard_bytes:
            self._close_shard()

    def _check_id(self, clip_id: str) -> None:
        if not CLIP_ID.fullmatch(clip_id) or clip_id in self._ids:
            raise StoreError("a clip needs an id of its own", got=repr(clip_id),
                             expected="1 to 80 letters, digits, - or _, not used before")

    def _refuse_after_failure(self) -> None:
        """A shard with half a file in it is never committed, whoever swallowed the first error."""
        if self._failure is not None:
            raise StoreError("cannot write the store", got=self._failure.strerror or self._failure,
                             fix="free some space and run again")

    def _append(self, clip_id: str, name: str, data: bytes) -> dict[str, Any]:
        if self._shard is None:
            self._shard = (self._work / f"{len(self._done):05d}.tar").open("wb")
            self._digest = hashlib.sha256()
        info = tarfile.TarInfo(f"{clip_id}.{name}")  # no time, no owner: the same clips give the same bytes
        info.size = len(data)
        header = info.tobuf(tarfile.USTAR_FORMAT)
        offset = self._shard.tell() + len(header)
        self._write(header + data + bytes(-len(data) % TAR_BLOCK))
        return {"name": name, "offset": offset, "size": len(data), "crc32": zlib.crc32(data)}

    def _write(self, data: bytes) -> None:
        assert self._shard is not None
        self._shard.write(data)
        self._digest.update(data)

    def _close_shard(self) -> None:
        assert self._shard is not None
        self._write(bytes(2 * TAR_BLOCK))
        self._shard.flush()
        os.fsync(self._shard.fileno())
        self._shard.close()
        name = f"clips-{len(self._done):05d}-{self._digest.hexdigest()[:16]}.tar"
        self._done.append((Path(self._shard.name), name))
        self._shard = None

    def _commit(self) -> None:
        if self._shard is not None:
            self._close_shard()
        rows = [{**row, "shard": self._done[row["shard"]][1]} for row in self._rows]
        index = self._work / INDEX_NAME
        with index.open("wb") as file:
            pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), file)
            file.flush()
            os.fsync(file.fileno())
        shards = self.root / SHARD_FOLDER
        shards.mkdir(exist_ok=True)
        for path, name in self._done:
            os.replace(path, shards / name)
        os.replace(index, self.root / INDEX_NAME)  # from here on, the store is the new one
        kept = {name for _, name in self._done}
        for old in shards.iterdir():
            if SHARD_NAME.fullmatch(old.name) and old.name not in kept:
                old.unlink(missing_ok=True)
