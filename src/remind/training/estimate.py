"""The dry run: what a config will take in weights, tokens, FLOPs, memory and time, before anything is computed.

Parameters are exact, tokens too for the plans that are drawn; FLOPs follow from shapes (`model_flops.py`), memory from
a pass over tensors without content (`activation_trace.py`). Time is FLOPs over an assumed share of a device's peak
rate, and is as good as that share. Nothing is read, no process group is made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from rich.console import Console

from remind.errors import InputError
from remind.frame_graph import LATENTS_PER_CHUNK
from remind.models.devices import GPUS, Device, find_device
from remind.training.batches import check_split
from remind.training.config import TrainConfig
from remind.training.distributed import check_world
from remind.training.example_plans import RegimePlans, example_plans
from remind.training.model_flops import Work, optimizer_work, pass_work
from remind.training.parameter_count import Parameters, count_parameters
from remind.training.training_memory import Memory, band_hw, clips_per_pass, training_memory

UTILISATION = 0.4
"""Share of the peak rate that a step reaches, recomputation included. Our choice: well-kept training code reports 0.35
to 0.5 for transformers of this width on one node; nano reached 0.42 of a processor's rate (docs/benchmarks.md)."""
SLACK = 0.1
"""Of GPUs. Our choice, not measured: what torch's caching allocator holds in pieces that nobody can use."""
CPU_SLACK = 1.0
"""Of processors, where the C library keeps what is freed. Measured: 0.1 to 1.2 (benchmarks/training_memory.py)."""
RANKS_PER_NODE = 8
PROMPTS_OF_A_CLIP = 5
"""Different ones: the caption alone, and with what the view does as one interruption begins, lasts, ends, is over."""
_SHORT_S = 0.05
Change = dict[str, Any]
"""Options of `Execution` and their values; also `ranks`."""


@dataclass(frozen=True)
class RegimeCost:
    """What a regime's sequences are like, means over its plans.

    Args:
        regime: its name.
        share: of the run's groups of clips.
        entries: chunks in a sequence.
        seen: chunks that a chunk attends.
        tokens_per_clip, tokens_per_step: in sequences, over all ranks.
        flops_per_step: over all ranks, both passes, recomputation included.
    """

    regime: str
    share: float
    entries: float
    seen: float
    tokens_per_clip: float
    tokens_per_step: float
    flops_per_step: float


@dataclass(frozen=True)
class Disk:
    """Bytes on disk and in main memory.

    Args:
        checkpoint: of one, to go on from.
        weights: the averaged weights, for users.
        most: of all that the run keeps at any time.
        host_start: main memory of a process when it starts: random weights before they are sharded, world clips.
        host_running: of a process at work: world clips, clips that are read ahead, batches that wait.
        host_first: more on rank 0 when it writes the averaged weights.
    """

    checkpoint: float
    weights: float
    most: float
    host_start: float
    host_running: float
    host_first: float


@dataclass(frozen=True)
class Time:
    """Of a run on one kind of device.

    Args:
        device: which.
        fits: whether its memory suffices.
        step_s: seconds of a step, mean over the run's regimes.
        run_h: hours of the run.
        device_h: the same times the number of devices.
    """

    device: Device
    fits: bool
    step_s: float
    run_h: float
    device_h: float


@dataclass(frozen=True)
class Remedy:
    """A change that makes a run fit.

    Args:
        change: options, as a user sets them.
        memory_bytes: that a device then needs.
    """

    change: str
    memory_bytes: float


@dataclass(frozen=True)
class Estimate:
    """All that a dry run says.

    Args:
        config: the run.
        world_size: devices.
        device: which ones.
        utilisation: assumed share of the device's peak rate.
        parameters: numbers of weights.
        regimes: sequences of each.
        work: FLOPs of a step by part, mean over regimes and over all ranks.
        tokens_per_step: mean over regimes.
        memory: of one rank.
        disk: disk and main memory.
        time: on `device`.
        elsewhere: on the other devices of the table; none where a step is so short that calls decide, not products.
        remedies: where it does not fit, what would make it fit.
    """

    config: TrainConfig
    world_size: int
    device: Device
    utilisation: float
    parameters: Parameters
    regimes: tuple[RegimeCost, ...]
    work: dict[str, Work]
    tokens_per_step: float
    memory: Memory
    disk: Disk
    time: Time
    elsewhere: tuple[Time, ...]
    remedies: tuple[Remedy, ...]

    @property
    def flops_per_step(self) -> float:
        """Over all ranks, recomputation and optimiser included."""
        return sum(work.total for work in self.work.values())

    @property
    def model_flops_utilisation(self) -> float:
        """MFU: as `utilisation`, without the work that recomputation does twice."""
        again = sum(work.again for work in self.work.values())
        return self.utilisation * (1 - again / self.flops_per_step)

    @property
    def fits(self) -> bool:
        return self.memory.total <= self.device.memory_bytes

    def render(self, console: Console) -> None:
        """Print it as tables that say what they mean."""
        from remind.training.estimate_table import render

        render(self, console)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        found = asdict(self) | {"config": self.config.to_json()}
        found["parameters"] |= {"whole": asdict(self.parameters.whole)}
        found |= {"flops_per_step": self.flops_per_step, "model_flops_utilisation": self.model_flops_utilisation,
                  "fits": self.fits, "memory_peak_bytes": self.memory.peak, "memory_bytes": self.memory.total,
                  "memory_peak_moment": self.memory.peak_moment}  # fmt: skip
        return found


def estimate(
    config: TrainConfig, *, world_size: int, device: str | None = None, utilisation: float = UTILISATION
) -> Estimate:
    """Estimate a run.

    Args:
        world_size: devices, one process each.
        device: a name of `devices.GPUS`, or `cpu`; None = the processor for small models in fp32, else the GPU that
            is here, else an H100.
        utilisation: assumed share of the device's peak rate, 0..1.

    Raises:
        InputError: an unknown device, or numbers of ranks, clips, heads or rows that do not divide.
    """
    if not 0 < utilisation <= 1:
        raise InputError("utilisation is a share of the peak rate", got=utilisation, expected="above 0, at most 1")
    if world_size < 1:
        raise InputError("a run needs a device", got=f"{world_size} ranks", expected="1 or more")
    check_world(config.execution, world_size)
    check_split(config, world_size // config.execution.sequence_parallel)
    band_hw(config)
    parameters = count_parameters(config)
    chosen = find_device(device or _default_device(config, parameters))
    plans = example_plans(config)
    memory = _memory(config, parameters, plans, world_size, chosen)
    work, regimes = _work(config, parameters, plans, world_size)
    flops = sum(part.total for part in work.values())

    def time_on(on: Device, needed: Memory) -> Time:
        step_s = flops / world_size / (utilisation * on.peak_flops(config.precision))
        hours = step_s * config.steps / 3600
        return Time(on, needed.total <= on.memory_bytes, step_s, hours, hours * world_size)

    on_gpus = memory if chosen.name != "cpu" else replace(memory, slack=SLACK)
    others = [time_on(gpu, on_gpus) for gpu in GPUS.values() if gpu != chosen]
    disk = _disk(config, parameters, memory, world_size)
    tokens = sum(regime.share * regime.tokens_per_step for regime in regimes)
    found = Estimate(config, world_size, chosen, utilisation, parameters, regimes, work, tokens, memory, disk,
                     time_on(chosen, memory), tuple(t for t in others if t.step_s >= _SHORT_S), ())  # fmt: skip
    if found.fits:
        return found
    return replace(found, remedies=_remedies(config, parameters, plans, world_size, chosen))


def _default_device(config: TrainConfig, parameters: Parameters) -> str:
    small = config.precision == "fp32" and parameters.whole.total < 100_000_000
    if config.execution.device == "cpu" or (config.execution.device == "auto" and small):
        return "cpu"
    if torch.cuda.is_available():
        try:
            return find_device(torch.cuda.get_device_name()).name
        except InputError:  # a GPU that the table does not have
            pass
    return "H100"


def _memory(
    config: TrainConfig, parameters: Parameters, plans: tuple[RegimePlans, ...], world_size: int, device: Device
) -> Memory:
    """Of the plan that needs most: the longest, and of the longest the one that attends most."""
    largest = max((regime.largest for regime in plans), key=lambda plan: (plan.entries, plan.pairs))
    on_host = device.name == "cpu"
    return training_memory(config, parameters, largest, world_size=world_size, slack=CPU_SLACK if on_host else SLACK,
                           on_host=on_host)  # fmt: skip


def _work(
    config: TrainConfig, parameters: Parameters, plans: tuple[RegimePlans, ...], world_size: int
) -> tuple[dict[str, Work], tuple[RegimeCost, ...]]:
    """FLOPs of a mean step over all ranks, and every regime's sequences."""
    clips, passes = clips_per_pass(config, world_size)
    rows, columns = (size // patch for size, patch in zip(config.latent_hw, config.model.patch_hw, strict=True))
    total: dict[str, Work] = {}
    regimes = []
    for regime in plans:
        flops = 0.0
        for plan in regime.plans:
            for name, work in pass_work(config, plan, clips).items():
                work = work * (world_size * passes / len(regime.plans))
                flops += work.total
                total[name] = total.get(name, Work()) + work * regime.share
        tokens = regime.entries * LATENTS_PER_CHUNK * rows * columns
        regimes.append(RegimeCost(regime.regime, regime.share, regime.entries, regime.seen, tokens,
                                  tokens * config.batch_size, flops))  # fmt: skip
    total["optimiser"] = optimizer_work(parameters.muon_shapes, parameters.layers) * world_size
    return total, tuple(regimes)


def _disk(config: TrainConfig, parameters: Parameters, memory: Memory, world_size: int) -> Disk:
    whole = parameters.whole
    checkpoint = 4.0 * (4 * whole.trainable - whole.muon)  # weights, average, and two states or Muon's one
    weights = 4.0 * (whole.total - whole.adapters)
    kept = config.execution.keep + 1 + (1 if config.validation.every else 0)  # one more while it is written; the best
    most = kept * checkpoint + (2 if config.validation.every else 1) * weights
    height, width = config.latent_hw
    clip = 2 * config.num_latents * (config.model.in_channels * height * width + 15) * 4.0  # both versions
    prompts = PROMPTS_OF_A_CLIP * config.model.text_len * config.model.text_dim * 4.0
    share = config.batch_size / (world_size // config.execution.sequence_parallel)
    ahead = 1 + (2 * config.execution.workers if config.data else 0)  # steps
    bank = config.bank_size * clip
    running = bank + ahead * share * (clip + prompts) + memory.passes * memory.parts["forward"]["batch"]
    start = 0.0 if config.init_from is not None else 4.0 * whole.total
    return Disk(checkpoint, weights, most, start + bank, running, weights)


def _remedies(
    config: TrainConfig, parameters: Parameters, plans: tuple[RegimePlans, ...], world_size: int, device: Device
) -> tuple[Remedy, ...]:
    """Of each kind of change the smallest that makes it fit by itself; if none does, the first of joined ones."""
    now, clips = config.execution, clips_per_pass(config, world_size)[0]
    recompute: list[Change] = [] if now.recompute else [{"recompute": True}]
    halves: list[Change] = [{"micro_batch": clips >> n} for n in range(1, clips.bit_length())]
    sequence: list[Change] = [{"sequence_parallel": n} for n in (2, 3, 4, 6, 8, 12) if n > now.sequence_parallel]
    more: list[Change] = [{"ranks": world_size * factor} for factor in (2, 4, 8)]

    def fitting(changes: Iterable[Change]) -> list[Remedy]:
        for change in changes:
            ranks = change.get("ranks", world_size)
            options = {name: value for name, value in change.items() if name != "ranks"}
            try:
                candidate = replace(config, execution=replace(now, **options))
                check_world(candidate.execution, ranks)
                check_split(candidate, ranks // candidate.execution.sequence_parallel)
                needed = _memory(candidate, parameters, plans, ranks, device).total
            except InputError:  # numbers that do not divide
                continue
            if needed <= device.memory_bytes:
                return [Remedy(_words(change), needed)]
        return []

    single = [remedy for kind in (recompute, halves, sequence, more) for remedy in fitting(kind)]
    if single:
        return tuple(single)
    least: Change = {**(recompute[0] if recompute else {}), **({"micro_batch": 1} if clips > 1 else {})}
    return tuple(fitting({**least, **share, **ranks} for share in ({}, *sequence) for ranks in ({}, *more)))


def _words(change: Change) -> str:
    words = []
    for name, value in change.items():
        option = f"--execution.{name.replace('_', '-')}"
        words.append(f"{value} ranks" if name == "ranks" else option if value is True else f"{option} {value}")
    return ", ".join(words)
