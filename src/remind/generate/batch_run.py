"""Running a batch: in this process, as one of torchrun's ranks, or on Ray workers with a pipeline each."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

from rich.console import Console

from remind.errors import InputError, RemindError
from remind.generate.batch import BatchItem, clear_leftovers, is_done, share_of, with_sha256
from remind.training.progress import progress_bar
from remind.whole_file import whole_file

logger = logging.getLogger(__name__)

Make = Callable[[BatchItem], None]
"""Makes one video: writes `item.out` and then its manifest, with `item.sha256` as its `item_sha256`."""


@dataclass(frozen=True)
class Failed:
    """A request that failed, as it stands in failed.jsonl."""

    id: str
    line: int
    out: str
    error: str
    kind: str


@dataclass(frozen=True)
class BatchReport:
    """What a run of a batch did with this process's share.

    Args:
        made: videos that are new.
        skipped: that were there already, whole and from the same request.
        failed: the others, with their reasons.
        failed_file: where those are written; absent when there are none.
    """

    made: int
    skipped: int
    failed: tuple[Failed, ...]
    failed_file: Path

    @property
    def exit_code(self) -> int:
        return 1 if self.failed else 0

    def __str__(self) -> str:
        said = f"{self.made} videos made, {self.skipped} were there already, {len(self.failed)} failed"
        return f"{said}: {self.failed_file} says why; run again to retry them" if self.failed else said


def run_batch(
    items: Sequence[BatchItem],
    build: Callable[[], Make],
    out_dir: Path,
    *,
    context: str = "",
    rank: int = 0,
    world_size: int = 1,
    engine: Literal["here", "ray"] = "here",
    workers: int = 1,
    gpus_per_worker: float = 0.0,
    console: Console | None = None,
) -> BatchReport:
    """Make what is not there yet.

    Args:
        items: all of the batch, from `read_batch`.
        build: loads a pipeline and returns what makes one video with it. Called once in this process, or once in each
            Ray worker, and not at all when everything is there. For Ray it must be picklable.
        out_dir: where failed.jsonl goes (failed.R-of-N.jsonl for one of several ranks).
        context: what all items share and their lines do not say, e.g. the hash of the weights; when it changes, all are
            made again.
        rank, world_size: this process among those that share the batch; item i is made by rank i % world_size.
        engine: `here`, one after the other; or `ray`, on `workers` Ray actors with `gpus_per_worker` GPUs each; on many
            machines, the paths must be the same on all of them.
        console: shows a bar with the time that is left; None shows nothing.

    Raises:
        InputError: no such rank, no worker, Ray is not installed, or failed.jsonl cannot be written.
        RemindError: a pipeline that cannot be built.
    """
    if workers < 1 or gpus_per_worker < 0:
        raise InputError("there must be a worker", got=f"{workers} workers, {gpus_per_worker} GPUs each",
                         expected="1 or more workers, 0 or more GPUs each")  # fmt: skip
    mine = [with_sha256(item, context) for item in share_of(items, rank, world_size)]
    todo = [item for item in mine if not is_done(item)]
    name = "failed.jsonl" if world_size == 1 else f"failed.{rank}-of-{world_size}.jsonl"
    failed_file, failed = out_dir / name, list[Failed]()
    _write_failed(failed_file, failed)
    if rank == 0:
        _forget_other_shares(out_dir, world_size)
    bar = progress_bar("videos", console or Console(quiet=True), len(mine), done=len(mine) - len(todo))
    run = _here(todo, build) if engine == "here" else _on_ray(todo, build, workers, gpus_per_worker)
    with bar as (progress, task):
        for problem in run:
            if problem is not None:
                failed.append(problem)
                _write_failed(failed_file, failed)
            progress.update(task, advance=1, note=f"{len(failed)} failed" if failed else "")
    return BatchReport(len(todo) - len(failed), len(mine) - len(todo), tuple(failed), failed_file)


def wait_for_other_ranks() -> None:
    """Return when all ranks of torchrun have come here: it ends all of them with the first that leaves with an error,
    and a rank that failed at one request must not stop the others at theirs. Without torchrun nothing is waited for.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return
    from torch.distributed import rendezvous

    try:
        store, _, world_size = next(rendezvous("env://", timeout=timedelta(seconds=60)))
        done = store.add("remind batch: ranks that are done", 1)
        while done < world_size:
            time.sleep(0.5)
            done = store.add("remind batch: ranks that are done", 0)
    except (RuntimeError, ValueError) as error:  # the videos are made; what is lost is the waiting
        logger.warning("other ranks cannot be waited for: %s", str(error)[:200])


def _attempt(make: Make, item: BatchItem) -> Failed | None:
    """One item; what went wrong comes back as a value, so that it stops nothing else."""
    clear_leftovers(item)
    try:
        item.out.parent.mkdir(parents=True, exist_ok=True)
        make(item)
        if not is_done(item):
            raise InputError("no video came out", got=item.out, expected="a video and its manifest")
    except RemindError as error:
        return _failure(item, error)
    except Exception as error:
        logger.exception("%s: unexpected", item.id)  # a fault of ours or of the machine: its trace helps
        return _failure(item, error)
    return None


def _failure(item: BatchItem, error: Exception) -> Failed:
    said = " ".join(str(error).split())[:2000]
    text = said if isinstance(error, RemindError) else f"{type(error).__name__}: {said}"
    return Failed(item.id, item.line, str(item.out), text, type(error).__name__)


def _here(todo: Sequence[BatchItem], build: Callable[[], Make]) -> Iterator[Failed | None]:
    if todo:
        make = build()
        for item in todo:
            yield _attempt(make, item)


class _Worker:
    """A pipeline in a Ray actor."""

    def __init__(self, build: Callable[[], Make]):
        self._build = build
        self._make: Make | None = None

    def start(self) -> RemindError | None:
        """Load the pipeline; an error comes back as a value, in its own words."""
        try:
            self._make = self._build()
        except RemindError as error:
            return error
        return None

    def run(self, item: BatchItem) -> Failed | None:
        assert self._make is not None
        return _attempt(self._make, item)


def _on_ray(
    todo: Sequence[BatchItem], build: Callable[[], Make], workers: int, gpus: float
) -> Iterator[Failed | None]:
    if not todo:
        return
    try:
        import ray
        from ray.exceptions import RayActorError
    except ImportError:
        raise InputError("this engine needs Ray, which is not installed",
                         fix="pip install 'remind-video[ray]'") from None
    if not ray.is_initialized():  # joins the cluster that RAY_ADDRESS names, else starts one here
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    remote: Any = ray.remote(num_cpus=1, num_gpus=gpus)(_Worker)

    def started(count: int) -> list[Any]:
        actors = [remote.remote(build) for _ in range(count)]
        for error in ray.get([actor.start.remote() for actor in actors]):
            if error is not None:
                raise error
        return actors

    waiting, flying = list(reversed(todo)), dict[Any, tuple[Any, BatchItem]]()
    free = started(min(workers, len(todo)))
    actors = list(free)
    try:
        while waiting or flying:
            while waiting and free:
                actor, item = free.pop(), waiting.pop()
                flying[actor.run.remote(item)] = (actor, item)
            (ready, *_), _ = ray.wait(list(flying), num_returns=1)
            actor, item = flying.pop(ready)
            try:
                problem = ray.get(ready)
            except RayActorError:
                died = InputError("the worker that made it died", fix="see whether its memory is enough")
                problem, (actor,) = _failure(item, died), started(1)
                actors.append(actor)
            free.append(actor)
            yield problem
    finally:
        for actor in actors:
            ray.kill(actor)


def _forget_other_shares(out_dir: Path, world_size: int) -> None:
    """Remove lists of an earlier run over another number of ranks: these ranks retry all that is in them."""
    for path in out_dir.glob("failed*.jsonl"):
        ranks = re.fullmatch(r"failed(?:\.\d+-of-(\d+))?\.jsonl", path.name)
        if ranks and int(ranks[1] or 1) != world_size:
            path.unlink(missing_ok=True)


def _write_failed(path: Path, failed: Sequence[Failed]) -> None:
    """The whole list each time: it is short, and a reader never sees half of it."""
    try:
        if failed:
            with whole_file(path) as partial:
                partial.write_text("".join(json.dumps(vars(one)) + "\n" for one in failed))
        else:
            path.unlink(missing_ok=True)
    except OSError as error:
        raise InputError("the list of failures cannot be written", got=f"{path}: {error.strerror}",
                         fix="free some space, or choose another folder") from None  # fmt: skip
