"""The dry run of generating: bytes, passes, FLOPs and time of a video, before any weights are read.

Memory and FLOPs come from the real networks on tensors without content (`models/generation_trace.py`); time is FLOPs
over an assumed share of a device's peak rate, and is as good as that share.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from rich.console import Console

from remind.errors import InputError
from remind.frame_graph import FRAMES_PER_LATENT, LATENTS_PER_CHUNK
from remind.inference.network_shapes import Networks, find_networks
from remind.inference.placement import Placement
from remind.models.devices import GPUS, Device, this_cpu
from remind.models.generation_trace import (
    PassShape,
    Traced,
    model_weights,
    text_weights,
    trace_decode,
    trace_encode,
    trace_pass,
    trace_prompt,
    trace_text,
    vae_weights,
)
from remind.models.kv_cache import Storage, StreamingKVCache, grid_of
from remind.models.video_codec import BLOCK_PX, CHANNELS

Moment = Literal["encode text", "encode video", "generate", "decode"]
MOMENTS: tuple[Moment, ...] = get_args(Moment)
UTILISATION = 0.4
"""Share of the peak rate that is reached. Our choice, as for training: no GPU was at hand to measure."""
SLACK = 0.1
"""Of GPUs. Our choice, not measured: what the allocator holds in pieces that nobody can use."""


@dataclass(frozen=True)
class GenerationTime:
    """On one kind of device.

    Args:
        device: which.
        fits: whether its memory suffices, slack included.
        seconds: for the whole.
        seconds_per_chunk: of the last chunk, decoding included: the most of all where memory grows.
    """

    device: Device
    fits: bool
    seconds: float
    seconds_per_chunk: float


@dataclass(frozen=True)
class GenerationPlan:
    """All that a dry run says.

    Args:
        source: checkpoint or preset.
        kind: of device: `cuda`, `mps` or `cpu`.
        precision: of transformer and text encoder, `bf16` or `fp32`; the VAE computes in fp32.
        hw: frame size, px.
        batch, num_chunks, given_chunks: samples, and chunks of each, of which the first are given.
        slots: chunks that the cache of a branch has room for.
        branches: caches and passes at once: 2 with guidance.
        device_bytes: by moment, what is on the device and how much; moments that do not occur are not there.
        host_bytes: what is in main memory beside the libraries; empty on a CPU, where that is the device.
        host_loading_bytes: most main memory while networks are read.
        passes: of the transformer, over all branches.
        flops: by part: `text`, `encode`, `passes`, `decode`.
        times: on each device of the table, or on this CPU.
        utilisation: assumed share of the peak rate.
    """

    source: str
    kind: str
    precision: str
    hw: tuple[int, int]
    batch: int
    num_chunks: int
    given_chunks: int
    slots: int
    branches: int
    device_bytes: dict[Moment, dict[str, float]]
    host_bytes: dict[str, float]
    host_loading_bytes: float
    passes: int
    flops: dict[str, float]
    times: tuple[GenerationTime, ...]
    utilisation: float

    def live(self, moment: Moment) -> float:
        """Bytes on the device at a moment."""
        return sum(self.device_bytes[moment].values())

    @property
    def peak_moment(self) -> Moment:
        return max(self.device_bytes, key=self.live)

    @property
    def peak(self) -> float:
        """Most bytes on the device at any time, without the allocator's slack."""
        return self.live(self.peak_moment)

    def render(self, console: Console) -> None:
        """Print it as tables that say what they assume."""
        from remind.inference.generation_plan_table import render

        render(self, console)


def generation_plan(
    source: str | Path,
    *,
    base: str | Path | None = None,
    placement: Placement = Placement(),  # noqa: B008 (frozen)
    num_chunks: int | None = None,
    given_chunks: int = 0,
    first_frame: bool = False,
    batch: int = 1,
    steps: int = 4,
    guidance: float = 1.0,
    prompts: int = 1,
    remembered: int | None = None,
    budget_bytes: int | None = None,
    storage: Storage = "float",
    hw: tuple[int, int] | None = None,
    chunks_per_pass: int = 2,
    utilisation: float = UTILISATION,
) -> GenerationPlan:
    """Say what a video will take. Nothing is loaded and no device is touched: it need not be here.

    Args:
        source, base: as `load_components`; or `wan-1.3b`, for which no files are needed: the published networks.
        placement: as for generating; a device that is named is taken as there.
        num_chunks: of the video, those that are given included; None = what the model was trained on.
        given_chunks: that the video starts with (V2V).
        first_frame: whether an image is given (I2V).
        batch: samples at once.
        steps: passes per chunk.
        guidance: 1 = none.
        prompts: different ones of the schedule.
        remembered: most chunks that the memory policy shows to the next one; None = all.
        budget_bytes: of all caches together; None = none.
        storage: of the cache.
        hw: frame size, px; None = as `load_components`.
        chunks_per_pass: as for `Rollout`.
        utilisation: assumed share of a device's peak rate, 0..1.

    Raises:
        CheckpointError, InputError: as `load_components`; numbers out of range; a budget below two chunks.
    """
    networks = find_networks(source, base=base, hw=hw)
    chunks = networks.num_chunks if num_chunks is None else num_chunks
    if not 0 <= given_chunks < chunks or min(batch, steps, prompts, chunks_per_pass) < 1:
        raise InputError("there is nothing to generate", got=f"{chunks} chunks, {given_chunks} of them given, batch "
                         f"{batch}, {steps} steps, {prompts} prompts, {chunks_per_pass} chunks a pass",
                         expected="something left to generate, and the others at least 1")
    if not 0 < utilisation <= 1:
        raise InputError("utilisation is a share of the peak rate", got=utilisation, expected="above 0, at most 1")
    kind = placement.target.type if placement.device == "auto" else placement.device.partition(":")[0]
    dtype = (placement.for_small_model() if networks.vae is None else placement).dtype_on(kind)
    waits = placement.offload if kind != "cpu" else frozenset()
    model, height_width = networks.model, networks.hw
    latent_hw = (height_width[0] // BLOCK_PX, height_width[1] // BLOCK_PX)
    branches = 1 if guidance == 1 else 2

    def cache_bytes(slots: int) -> float:
        return float(branches * StreamingKVCache.predict_nbytes(
            model, batch=batch, num_slots=slots, grid_hw=grid_of(model, latent_hw), storage=storage, dtype=dtype))

    slots = chunks if remembered is None else min(chunks, max(1, remembered) + 1)
    if budget_bytes is not None:
        if budget_bytes < cache_bytes(2):
            raise InputError("the memory budget is too small for one chunk and an anchor", got=f"{budget_bytes} bytes",
                             expected=f"at least {cache_bytes(2):.0f} bytes",
                             fix="raise the budget, store the cache as int8, or generate fewer samples at once")
        slots = min(chunks, int(budget_bytes // cache_bytes(1)))

    passes = list_passes(chunks, given_chunks, steps=steps, seen=slots - 1, chunks_per_pass=chunks_per_pass)
    widest = max(passes, key=lambda sights: (len(sights), sights[-1]))
    pass_peak = _trace(networks, batch, latent_hw, dtype, storage, len(widest), slots - len(widest)).peak
    alone, pair = (_trace(networks, batch, latent_hw, dtype, storage, 1, seen) for seen in (0, 1))

    def pass_flops(sights: tuple[int, ...]) -> float:
        """Attention to a chunk costs the same whichever it is; all else is per chunk of the pass."""
        return branches * sum(alone.flops + (sight - 1) * (pair.flops - alone.flops) for sight in sights)

    prompt = trace_prompt(model, batch=batch, dtype=dtype)
    texts = prompts + (branches - 1)
    text, text_bytes = Traced(0.0, 0.0, 0.0), 0.0
    if networks.umt5 is not None:
        text = trace_text(networks.umt5, prompts=texts, text_len=model.text_len, dtype=dtype)
        text_bytes = text_weights(networks.umt5, dtype)
    decode = trace_decode(networks.vae, batch=batch, hw=height_width)
    encode = trace_encode(networks.vae, batch=batch, hw=height_width)
    weights = {"transformer": model_weights(model, dtype), "VAE": vae_weights(networks.vae),
               "text encoder": text_bytes}  # fmt: skip
    on_host = {"VAE": "vae" in waits, "text encoder": "text" in waits}
    held = {name: 0.0 if on_host.get(name) else size for name, size in weights.items()}
    codec_here = networks.vae is not None or kind == "cpu"  # the embedded codec stays on the CPU
    joined = min(prompts, len(widest))  # prompts of a pass are kept, and joined where they differ
    contexts = joined if joined == 1 else 2 * joined
    chunk_latents = 4.0 * batch * LATENTS_PER_CHUNK * CHANNELS * latent_hw[0] * latent_hw[1]
    rollout = {"cache": cache_bytes(slots), "prompts": prompt.kept * (contexts + branches - 1)}
    moments: dict[Moment, dict[str, float]] = {}
    if networks.umt5 is not None:
        moments["encode text"] = {**held, "text encoder": text_bytes, "activations": text.peak}
    if given_chunks or first_frame:
        moments["encode video"] = {**held, "VAE": weights["VAE"], "activations": encode.peak if codec_here else 0.0}
    moments["generate"] = {**held, **rollout, "codec's state": 0.0 if on_host["VAE"] else decode.kept,
                           "activations": pass_peak + _LATENTS * chunk_latents}  # fmt: skip
    moments["decode"] = {**held, "VAE": weights["VAE"], **rollout, "codec's state": decode.kept,
                         "activations": decode.peak - decode.kept if codec_here else 0.0}  # fmt: skip

    latent_frames = LATENTS_PER_CHUNK * chunks
    encoded = given_chunks + (1 / LATENTS_PER_CHUNK if first_frame and not given_chunks else 0)
    flops = {"text": text.flops + texts * prompt.flops, "encode": encode.flops * encoded,
             "passes": sum(map(pass_flops, passes)), "decode": decode.flops * chunks}  # fmt: skip
    kept = {"latents": chunk_latents * chunks, "frames": 3.0 * batch * (FRAMES_PER_LATENT * (latent_frames - 1) + 1)
            * height_width[0] * height_width[1], "text": 4.0 * texts * model.text_len * model.text_dim}  # fmt: skip
    waiting = {f"{name}, waiting": weights[name] for name, waits_there in on_host.items() if waits_there}
    if on_host["VAE"]:
        waiting["codec's state, waiting"] = decode.kept
    if kind == "cpu":
        for parts in moments.values():
            parts |= kept
    reading = networks.copies * (model_weights(model, torch.float32) if networks.copies > 1 else weights["transformer"])
    vae_waits = weights["VAE"] if on_host["VAE"] else 0.0
    last = pass_flops((min(chunks, slots),)) * (steps + 1)
    plan = GenerationPlan(
        str(source), kind, "bf16" if dtype == torch.bfloat16 else "fp32", height_width, batch, chunks, given_chunks,
        slots, branches, moments, {} if kind == "cpu" else {**waiting, **kept},
        max(weights["VAE"], vae_waits + max(reading, text_bytes)), branches * len(passes), flops, (), utilisation,
    )  # fmt: skip
    return _with_times(plan, last, decode.flops)


def list_passes(
    num_chunks: int, given_chunks: int, *, steps: int, seen: int, chunks_per_pass: int
) -> list[tuple[int, ...]]:
    """Passes of a rollout in order: of each chunk that it runs over, how many chunks it attends, itself included.

    A finished chunk is written by the next chunk's first pass; where `chunks_per_pass` has no room for it, before.

    Args:
        seen: most chunks in memory beside the one at work.
    """

    def sights(chunks: list[int]) -> tuple[int, ...]:
        return tuple(min(chunk, seen) + 1 for chunk in chunks)

    waiting, passes = list(range(given_chunks)), []
    for chunk in range(given_chunks, num_chunks):
        while len(waiting) >= chunks_per_pass:
            passes.append(sights(waiting[:chunks_per_pass]))
            del waiting[:chunks_per_pass]
        passes += [sights([*waiting, chunk]), *[sights([chunk])] * (steps - 1)]
        waiting = [chunk]
    return passes


_LATENTS = 6
"""Tensors of a chunk's size that a rollout holds around a pass: noise, x, what is joined to it, velocities."""


def _trace(
    networks: Networks, batch: int, latent_hw: tuple[int, int], dtype: torch.dtype, storage: Storage, chunks: int,
    seen: int,
) -> Traced:
    return trace_pass(PassShape(networks.model, batch, latent_hw, dtype, storage, chunks, max(0, seen)))


def _with_times(plan: GenerationPlan, last_passes: float, decode: float) -> GenerationPlan:
    """Add the time on each device; the VAE runs at the rate of float32."""
    slack = 0.0 if plan.kind == "cpu" else SLACK
    devices = (this_cpu(),) if plan.kind == "cpu" else tuple(GPUS.values()) if plan.kind == "cuda" else ()
    times = []
    for device in devices:
        rate, vae_rate = (plan.utilisation * device.peak_flops(p) for p in (plan.precision, "fp32"))
        of = plan.flops
        whole = (of["text"] + of["passes"]) / rate + (of["encode"] + of["decode"]) / vae_rate
        times.append(GenerationTime(device, plan.peak * (1 + slack) <= device.memory_bytes, whole,
                                    last_passes / rate + decode / vae_rate))
    return GenerationPlan(**{**vars(plan), "times": tuple(times)})
