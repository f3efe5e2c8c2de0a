"""What the dry run says is what really happens: weights exactly, FLOPs to two per cent, memory to fifteen."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from rich.console import Console
from torch import Tensor

from remind.data.mixture import Mixture
from remind.errors import InputError
from remind.models.config import DiTConfig
from remind.models.devices import GPUS, Device, find_device
from remind.models.dit import CausalVideoDiT
from remind.models.flop_count import count_flops
from remind.models.memory import LiveBytes
from remind.models.text import WordHashEncoder
from remind.recipes import recipe
from remind.training.batches import noise_of, plans_of_step
from remind.training.config import Execution, StepOptions, TrainConfig
from remind.training.curriculum import Curriculum
from remind.training.distributed import Ranks
from remind.training.estimate import Estimate, estimate
from remind.training.example_plans import PlanShape, example_plans, regime_shares
from remind.training.lora import LoraOptions, add_lora
from remind.training.losses import LossWeights, loss_share
from remind.training.model_flops import optimizer_work, pass_work
from remind.training.muon import Muon
from remind.training.optimizers import build_optimizers
from remind.training.parameter_count import count_parameters
from remind.training.step import assemble, predict
from remind.training.trainer import Trainer
from remind.training.training_memory import muon_working_bytes

from ..make_memory import random_bank

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "training_memory.py"
CPU = Ranks(torch.device("cpu"))
NANO = recipe("nano")
ALL_HISTORY = Curriculum({"all_history": 1.0})
SMALL = replace(NANO, model=replace(NANO.model, num_layers=3), batch_size=4, curriculum=ALL_HISTORY,
                step=replace(NANO.step, kernel="prefix"))  # fmt: skip
DENSE = replace(SMALL, batch_size=12, step=NANO.step)  # fewer operators, so quicker to trace


def with_model(config: TrainConfig, **changes: Any) -> TrainConfig:
    return replace(config, model=replace(config.model, **changes))


def with_execution(config: TrainConfig, **changes: Any) -> TrainConfig:
    return replace(config, execution=replace(config.execution, **changes))


def wan(**changes: Any) -> TrainConfig:
    """The real shape, bf16, one clip a pass."""
    return replace(NANO, recipe="wan", model=DiTConfig.preset("wan-1.3b", camera_mode="full"), hw=(480, 832),
                   batch_size=64, group_size=1, precision="bf16", optimizer="adamw", bank_size=0, step=StepOptions(),
                   execution=Execution(micro_batch=1, recompute=True), steps=10_000, **changes)  # fmt: skip


def trainer(config: TrainConfig) -> Trainer:
    bank = random_bank(config.batch_size, num_frames=config.num_frames, hw=config.latent_hw)
    bank.encoder = WordHashEncoder(config.model.text_dim, config.model.text_len)
    return Trainer(config, Mixture([bank], [1.0], 0), CPU)


def run(config: TrainConfig, steps: int) -> Trainer:
    made = trainer(config)
    for _ in zip(range(steps), made.steps(), strict=False):
        pass
    return made


@pytest.mark.parametrize(
    "config",
    [NANO, recipe("nano-base"), with_model(NANO, camera_mode="dual"), replace(NANO, lora=LoraOptions(rank=4)),
     with_model(replace(NANO, optimizer="adamw"), vo_transform="prope", phase_per_head=True)],
    ids=["nano", "no cameras", "dual", "lora", "prope"],
)  # fmt: skip
def test_parameters_are_exact(config: TrainConfig) -> None:
    model = CausalVideoDiT(config.model)
    if config.lora is not None:
        add_lora(model, config.lora)
    named = dict(model.named_parameters())
    by_muon = [p for o in build_optimizers(model, config) if isinstance(o, Muon) for p in o.param_groups[0]["params"]]

    def number(parameters: list[Tensor]) -> int:
        return sum(p.numel() for p in parameters)

    whole = count_parameters(config).whole
    assert whole.total == number(list(named.values()))
    assert whole.trainable == number([p for p in named.values() if p.requires_grad])
    assert whole.camera == number([p for name, p in named.items() if "camera" in name])
    assert whole.adapters == number([p for name, p in named.items() if "lora_" in name])
    assert whole.muon == number(by_muon)


def test_the_real_shape_has_the_parameters_that_it_is_known_for() -> None:
    assert count_parameters(with_model(wan(), camera_mode="none")).whole.total == 1_418_996_800


@pytest.mark.parametrize(
    "config",
    [SMALL, replace(SMALL, step=replace(SMALL.step, kernel="dense")), with_execution(SMALL, recompute=True),
     with_model(SMALL, camera_mode="none"), with_model(SMALL, camera_mode="dual"),
     with_model(SMALL, vo_transform="prope"), replace(SMALL, lora=LoraOptions(rank=8)),
     replace(SMALL, curriculum=Curriculum({"v2v_frontier": 1.0}), hw=(48, 32)),
     replace(SMALL, curriculum=Curriculum({"reference_cache": 1.0}))],
    ids=["prefix", "dense", "recompute", "no cameras", "dual", "prope", "lora", "v2v", "reference"],
)  # fmt: skip
def test_flops_of_a_real_step_are_as_counted(config: TrainConfig) -> None:
    made = trainer(config)
    samples, plans = plans_of_step(config, made.mixture, 0)
    batch = assemble(samples, plans, [noise_of(config, index) for index in range(config.batch_size)], config.step)

    def step() -> None:
        share, _ = loss_share(
            predict(made.model, batch), x0=batch.x0, noise=batch.noise, sigmas=batch.sigmas,
            supervised=batch.supervised, roles=batch.roles, regime=batch.regime, weights=LossWeights(1.0, 1.0, 1.0),
        )  # fmt: skip
        share.backward()

    real = count_flops(step)
    parts = pass_work(config, PlanShape.of(plans[0]), config.batch_size)
    assert sum(part.total for part in parts.values()) == pytest.approx(real, rel=0.02)


def test_flops_of_muon_are_as_counted() -> None:
    model = CausalVideoDiT(SMALL.model)
    _, muon = build_optimizers(model, SMALL)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    real = count_flops(muon.step)
    parameters = count_parameters(SMALL)
    assert optimizer_work(parameters.muon_shapes, parameters.layers).total == pytest.approx(real, rel=0.02)


def test_muon_works_with_as_much_memory_as_said() -> None:
    config = with_model(SMALL, dim=256, num_heads=8, ffn_dim=1024)
    model = CausalVideoDiT(config.model)
    _, muon = build_optimizers(model, config)
    for parameter in model.parameters():
        parameter.grad = torch.ones_like(parameter)
    muon.step()
    with LiveBytes() as live:
        muon.step()
    assert live.peak == pytest.approx(muon_working_bytes(count_parameters(config), 1), rel=0.15)


@pytest.mark.parametrize(
    "config",
    [with_execution(SMALL, micro_batch=1), replace(SMALL, precision="bf16"), replace(SMALL, lora=LoraOptions(rank=8))],
    ids=["passes", "bf16", "lora"],
)  # fmt: skip
def test_tensors_hold_as_much_memory_as_said(config: TrainConfig) -> None:
    said = estimate(config, world_size=1, device="cpu").memory
    with LiveBytes() as live:
        run(config, 2)
    assert live.peak == pytest.approx(said.peak, rel=0.08)


def test_a_process_grows_by_as_much_memory_as_said() -> None:
    names = ["nano", "nano, recompute", "wide", "wide, recompute"]
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536"}  # what is freed goes back to the kernel
    done = subprocess.run([sys.executable, str(BENCHMARK), "--worker", *names, "--how", "resident"], env=environment,
                          capture_output=True, text=True, check=False)  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.keys() == set(names)
    for name, row in found.items():
        assert row["resident"] == pytest.approx(row["estimate"], rel=0.15), name
    assert found["wide, recompute"]["estimate"] < 0.6 * found["wide"]["estimate"]


def test_tokens_are_those_that_the_trainer_counts() -> None:
    assert estimate(SMALL, world_size=1, device="cpu").tokens_per_step == run(SMALL, 1).tokens


def test_regimes_count_by_their_share_of_the_whole_run() -> None:
    moving = Curriculum(knots=[(0.0, {"all_history": 1.0}), (0.5, {"all_history": 1.0}), (1.0, {"v2v_frontier": 1.0})])
    shares = regime_shares(moving)
    assert shares.keys() == {"all_history", "v2v_frontier"}
    assert shares["v2v_frontier"] == pytest.approx(0.25, abs=1e-3)
    found = estimate(replace(SMALL, curriculum=moving), world_size=1, device="cpu")
    (whole, suffix) = found.regimes
    mean = 0.75 * whole.tokens_per_step + 0.25 * suffix.tokens_per_step
    assert found.tokens_per_step == pytest.approx(mean, rel=1e-3)
    assert suffix.tokens_per_step < whole.tokens_per_step


def test_plans_are_those_of_teacher_forcing() -> None:
    (regime,) = example_plans(SMALL, draws=2)
    assert regime.entries == 13
    assert regime.seen * 13 == sum(range(1, 7)) + sum(range(1, 8))  # six of history, seven targets


@pytest.fixture(scope="module")
def real_shape() -> Estimate:
    return estimate(wan(), world_size=64, device="H100")


def test_the_real_shape_on_64_gpus(real_shape: Estimate) -> None:
    assert not dist.is_initialized()
    memory, whole = real_shape.memory, real_shape.parameters.whole
    assert memory.parts["optimiser"]["weights"] == 4 * whole.total / 64
    assert memory.parts["optimiser"]["optimiser states"] == 8 * whole.total / 64
    assert (memory.clips, memory.passes, real_shape.fits) == (1, 1, True)
    tokens = 13 * 3 * 30 * 52  # of a clip, as a rank has it in all-history
    assert real_shape.regimes[0].tokens_per_clip == tokens
    # Recomputation keeps the stream of every block, in float32, and not much more.
    assert memory.parts["backward starts"]["activations kept"] == pytest.approx(4 * tokens * 1536 * 30, rel=0.15)
    # A multiply-add for every weight of the stream and token, thrice, and once more where recomputed.
    stream = 30 * (6 * 1536**2 + 2 * 1536 * 8960)
    products = real_shape.work["its projections"].total + real_shape.work["feed-forward"].total
    products += real_shape.work["attention to text"].total
    assert products == pytest.approx(4 * 2 * stream * real_shape.tokens_per_step, rel=0.1)
    step_s = real_shape.flops_per_step / 64 / (0.4 * 989.5e12)
    assert real_shape.time.step_s == pytest.approx(step_s)
    assert real_shape.time.device_h == pytest.approx(64 * step_s * 10_000 / 3600)
    assert real_shape.model_flops_utilisation == pytest.approx(0.4 * 3 / 4, abs=0.02)


def test_tables_and_json_say_the_same(real_shape: Estimate) -> None:
    text = StringIO()
    real_shape.render(Console(file=text, width=160))
    said = text.getvalue()
    values = json.loads(json.dumps(real_shape.to_json()))
    for words in ("1,561,716,160", "node_drop", "It fits", "backward starts", "40% of the peak", "MI300X", "slack"):
        assert words in said
    assert values["parameters"]["whole"]["total"] == 1_561_716_160
    assert values["memory_bytes"] == pytest.approx(1.1 * values["memory_peak_bytes"])
    assert values["config"]["model"]["dim"] == 1536
    # Of a process: one clip's step, two in one version each; both with seven prompts of 512 x 4096 floats.
    assert 4 * 7 * 512 * 4096 <= values["disk"]["host_running"] <= 16 * 7 * 512 * 4096
    assert values["disk"]["checkpoint"] == 16 * 1_561_716_160
    assert {time["device"]["name"] for time in values["elsewhere"]} == GPUS.keys() - {"H100"}


def test_what_is_sharded_and_what_is_not() -> None:
    def parts(config: TrainConfig, world_size: int) -> dict[str, float]:
        return estimate(config, world_size=world_size, device="cpu").memory.parts["backward starts"]

    one, four = parts(DENSE, 1), parts(DENSE, 4)
    replicas = parts(with_execution(DENSE, replicate=2), 4)
    shared = parts(with_execution(DENSE, sequence_parallel=2), 4)
    for name in ("weights", "optimiser states", "averaged weights"):
        assert four[name] == one[name] / 4
        assert replicas[name] == one[name] / 2
    assert one["gathered blocks"] == 0 < four["gathered blocks"] == replicas["gathered blocks"]
    # Twice the clips of half the tokens each; texts are embedded on both.
    assert shared["activations kept"] == pytest.approx(four["activations kept"], rel=0.3)
    assert shared["exchange of tokens"] > 0 == four["exchange of tokens"]
    total = [estimate(c, world_size=4, device="cpu").work["attention to chunks"].total
             for c in (DENSE, with_execution(DENSE, sequence_parallel=2))]  # fmt: skip
    assert total[0] == pytest.approx(total[1])


def test_what_does_not_fit_is_told_what_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(GPUS, "toy", Device("toy", 45e6, 1e12, 1e12))  # type: ignore[arg-type]
    big = with_execution(DENSE, micro_batch=3)
    found = estimate(big, world_size=2, device="toy")
    assert not found.fits
    assert not found.time.fits
    assert {remedy.change.split()[0] for remedy in found.remedies} == {
        "--execution.recompute", "--execution.micro-batch", "--execution.sequence-parallel",
    }  # fmt: skip
    for remedy in found.remedies:
        name, _, value = remedy.change.removeprefix("--execution.").partition(" ")
        changed = with_execution(big, **{name.replace("-", "_"): int(value) if value else True})
        again = estimate(changed, world_size=2, device="toy")
        assert again.fits
        assert again.memory.total == pytest.approx(remedy.memory_bytes)
    text = StringIO()
    found.render(Console(file=text, width=160))
    assert "does not fit" in text.getvalue()
    assert found.remedies[0].change in text.getvalue()
    monkeypatch.setitem(GPUS, "toy", Device("toy", 24e6, 1e12, 1e12))  # type: ignore[arg-type]
    (joined,) = estimate(big, world_size=2, device="toy").remedies
    assert joined.change.startswith("--execution.recompute, --execution.micro-batch 1")
    assert joined.memory_bytes <= 24e6


def test_devices_are_found_by_their_names() -> None:
    assert find_device("h100").name == "H100"
    assert find_device("rtx 4090").name == "RTX-4090"
    assert find_device("NVIDIA A100-SXM4-80GB").name == "A100-80GB"
    assert find_device("NVIDIA GeForce RTX 4090").name == "RTX-4090"
    assert find_device("cpu").fp32_flops > 1e9
    for name in ("H", "TPU", "", "NVIDIA A100-SXM4-40GB"):
        with pytest.raises(InputError, match="not in the table"):
            find_device(name)


@pytest.mark.parametrize(
    ("config", "world_size", "message"),
    [(SMALL, 3, "does not split"), (SMALL, 0, "needs a device"),
     (with_execution(SMALL, replicate=3), 4, "do not split"),
     (with_execution(replace(SMALL, batch_size=3), sequence_parallel=3), 3, "attention heads")],
)  # fmt: skip
def test_numbers_that_do_not_divide_are_errors(config: TrainConfig, world_size: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate(config, world_size=world_size)
