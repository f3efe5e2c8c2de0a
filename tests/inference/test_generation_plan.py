"""The dry run says what a run then takes: passes and FLOPs exactly, bytes nearly, without reading weights."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from rich.console import Console

from remind.errors import CheckpointError, InputError
from remind.inference.components import load_components
from remind.inference.generation_plan import GenerationPlan, generation_plan, list_passes
from remind.inference.placement import Placement
from remind.inference.rollout import Conditions, Sampler, rollout
from remind.models.checkpoint import save_checkpoint
from remind.models.codec import LinearCodec
from remind.models.config import DiTConfig
from remind.models.dit import CausalVideoDiT
from remind.models.flop_count import count_flops
from remind.models.generation_trace import trace_decode, trace_encode, trace_text
from remind.models.kv_cache import StreamingKVCache
from remind.models.memory import LiveBytes
from remind.models.umt5 import UMT5Encoder
from remind.models.vae import WanVAE

from ..make_memory import filled_model, random_cameras
from ..models.make_pipeline import WAN, make_pipeline
from ..models.make_wan import random_latents, random_video

CPU = Placement("cpu")
SMALL = DiTConfig(dim=96, ffn_dim=384, num_heads=3, num_layers=2, freq_dim=32, text_dim=24, text_len=32,
                  camera_mode="full", camera_hidden=16)  # fmt: skip
HW = (96, 128)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    about = {"train": {"hw": list(HW), "num_frames": 57}, "codec": LinearCodec.load().digest}
    save_checkpoint(folder, SMALL, filled_model(SMALL).state_dict(), about)
    return folder


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wan")
    make_pipeline(folder)
    return folder


@pytest.fixture(scope="module")
def full_size() -> GenerationPlan:
    """1.3B with the published VAE and text encoder, which no machine of the tests could hold."""
    return generation_plan("wan-1.3b", placement=Placement("cuda"), guidance=3.0, first_frame=True)


def generate(model: CausalVideoDiT, *, given: int, chunks: int, steps: int, chunks_per_pass: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    latents = torch.randn(1, 3 * chunks, 16, HW[0] // 8, HW[1] // 8, generator=generator)
    text = torch.randn(1, chunks, SMALL.text_len, SMALL.text_dim, generator=generator)
    conditions = Conditions(text, random_cameras(1, 3 * chunks, generator), None, ("clean",) * chunks, (0,))
    return rollout(model, latents[:, : 3 * given], conditions, sampler=Sampler(steps=steps),
                   chunks_per_pass=chunks_per_pass)


# --- against what then happens -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("given", "chunks_per_pass"), [(3, 2), (2, 1)])
def test_a_rollout_takes_the_memory_and_the_work_that_were_said(run: Path, given: int, chunks_per_pass: int) -> None:
    plan = generation_plan(run, placement=CPU, given_chunks=given, steps=2, prompts=5, chunks_per_pass=chunks_per_pass)
    model = load_components(run, placement=CPU).model
    with LiveBytes() as live:
        flops = count_flops(lambda: generate(model, given=given, chunks=5, steps=2, chunks_per_pass=chunks_per_pass))
    said = plan.device_bytes["generate"]
    rest = said["cache"] + said["prompts"] + said["activations"] + said["latents"]
    assert rest == pytest.approx(live.peak, rel=0.15)
    assert plan.flops["passes"] + plan.flops["text"] == pytest.approx(flops, rel=0.001)


@pytest.mark.parametrize("given", [0, 1, 2, 3, 4])
@pytest.mark.parametrize("chunks_per_pass", [1, 2, 3])
def test_passes_are_those_that_a_rollout_runs(
    given: int, chunks_per_pass: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What each chunk of each pass attends, seen in the cache itself."""
    config = DiTConfig(dim=48, ffn_dim=48, num_heads=4, num_layers=1, freq_dim=16, text_dim=24, text_len=32)
    model, seen = filled_model(config), []
    real = StreamingKVCache._look

    def look(self: StreamingKVCache, layer: int, q: torch.Tensor, sees: list[int], mine: int, *rest: object) -> object:
        if mine == self._open[0]:
            seen.append(())
        seen[-1] += (len(sees),)
        return real(self, layer, q, sees, mine, *rest)

    monkeypatch.setattr(StreamingKVCache, "_look", look)
    monkeypatch.setattr("tests.inference.test_generation_plan.HW", (16, 16))
    generate(model, given=given, chunks=5, steps=2, chunks_per_pass=chunks_per_pass)
    assert seen == list_passes(5, given, steps=2, seen=4, chunks_per_pass=chunks_per_pass)


def test_the_codec_takes_what_was_said(wan: Path) -> None:
    vae = WanVAE.from_pretrained(wan)
    config = {name: value for name, value in vae.config.items() if not name.startswith("_")}
    decode, encode = (trace(config, batch=2, hw=(32, 48)) for trace in (trace_decode, trace_encode))
    stream = vae.stream()
    with LiveBytes() as live:
        stream.push(random_latents(3, hw=(4, 6), batch=2))
        kept = sum(f.untyped_storage().nbytes() for f in stream._features if isinstance(f, torch.Tensor))
        stream.push(random_latents(3, hw=(4, 6), batch=2))
    assert decode.peak == pytest.approx(live.peak, rel=0.05)
    assert decode.kept == pytest.approx(kept, rel=0.01)
    stream, video = vae.encode_stream(), random_video(21, hw=(32, 48), batch=2)
    with LiveBytes() as live:
        stream.push(video[:, :9])
        stream.push(video[:, 9:])
    assert encode.peak == pytest.approx(live.peak, rel=0.05)
    assert decode.flops == count_flops(lambda: vae.decode(random_latents(6, hw=(4, 6), batch=2))) - count_flops(
        lambda: vae.decode(random_latents(3, hw=(4, 6), batch=2)))


def test_the_text_encoder_takes_what_was_said(wan: Path) -> None:
    encoder = UMT5Encoder.from_pretrained(wan)
    said = trace_text(encoder.model.config.to_dict(), prompts=2, text_len=512, dtype=torch.float32)
    with LiveBytes() as live:
        encoder(["a red jug", "lights go off"])
    assert said.peak == pytest.approx(live.peak, rel=0.15)


# --- at full size --------------------------------------------------------------------------------------------------


def test_weights_are_exact_at_full_size(full_size: GenerationPlan) -> None:
    parts = full_size.device_bytes["encode text"]
    assert parts["transformer"] == 1_418_996_800 * 2
    assert parts["VAE"] == 126_892_531 * 4
    assert parts["text encoder"] == pytest.approx(5.68e9 * 2, rel=0.01)
    assert full_size.device_bytes["generate"]["cache"] == pytest.approx(2 * 6.04e9, rel=0.01)
    assert list(full_size.device_bytes) == ["encode text", "encode video", "generate", "decode"]
    assert full_size.passes == 2 * 7 * 4


def test_offloading_moves_bytes_from_the_device_to_the_host(full_size: GenerationPlan) -> None:
    less = generation_plan("wan-1.3b", placement=Placement("cuda", offload=frozenset({"text", "vae"})), guidance=3.0,
                           first_frame=True)
    for moment, gone in (("encode text", {"VAE"}), ("encode video", {"text encoder"}), ("decode", {"text encoder"}),
                         ("generate", {"VAE", "text encoder", "codec's state"})):  # fmt: skip
        before, after = full_size.device_bytes[moment], less.device_bytes[moment]
        assert {name for name in before if before[name] and not after[name]} == gone
        assert all(after[name] in (0, before[name]) for name in before)
    assert less.host_bytes["text encoder, waiting"] == full_size.device_bytes["encode text"]["text encoder"]
    assert less.host_bytes["codec's state, waiting"] == full_size.device_bytes["generate"]["codec's state"]
    assert "text encoder, waiting" not in full_size.host_bytes
    assert less.flops == full_size.flops


def test_a_budget_bounds_cache_and_work() -> None:
    """Beyond the budget, a chunk costs what the one before it cost."""
    full, bounded = (generation_plan("nano", placement=CPU, num_chunks=16, budget_bytes=budget)
                     for budget in (None, 500_000))  # fmt: skip
    assert bounded.device_bytes["generate"]["cache"] <= 500_000 < full.device_bytes["generate"]["cache"]
    assert (bounded.slots, full.slots) == (6, 16)
    assert bounded.flops["passes"] < 0.99 * full.flops["passes"]
    window = generation_plan("nano", placement=CPU, num_chunks=16, remembered=5)
    assert (window.slots, window.flops) == (6, bounded.flops)
    passes = [generation_plan("nano", placement=CPU, num_chunks=chunks, remembered=5).flops["passes"]
              for chunks in (14, 15, 16)]  # fmt: skip
    assert passes[2] - passes[1] == pytest.approx(passes[1] - passes[0])
    small = generation_plan("nano", placement=CPU, num_chunks=16, remembered=5, storage="int8")
    assert small.device_bytes["generate"]["cache"] < 0.3 * window.device_bytes["generate"]["cache"]
    with pytest.raises(InputError, match=r"budget is too small for one chunk and an anchor.*at least 147456 bytes"):
        generation_plan("nano", placement=CPU, budget_bytes=100_000)


# --- what it reads and says ----------------------------------------------------------------------------------------


def test_no_weights_are_read(wan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remind.models.convert._read", lambda *_: pytest.fail("weights were read"))
    monkeypatch.setattr("remind.models.pretrained.load_network", lambda *_, **__: pytest.fail("weights were read"))
    plan = generation_plan(wan, placement=CPU, hw=(32, 48))
    assert plan.hw == (32, 48)
    assert plan.device_bytes["decode"]["VAE"] == sum(p.nbytes for p in WanVAE.from_pretrained(wan).module.parameters())
    model = CausalVideoDiT.empty(WAN)
    assert plan.device_bytes["generate"]["transformer"] == sum(p.nbytes for p in model.parameters())


def test_the_plan_reads_well(full_size: GenerationPlan) -> None:
    out = io.StringIO()
    full_size.render(Console(file=out, width=120))
    text = " ".join(out.getvalue().split())
    for words in ("wan-1.3b: 7 chunks of 480x832 px", "7 chunk(s) in 2 cache(s)", "56 passes", "encode text", "2.8 GB",
                  "if 40% of the peak rate", "RTX-4090", "Fullest at", "While networks are read"):  # fmt: skip
        assert words in text
    out = io.StringIO()
    generation_plan("nano", placement=CPU).render(Console(file=out, width=120))
    assert "on cpu" in out.getvalue()
    assert "their calls decide" in " ".join(out.getvalue().split())


def test_time_follows_from_work_and_fit_from_memory(full_size: GenerationPlan) -> None:
    times = {time.device.name: time for time in full_size.times}
    flops, h100 = full_size.flops, times["H100"]
    assert h100.seconds == pytest.approx(
        (flops["text"] + flops["passes"]) / (0.4 * 989.5e12) + (flops["encode"] + flops["decode"]) / (0.4 * 67e12))
    assert 0 < 7 * h100.seconds_per_chunk / h100.seconds < 2
    assert h100.fits
    assert not times["RTX-4090"].fits
    assert full_size.peak == full_size.live(full_size.peak_moment) == max(map(full_size.live, full_size.device_bytes))


def test_what_cannot_be_planned_is_refused(wan: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nothing to generate; got 7 chunks, 7 of them given"):
        generation_plan("nano", placement=CPU, given_chunks=7)
    with pytest.raises(InputError, match="share of the peak"):
        generation_plan("nano", placement=CPU, utilisation=2.0)
    with pytest.raises(CheckpointError, match=r"no such checkpoint"):
        generation_plan("wan-1.4b", placement=CPU)
    with pytest.raises(CheckpointError, match=r"part of the base cannot be read.*vae"):
        generation_plan("wan-1.3b", base=tmp_path, placement=CPU)
    with pytest.raises(InputError, match="does not split into patches"):
        generation_plan(wan, placement=CPU, hw=(40, 40))
