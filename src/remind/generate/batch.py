"""Many videos from one file of requests: one JSON object a line, with the options of the command line.

    {"id": "fern_00", "image": "frames/fern.png", "prompt": "a fern grows", "camera": "right-20, left-20", "seed": 1}

`id` names the item and must be its own; `out` is where its video goes, relative to the output folder, `ID.mp4` unless
said. Paths are relative to the file's folder and may not lead out of it, links included.

What is done is known by its manifest, so a batch that was stopped anywhere goes on when it is started again, and a
request that changed, or whose files did, is made again. A request that fails is written to failed.jsonl with its reason
and does not stop the others.
"""

from __future__ import annotations

import difflib
import json
import math
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from remind.errors import InputError
from remind.generate.inputs import file_sha256
from remind.generate.manifest import Manifest
from remind.generate.manifest_files import canonical_sha256, resolve_inside

MAX_ITEMS = 1_000_000
_MAX_LINE_BYTES = 2**20
_MAX_TEXT = 20_000
_MAX_VALUES = 1000
ALWAYS_FILES = ("image", "video", "reference")
PERHAPS_FILES = ("camera", "schedule")
"""Options that hold a path if they end like one; otherwise they are what they say."""
_SUFFIXES = (".json", ".yaml", ".yml", ".txt", ".npy", ".npz")


@dataclass(frozen=True)
class BatchItem:
    """One video to make.

    Args:
        line: in the batch file, from 1.
        out: where the video goes, absolute; its manifest is OUT.json.
        options: by their names on the command line, `_` for `-`; paths are absolute.
        files: those of them that are files, absolute.
        sha256: of all that was asked, the files' bytes included; `Manifest.item_sha256` of what comes out. Set by
            `run_batch`.
    """

    line: int
    id: str
    out: Path
    options: Mapping[str, Any]
    files: tuple[Path, ...] = ()
    sha256: str = ""

    @property
    def manifest(self) -> Path:
        return self.out.with_name(f"{self.out.name}.json")


def read_batch(path: Path, out_dir: Path, *, allowed: Collection[str], allow: Iterable[Path] = ()) -> list[BatchItem]:
    """All requests of a file, before anything is made: a slip in the last line shows now, not after a night.

    Args:
        out_dir: which no video may leave.
        allowed: names of the options that a line may have, `_` for `-`.
        allow: folders that inputs may lie in besides the file's own.

    Raises:
        InputError: no such file, no line, or lines that cannot be run, the first of which are named.
    """
    roots, wrong, items = tuple(allow), list[str](), list[BatchItem]()
    seen: dict[tuple[str, str], int] = {}
    for number, data in _lines(path):
        try:
            item = _item(number, data, path.parent, out_dir, allowed, roots)
            for what, key in (("id", item.id), ("out", str(item.out))):
                first = seen.setdefault((what, key), number)
                if first != number:
                    raise InputError(f"the {what} of line {first} again", got=repr(key)[:100])
            items.append(item)
        except InputError as error:
            wrong.append(f"line {number}: {error}")
    if wrong:
        more = f"; and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise InputError(f"{path.name}: {len(wrong)} of {len(wrong) + len(items)} requests cannot be run",
                         got="; ".join(wrong[:3]) + more, fix="mend these lines; nothing was made yet")  # fmt: skip
    if not items:
        raise InputError(f"{path.name}: no request in it", expected="a JSON object in each line")
    return items


def share_of(items: Sequence[BatchItem], rank: int, world_size: int) -> list[BatchItem]:
    """What one of several processes makes: every world_size-th item, so that long and short ones spread.

    Raises:
        InputError: no such rank.
    """
    if not 0 <= rank < world_size:
        raise InputError("no such rank", got=f"rank {rank} of {world_size}", expected="0 <= RANK < WORLD_SIZE")
    return list(items[rank::world_size])


def with_sha256(item: BatchItem, context: str) -> BatchItem:
    """The item with the hash of all that was asked; a file that is missing counts as such.

    Args:
        context: what the whole batch shares and its lines do not say, e.g. the hash of the weights.
    """
    files = [file_sha256(path) if path.is_file() else "missing" for path in item.files]
    names = {str(path): digest for path, digest in zip(item.files, files, strict=True)}

    def by_content(value: Any) -> Any:
        if isinstance(value, list):
            return [by_content(one) for one in value]
        return names.get(value, value) if isinstance(value, str) else value

    asked = {name: by_content(value) for name, value in item.options.items()}
    return replace(item, sha256=canonical_sha256([context, asked]))


def is_done(item: BatchItem) -> bool:
    """Whether the video is there, whole, and was made from the same request."""
    try:
        manifest = Manifest.read(item.manifest, allow=[Path(item.out.anchor)])  # its inputs are not opened
        return (manifest.item_sha256 == item.sha256 and manifest.output.path == item.out.name
                and file_sha256(item.out) == manifest.output.sha256)  # fmt: skip
    except InputError:
        return False


def clear_leftovers(item: BatchItem) -> None:
    """Remove what killed processes left of this item: partial files of processes that are not there any more."""
    if not item.out.parent.is_dir():
        return
    for entry in item.out.parent.iterdir():
        name = entry.name
        if not (name.startswith(f".{item.out.name}.") and name.endswith(".partial")):
            continue
        pid = next((word for word in reversed(name.split(".")) if word.isdecimal()), "")
        if pid and not _is_alive(int(pid)):
            shutil.rmtree(entry, ignore_errors=True) if entry.is_dir() else entry.unlink(missing_ok=True)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines with something on them, numbered from 1."""
    try:
        with path.open("rb") as file:
            number = count = 0
            while line := file.readline(_MAX_LINE_BYTES + 1):
                number += 1
                if len(line) > _MAX_LINE_BYTES:
                    raise InputError(f"{path.name}: line {number} is too long", got=f"over {_MAX_LINE_BYTES} bytes",
                                     expected="one request a line")  # fmt: skip
                if line.strip():
                    count += 1
                    if count > MAX_ITEMS:
                        raise InputError(f"{path.name}: too many requests", got=f"more than {MAX_ITEMS}",
                                         expected=f"at most {MAX_ITEMS}", fix="split the file")  # fmt: skip
                    yield number, line
    except OSError as error:
        raise InputError("the batch cannot be read", got=f"{path}: {error.strerror}", fix="check the path") from None


def _item(
    line: int, data: bytes, folder: Path, out_dir: Path, allowed: Collection[str], allow: tuple[Path, ...]
) -> BatchItem:
    try:
        found = json.loads(data, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise InputError("not JSON", got=str(error)[:80]) from None
    if not isinstance(found, dict):
        raise InputError("not an object", got=type(found).__name__, expected='{"id": ..., ...}')
    item_id = found.pop("id", None)
    if not isinstance(item_id, str) or not item_id.strip() or len(item_id) > 200:
        raise InputError("no id", got=repr(item_id)[:80], expected="1 to 200 characters")
    out = found.pop("out", f"{item_id}.mp4")
    if not isinstance(out, str) or not out.lower().endswith(".mp4"):
        raise InputError("out is no name of a video", got=repr(out)[:80], expected="a name that ends in .mp4")
    target = resolve_inside(out_dir, out)
    options, files = dict[str, Any](), list[Path]()
    for said, value in found.items():
        name = said.replace("-", "_")
        if name not in allowed:
            near = difflib.get_close_matches(name, allowed, 1)
            raise InputError("no such option", got=repr(said)[:80], expected=near[0] if near else sorted(allowed))
        if name in options:
            raise InputError("an option twice", got=name)
        options[name] = _checked(name, value)
        if name in ALWAYS_FILES or name in PERHAPS_FILES:
            many = value if isinstance(value, list) else [value]
            is_path = [_is_path(name, one) for one in many]
            paths = [str(resolve_inside(folder, one, allow=allow)) if path else one
                     for one, path in zip(many, is_path, strict=True)]  # fmt: skip
            files += [Path(one) for one, path in zip(paths, is_path, strict=True) if path]
            options[name] = paths if isinstance(value, list) else paths[0]
    return BatchItem(line, item_id, target, options, tuple(files))


def _is_path(name: str, value: object) -> bool:
    if not isinstance(value, str):
        return False
    return name in ALWAYS_FILES or value.lower().endswith(_SUFFIXES) or "/" in value


def _checked(name: str, value: Any) -> Any:
    """The value, if it is one that an option can have."""
    plain = value is None or isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value))
    if plain or (isinstance(value, str) and len(value) <= _MAX_TEXT):
        return value
    if isinstance(value, list | dict) and len(value) <= _MAX_VALUES:
        inner = list(value.values()) if isinstance(value, dict) else value
        if not any(isinstance(one, list | dict) for one in inner):
            for one in inner:
                _checked(name, one)
            return value
    raise InputError(f"{name}: no value of an option", got=repr(value)[:80],
                     expected=f"a number, a truth, up to {_MAX_TEXT} characters, or a list of such")  # fmt: skip


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")
