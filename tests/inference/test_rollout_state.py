"""A rollout that is saved and loaded goes on bit for bit; a file that was tampered with is refused."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from remind.clip import Cameras
from remind.errors import CheckpointError, InputError
from remind.inference.memory_policy import Retrieve, SinkWindow, Window, memory_policy
from remind.inference.rollout import Rollout
from remind.inference.rollout_state import load_rollout, save_rollout
from remind.inference.samplers import Sampler
from remind.models.dit import CausalVideoDiT
from remind.models.kv_cache import StreamingKVCache

from ..make_memory import TINY, filled_model
from .make_rollout import ask, clean_latents, engine, run

SLOT = StreamingKVCache.predict_nbytes(TINY, batch=2, num_slots=1, grid_hw=(1, 1))
CHECKPOINT = "0123456789abcdef"


@pytest.fixture(scope="module")
def model() -> CausalVideoDiT:
    return filled_model()


def there_and_back(rollout: Rollout, folder: Path) -> Rollout:
    save_rollout(folder / "rollout.safetensors", rollout, checkpoint=CHECKPOINT)
    return load_rollout(folder / "rollout.safetensors", rollout.model, checkpoint=CHECKPOINT)[0]


OPTIONS: list[dict[str, Any]] = [
    {},
    {"policy": Window(2), "chunks_per_pass": 1, "seeds": (5,)},
    {"policy": Retrieve(2), "measure_importance": True, "guidance": 2.0, "context_noise": 0.2},
    {"policy": SinkWindow(1, 3), "budget_bytes": 4 * SLOT, "sampler": Sampler(kind="few_step", levels=(1.0, 0.5))},
    {"storage": "int8", "first_position": 9},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_it_goes_on_bit_for_bit(model: CausalVideoDiT, options: dict[str, Any], tmp_path: Path) -> None:
    rollout = engine(model, **options)
    guided, batch = rollout.guidance != 1, rollout.batch
    if "first_position" in options:
        rollout.reference(clean_latents(2, batch=batch), [ask(60), ask(61)])
    rollout.give(clean_latents(2, batch=batch), [ask(k, batch=batch, guided=guided) for k in range(2)])
    run(rollout, 3)
    rollout.protect(1)
    rollout.set_role(2, "anchor")
    rollout.knock_out(0, "direct")
    run(rollout, 1)
    assert rollout.memory.waiting == [5]
    again = there_and_back(rollout, tmp_path)
    assert again.table() == rollout.table()
    assert [(p.looks, p.importance, p.last_seen, p.knocked_out) for p in again.past] == [
        (p.looks, p.importance, p.last_seen, p.knocked_out) for p in rollout.past
    ]
    for each in (again, rollout):
        each.knock_out(1, "direct")  # what waits is written now
    assert torch.equal(run(again, 3), run(rollout, 3))
    assert again.table() == rollout.table()


def test_one_that_has_not_begun_and_one_that_is_only_given(model: CausalVideoDiT, tmp_path: Path) -> None:
    for chunks in (0, 2):
        rollout = engine(model)
        rollout.give(clean_latents(chunks), [ask(k) for k in range(chunks)])
        again = there_and_back(rollout, tmp_path)
        if chunks:
            again.fork().knock_out(0, "direct")  # there is room to write all that waits
        assert torch.equal(run(again, 2), run(rollout, 2))


def test_equal_prompts_are_kept_once_and_views_come_back(model: CausalVideoDiT, tmp_path: Path) -> None:
    rollout = engine(model)
    view = Cameras(torch.eye(4).double().repeat(9, 1, 1), torch.ones(9, 4).double(), (32, 48), torch.ones(9) > 0)
    for k in range(5):
        rollout.generate(replace(ask(k), text=ask(k % 2).text.clone(), view=view if k == 1 else None))
    file = tmp_path / "r.safetensors"
    save_rollout(file, rollout, checkpoint=CHECKPOINT, about={"prompt": "a tank fills", "n": [1, 2]})
    with safe_open(str(file), framework="pt") as opened:
        assert sum(name.startswith("text.") for name in opened.keys()) == 2  # noqa: SIM118
    again, about = load_rollout(file, model, checkpoint=CHECKPOINT)
    assert about == {"prompt": "a tank fills", "n": [1, 2]}
    assert [p.conditions.view is not None for p in again.past] == [False, True, False, False, False]
    back = again.past[1].conditions.view
    assert back is not None
    assert torch.equal(back.c2w, view.c2w)
    assert back.hw == (32, 48)


def test_a_fork_and_its_origin_do_not_touch_each_other(model: CausalVideoDiT, tmp_path: Path) -> None:
    for options in OPTIONS[2:4]:
        rollout = engine(model, **options)
        run(rollout, 4)
        undisturbed = there_and_back(rollout, tmp_path)
        table = rollout.table()
        fork = rollout.fork()
        fork.knock_out(2)
        fork.protect(1)
        fork.set_role(3, "anchor")
        other = fork.generate(replace(ask(50, batch=rollout.batch, guided=rollout.guidance != 1)))
        run(fork, 2)
        assert rollout.table() == table
        expected = run(undisturbed, 3)
        assert torch.equal(run(rollout, 3), expected)
        assert not torch.equal(other, expected[:, :3])
        same = undisturbed.fork()
        assert torch.equal(run(same, 2), run(undisturbed, 2))


# --- refusals ------------------------------------------------------------------------------------------------------


def tampered(file: Path, change: Callable[[dict[str, Any], dict[str, torch.Tensor]], None]) -> None:
    """Write the file again with other facts or tensors."""
    with safe_open(str(file), framework="pt") as opened:
        facts = json.loads(opened.metadata()["remind"])
        tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    change(facts, tensors)
    save_file(tensors, str(file), {"remind": json.dumps(facts)})


@pytest.fixture
def file(model: CausalVideoDiT, tmp_path: Path) -> Path:
    rollout = engine(model, policy=Window(2))
    run(rollout, 4)
    save_rollout(tmp_path / "r.safetensors", rollout, checkpoint=CHECKPOINT)
    return tmp_path / "r.safetensors"


def _set(*path: Any, to: Any) -> Callable[[dict[str, Any], dict[str, torch.Tensor]], None]:
    def change(facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        held: Any = facts
        for key in path[:-1]:
            held = held[key]
        held[path[-1]] = to

    return change


FACTS = {
    "another format": _set("format", to="remind-rollout-2"),
    "an unknown fact": _set("code", to="import os"),
    "a number in words": _set("options", "first_position", to="0"),
    "not a number": _set("options", "guidance", to=float("nan")),
    "a negative time": _set("options", "first_position", to=-3),
    "no seeds": _set("options", "seeds", to=[]),
    "more samples": _set("options", "seeds", to=[1, 2, 3]),
    "another size": _set("options", "latent_hw", to=[4, 2]),
    "no size": _set("options", "latent_hw", to=[0, -2]),
    "an absurd size": _set("options", "latent_hw", to=[2**40, 2**40]),
    "another storage": _set("options", "storage", to="int8"),
    "guided": _set("options", "guidance", to=2.0),
    "no such policy": _set("options", "policy", to="os.system"),
    "no budget": _set("options", "budget_bytes", to=1),
    "a budget of fewer slots": _set("options", "budget_bytes", to=2 * SLOT),
    "endless steps": _set("options", "sampler", "steps", to=10**12),
    "a role that is none": _set("chunks", 0, "role", to="king"),
    "a prompt that is not there": _set("chunks", 0, "text", to=9),
    "prompts without end": _set("texts", to=10**12),
    "importance without a look": _set("chunks", 0, "importance", to=0.5),
    "a view without tensors": _set("chunks", 0, "view", to=[9, 32, 32]),
    "a chunk in two slots": _set("slots", to=[2, 2]),
    "a chunk that waits and is there": _set("waiting", to=[2]),
    "a chunk that does not exist": _set("waiting", to=[17]),
    "an entry without tensors": _set("slots", to=[None, 1, 2, 0]),
    "more references than chunks": _set("references", to=9),
    "references after chunk 0": _set("references", to=1),
    "more chunks": lambda facts, tensors: facts["chunks"].append(facts["chunks"][0]),
}


@pytest.mark.parametrize("change", FACTS.values(), ids=FACTS.keys())
def test_facts_that_do_not_fit_are_refused(file: Path, model: CausalVideoDiT, change: Any) -> None:
    tampered(file, change)
    with pytest.raises(CheckpointError):
        load_rollout(file, model, checkpoint=CHECKPOINT)


def _tensor(name: str, value: torch.Tensor | None) -> Callable[[dict[str, Any], dict[str, torch.Tensor]], None]:
    def change(facts: dict[str, Any], tensors: dict[str, torch.Tensor]) -> None:
        del tensors[name]
        if value is not None:
            tensors[name] = value

    return change


TENSORS = {
    "latents of another size": _tensor("latents", torch.zeros(4, 2, 3, 16, 2, 4)),
    "latents of another type": _tensor("latents", torch.zeros(4, 2, 3, 16, 2, 2, dtype=torch.float64)),
    "no cameras": _tensor("cameras", None),
    "a longer prompt": _tensor("text.0", torch.zeros(2, TINY.text_len + 1, TINY.text_dim)),
    "prompts of two lengths": _tensor("text.1", torch.zeros(2, 5, TINY.text_dim)),
    "a smaller entry": _tensor("cache.0.1.k", torch.zeros(2, 2, 4, 2, 12)),
    "one more": lambda facts, tensors: tensors.update(extra=torch.zeros(1)),
}


@pytest.mark.parametrize("change", TENSORS.values(), ids=TENSORS.keys())
def test_tensors_that_do_not_fit_are_refused_by_name(file: Path, model: CausalVideoDiT, change: Any) -> None:
    tampered(file, change)
    with pytest.raises(CheckpointError, match=r"does not hold what it says.*(latents|cameras|text|cache|extra)"):
        load_rollout(file, model, checkpoint=CHECKPOINT)


def test_a_file_of_other_weights_is_refused(file: Path, model: CausalVideoDiT) -> None:
    with pytest.raises(CheckpointError, match="other weights; got 0123456789abcdef; expected ffff"):
        load_rollout(file, model, checkpoint="ffff")
    with pytest.raises(CheckpointError, match="another shape"):
        load_rollout(file, filled_model(replace(TINY, eps=1e-5)), checkpoint=CHECKPOINT)


def test_what_is_no_rollout_is_refused(file: Path, model: CausalVideoDiT, tmp_path: Path) -> None:
    whole = file.read_bytes()
    header = struct.unpack("<Q", whole[:8])[0]
    for damaged in (b"", b"\x80\x04.", whole[:100], whole[:-1], whole[: 8 + header], b"\xff" * 8 + whole[8:]):
        file.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=r"cannot be read|no rollout"):
            load_rollout(file, model, checkpoint=CHECKPOINT)
    save_file({"x": torch.zeros(1)}, str(file))
    with pytest.raises(CheckpointError, match="is no rollout"):
        load_rollout(file, model, checkpoint=CHECKPOINT)
    with pytest.raises(CheckpointError, match="no such rollout"):
        load_rollout(tmp_path / "nothing", model, checkpoint=CHECKPOINT)


def test_a_policy_without_a_text_form_is_not_saved(model: CausalVideoDiT, tmp_path: Path) -> None:
    class Own(Window):
        pass

    rollout = engine(model, policy=Own(3))
    assert memory_policy(rollout.policy.name) != rollout.policy
    with pytest.raises(InputError, match=r"cannot be written down; got window:3"):
        save_rollout(tmp_path / "r.safetensors", rollout, checkpoint=CHECKPOINT)
    with pytest.raises(InputError, match="cannot be written down"):
        save_rollout(tmp_path / "r.safetensors", engine(model), checkpoint=CHECKPOINT, about={"x": object()})
    assert not list(tmp_path.iterdir())
