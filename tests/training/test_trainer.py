"""The trainer: resuming after a kill is bitwise, steps are pure functions, and bad runs stop and say where."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from remind.data.dataset import Mixture
from remind.errors import CheckpointError, InputError, RemindError
from remind.models.checkpoint import load_run
from remind.recipes import RECIPES, recipe
from remind.recipes.arms import arm_settings
from remind.training.config import Execution, TrainConfig
from remind.training.step import StepOptions
from remind.training.trainer import Trainer, make_batch, plans_of_step

from ..make_memory import TINY, random_bank

CONFIG = TrainConfig(
    recipe="by_hand", arm="remind", model=TINY, hw=(16, 16), num_frames=57, steps=6, batch_size=3, warmup_steps=2,
    learning_rate=3e-3, execution=Execution(checkpoint_every=3), step=StepOptions(sigma_shift=2.0), delta_gate=0.5,
    seed=5,
    **arm_settings("remind"),
)  # fmt: skip


def mixture(config: TrainConfig = CONFIG) -> Mixture:
    return Mixture([random_bank(5)], [1.0], config.seed)


def trainer(out: Path, config: TrainConfig = CONFIG) -> Trainer:
    out.mkdir(exist_ok=True)
    return Trainer(config, mixture(config), out, {"commit": "abc", "codec": "none"})


def records(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


class Killed(Exception):
    """Stands in for a power cut."""


def kill_after(steps: int):  # type: ignore[no-untyped-def]
    def report(step: int, record: dict[str, float]) -> None:
        if step == steps:
            raise Killed

    return report


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("straight")
    trainer(out).run()
    return out


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_six_steps_equal_three_a_kill_and_three_more_bitwise(optimizer: str, tmp_path: Path) -> None:
    config = replace(CONFIG, optimizer=optimizer)
    straight, out = tmp_path / "straight", tmp_path / "killed"
    trainer(straight, config).run()
    with pytest.raises(Killed):
        trainer(out, config).run(kill_after(5))
    assert [r["step"] for r in records(out)] == [1, 2, 3, 4, 5]
    with (out / "metrics.jsonl").open("a") as file:
        file.write('{"step": 6, "los')  # a line that was being written
    again = trainer(out, config)
    again.resume()
    assert again.step == 3
    assert [r["step"] for r in records(out)] == [1, 2, 3]  # what will be done again is cut away
    again.run()
    assert records(out) == records(straight)
    mine, theirs = (load_file(folder / "model.safetensors") for folder in (out, straight))
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    states = [torch.load(folder / "state.pt", weights_only=True) for folder in (out, straight)]
    for name, tensor in states[0]["model"].items():
        assert torch.equal(tensor, states[1]["model"][name])
    assert len(states[0]["optimizers"]) == (2 if optimizer == "muon" else 1)
    for first, second in zip(*(state["optimizers"] for state in states), strict=True):
        assert first["state"].keys() == second["state"].keys()
        for moments in zip(first["state"].values(), second["state"].values(), strict=True):
            assert all(torch.equal(moments[0][k], moments[1][k]) for k in moments[0])


def test_a_run_leaves_a_checkpoint_that_says_what_made_it(straight: Path) -> None:
    assert sorted(p.name for p in straight.iterdir()) == [
        "config.json", "metrics.jsonl", "model.safetensors", "state.pt"
    ]  # fmt: skip
    model, about = load_run(straight)
    assert about["steps_done"] == 6
    assert about["commit"] == "abc"
    assert about["train"] == json.loads(json.dumps(CONFIG.to_json()))
    assert model.config == replace(TINY, max_trained_distance=14)  # from frame 0 to the last of 15


def test_the_average_is_shipped_and_is_not_the_last_weights(straight: Path) -> None:
    state = torch.load(straight / "state.pt", weights_only=True)
    shipped = load_file(straight / "model.safetensors")
    assert all(torch.equal(shipped[name], state["average"][name]) for name in shipped)
    assert any(not torch.equal(shipped[name], state["model"][name]) for name in shipped)


def test_the_average_starts_fast_and_decays_as_written(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    expected = {k: v.clone() for k, v in run.model.named_parameters()}
    for step in (1, 2, 3):
        run.train_step()
        decay = min(CONFIG.ema_decay, (1 + step) / (10 + step))
        expected = {k: decay * expected[k] + (1 - decay) * v.detach() for k, v in run.model.named_parameters()}
    for name, value in run.average.named_parameters():
        torch.testing.assert_close(value, expected[name].detach(), atol=1e-6, rtol=1e-5)


def test_training_lowers_the_loss(tmp_path: Path) -> None:
    """On a bank of one constant picture, whose velocity a model can read off its input."""
    short = replace(CONFIG, steps=40, batch_size=2, warmup_steps=5, execution=Execution(checkpoint_every=40))
    run = trainer(tmp_path, short)
    for name in ("clean", "degraded"):
        run.mixture.banks[0].tensors[name].fill_(1.0)
    run.run()
    flow = [r["flow"] for r in records(tmp_path)]
    assert sum(flow[-8:]) < 0.7 * sum(flow[:8])


def test_the_delta_loss_waits_for_its_gate(straight: Path) -> None:
    for record in records(straight):
        joined = record["flow"] + (record["delta_weight"] * record["delta"] if record["step"] > 3 else 0)
        assert record["loss"] == pytest.approx(joined, rel=1e-5)


@pytest.mark.parametrize("change", [{"seed": 6}, {"batch_size": 2}, {"steps": 7}, {"model": replace(TINY, ffn_dim=64)}])
def test_another_config_is_refused_by_name(straight: Path, change: dict) -> None:
    before = (straight / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match=rf"holds another run.*{next(iter(change))}"):
        trainer(straight, replace(CONFIG, **change)).resume()
    assert (straight / "metrics.jsonl").read_bytes() == before


def test_nothing_or_something_damaged_cannot_be_resumed(straight: Path, tmp_path: Path) -> None:
    run = trainer(tmp_path / "new")
    with pytest.raises(CheckpointError, match="nothing to resume"):
        run.resume()
    (run.out / "state.pt").write_bytes((straight / "state.pt").read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"state.pt is damaged"):
        run.resume()


def test_a_loss_that_is_not_finite_stops_and_names_the_samples(tmp_path: Path) -> None:
    run = trainer(tmp_path)
    run.train_step()
    weights = {k: v.clone() for k, v in run.model.state_dict().items()}
    for name in ("clean", "degraded"):
        run.mixture.banks[0].tensors[name].fill_(float("nan"))
    with pytest.raises(RemindError, match=r"not finite; got nan at step 1; expected samples 3\.\.5 of seed 5"):
        run.run()
    assert run.step == 1
    assert all(torch.equal(v, weights[k]) for k, v in run.model.state_dict().items())
    assert not (tmp_path / "state.pt").exists()


def test_a_step_is_a_pure_function_of_seed_and_number() -> None:
    samples, plans = plans_of_step(CONFIG, mixture(), 17)
    plans_of_step(CONFIG, mixture(), 3)
    again_samples, again_plans = plans_of_step(CONFIG, mixture(), 17)
    assert plans == again_plans
    assert all(torch.equal(a.clean, b.clean) for a, b in zip(samples, again_samples, strict=True))
    first, second = (make_batch(CONFIG, mixture(), 17)[0] for _ in range(2))
    assert torch.equal(first.noise, second.noise)
    assert torch.equal(first.sigmas, second.sigmas)
    assert not torch.equal(first.noise, make_batch(replace(CONFIG, seed=6), mixture(), 17)[0].noise)
    later = [make_batch(CONFIG, mixture(), step)[0].noise[0, 0] for step in range(4)]
    assert all(not torch.equal(a, b) for i, a in enumerate(later) for b in later[:i])


def test_every_regime_of_the_curriculum_comes_up() -> None:
    single = replace(CONFIG, batch_size=1)
    seen = {plans_of_step(single, mixture(), step)[1][0].regime for step in range(150)}
    assert seen == {name for name, _ in CONFIG.curriculum.weights}


def test_twins_differ_in_curriculum_track_and_cameras_alone() -> None:
    for size in ("nano", "tiny"):
        mine, base, matched = (recipe(size + suffix) for suffix in ("", "-base", "-matched"))
        assert replace(matched, arm=mine.arm, curriculum=mine.curriculum) == mine
        assert replace(base, arm=mine.arm, curriculum=mine.curriculum, regime=mine.regime,
                       model=replace(base.model, camera_mode="full")) == mine  # fmt: skip
        assert base.regime.track == "clean"
        assert base.curriculum == matched.curriculum
    assert set(RECIPES) == {f"{size}{arm}" for size in ("nano", "tiny") for arm in ("", "-base", "-matched")}
    with pytest.raises(InputError, match=r"unknown recipe.*nano-base"):
        recipe("huge")
