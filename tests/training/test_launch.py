"""Whole runs in processes of their own: killed, asked to stop, continued, and alike bit for bit."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from remind.data.mixture import Mixture
from remind.errors import CheckpointError, InputError
from remind.models.checkpoint import load_run
from remind.models.dit import CausalVideoDiT
from remind.training import run_checkpoint
from remind.training.config import TrainConfig, ValidationOptions
from remind.training.curriculum import Curriculum
from remind.training.launch import show_plans, train
from remind.training.stop_signal import outcome, watched_signals
from remind.validation import Validation

from .make_run import CONFIG, records

STEPS = 30
QUIET = Console(quiet=True)


@pytest.fixture(scope="module", autouse=True)
def world_cache(tmp_path_factory: pytest.TempPathFactory) -> object:
    """The world clips of these runs are rendered once."""
    before = os.environ.get("REMIND_CACHE")
    os.environ["REMIND_CACHE"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("REMIND_CACHE")
    if before is not None:
        os.environ["REMIND_CACHE"] = before


def start(
    out: Path, *options: str, steps: int = STEPS, rank: int = 0, ranks: int = 1, port: int = 0
) -> subprocess.Popen:
    place = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks), "MASTER_ADDR": "127.0.0.1",
             "MASTER_PORT": str(port)}  # fmt: skip
    return subprocess.Popen(
        [sys.executable, "-m", "tests.training.run_process", str(out), str(steps), *options], text=True,
        cwd=Path(__file__).parents[2], env={**os.environ, "OMP_NUM_THREADS": "1", **(place if ranks > 1 else {})},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip


def wait_for(ready: Callable[[], bool], *processes: subprocess.Popen) -> None:
    while not ready():
        assert all(process.poll() is None for process in processes), [p.communicate()[1] for p in processes]
        time.sleep(0.005)


def steps_done(out: Path) -> int:
    path = out / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def end(process: subprocess.Popen) -> tuple[int, str]:
    said = process.communicate(timeout=120)[1]
    return process.returncode, said


def test_a_run_killed_and_stopped_and_continued_equals_one_that_was_not_bit_for_bit(tmp_path: Path) -> None:
    straight, out = tmp_path / "straight", tmp_path / "out"
    assert end(start(straight))[0] == 0
    assert [r["step"] for r in records(straight)] == list(range(1, STEPS + 1))

    process = start(out)
    wait_for(lambda: steps_done(out) >= 8, process)
    process.kill()
    assert end(process)[0] == -signal.SIGKILL
    before = steps_done(out)
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 31, "los')  # a line that was being written
    kept = run_checkpoint.steps_on_disk(out)
    assert kept
    assert before < STEPS

    process = start(out, "--resume")
    wait_for(lambda: steps_done(out) >= before + 4, process)
    process.terminate()
    code, said = end(process)
    assert code == 143
    stopped = run_checkpoint.steps_on_disk(out)[-1]
    assert f"stopped at step {stopped} by SIGTERM; --resume" in said
    assert steps_done(out) == stopped < STEPS

    assert end(start(out, "--resume"))[0] == 0
    assert records(out) == records(straight)
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (out, straight))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert len(run_checkpoint.steps_on_disk(out)) == CONFIG.execution.keep


def test_a_rank_that_is_killed_ends_the_other_with_one_message(tmp_path: Path) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    pair = [start(tmp_path, steps=2000, rank=rank, ranks=2, port=port) for rank in range(2)]
    try:
        wait_for(lambda: run_checkpoint.latest(tmp_path) is not None, *pair)
        pair[1].kill()
        (first, said), _ = (end(process) for process in pair)
    finally:
        for process in pair:
            process.kill()
    assert first == 2, said
    assert said.count("remind: ") == 1
    assert "remind: another rank of the run is gone" in said
    assert "Traceback" not in said
    assert run_checkpoint.latest(tmp_path) is not None


def test_a_run_leaves_weights_that_say_what_made_them(tmp_path: Path) -> None:
    train(CONFIG, tmp_path, console=QUIET)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file() and p.suffix != ".json") == [
        "metrics.jsonl", "model.safetensors", "sessions.jsonl",
    ]  # fmt: skip
    model, about = load_run(tmp_path)
    assert about["steps_done"] == 6
    assert about["train"] == json.loads(json.dumps(CONFIG.to_json(), default=str))
    assert about["licence"] == "Apache-2.0; trained on the embedded world"
    assert model.config == replace(CONFIG.model, max_trained_distance=14)
    with pytest.raises(InputError, match="already holds a run"):
        train(CONFIG, tmp_path, console=QUIET)
    with pytest.raises(InputError, match=r"holds another run.*seed"):
        train(replace(CONFIG, seed=8), tmp_path, resume=True, console=QUIET)
    with pytest.raises(InputError, match="nothing to resume"):
        train(CONFIG, tmp_path / "new", resume=True, console=QUIET)


def test_weights_that_are_not_there_are_missed_before_anything_is_rendered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REMIND_CACHE", str(tmp_path / "cache"))
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        train(replace(CONFIG, init_from=str(tmp_path / "nothing")), tmp_path / "run", console=QUIET)
    assert not (tmp_path / "cache").exists()


def test_the_best_validation_keeps_its_checkpoint_and_its_weights(tmp_path: Path) -> None:
    scores = iter([0.1, 0.9, 0.5])
    looked: list[dict[str, torch.Tensor]] = []

    def make(config: TrainConfig, held_out: Mixture | None) -> Callable[[CausalVideoDiT], Validation]:
        assert held_out is not None

        def look(model: CausalVideoDiT) -> Validation:
            looked.append({name: tensor.clone() for name, tensor in model.state_dict().items()})
            return Validation({"flow": 1.0}, next(scores))

        return look

    config = replace(CONFIG, validation=ValidationOptions(every=2, clips=2),
                     execution=replace(CONFIG.execution, checkpoint_every=1, keep=1))  # fmt: skip
    train(config, tmp_path, console=QUIET, validator_factory=make)
    assert run_checkpoint.steps_on_disk(tmp_path) == [4, 6]
    assert run_checkpoint.read_best(tmp_path) == (4, 0.9)
    best = load_file(tmp_path / "best" / "model.safetensors")
    assert all(torch.equal(best[name], looked[1][name]) for name in best)  # the averaged weights
    assert [r.get("validation/score") for r in records(tmp_path)] == [None, 0.1, None, 0.9, None, 0.5]
    with pytest.raises(InputError, match="this caller offers none"):
        train(config, tmp_path / "other", console=QUIET)


@pytest.mark.parametrize(("by", "looks_in_bf16"), [("loss", True), ("world", False)])
def test_a_loss_is_validated_in_the_precision_of_training_and_a_rollout_in_that_of_the_weights(
    tmp_path: Path, by: str, looks_in_bf16: bool
) -> None:
    found: list[bool] = []

    def look(model: CausalVideoDiT) -> Validation:
        found.append(torch.is_autocast_enabled("cpu"))
        return Validation({}, 0.0)

    options = ValidationOptions(every=2, clips=2, by=by)  # type: ignore[arg-type]
    config = replace(CONFIG, steps=2, precision="bf16", validation=options)
    train(config, tmp_path, console=QUIET, validator_factory=lambda config, held_out: look)
    assert found == [looks_in_bf16]


def test_plans_of_a_regime_that_comes_late_are_drawn_too(tmp_path: Path) -> None:
    late = Curriculum(knots=((0.0, {"all_history": 1.0}), (0.9, {"all_history": 1.0}), (0.91, {"node_drop": 1.0})))
    console = Console(record=True, quiet=False, file=StringIO(), width=200)
    show_plans(replace(CONFIG, steps=1000, curriculum=late), console, num_steps=12)
    said = console.export_text()
    assert "all_history" in said
    assert "node_drop" in said
    assert "not drawn" not in said
    never = Curriculum(knots=((0.0, {"all_history": 1.0}), (0.999, {"all_history": 1.0}), (1.0, {"node_drop": 1.0})))
    show_plans(replace(CONFIG, steps=1000, curriculum=never), console, num_steps=12)
    assert "not drawn in the steps looked at: node_drop" in console.export_text()


def test_a_signal_is_noted_once_and_obeyed_the_second_time() -> None:
    before = signal.getsignal(signal.SIGINT)
    with watched_signals() as asked:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGINT)
        assert asked.number == signal.SIGINT
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is before
    assert outcome(signal.SIGUSR1) is None
    assert isinstance(outcome(signal.SIGINT), KeyboardInterrupt)
    ending = outcome(signal.SIGTERM)
    assert isinstance(ending, SystemExit)
    assert ending.code == 143
