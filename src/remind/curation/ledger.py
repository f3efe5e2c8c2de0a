"""What has been done already: results of stages by key, in SQLite, written by one process and safe to kill.

Source: our choice. A result's key hashes its stage, the stage's code version, the options it depends on and its inputs;
so a rerun finds what is still true, and a changed option or file redoes only what it touches.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from remind.errors import StoreError

WORK = ".work"  # of a store: what only the next build reads
LEDGER = f"{WORK}/ledger.sqlite"
LEDGER_VERSION = 1
Status = Literal["ok", "failed"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS result (
    stage TEXT NOT NULL, key TEXT NOT NULL, item TEXT NOT NULL, unit TEXT NOT NULL, status TEXT NOT NULL,
    payload TEXT NOT NULL, seconds REAL NOT NULL, run INTEGER NOT NULL, PRIMARY KEY (stage, key));
CREATE INDEX IF NOT EXISTS result_by_item ON result (item);
CREATE TABLE IF NOT EXISTS packed (digest TEXT PRIMARY KEY, shard TEXT NOT NULL, offset INTEGER NOT NULL,
    size INTEGER NOT NULL);
CREATE TABLE IF NOT EXISTS store (content TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Result:
    """What a stage gave for one unit of work.

    Args:
        stage: its name.
        key: see `result_key`.
        item: id of the source item.
        unit: the item itself, or a window of it as `item#12.34s`: for people.
        status: `failed` results are not tried again until asked to.
        payload: JSON of what came out, or of the error.
        seconds: it took.
    """

    stage: str
    key: str
    item: str
    unit: str
    status: Status
    payload: Any
    seconds: float = 0.0


def result_key(stage: str, version: int, options: dict[str, Any], inputs: Any) -> str:
    """Hash of everything that decides a result."""
    said = json.dumps([stage, version, options, inputs], sort_keys=True, default=str)
    return hashlib.sha256(said.encode()).hexdigest()[:32]


class Ledger:
    """The results of a build; open one with `Ledger.open`."""

    def __init__(self, connection: sqlite3.Connection, run: int):
        self._db, self.run = connection, run

    @classmethod
    @contextmanager
    def open(cls, path: Path) -> Iterator[Ledger]:
        """Open or make a ledger for writing; nobody else may while it is open.

        Raises:
            StoreError: another process has it, or it is damaged or of another version.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.with_suffix(".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise StoreError("another build is working on this store", got=path.parent,
                                 fix="wait for it, or stop it") from None
            db = _connect(path)
            try:
                (last,) = db.execute("SELECT COALESCE(MAX(run), 0) FROM result").fetchone()
                yield cls(db, int(last) + 1)
            finally:
                db.close()

    @classmethod
    @contextmanager
    def read(cls, path: Path) -> Iterator[Ledger]:
        """Open an existing ledger to look into it, while a build may be writing.

        Raises:
            StoreError: there is none, or it is damaged or of another version.
        """
        if not path.is_file():
            raise StoreError("there is no ledger", got=path, expected="a store that `remind data build` made",
                             fix="build it first")
        db = _connect(path)
        try:
            yield cls(db, 0)
        finally:
            db.close()

    def of_item(self, item: str) -> list[Result]:
        """All results of an item, oldest first; those of earlier options too."""
        rows = self._db.execute("SELECT stage, key, item, unit, status, payload, seconds FROM result WHERE item = ? "
                                "ORDER BY run, rowid", (item,))  # fmt: skip
        return [_result(row) for row in rows]

    def items(self) -> list[str]:
        return [row[0] for row in self._db.execute("SELECT DISTINCT item FROM result ORDER BY item")]

    def failed(self) -> list[Result]:
        rows = self._db.execute("SELECT stage, key, item, unit, status, payload, seconds FROM result "
                                "WHERE status = 'failed' ORDER BY item, unit")  # fmt: skip
        return [_result(row) for row in rows]

    def add(self, results: Iterable[Result]) -> None:
        """Write results, all or none of them.

        Raises:
            StoreError: a full disk.
        """
        rows = [(r.stage, r.key, r.item, r.unit, r.status, json.dumps(r.payload), r.seconds, self.run) for r in results]
        try:
            with self._db:
                self._db.executemany("INSERT OR REPLACE INTO result VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
        except sqlite3.OperationalError as error:
            raise StoreError("the ledger cannot be written", got=error, fix="free some space and run again") from None

    def forget_failures(self) -> int:
        """Let everything that failed be tried again; how much that is."""
        with self._db:
            return self._db.execute("DELETE FROM result WHERE status = 'failed'").rowcount

    def packed(self) -> dict[str, tuple[str, int, int]]:
        """Where in the store's shards the bytes of a digest lie: shard, offset, size."""
        rows = self._db.execute("SELECT digest, shard, offset, size FROM packed")
        return {digest: (shard, offset, size) for digest, shard, offset, size in rows}

    def content(self) -> str:
        """Hash of the clips that were packed last; empty if none were."""
        row = self._db.execute("SELECT content FROM store").fetchone()
        return "" if row is None else str(row[0])

    def set_packed(self, content: str, places: dict[str, tuple[str, int, int]]) -> None:
        """After packing: what the store holds now."""
        with self._db:
            self._db.execute("DELETE FROM store")
            self._db.execute("INSERT INTO store VALUES (?)", (content,))
            self._db.execute("DELETE FROM packed")
            self._db.executemany("INSERT INTO packed VALUES (?, ?, ?, ?)",
                                 [(digest, *place) for digest, place in places.items()])  # fmt: skip


def _result(row: tuple[Any, ...]) -> Result:
    stage, key, item, unit, status, payload, seconds = row
    return Result(stage, key, item, unit, status, json.loads(payload), seconds)


def _connect(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=30)
    try:
        (version,) = db.execute("PRAGMA user_version").fetchone()
        if version not in (0, LEDGER_VERSION):
            raise StoreError("the ledger is of another version", got=version, expected=LEDGER_VERSION,
                             fix=f"delete {path} to start over")
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version = {LEDGER_VERSION}")
    except sqlite3.OperationalError as error:
        db.close()
        raise StoreError("the ledger cannot be written", got=f"{path}: {error}",
                         fix="free some space, or wait for whoever uses it") from None
    except sqlite3.DatabaseError as error:
        db.close()
        raise StoreError("the ledger is damaged", got=f"{path}: {error}",
                         fix="delete it; the next build starts over") from None
    except StoreError:
        db.close()
        raise
    return db
