"""Checking a whole store, file by file: what is damaged, what disagrees, what nobody refers to."""

from __future__ import annotations

import hashlib
import tarfile
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, fields
from fractions import Fraction
from itertools import islice
from multiprocessing import get_context
from pathlib import Path

import pyarrow.compute as pc
import torch
from rich.console import Console, Group, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from remind.data.clip_records import printable
from remind.data.clip_store import ClipStore
from remind.data.memory_clip import MemoryClip
from remind.data.store_format import SHARD_FOLDER, WORK_PREFIX, members_sha256
from remind.data.video_io import probe
from remind.errors import RemindError
from remind.prompt_schedule import chunk_prompts

_BLOCK = 8  # clips that a process checks at a time
_SHOWN = 50  # problems in the table; all of them are in the report


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong.

    Args:
        where: id of the clip, or name of the file for what concerns no single clip.
        check: which check found it.
        what: in words.
    """

    where: str
    check: str
    what: str


@dataclass(frozen=True)
class VerifyReport:
    """What a check found.

    Args:
        store: folder.
        clips: checked.
        shards: checked.
        num_bytes: of the shards.
        problems: in order of the shards and the clips; empty = all is well.
    """

    store: str
    clips: int
    shards: int
    num_bytes: int
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        return not self.problems

    @property
    def exit_code(self) -> int:
        """0: all is well; 1: something is not."""
        return 0 if self.ok else 1

    def to_dict(self) -> dict[str, object]:
        """As plain JSON values."""
        return {**asdict(self), "ok": self.ok}

    def __rich__(self) -> RenderableType:
        size = f"{self.clips} clips, shards: {self.shards}, {self.num_bytes / 2**20:.1f} MiB"
        if self.ok:
            return Text(f"{self.store}: {size}, every check passed", style="green")
        table = Table(box=None, pad_edge=False)
        for name in ("where", "check", "problem"):
            table.add_column(name, overflow="fold")
        for problem in self.problems[:_SHOWN]:
            table.add_row(Text(printable(problem.where)), problem.check, Text(printable(problem.what)))
        more = len(self.problems) - _SHOWN
        bad = len({problem.where for problem in self.problems})
        last = f"{self.store}: {size}; {len(self.problems)} problems in {bad} clips or files"
        return Group(table, *([Text(f"and {more} more")] if more > 0 else []), Text(last, style="bold red"))


def verify(root: Path, *, workers: int = 1, console: Console | None = None) -> VerifyReport:
    """Check every file of a store.

    Shards: present, hash as in their name, table of contents as in the index, none that the index does not know.
    Clips: checksums, hash of their files, number and size of the decoded frames, frame rate, cameras (rigid, anchored,
    positive focal lengths), depth and states finite, a frame graph from the recipe, prompts as the schedule asks,
    and every fact of the index.

    Args:
        workers: processes, >= 1.
        console: shows a bar; None: silent.

    Raises:
        StoreError: no store at all, another version, or an index that cannot be trusted.
    """
    store = ClipStore.open(root)
    shards = list(dict.fromkeys(store.index["shard"].to_pylist()))
    problems = list(_check_folder(store, set(shards)))
    found: dict[int, list[Problem]] = {}
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("left"),
               TimeRemainingColumn())
    with Progress(*columns, console=console, disable=console is None) as bar:
        for shard in bar.track(shards, description="shards"):
            problems += _check_shard(store, shard)
        blocks = [range(start, min(start + _BLOCK, len(store))) for start in range(0, len(store), _BLOCK)]
        checked = _check_here(store, blocks) if workers == 1 else _check_in_processes(store, blocks, workers)
        for number, of_clip in bar.track(checked, total=len(store), description="clips"):
            found[number] = of_clip
    problems += [problem for number in sorted(found) for problem in found[number]]
    present = [root / SHARD_FOLDER / shard for shard in shards]
    num_bytes = sum(path.stat().st_size for path in present if path.is_file())
    return VerifyReport(str(root), len(store), len(shards), num_bytes, tuple(problems))


def check_clip(store: ClipStore, number: int) -> list[Problem]:
    """All that is wrong with one clip; a clip that cannot be read is one problem."""
    clip_id = store.clip_ids[number]
    try:
        members = store.members(number)
        clip = store.read(number)
        fps = probe(members["rgb.mp4"]).fps
    except (RemindError, MemoryError) as error:
        return [Problem(clip_id, "read", str(error) or "out of memory")]
    return [Problem(clip_id, check, what) for check, what in _disagreements(store, number, members, clip, fps)]


def _disagreements(
    store: ClipStore, number: int, members: dict[str, bytes], clip: MemoryClip, fps: Fraction | None
) -> Iterator[tuple[str, str]]:
    facts, made = store.facts(number), clip.facts
    if members_sha256(members) != store.sha256(number):
        yield "hash", "its files have another hash than the index says"
    for field in fields(facts):
        stored, true = getattr(facts, field.name), getattr(made, field.name)
        if stored != true:
            yield "index", f"{field.name} is {stored!r} in the index and {true!r} in the clip"
    if fps != Fraction(facts.fps).limit_denominator(1001):
        yield "frame rate", f"its pictures run at {fps} fps, not {facts.fps:g}"
    expected = chunk_prompts(clip.clean.caption, clip.schedule)
    for chunk, (stored, asked) in enumerate(zip(clip.prompts, expected, strict=True)):
        if stored != asked:
            yield "prompts", f"chunk {chunk} is prompted {stored!r}, its schedule asks for {asked!r}"
    if clip.depth is not None and not _are_focal(clip.depth.intrinsics_px):
        yield "depth", "the intrinsics of its depth are not finite or not positive"


def _are_focal(intrinsics_px: torch.Tensor) -> bool:
    return bool(torch.isfinite(intrinsics_px).all() and (intrinsics_px[:, :2] > 0).all())


def _check_folder(store: ClipStore, shards: set[str]) -> Iterator[Problem]:
    folder = store.root / SHARD_FOLDER
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name not in shards:
            yield Problem(path.name, "orphan", "a file that the index does not know; the next build removes it")
    for path in sorted(store.root.glob(f"{WORK_PREFIX}*")):
        yield Problem(path.name, "orphan", "left over by a build that was killed, or one is running now")


def _check_shard(store: ClipStore, shard: str) -> list[Problem]:
    path = store.root / SHARD_FOLDER / shard
    if path.is_symlink() or not path.is_file():
        return [Problem(shard, "shard", "it is missing")]
    problems = []
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
        if digest != shard[-20:-4]:
            problems.append(Problem(shard, "shard", f"its content has the hash {digest}, not that of its name"))
        rows = store.index.filter(pc.field("shard") == shard).select(["clip_id", "members"]).to_pylist()
        listed = {(f"{row['clip_id']}.{m['name']}", m["offset"], m["size"]) for row in rows for m in row["members"]}
        with tarfile.open(path, "r:") as archive:
            held = {(info.name, info.offset_data, info.size) for info in archive}
        for entries, missing_in in ((held - listed, "the index"), (listed - held, "the shard's own table")):
            problems += [Problem(shard, "shard", f"{name}, {size} bytes at {offset}, is not in {missing_in}")
                         for name, offset, size in sorted(entries)]
    except (OSError, tarfile.TarError, ValueError, OverflowError) as error:
        problems.append(Problem(shard, "shard", f"it cannot be read: {error}"))
    return problems


Checked = tuple[int, list[Problem]]


def _check_here(store: ClipStore, blocks: list[range]) -> Iterator[Checked]:
    for number in (number for block in blocks for number in block):
        yield number, check_clip(store, number)


def _check_block(root: Path, block: range) -> list[Checked]:
    return list(_check_here(ClipStore.open(root), [block]))


def _check_in_processes(store: ClipStore, blocks: list[range], workers: int) -> Iterator[Checked]:
    """A process that dies (a decoder may, on hostile bytes) leaves its block unchecked, and the report says so."""
    waiting = iter(blocks)
    running: dict[Future[list[Checked]], range] = {}
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        try:
            while True:
                for block in islice(waiting, 2 * workers - len(running)):
                    running[pool.submit(_check_block, store.root, block)] = block
                if not running:
                    return
                for done in wait(running, return_when=FIRST_COMPLETED).done:
                    yield from done.result()
                    del running[done]
        except BrokenProcessPool:
            what = "not checked: a process died while it or a neighbour was read; run again with one worker"
            for number in (number for block in [*running.values(), *waiting] for number in block):
                yield number, [Problem(store.clip_ids[number], "read", what)]
