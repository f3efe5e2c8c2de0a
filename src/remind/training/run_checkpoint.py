"""Checkpoints of a run, for going on with it: weights, their average, optimisers, a few numbers.

    RUN/checkpoints/step-00000200/     appears whole, by one rename
        __0_0.distcp, __1_0.distcp     the tensors of each rank, as torch's distributed checkpoint (DCP) writes them
        state.json                     the numbers; where each tensor lies; size and hash of each file
        .metadata                      DCP's own table, for its tools; never read here
    RUN/checkpoints/best.json          step and score of the best validation

A checkpoint can be read by any number of ranks. Files may come from anywhere: DCP's table is a pickle, which could run
code, so the same facts are kept as JSON, and what they name must lie in the folder; the tensors themselves are read by
`torch.load(weights_only=True)`. What is damaged is named, and the checkpoint before it offered.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader, FileSystemWriter
from torch.distributed.checkpoint.metadata import (
    ChunkStorageMetadata,
    Metadata,
    MetadataIndex,
    TensorProperties,
    TensorStorageMetadata,
)

from remind.errors import CheckpointError, RemindError
from remind.models.checkpoint import check_fit
from remind.training.config import TrainConfig
from remind.training.distributed import Ranks, is_collective_failure, rank_lost
from remind.whole_file import whole_file

T = TypeVar("T")

FORMAT = "remind-run-1"
FOLDER = "checkpoints"
_NAME = re.compile(r"step-(\d{8})")
_DATA_FILE = re.compile(r"__\d+_\d+\.distcp")


@dataclass(frozen=True)
class RunState:
    """What a run needs beside tensors to go on.

    Args:
        step: finished steps.
        next_index: first global index of the mixture that has not been trained on.
        max_distance: largest temporal distance attended so far, latent frames.
        seconds: of steps so far.
        tokens: seen so far.
        threads, world_size: of the session that wrote it; with other numbers sums are rounded otherwise.
        config: what the run computes, as JSON.
        data: hash of what it reads.
        skipped: clips that its data leave out.
        base: digest of the weights that it keeps frozen, which are in no checkpoint; empty where there are none.
    """

    step: int
    next_index: int
    max_distance: int
    seconds: float
    tokens: int
    threads: int
    world_size: int
    config: dict[str, Any]
    data: str = ""
    skipped: tuple[str, ...] = ()
    base: str = ""


@dataclass(frozen=True)
class Stored:
    """Where a piece of a tensor lies: what DCP's reader asks of a `_StorageInfo`."""

    relative_path: str
    offset: int
    length: int
    transform_descriptors: None = None


def plain(config: TrainConfig) -> dict[str, Any]:
    """A config as plain JSON values."""
    values: dict[str, Any] = json.loads(json.dumps(config.to_json(), default=str))
    return values


def decisive(config: TrainConfig) -> dict[str, Any]:
    """What decides a run's result, as plain JSON values.

    That is all but how it is carried out, what is looked at meanwhile, and where its data lie (they have a hash).
    """
    aside = ("execution", "validation", "data", "latents")
    return {key: value for key, value in plain(config).items() if key not in aside}


def step_folder(out: Path, step: int) -> Path:
    return out / FOLDER / f"step-{step:08d}"


def steps_on_disk(out: Path) -> list[int]:
    """Steps of the checkpoints of a run, ascending."""
    folder = out / FOLDER
    names = [_NAME.fullmatch(path.name) for path in folder.iterdir()] if folder.is_dir() else []
    return sorted(int(name[1]) for name in names if name is not None)


def latest(out: Path) -> Path | None:
    """The last checkpoint of a run; None where there is none."""
    steps = steps_on_disk(out)
    return step_folder(out, steps[-1]) if steps else None


def save(out: Path, tensors: Mapping[str, Tensor], state: RunState, ranks: Ranks) -> Path:
    """Write the checkpoint of a step; all ranks call this.

    Args:
        tensors: plain or sharded (DTensor), under the same names on all ranks.

    Raises:
        CheckpointError: it cannot be written, e.g. on a full disk; earlier ones stay as they were.
    """
    final = step_folder(out, state.step)
    partial = final.with_name(f".{final.name}.partial")

    def prepare() -> None:
        if ranks.first:
            clear_leftovers(out)
            partial.mkdir(parents=True)

    def describe() -> dict[str, dict[str, Any]]:
        own = sorted(partial.glob(f"__{ranks.rank}_*.distcp"))
        return {path.name: {"bytes": path.stat().st_size, "sha256": file_hash(path)} for path in own}

    def finish() -> None:
        if not ranks.first:
            return
        content = {"format": FORMAT, "torch": torch.__version__, "state": vars(state), "files": files,
                   "tensors": _table(metadata)}  # fmt: skip
        with whole_file(partial / "state.json") as file:
            file.write_text(json.dumps(content) + "\n")
        if final.exists():  # of a session that was cut back and has come here again
            final.rename(final.with_name(f".{final.name}.removed"))
        partial.rename(final)
        _sync_folder(final.parent)
        clear_leftovers(out)

    def written(work: Callable[[], T]) -> T:
        try:
            return work()
        except (OSError, CheckpointException, RuntimeError) as error:
            if is_collective_failure(error):
                raise rank_lost(error) from None
            kept = [step for step in steps_on_disk(out) if step != state.step]
            raise CheckpointError(
                "the checkpoint could not be written", got=f"{final}: {_cause(error)}",
                fix="make room on the disk; " + (f"--resume goes on from step {kept[-1]}" if kept else
                                                 "there is no earlier checkpoint"),
            ) from None  # fmt: skip

    try:
        ranks.agree(lambda: written(prepare))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a single process, that it is one
            metadata: Metadata = written(lambda: dcp.save(
                dict(tensors), storage_writer=FileSystemWriter(partial), process_group=ranks.control,
                no_dist=ranks.control is None,
            ))  # fmt: skip
        files = {name: facts for found in ranks.agree(lambda: written(describe)) for name, facts in found.items()}
        ranks.agree(lambda: written(finish))
    except RemindError:
        if ranks.first:
            shutil.rmtree(partial, ignore_errors=True)
        raise
    return final


def load(folder: Path, tensors: Mapping[str, Tensor], ranks: Ranks) -> RunState:
    """Read a checkpoint into tensors, in place, whatever number of ranks wrote it; all ranks call this.

    Raises:
        CheckpointError: a file that is missing, damaged or hostile, or weights of another shape; all are named.
    """

    def verify() -> tuple[RunState, Metadata]:
        content = _read_state_file(folder)
        try:
            metadata = _metadata(content["tensors"])
            files = {name: (int(facts["bytes"]), str(facts["sha256"])) for name, facts in content["files"].items()}
        except (TypeError, KeyError, ValueError, AttributeError) as error:
            raise _damaged(folder / "state.json", f"{type(error).__name__}: {error}") from None
        _check_files(folder, files, metadata, ranks)
        check_fit({name: tuple(tensor.shape) for name, tensor in tensors.items()},
                  {name: tuple(entry["size"]) for name, entry in content["tensors"].items()},
                  fix="resume with the recipe and options of the run")  # fmt: skip
        return _state(folder, content), metadata

    state, metadata = ranks.agree(verify)[ranks.rank]
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dcp.load(dict(tensors), storage_reader=_Reader(folder, metadata), process_group=ranks.control,
                     no_dist=ranks.control is None)  # fmt: skip
    except (OSError, CheckpointException, RuntimeError, AssertionError, ValueError) as error:
        if is_collective_failure(error):
            raise rank_lost(error) from None
        raise _damaged(folder, _cause(error)) from None
    return state


def read_state(folder: Path) -> RunState:
    """The numbers of a checkpoint without its tensors.

    Raises:
        CheckpointError: a damaged file.
    """
    return _state(folder, _read_state_file(folder))


def retain(out: Path, keep: int) -> None:
    """Delete all checkpoints but the latest `keep` and the best one."""
    steps, best = steps_on_disk(out), read_best(out)
    for step in steps[: -max(keep, 1)]:
        if best is None or step != best[0]:
            folder = step_folder(out, step)
            gone = folder.with_name(f".{folder.name}.removed")  # one that is half deleted must not look whole
            folder.rename(gone)
            shutil.rmtree(gone)


def read_best(out: Path) -> tuple[int, float] | None:
    """Step and score of the best validation so far; None where none was written, or what was is unreadable."""
    try:
        content = json.loads((out / FOLDER / "best.json").read_text())
        return int(content["step"]), float(content["score"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_best(out: Path, step: int, score: float) -> None:
    with whole_file(out / FOLDER / "best.json") as file:
        file.write_text(json.dumps({"step": step, "score": score}) + "\n")


def clear_leftovers(out: Path) -> None:
    """Delete what a killed process left half-written or half-deleted."""
    for path in (out / FOLDER).glob(".step-*"):
        shutil.rmtree(path, ignore_errors=True)


def file_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class _Reader(FileSystemReader):
    """DCP's reader with a table that it is given instead of one that it would unpickle."""

    def __init__(self, folder: Path, metadata: Metadata):
        super().__init__(folder)
        self.given = metadata

    def read_metadata(self, *_: Any, **__: Any) -> Metadata:
        return self.given


def _table(metadata: Metadata) -> dict[str, Any]:
    """DCP's table as JSON: per tensor its type, its size, and where its pieces lie."""
    tensors: dict[str, Any] = {}
    for name, entry in metadata.state_dict_metadata.items():
        assert isinstance(entry, TensorStorageMetadata), name  # we save tensors alone
        tensors[name] = {"dtype": str(entry.properties.dtype).removeprefix("torch."), "size": list(entry.size),
                         "pieces": [[list(c.offsets), list(c.sizes)] for c in entry.chunks], "files": {}}  # fmt: skip
    for index, stored in metadata.storage_data.items():
        entry = tensors[index.fqn]
        where = [0] * len(entry["size"]) if index.offset is None else list(index.offset)
        entry["files"][json.dumps(where)] = [stored.relative_path, stored.offset, stored.length]
    return tensors


def _metadata(tensors: dict[str, Any]) -> Metadata:
    """The inverse of `_table`; raises whatever a malformed table makes Python raise."""
    entries: dict[str, Any] = {}
    storage: dict[MetadataIndex, Stored] = {}
    for name, entry in tensors.items():
        dtype = getattr(torch, entry["dtype"])
        if not isinstance(dtype, torch.dtype):
            raise ValueError(f"{name}: no type {entry['dtype']!r}")
        size = torch.Size(entry["size"])
        pieces = [ChunkStorageMetadata(torch.Size(offsets), torch.Size(sizes)) for offsets, sizes in entry["pieces"]]
        if sum(math.prod(piece.sizes) for piece in pieces) != math.prod(size):
            raise ValueError(f"{name}: pieces do not add up to {list(size)}")
        entries[name] = TensorStorageMetadata(TensorProperties(dtype=dtype), size, pieces)
        for number, piece in enumerate(pieces):
            path, offset, length = entry["files"][json.dumps(list(piece.offsets))]
            if not _DATA_FILE.fullmatch(path):
                raise ValueError(f"{name} is said to lie in {path!r}")
            storage[MetadataIndex(name, piece.offsets, number)] = Stored(path, int(offset), int(length))
    return Metadata(state_dict_metadata=entries, storage_data=storage)


def _check_files(folder: Path, files: dict[str, tuple[int, str]], metadata: Metadata, ranks: Ranks) -> None:
    """All files that tensors lie in, whole and as they were written; each rank hashes some of them."""
    needed = sorted({stored.relative_path for stored in metadata.storage_data.values()} | set(files))
    for number, name in enumerate(needed):
        path = folder / name
        if name not in files or not _DATA_FILE.fullmatch(name):
            raise _damaged(folder / "state.json", f"{name} is not listed, or no file of tensors")
        size, digest = files[name]
        if not path.is_file():
            raise _damaged(path, "it is missing")
        if path.stat().st_size != size:
            raise _damaged(path, f"{path.stat().st_size} bytes instead of {size}")
        if number % ranks.world_size == ranks.rank and file_hash(path) != digest:
            raise _damaged(path, "its content has changed")


def _read_state_file(folder: Path) -> dict[str, Any]:
    file = folder / "state.json"
    try:
        content = json.loads(file.read_text())
    except FileNotFoundError:
        raise _damaged(file, "it is missing") from None
    except (OSError, ValueError) as error:
        raise _damaged(file, str(error)) from None
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise _damaged(file, f"its format is not {FORMAT}")
    return content


def _state(folder: Path, content: dict[str, Any]) -> RunState:
    try:
        return RunState(**{**content["state"], "skipped": tuple(content["state"]["skipped"])})
    except (TypeError, KeyError) as error:
        raise _damaged(folder / "state.json", f"{type(error).__name__}: {error}") from None


def _damaged(path: Path, how: str) -> CheckpointError:
    folder = path if _NAME.fullmatch(path.name) else path.parent
    out = folder.parent.parent
    step = _NAME.fullmatch(folder.name)
    earlier = [s for s in steps_on_disk(out) if step is not None and s < int(step[1])]
    way_out = f"delete {folder} to go on from step {earlier[-1]}" if earlier else "start again in another folder"
    return CheckpointError("a file of the checkpoint is damaged", got=f"{path}: {how}", fix=way_out)


def _cause(error: BaseException) -> str:
    """One line of what went wrong, out of whatever DCP wrapped around it."""
    if isinstance(error, CheckpointException) and error.failures:
        rank, (cause, _) = next(iter(error.failures.items()))
        return f"{_cause(cause)} (rank {rank})"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    if "unexpected pos" in str(error) or "failed writing" in str(error):  # torch's words for a write that was cut short
        return "a file could not be written to its end"
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _sync_folder(folder: Path) -> None:
    """A rename is safe once its folder is on the disk."""
    try:
        handle = os.open(folder, os.O_RDONLY)
    except OSError:  # some systems cannot open folders
        return
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


