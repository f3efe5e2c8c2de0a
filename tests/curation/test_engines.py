"""A worker that dies costs one item; the others come through, each once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from remind.curation.blobs import Blobs
from remind.curation.engines import run_engine
from remind.curation.item import FileMedia, SourceItem
from remind.curation.item_work import Worker
from remind.curation.options import BuildOptions
from remind.curation.outcome import Outcome, Task
from remind.errors import InputError


class Fragile(Worker):
    """Dies of some items as a decoder's fault or the kernel would kill it."""

    def __call__(self, task: Task) -> Outcome:
        if "deadly" in task.item.item_id:
            os._exit(11)
        return Outcome(task.number, task.item.item_id, "", (), (), (), ())


def worker(folder: Path, kind: type[Worker] = Fragile) -> Worker:
    return kind(BuildOptions(), Blobs(folder / "blobs", folder / "shards"), folder / "scratch", {})


def tasks(names: list[str]) -> list[Task]:
    return [Task(i, SourceItem(name, "local", FileMedia(name))) for i, name in enumerate(names)]


def test_the_guilty_item_is_found_and_no_other_is_lost(tmp_path: Path) -> None:
    names = [f"{i}{' deadly' * (i in (3, 9))}" for i in range(16)]
    outcomes = sorted(run_engine("pool", worker(tmp_path), tasks(names), 2), key=lambda outcome: outcome.number)
    assert [outcome.item_id for outcome in outcomes] == names
    assert [o.number for o in outcomes if o.failed] == [3, 9]
    assert outcomes[3].failed[0].stage == "worker"
    assert "died" in outcomes[3].failed[0].reason


def test_there_must_be_a_worker(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="must be a worker"):
        run_engine("pool", worker(tmp_path), [], 0)


def test_work_in_this_process_leaves_its_threads_alone(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        (outcome,) = run_engine("serial", worker(tmp_path, Worker), tasks(["absent.mp4"]), 1)
        assert outcome.failed[0].stage == "fetch"
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
