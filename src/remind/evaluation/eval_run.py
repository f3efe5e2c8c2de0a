"""The folder of an evaluation: one record per example, so that it resumes, and every number leads to its video.

    RUN/run.json              what was measured: suite, version, test set, model or videos, options
    RUN/examples/ID.json      one example: its video and hash, prompt, seed, scores or why there are none
    RUN/videos/ID.mp4         what was generated for it
    RUN/scores.json           the summary, written when all examples are there

A record has a `status`: `scored`, or `failed` with a reason. What failed is counted by reason; it is never a zero.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from remind.errors import InputError
from remind.whole_file import whole_file

FORMAT = "remind-evaluation-1"
Status = Literal["scored", "failed"]
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._=+-]{0,199}")
_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class Record:
    """One example.

    Args:
        id: within the test set; also a file name.
        status: whether there are scores.
        scores: by name; None where a measure does not apply.
        about: what leads to the video: path, sha256, prompt, seed, and what else a reader needs.
        reason: why there are none, one line; of few kinds, since they are counted.
    """

    id: str
    status: Status
    scores: Mapping[str, Any]
    about: Mapping[str, Any]
    reason: str = ""


class EvalRun:
    """An evaluation's folder, new or half done.

    Args:
        folder: made if missing.
        identity: what decides the numbers (JSON values): suite, version, test set and its hash, checkpoint and its
            hash, or the folder of videos, and all options. A folder of another identity is refused.
        ids: of all examples, each once.

    Raises:
        InputError: a folder that cannot be written, that holds another evaluation or something else, or ids that are
            no file names.
    """

    def __init__(self, folder: Path, identity: Mapping[str, Any], ids: Sequence[str]):
        strange = [name for name in ids if not _ID.fullmatch(name)]
        if strange or len(set(ids)) < len(ids) or not ids:
            raise InputError("examples need names of their own that can be file names",
                             got=strange[:3] or ("none" if not ids else "one twice"))  # fmt: skip
        self.folder, self.ids = folder, tuple(ids)
        self.identity: dict[str, Any] = json.loads(json.dumps({"format": FORMAT, **identity}))
        known = folder / "run.json"
        if known.exists():
            there = read_json(known)
            keys = self.identity.keys() | there.keys()
            other = sorted(key for key in keys if self.identity.get(key) != there.get(key))
            if other:
                raise InputError("the folder holds another evaluation", got=f"{folder}: other values of {other}",
                                 fix="choose another --out, or the options that it was begun with")  # fmt: skip
        elif folder.is_dir() and any(folder.iterdir()):
            raise InputError("the folder holds something else", got=folder, fix="choose another --out")
        else:
            write_json(known, self.identity)

    def video(self, example: str) -> Path:
        """Where a generated video goes."""
        return self.folder / "videos" / f"{example}.mp4"

    def write(self, record: Record) -> None:
        """Keep a record; whole or not at all.

        Raises:
            InputError: no example of this run, or a place that cannot be written.
        """
        if record.id not in self.ids:
            raise InputError("no such example in this evaluation", got=record.id)
        write_json(self._path(record.id), {"status": record.status, "reason": record.reason, "scores": record.scores,
                                           "about": record.about})  # fmt: skip

    def records(self) -> dict[str, Record]:
        """Those that are there, in the order of `ids`; damaged ones count as missing."""
        found: dict[str, Record] = {}
        for name in self.ids:
            try:
                data = read_json(self._path(name))
                found[name] = Record(name, data["status"], data["scores"], data["about"], data["reason"])
            except (InputError, KeyError):
                continue
        return found

    def todo(self, *, retry_failed: bool = False) -> list[str]:
        """Examples without a record; with `retry_failed` also those that failed."""
        there = self.records()
        return [name for name in self.ids if name not in there or (retry_failed and there[name].status == "failed")]

    def finish(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Write `scores.json`: identity, counts, and the summary of what was scored.

        Raises:
            InputError: examples are missing, or it cannot be written.
        """
        there = self.records()
        missing = [name for name in self.ids if name not in there]
        if missing:
            raise InputError("the evaluation is not done", got=f"{len(missing)} of {len(self.ids)} examples missing",
                             fix="run it again: it goes on where it stopped")  # fmt: skip
        whole = {"identity": self.identity, "counts": counts(there.values()), "summary": summary}
        write_json(self.folder / "scores.json", whole)
        return whole

    def _path(self, example: str) -> Path:
        return self.folder / "examples" / f"{example}.json"


def open_run(folder: Path) -> tuple[dict[str, Any], dict[str, Record]]:
    """Identity and records of a run on disk, for those who compare runs.

    Raises:
        InputError: no such run, or a damaged one.
    """
    identity = read_json(folder / "run.json")
    if identity.get("format") != FORMAT:
        raise InputError("this is no evaluation", got=folder, expected="a folder that `remind eval` wrote")
    names = sorted(path.stem for path in (folder / "examples").glob("*.json") if not path.name.startswith("."))
    if not names:
        raise InputError("the evaluation holds no examples", got=folder, fix="run it again to its end")
    run = EvalRun(folder, {key: value for key, value in identity.items() if key != "format"}, names)
    return identity, run.records()


def counts(records: Iterable[Record]) -> dict[str, Any]:
    """How many were scored, and how many failed, by reason."""
    kept = list(records)
    failed = Counter(record.reason for record in kept if record.status == "failed")
    return {"examples": len(kept), "scored": sum(record.status == "scored" for record in kept),
            "failed": sum(failed.values()), "reasons": dict(failed.most_common())}  # fmt: skip


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """A JSON file, whole or not at all.

    Raises:
        InputError: it cannot be written, or holds NaN.
    """
    try:
        text = json.dumps(value, indent=1, allow_nan=False)
    except ValueError as error:
        raise InputError("a score is no number", got=f"{path.name}: {error}",
                         expected="None where there is none") from None  # fmt: skip
    try:
        with whole_file(path) as partial:
            partial.write_text(text + "\n")
    except OSError as error:
        raise InputError("the evaluation cannot be written", got=f"{path}: {error.strerror}",
                         fix="make room, or choose another --out; run it again to go on") from None  # fmt: skip


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file that anyone may have written.

    Raises:
        InputError: missing, too large, damaged, or no object.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        value = json.loads(data) if len(data) <= _MAX_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("the file cannot be read", got=f"{path}: {str(error)[:200]}") from None
    if not isinstance(value, dict):
        raise InputError("the file does not hold what it should", got=path, expected="a JSON object")
    return value
