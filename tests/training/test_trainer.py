"""The trainer: the loss of a batch however it is split, resuming bit for bit, and bad runs that stop and say where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from remind.data.dataset import Mixture
from remind.errors import CheckpointError, InputError, RemindError
from remind.models.checkpoint import save_checkpoint
from remind.training import run_checkpoint
from remind.training.config import Execution, TrainConfig
from remind.training.losses import LossOptions
from remind.training.trainer import Trainer

from ..make_memory import TINY, filled_model, random_bank
from .make_run import ALONE, CONFIG, mixture, numbers, take, trainer


def weights(run: Trainer) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in run.tensors().items()}


@pytest.mark.parametrize("group_size", [0, 2])
def test_passes_of_any_size_give_the_step_of_the_whole_batch(group_size: int) -> None:
    grouped = replace(CONFIG, group_size=group_size, loss=LossOptions(gate_steps=1))
    whole = trainer(grouped)
    expected = take(whole, 3)
    for size in (1, group_size or 3):
        split = trainer(replace(grouped, execution=Execution(micro_batch=size)))
        for mine, theirs in zip(take(split, 3), expected, strict=True):
            assert mine["regime"] == theirs["regime"]
            assert numbers(mine) == pytest.approx(numbers(theirs), rel=2e-5)
        for name, tensor in split.tensors().items():
            torch.testing.assert_close(tensor, whole.tensors()[name], atol=2e-5, rtol=1e-4)


def test_recomputing_activations_changes_nothing() -> None:
    assert take(trainer(replace(CONFIG, execution=Execution(recompute=True))), 2) == take(trainer(), 2)


def test_bfloat16_is_for_products_alone() -> None:
    run = trainer(replace(CONFIG, precision="bf16"))
    assert take(run, 1)[0]["loss"] == pytest.approx(take(trainer(), 1)[0]["loss"], rel=0.01)
    assert {tensor.dtype for tensor in run.tensors().values()} == {torch.float32}


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_three_steps_a_checkpoint_and_three_more_equal_six(optimizer: str, tmp_path: Path) -> None:
    config = replace(CONFIG, optimizer=optimizer)
    straight = trainer(config)
    expected = take(straight, 6)
    first = trainer(config)
    take(first, 3)
    folder = first.save(tmp_path)
    again = trainer(config)
    assert again.resume(folder) == []
    assert (again.step, again.tokens, again.seconds) == (3, first.tokens, first.seconds)
    assert take(again, 3) == expected[3:]
    assert again.max_distance == straight.max_distance == 14  # from frame 0 to the last of 15
    mine, theirs = again.tensors(), straight.tensors()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in mine.items())


def test_execution_and_validation_may_change_on_resume_and_nothing_else(tmp_path: Path) -> None:
    run = trainer()
    take(run, 1)
    folder = run.save(tmp_path)
    trainer(replace(CONFIG, execution=Execution(micro_batch=2, keep=5))).resume(folder)
    for change in ({"seed": 6}, {"batch_size": 2}, {"steps": 7}, {"loss": LossOptions("flow_only")}):
        with pytest.raises(InputError, match=rf"holds another run.*{next(iter(change))}"):
            trainer(replace(CONFIG, **change)).resume(folder)
    other = Trainer(CONFIG, mixture(), ALONE, data="other content")
    with pytest.raises(InputError, match="no longer those"):
        other.resume(folder)


def test_another_number_of_threads_is_said(tmp_path: Path) -> None:
    run = trainer()
    folder = run.save(tmp_path)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    try:
        assert trainer().resume(folder) == [f"{threads + 1} threads instead of {threads}"]
    finally:
        torch.set_num_threads(threads)


def test_the_average_starts_fast_and_decays_as_written() -> None:
    run = trainer()
    expected = {k: v.clone() for k, v in run.model.named_parameters()}
    for step in (1, 2, 3):
        take(run, 1)
        decay = min(CONFIG.ema_decay, (1 + step) / (10 + step))
        expected = {k: decay * expected[k] + (1 - decay) * v.detach() for k, v in run.model.named_parameters()}
    for name, value in run.averaged_weights().items():
        torch.testing.assert_close(value, expected[name].detach(), atol=1e-6, rtol=1e-5)


def test_a_look_at_the_averaged_weights_leaves_the_run_as_it_was() -> None:
    run, other = trainer(), trainer()
    take(run, 2)
    before = weights(run)
    with run.averaged_model(sharded=False) as model:
        assert model is not None
        assert all(torch.equal(p, before[f"average.{name}"]) for name, p in model.named_parameters())
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.tensors().items())
    take(other, 2)
    assert take(run, 2) == take(other, 2)


def test_training_lowers_the_loss() -> None:
    """On a bank of one constant picture, whose velocity a model can read off its input."""
    bank = random_bank(5)
    for name in ("clean", "degraded"):
        bank.tensors[name].fill_(1.0)
    run = trainer(replace(CONFIG, steps=40, batch_size=2, warmup_steps=5), data=Mixture([bank], [1.0], 5))
    flow = [record["flow"] for record in take(run, 40)]
    assert sum(flow[-8:]) < 0.7 * sum(flow[:8])


def test_the_delta_loss_waits_for_its_gate() -> None:
    for record in take(trainer(replace(CONFIG, loss=LossOptions(gate_steps=3))), 6):
        joined = record["flow"] + record["delta_weight"] * record["delta"]
        assert record["loss"] == pytest.approx(joined, rel=1e-5)
        assert (record["delta_weight"] > 0) == (record["step"] > 3)


def spoilt(value: float, *, config: TrainConfig = CONFIG) -> Mixture:
    """A mixture one of whose clips is no number to learn from."""
    bank = random_bank(5)
    for name in ("clean", "degraded"):
        bank.tensors[name][2] = value
    return Mixture([bank], [1.0], config.seed)


@pytest.mark.parametrize("micro_batch", [0, 1])
def test_a_loss_that_is_not_finite_stops_before_anything_moves_and_names_the_clips(micro_batch: int) -> None:
    data = spoilt(float("nan"))
    run = trainer(replace(CONFIG, execution=Execution(micro_batch=micro_batch)), data=data)
    bad = next(i for i in range(24) if data.locate(i)[1] == 2)
    take(run, bad // 4)
    before = weights(run)
    where = rf"latents of the data are not finite; got step {bad // 4 + 1}, \w+: .*{bad} \(item 2"
    with pytest.raises(RemindError, match=where) as error:
        take(run, 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.tensors().items())
    assert run.step == bad // 4
    assert str(error.value).count("item") == (1 if micro_batch else 4)  # one pass, or all that one pass held


def test_a_model_that_blows_up_is_stopped_by_its_loss() -> None:
    run = trainer()
    with torch.no_grad():
        run.model.head.head.bias.fill_(1e30)
    before = weights(run)
    with pytest.raises(RemindError, match=r"the loss is not finite; got step 1, \w+: 0 \(item"):
        take(run, 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.tensors().items())


def test_a_gradient_that_is_not_finite_stops_too() -> None:
    run = trainer(replace(CONFIG, loss=LossOptions("flow_only")))
    with torch.no_grad():  # its square is finite, its gradient's norm is not
        run.model.head.head.weight.fill_(3e17)
    before = weights(run)
    with pytest.raises(RemindError, match=r"gradient norm is (inf|nan); got step 1, "):
        take(run, 1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in run.tensors().items())


def test_a_run_starts_from_a_checkpoint_and_new_cameras_start_without_effect(tmp_path: Path) -> None:
    plain = replace(TINY, camera_mode="none")
    base = filled_model(plain)
    save_checkpoint(tmp_path / "base", plain, base.state_dict(), {})
    started = trainer(replace(CONFIG, init_from=str(tmp_path / "base")))
    for name, parameter in started.model.named_parameters():
        if "camera" not in name:
            assert torch.equal(parameter, base.state_dict()[name])
    assert any("camera" in name for name, _ in started.model.named_parameters())
    take(started, 1)
    save_checkpoint(tmp_path / "camera", TINY, filled_model().state_dict(), {})
    with pytest.raises(CheckpointError, match="camera"):  # weights that the model has no place for
        trainer(replace(CONFIG, model=plain, init_from=str(tmp_path / "camera")))
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        trainer(replace(CONFIG, init_from=str(tmp_path / "nowhere")))


def test_the_first_weights_depend_on_the_seed_alone() -> None:
    torch.manual_seed(123)
    one = trainer()
    torch.manual_seed(321)
    two, other = trainer(), trainer(replace(CONFIG, seed=6))
    assert all(torch.equal(a, b) for a, b in zip(one.model.parameters(), two.model.parameters(), strict=True))
    assert any(not torch.equal(a, b) for a, b in zip(one.model.parameters(), other.model.parameters(), strict=True))


def test_a_frozen_weight_is_in_no_checkpoint_and_does_not_move(tmp_path: Path) -> None:
    lora = pytest.importorskip("remind.training.lora")
    pytest.importorskip("peft")
    config = replace(CONFIG, lora=lora.LoraOptions(rank=2, alpha=2.0))
    run = trainer(config)
    frozen = {n: p.clone() for n, p in run.model.named_parameters() if not p.requires_grad}
    expected = take(run, 4)
    assert all(torch.equal(dict(run.model.named_parameters())[n], p) for n, p in frozen.items())
    assert not {f"model.{n}" for n in frozen} & run.tensors().keys()
    assert run.averaged_weights().keys() == trainer().averaged_weights().keys()  # merged, under plain names
    first = trainer(config)
    take(first, 2)
    again = trainer(config)
    again.resume(first.save(tmp_path))
    assert take(again, 2) == expected[2:]


def test_what_is_kept_of_checkpoints_is_the_last_ones_and_the_best(tmp_path: Path) -> None:
    run = trainer()
    for step in range(1, 6):
        take(run, 1)
        run.save(tmp_path)
        if step == 2:
            run_checkpoint.write_best(tmp_path, 2, 0.5)
        run_checkpoint.retain(tmp_path, 2)
    assert run_checkpoint.steps_on_disk(tmp_path) == [2, 4, 5]
    assert run_checkpoint.read_best(tmp_path) == (2, 0.5)
    assert run_checkpoint.latest(tmp_path) == run_checkpoint.step_folder(tmp_path, 5)
