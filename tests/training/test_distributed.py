"""Two ranks are one process: the same order, losses, weights and checkpoints; and they fail together."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp

from remind.errors import InputError
from remind.training import run_checkpoint
from remind.training.config import Execution
from remind.training.distributed import check_world, choose_device

from . import rank_checks
from .make_run import numbers, take, trainer
from .rank_checks import GROUPED, STEPS, VARIANTS, data_of, summary


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("ranks")


@pytest.fixture(scope="module")
def found(folder: Path) -> list[dict[str, Any]]:
    """What each rank has to say."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    run = trainer(GROUPED)
    take(run, 2)
    run.save(folder / "by-one")
    torch.set_num_threads(threads)
    mp.spawn(rank_checks.main, (free_port(), folder), nprocs=2)
    return [torch.load(folder / f"found-{rank}.pt", weights_only=True) for rank in range(2)]


@pytest.mark.parametrize("name", VARIANTS)
def test_two_ranks_are_one_process(found: list[dict[str, Any]], name: str) -> None:
    config = VARIANTS[name]
    run = trainer(config, data=data_of(config))
    expected = summary(run, STEPS)
    mine, other = (rank["variants"][name] for rank in found)
    assert mine["records"] == other["records"]
    for record, theirs in zip(mine["records"], expected["records"], strict=True):
        assert record["regime"] == theirs["regime"]
        assert numbers(record) == pytest.approx(numbers(theirs), rel=1e-5, abs=1e-6)
    assert mine["tensors"].keys() == expected["tensors"].keys()
    for key, tensor in mine["tensors"].items():
        torch.testing.assert_close(tensor, expected["tensors"][key], atol=1e-4, rtol=1e-3)
    shipped = run.averaged_weights()
    assert mine["shipped"].keys() == shipped.keys()
    assert other["shipped"] == {}
    for key, tensor in mine["shipped"].items():
        torch.testing.assert_close(tensor, shipped[key], atol=1e-4, rtol=1e-3)


def test_the_average_is_sharded_as_the_weights_are(found: list[dict[str, Any]]) -> None:
    whole = sum(tensor.numel() for tensor in trainer(GROUPED).average.tensors.values())
    parts = [rank["variants"]["fsdp"]["sharded"] for rank in found]
    assert sum(parts) == whole
    assert max(parts) < 0.6 * whole
    assert [rank["variants"]["hsdp, small passes, recomputed"]["sharded"] for rank in found] == [whole, whole]


def test_a_checkpoint_goes_from_one_process_to_two_ranks_and_back(found: list[dict[str, Any]], folder: Path) -> None:
    run = trainer(GROUPED)
    expected = take(run, 6)
    assert [rank["resharded"]["said"] for rank in found] == [["2 ranks instead of 1"]] * 2
    for record, theirs in zip(found[0]["resharded"]["records"], expected[2:4], strict=True):
        assert numbers(record) == pytest.approx(numbers(theirs), rel=1e-5, abs=1e-6)
    again = trainer(GROUPED)
    again.resume(run_checkpoint.step_folder(folder / "by-two", 4))
    for record, theirs in zip(take(again, 2), expected[4:], strict=True):
        assert numbers(record) == pytest.approx(numbers(theirs), rel=1e-5, abs=1e-6)


def test_muon_moves_shards_as_it_moves_whole_matrices(found: list[dict[str, Any]]) -> None:
    assert max(rank["muon"]["worst"] for rank in found) < 1e-5


def test_a_look_sees_the_averaged_weights_and_changes_nothing(found: list[dict[str, Any]]) -> None:
    first, second = (rank["looks"] for rank in found)
    torch.testing.assert_close(first["shared"], first["alone"])
    assert torch.equal(first["shared"], second["shared"])
    assert second["alone"] is None
    assert first["same"]
    assert second["same"]


def test_an_error_of_one_rank_is_the_same_error_on_all(found: list[dict[str, Any]], folder: Path) -> None:
    first, second = (rank["failures"] for rank in found)
    assert first["damaged"].startswith("StoreError: clip 2 is damaged; got a truncated file (rank ")
    assert first["not finite"].startswith("RemindError: latents of the data are not finite; got step")
    assert f"{first['index']} (item 2 of bank 0)" in first["not finite"]
    assert "equal shares" in first["batch"]
    assert "could not be written" in first["full disk"]
    assert "(rank 1)" in first["full disk"]
    assert "goes on from step 1" in first["full disk"]
    assert run_checkpoint.steps_on_disk(folder / "full") == [1]
    assert not list((folder / "full" / "checkpoints").glob(".*"))
    for what in ("damaged", "not finite", "batch", "full disk"):
        assert first[what] == second[what]
    assert second["here alone"] == "RemindError: ZeroDivisionError: division by zero (rank 0)"


def test_a_signal_to_one_rank_stops_all_after_the_same_step(found: list[dict[str, Any]]) -> None:
    assert [rank["stopped"] for rank in found] == [{"done": 3, "step": 3, "by": 15}] * 2


def test_ranks_that_do_not_split_and_devices_that_are_not_there_are_refused() -> None:
    check_world(Execution(replicate=2, sequence_parallel=3), 6)
    with pytest.raises(InputError, match=r"execution.replicate; got 4 of 6 ranks"):
        check_world(Execution(replicate=4), 6)
    with pytest.raises(InputError, match=r"execution.sequence_parallel; got 2 of 1 ranks"):
        check_world(Execution(sequence_parallel=2), 1)
    assert choose_device("cpu").type == "cpu"
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="not there; got cuda"):
            choose_device("cuda")
