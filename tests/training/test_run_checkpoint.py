"""Checkpoints of a run: whole or not there; damage is named; nothing in them can run code."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from remind.errors import CheckpointError
from remind.training import run_checkpoint
from remind.training.run_checkpoint import RunState, file_hash

from .make_run import ALONE, room_for

STATE = RunState(step=7, next_index=28, max_distance=14, seconds=1.5, tokens=100, threads=1, world_size=1,
                 config={"seed": 5}, data="abc", skipped=("clip-1",))  # fmt: skip


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "model.weight": torch.randn(64, 8, generator=generator),
        "model.scale": torch.randn((), generator=generator),
        "optimizer.weight.step": torch.tensor(3.0),
        "half": torch.randn(3, generator=generator).bfloat16(),
    }


@pytest.fixture
def out(tmp_path: Path) -> Path:
    run_checkpoint.save(tmp_path, tensors(1), replace(STATE, step=3), ALONE)
    run_checkpoint.save(tmp_path, tensors(2), STATE, ALONE)
    return tmp_path


def load(out: Path, step: int = 7) -> tuple[RunState, dict[str, torch.Tensor]]:
    into = tensors()
    return run_checkpoint.load(run_checkpoint.step_folder(out, step), into, ALONE), into


def test_tensors_and_numbers_come_back_as_they_were(out: Path) -> None:
    state, into = load(out)
    assert state == STATE
    assert all(torch.equal(tensor, tensors(2)[name]) for name, tensor in into.items())
    assert run_checkpoint.read_state(run_checkpoint.step_folder(out, 3)).step == 3
    assert run_checkpoint.latest(out) == run_checkpoint.step_folder(out, 7)
    assert run_checkpoint.latest(out / "nowhere") is None
    assert not list((out / "checkpoints").glob(".*"))


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: flip(f / "__0_0.distcp", 1500), r"__0_0\.distcp: its content has changed"),
        (lambda f: (f / "__0_0.distcp").write_bytes((f / "__0_0.distcp").read_bytes()[:900]), r"distcp: 900 bytes"),
        (lambda f: (f / "__0_0.distcp").unlink(), r"distcp: it is missing"),
        (lambda f: (f / "state.json").unlink(), r"state\.json: it is missing"),
        (lambda f: (f / "state.json").write_text('{"format": "remind-run-1", "st'), r"state\.json: "),
        (lambda f: (f / "state.json").write_text('{"format": "remind-run-1"}'), r"state\.json: KeyError"),
        (lambda f: (f / "state.json").write_text("[1]"), r"state\.json: its format"),
    ],
)  # fmt: skip
def test_damage_is_named_and_the_checkpoint_before_is_offered(out: Path, damage: Any, message: str) -> None:
    damage(run_checkpoint.step_folder(out, 7))
    with pytest.raises(CheckpointError, match=message) as error:
        load(out)
    assert "step-00000007 to go on from step 3" in str(error.value)
    shutil.rmtree(run_checkpoint.step_folder(out, 7))
    assert load(out, 3)[0].step == 3


def test_weights_of_another_shape_are_named(out: Path) -> None:
    into = {**tensors(), "model.weight": torch.zeros(64, 9), "more": torch.zeros(1)}
    del into["half"]
    with pytest.raises(CheckpointError, match=r"missing \['more'\]; unexpected \['half'\]; other shapes \['model.w"):
        run_checkpoint.load(run_checkpoint.step_folder(out, 7), into, ALONE)


class Evil:
    """A pickle that leaves a trace if anyone opens it trustingly."""

    def __init__(self, trace: Path):
        self.trace = trace

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.trace),)


def edit(folder: Path, change: Any) -> None:
    """Change state.json and make its hashes right, as one who means harm would."""
    content = json.loads((folder / "state.json").read_text())
    for name, facts in content["files"].items():
        if (folder / name).is_file():
            facts.update(bytes=(folder / name).stat().st_size, sha256=file_hash(folder / name))
    change(content)
    (folder / "state.json").write_text(json.dumps(content))


def test_no_pickle_of_a_checkpoint_is_run(out: Path, tmp_path: Path) -> None:
    folder, trace = run_checkpoint.step_folder(out, 7), tmp_path / "trace"
    (folder / ".metadata").write_bytes(pickle.dumps(Evil(trace)))
    load(out)  # DCP's own table is never opened
    hostile = io.BytesIO()
    torch.save({"x": Evil(trace)}, hostile)
    (folder / "__0_0.distcp").write_bytes(hostile.getvalue())

    def point(content: dict[str, Any]) -> None:
        for entry in content["tensors"].values():
            entry["files"] = {place: ["__0_0.distcp", 0, len(hostile.getvalue())] for place in entry["files"]}

    edit(folder, point)
    with pytest.raises(CheckpointError, match="damaged"):
        load(out)
    assert not trace.exists()


@pytest.mark.parametrize("path", ["../../secret.distcp", "/etc/passwd", "__0_0.distcp/../x", ".metadata"])
def test_no_path_leaves_the_folder(out: Path, path: str) -> None:
    def point(content: dict[str, Any]) -> None:
        entry = content["tensors"]["half"]
        entry["files"] = {place: [path, 0, 10] for place in entry["files"]}

    edit(run_checkpoint.step_folder(out, 7), point)
    with pytest.raises(CheckpointError, match="half is said to lie in"):
        load(out)


def test_a_table_that_does_not_cover_its_tensors_is_refused(out: Path) -> None:
    edit(run_checkpoint.step_folder(out, 7), lambda c: c["tensors"]["half"]["pieces"].pop())
    with pytest.raises(CheckpointError, match="do not add up"):
        load(out)


@pytest.mark.parametrize("num_bytes", [1000, 5200])  # within the tensors; within state.json
def test_a_full_disk_harms_nothing_that_was_there(out: Path, num_bytes: int) -> None:
    sizes = {p.name: p.stat().st_size for p in run_checkpoint.step_folder(out, 7).iterdir()}
    assert max(sizes.values()) > num_bytes
    said = r"could not be written.*(too large|to its end).*--resume goes on from step 7"
    with room_for(num_bytes), pytest.raises(CheckpointError, match=said):
        run_checkpoint.save(out, tensors(3), replace(STATE, step=9), ALONE)
    assert run_checkpoint.steps_on_disk(out) == [3, 7]
    assert not list((out / "checkpoints").glob(".*"))
    load(out)
    run_checkpoint.save(out, tensors(3), replace(STATE, step=9), ALONE)
    assert load(out, 9)[0].step == 9


def test_what_a_killed_process_left_is_cleared(out: Path) -> None:
    (out / "checkpoints" / ".step-00000009.partial").mkdir()
    (out / "checkpoints" / ".step-00000009.partial" / "__0_0.distcp").write_bytes(b"half")
    (out / "checkpoints" / ".step-00000002.removed").mkdir()
    assert run_checkpoint.steps_on_disk(out) == [3, 7]
    run_checkpoint.save(out, tensors(3), replace(STATE, step=9), ALONE)
    assert not list((out / "checkpoints").glob(".*"))


def test_a_step_that_is_done_again_replaces_its_checkpoint(out: Path) -> None:
    run_checkpoint.save(out, tensors(4), STATE, ALONE)
    assert torch.equal(load(out)[1]["model.weight"], tensors(4)["model.weight"])
