"""Who runs the work: this process, a pool of processes, or Ray. The same worker, the same outcomes, in any order.

Source: our choice. Few tasks are in flight at a time, so memory does not grow with the source; a worker that dies takes
one item with it, which is then tried alone and quarantined if it dies again.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from itertools import islice
from multiprocessing import get_context
from typing import Any, Literal

from remind.curation.build_report import Quarantined
from remind.curation.item_work import Worker
from remind.curation.outcome import Outcome, Task
from remind.errors import InputError

Engine = Literal["serial", "pool", "ray"]
_IN_FLIGHT = 3  # tasks per worker: one at work, the others waiting


def run_engine(engine: Engine, worker: Worker, tasks: Iterable[Task], workers: int) -> Iterator[Outcome]:
    """Outcomes of all tasks as they come.

    Args:
        workers: processes, >= 1; for Ray the most that run at once.

    Raises:
        InputError: no workers, or Ray is not installed.
        StoreError: a full disk.
    """
    if workers < 1:
        raise InputError("there must be a worker", got=workers, expected="1 or more")
    if engine == "serial":
        return map(worker, tasks)
    return _pool(worker, tasks, workers) if engine == "pool" else _ray(worker, tasks, workers)


def _pool(worker: Worker, tasks: Iterable[Task], workers: int) -> Iterator[Outcome]:
    queue = iter(tasks)
    suspects: list[Task] = []  # were in flight when a worker died
    while True:
        flying: dict[Future[Outcome], Task] = {}
        with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
            try:
                while True:
                    for task in islice(queue, _IN_FLIGHT * workers - len(flying)):
                        flying[pool.submit(worker, task)] = task
                    if not flying:
                        break
                    done, _ = wait(flying, return_when=FIRST_COMPLETED)
                    for future in sorted(done, key=lambda f: flying[f].number):
                        outcome = future.result()
                        del flying[future]
                        yield outcome
            except BrokenProcessPool:
                suspects = sorted(flying.values(), key=lambda task: task.number)
            except BaseException:
                pool.shutdown(wait=True, cancel_futures=True)
                raise
        if not suspects:
            return
        for task in suspects:
            yield _alone(worker, task)
        suspects = []


def _alone(worker: Worker, task: Task) -> Outcome:
    """In a process of its own, so that the guilty one is found."""
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(worker, task).result()
    except BrokenProcessPool:
        name = task.item.item_id
        died = Quarantined(name, "worker", "the process that worked on it died: out of memory, or a fault in a decoder")
        return Outcome(task.number, name, "", (), (), (), (died,))


class _OnRay:
    """The worker as Ray Data calls it: a row in, a row out; plain objects cross through pickle."""

    def __init__(self, worker: Worker):
        self.worker = worker

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"outcome": self.worker(row["task"])}


def _ray(worker: Worker, tasks: Iterable[Task], workers: int) -> Iterator[Outcome]:
    try:
        import ray
    except ImportError:
        raise InputError("this engine needs Ray, which is not installed",
                         fix="pip install 'remind-video[ray]'") from None
    if not ray.is_initialized():  # joins the cluster that RAY_ADDRESS names, else starts one here
        ray.init(log_to_driver=False, include_dashboard=False, logging_level=logging.ERROR)
    ray.data.DataContext.get_current().enable_progress_bars = False
    queue, block = iter(tasks), 64 * workers
    # Block by block: Ray Data would take the whole list of a million items into its object store at once.
    while rows := [{"task": task} for task in islice(queue, block)]:
        data = ray.data.from_items(rows, override_num_blocks=min(len(rows), 4 * workers))
        for row in data.map(_OnRay(worker), num_cpus=1, concurrency=workers).iter_rows():
            yield row["outcome"]
