"""The model against itself in other guises: cached, masked, without cameras, with other futures."""

import pytest
import torch

from remind.errors import InputError
from remind.frame_graph import LATENTS_PER_CHUNK
from remind.models.attention import ChunkMask
from remind.models.config import DiTConfig
from remind.models.cross_attention import text_runs
from remind.models.dit import CausalVideoDiT, sinusoid
from remind.models.kv_cache import StreamingKVCache

from .conftest import make_inputs


def frames(k: int) -> slice:
    return slice(LATENTS_PER_CHUNK * k, LATENTS_PER_CHUNK * (k + 1))


@torch.no_grad()
def test_wan_1_3b_has_exactly_its_parameters() -> None:
    with torch.device("meta"):
        plain = CausalVideoDiT(DiTConfig.preset("wan-1.3b"))
        wide = CausalVideoDiT(DiTConfig.preset("wan-1.3b", in_channels=36))
    assert sum(p.numel() for p in plain.parameters()) == 1_418_996_800
    assert len(plain.state_dict()) == 825
    assert sum(p.numel() for p in wide.parameters()) == 1_419_119_680


@torch.no_grad()
def test_cached_rollout_equals_the_full_causal_pass(model: CausalVideoDiT, config: DiTConfig) -> None:
    x = make_inputs(config)
    full = model(**x)
    cache = StreamingKVCache(config, batch=2, num_slots=4, grid_hw=(2, 3))
    for k in range(4):
        cache.open(k, int(x["positions"][0, 3 * k]), "clean")
        f = frames(k)
        noise = torch.randn_like(x["latents"][:, f])
        model(noise, x["sigmas"][:, f], x["positions"][:, f], x["text"][:, k], x["cameras"][:, f], cache=cache)
        chunk = model(x["latents"][:, f], x["sigmas"][:, f], x["positions"][:, f], x["text"][:, k],
                      x["cameras"][:, f], cache=cache)
        cache.close()
        assert (chunk - full[:, f]).abs().max() < 1e-5


@torch.no_grad()
def test_eviction_reuses_the_slot_and_equals_hiding_the_chunk(model: CausalVideoDiT, config: DiTConfig) -> None:
    x = make_inputs(config)
    keep = [0, 2, 3]
    # Chunks 2 and 3 never saw chunk 1: rebuild. The same by a mask over the whole sequence.
    mask = ChunkMask(((0,), (0, 1), (0, 2), (0, 2, 3)))
    full = model(**x, attention=mask)
    cache = StreamingKVCache(config, batch=2, num_slots=3, grid_hw=(2, 3))
    for k in (0, 1, 2, 3):
        f = frames(k)
        cache.open(k, int(x["positions"][0, 3 * k]), "clean")
        chunk = model(x["latents"][:, f], x["sigmas"][:, f], x["positions"][:, f], x["text"][:, k],
                      x["cameras"][:, f], cache=cache)
        cache.close()
        if k == 1:
            cache.evict(1)
        if k in keep:
            assert (chunk - full[:, f]).abs().max() < 1e-5
    assert [e.chunk for e in cache.entries] == [0, 2, 3]


@torch.no_grad()
def test_no_future_chunk_and_no_later_camera_changes_a_past_output(model: CausalVideoDiT, config: DiTConfig) -> None:
    x = make_inputs(config)
    before = model(**x)
    for name in ("latents", "sigmas", "cameras"):
        changed = {**x, name: x[name].clone()}
        changed[name][:, frames(3)] = changed[name][:, frames(3)].flip(1) * 0.5
        after = model(**changed)
        assert (after[:, : 3 * 3] - before[:, : 3 * 3]).abs().max() < 1e-6
        assert (after[:, frames(3)] - before[:, frames(3)]).abs().max() > 1e-3


@torch.no_grad()
def test_zero_initialised_pm_rope_is_plain_rope_bitwise(config: DiTConfig) -> None:
    torch.manual_seed(3)
    fresh = CausalVideoDiT(config).eval()
    torch.nn.init.normal_(fresh.head.head.weight)
    plain = CausalVideoDiT(DiTConfig(**{**vars(config), "camera_mode": "none"})).eval()
    plain.load_state_dict({k: v for k, v in fresh.state_dict().items() if "camera_" not in k})
    x = make_inputs(config)
    without = plain(**{**x, "cameras": None})
    assert torch.equal(fresh(**x), without)
    assert torch.equal(fresh(**{**x, "cameras": None}), without)
    assert without.abs().max() > 0.1


@torch.no_grad()
def test_invalid_cameras_equal_no_cameras(model: CausalVideoDiT, config: DiTConfig) -> None:
    x = make_inputs(config)
    none = model(**{**x, "cameras": None})
    invalid = model(**{**x, "cameras": torch.full_like(x["cameras"], float("nan"))},
                    camera_valid=torch.zeros_like(x["sigmas"], dtype=torch.bool))
    assert torch.equal(none, invalid)
    assert (model(**x) - none).abs().max() > 1e-2


@torch.no_grad()
def test_one_text_for_all_equals_the_same_text_per_chunk(model: CausalVideoDiT, config: DiTConfig) -> None:
    x = make_inputs(config)
    one = x["text"][:, 0]
    repeated = model(**{**x, "text": one[:, None].repeat(1, 4, 1, 1)})
    assert (model(**{**x, "text": one}) - repeated).abs().max() < 1e-5
    shared = model(**x, text_of_chunk=(0, 1, 0, 1))
    copied = model(**{**x, "text": x["text"][:, [0, 1, 0, 1]]})
    assert (shared - copied).abs().max() < 1e-5


def test_every_camera_parameter_learns_by_the_second_step(config: DiTConfig) -> None:
    torch.manual_seed(0)
    model = CausalVideoDiT(config)
    torch.nn.init.normal_(model.head.head.weight, std=0.1)
    x = make_inputs(config)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    touched: set[str] = set()
    for _ in range(2):
        optimizer.zero_grad()
        model(**x).square().mean().backward()
        touched |= {n for n, p in model.named_parameters() if "camera_" in n and p.grad is not None
                    and p.grad.abs().max() > 0}
        optimizer.step()
    assert touched == {n for n, _ in model.named_parameters() if "camera_" in n}


@torch.no_grad()
def test_lse_gives_the_exact_attention_mass(model: CausalVideoDiT, config: DiTConfig) -> None:
    x = make_inputs(config)
    _, lse = model(**x, attention="bidirectional", return_lse=True)
    assert len(lse) == config.num_layers
    mass = (lse[0] - lse[0].logsumexp(-1, keepdim=True)).exp()
    assert mass.shape == (2, config.num_heads, 4 * 3 * 6, 4)
    assert (mass.sum(-1) - 1).abs().max() < 1e-5


def test_text_runs_slice_neighbouring_texts() -> None:
    assert text_runs((0, 1, 2, 0, 1)) == [(range(0, 3), 0), (range(3, 5), 0)]
    assert text_runs((2, 2)) == [(range(0, 1), 2), (range(1, 2), 2)]


def test_sinusoid_keeps_a_thousand_timesteps_apart() -> None:
    rows = sinusoid(torch.arange(1000)[None].float(), 64)[0]
    assert (rows[1:] - rows[:-1]).norm(dim=-1).min() > 1e-2
    assert torch.allclose(rows[0, :32], torch.ones(32, dtype=torch.float64))


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"latents": torch.zeros(2, 12, 15, 4, 6)}, "channels"),
        ({"latents": torch.zeros(2, 11, 16, 4, 6)}, "whole chunks"),
        ({"latents": torch.zeros(2, 12, 16, 5, 6)}, "patches"),
        ({"positions": torch.zeros(2, 9)}, "per latent frame"),
        ({"sigmas": torch.full((2, 12), 1.5)}, r"\[0, 1\]"),
        ({"text": torch.zeros(2, 8, 20)}, "text"),
        ({"cameras": torch.zeros(2, 3, 14)}, "cameras"),
    ],
)
def test_bad_inputs_are_named(model: CausalVideoDiT, config: DiTConfig, change: dict, what: str) -> None:
    # `_check` by itself: the shape annotations that are on under pytest would catch some of these before it.
    with pytest.raises(InputError, match=what):
        model._check(**{**make_inputs(config), "cache": None, **change})


def test_gelu_in_place_without_gradients_is_the_same_function() -> None:
    from remind.models.norms import GELU

    x = torch.randn(3, 50)
    truth = torch.nn.functional.gelu(x, approximate="tanh")
    kept = x.clone().requires_grad_()
    with_gradient = GELU()(kept)
    assert torch.equal(with_gradient, truth)
    assert torch.equal(kept, x)
    with torch.no_grad():
        hidden = x.clone()
        assert GELU()(hidden) is hidden
        assert torch.equal(hidden, truth)
