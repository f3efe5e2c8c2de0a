"""Every camera mode of Table 3 in every guise: cached, teacher-forced, folded, without cameras, at the start."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from remind.errors import InputError
from remind.geometry import rotation_yaw
from remind.models.attention import ChunkMask
from remind.models.camera_conditions import CameraConditions, bounded_c2w, projection_matrices
from remind.models.config import DiTConfig
from remind.models.cross_attention import PromptContext
from remind.models.dit import CausalVideoDiT
from remind.models.kv_cache import StreamingKVCache
from remind.models.pm_rope import position_rotors
from remind.models.projective import ProjectiveResidual, transform_groups
from remind.models.self_attention import SelfAttention

from .conftest import make_inputs, trained

BASE = DiTConfig(dim=48, ffn_dim=96, num_heads=4, num_layers=3, freq_dim=32, text_dim=20, text_len=7, camera_hidden=16)
MODES: dict[str, DiTConfig] = {
    "none": BASE,
    "qk": replace(BASE, camera_mode="qk"),
    "qk per head": replace(BASE, camera_mode="qk", phase_per_head=True),
    "vo": replace(BASE, camera_mode="vo"),
    "full": replace(BASE, camera_mode="full"),
    "full temporal": replace(BASE, camera_mode="full", phase_pairs="temporal"),
    "full prope": replace(BASE, camera_mode="full", vo_transform="prope"),
    "dual": replace(BASE, camera_mode="dual"),
}
CAMERA_MODES = [name for name in MODES if name != "none"]
every_mode = pytest.mark.parametrize("mode", MODES)
every_camera_mode = pytest.mark.parametrize("mode", CAMERA_MODES)


def frames(k: int) -> slice:
    return slice(3 * k, 3 * k + 3)


def streamed(model: CausalVideoDiT, x: dict[str, Any], **form: Any) -> Tensor:
    """Chunk by chunk through a cache, each chunk first with other latents, as a sampler would."""
    config = model.config
    cache = StreamingKVCache(config, batch=2, num_slots=4, grid_hw=(2, 3), **form)
    out = []
    for k in range(4):
        f = frames(k)
        cameras = None if x["cameras"] is None else x["cameras"][:, f]
        cache.open(k, int(x["positions"][0, 3 * k]), "clean")
        for latents in (torch.randn_like(x["latents"][:, f]), x["latents"][:, f]):
            chunk = model(latents, x["sigmas"][:, f], x["positions"][:, f], x["text"][:, k], cameras, cache=cache)
        cache.close()
        out.append(chunk)
    return torch.cat(out, 1)


@every_mode
@pytest.mark.parametrize("keys", ["rotated", "raw"])
@torch.no_grad()
def test_a_cached_rollout_with_a_gap_equals_the_full_pass(mode: str, keys: str) -> None:
    model, x = trained(MODES[mode]), make_inputs(MODES[mode])
    assert (streamed(model, x, keys=keys) - model(**x)).abs().max() < 1e-5
    without = {**x, "cameras": None}
    assert (streamed(model, without, keys=keys) - model(**without)).abs().max() < 1e-5


@every_mode
@pytest.mark.parametrize("keys", ["rotated", "raw"])
@torch.no_grad()
def test_two_chunks_in_one_pass_over_the_cache_equal_the_full_pass(mode: str, keys: str) -> None:
    """Chunk k is written while k + 1 takes its first look, as `rollout` does it, each with a text of its own."""
    model, x = trained(MODES[mode]), make_inputs(MODES[mode])
    cache = StreamingKVCache(model.config, batch=2, num_slots=4, grid_hw=(2, 3), keys=keys)
    starts = [int(t) for t in x["positions"][0, ::3]]
    cache.open(0, starts[0], "clean")
    found = []
    for k in (1, 2, 3):
        f = slice(3 * k - 3, 3 * k + 3)
        cache.open(k, starts[k], "clean")
        texts = PromptContext.join([model.encode_prompt(x["text"][:, j]) for j in (k - 1, k)])
        found.append(model(x["latents"][:, f], x["sigmas"][:, f], x["positions"][:, f], texts, x["cameras"][:, f],
                           cache=cache))  # fmt: skip
        cache.close()
    full = model(**x)
    assert (found[0][:, :3] - full[:, :3]).abs().max() < 1e-5
    for k in (1, 2, 3):
        assert (found[k - 1][:, 3:] - full[:, frames(k)]).abs().max() < 1e-5


@every_mode
@torch.no_grad()
def test_the_teacher_forced_pass_equals_the_cached_rollout(mode: str) -> None:
    """[clean history | noised target 3] in one sequence: the last entry sees history alone."""
    model, x = trained(MODES[mode]), make_inputs(MODES[mode])
    noised = torch.randn_like(x["latents"][:, frames(3)])
    x["sigmas"] = x["sigmas"].clone()
    x["sigmas"][:, : 3 * 3] = 0
    whole = {name: torch.cat([x[name], x[name][:, frames(3)]], 1) for name in ("sigmas", "positions", "cameras")}
    latents = torch.cat([x["latents"], noised], 1)
    mask = ChunkMask(((0,), (0, 1), (0, 1, 2), (0, 1, 2, 3), (0, 1, 2, 4)))
    together = model(latents, text=x["text"], text_of_chunk=(0, 1, 2, 3, 3), attention=mask, **whole)[:, 12:]
    x["latents"] = torch.cat([x["latents"][:, :9], noised], 1)
    assert (streamed(model, x)[:, frames(3)] - together).abs().max() < 1e-5


@every_mode
@torch.no_grad()
def test_int8_memory_errs_by_little(mode: str) -> None:
    """Measured here: 0.3 to 0.5 % of the output's spread. The first chunk reads no stored entry and is exact."""
    model, x = trained(MODES[mode]), make_inputs(MODES[mode])
    full, rough = model(**x), streamed(model, x, storage="int8")
    assert (rough[:, :3] - full[:, :3]).abs().max() < 1e-5
    error = (rough - full).square().mean().sqrt() / full.std()
    assert 1e-5 < error < 0.01
    assert (streamed(model, x, storage="int8", keys="raw") - full).square().mean().sqrt() / full.std() < 0.01


@every_camera_mode
@torch.no_grad()
def test_at_the_start_every_mode_is_the_plain_model(mode: str) -> None:
    """Bitwise; but where every head has its own phases the same products run in another order."""
    torch.manual_seed(3)
    fresh = CausalVideoDiT(MODES[mode]).eval()
    nn.init.normal_(fresh.head.head.weight)
    plain = CausalVideoDiT(BASE).eval()
    plain.load_state_dict({k: v for k, v in fresh.state_dict().items() if "camera_" not in k})
    x = make_inputs(BASE)
    without = plain(**{**x, "cameras": None})
    limit = 1e-5 if mode in ("qk per head", "dual") else 0.0
    assert (fresh(**x) - without).abs().max() <= limit
    assert (fresh(**{**x, "cameras": None}) - without).abs().max() <= limit


@every_camera_mode
@torch.no_grad()
def test_cameras_matter_and_invalid_ones_are_no_cameras(mode: str) -> None:
    model, x = trained(MODES[mode]), make_inputs(MODES[mode])
    none = model(**{**x, "cameras": None})
    nothing = torch.zeros_like(x["sigmas"], dtype=torch.bool)
    invalid = model(**{**x, "cameras": torch.full_like(x["cameras"], float("nan"))}, camera_valid=nothing)
    assert (none - invalid).abs().max() < 1e-5
    assert (model(**x) - none).abs().max() > 1e-2


@every_camera_mode
@torch.no_grad()
def test_later_cameras_change_no_earlier_output(mode: str) -> None:
    model, x = trained(MODES[mode]), make_inputs(MODES[mode])
    later = x["cameras"].clone()
    later[:, 6:] = later[:, 6:].flip(1)
    before, after = model(**x), model(**{**x, "cameras": later})
    assert (after[:, :6] - before[:, :6]).abs().max() < 1e-6
    assert (after[:, 6:] - before[:, 6:]).abs().max() > 1e-3


@every_camera_mode
def test_every_camera_weight_learns_by_the_second_step(mode: str) -> None:
    torch.manual_seed(0)
    model = CausalVideoDiT(MODES[mode])
    nn.init.normal_(model.head.head.weight, std=0.1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    touched: set[str] = set()
    for _ in range(2):
        optimizer.zero_grad()
        model(**make_inputs(MODES[mode])).square().mean().backward()
        touched |= {n for n, p in model.named_parameters() if "camera_" in n and p.grad is not None and p.grad.any()}
        optimizer.step()
    assert touched == {n for n, _ in model.named_parameters() if "camera_" in n}


@pytest.mark.parametrize("mode", ["vo", "full"])
@torch.no_grad()
def test_folded_equals_unfolded_also_when_saved_and_folded_twice(mode: str) -> None:
    model, x = trained(MODES[mode]), make_inputs(MODES[mode])
    before = model(**x)
    one_chunk = {n: v[:, :1] if n == "text" else v[:, :3] for n, v in make_inputs(MODES[mode], hw=(2, 2)).items()}
    few_tokens = model(**one_chunk)  # fewer tokens than the width: the second pass instead of the product
    assert model.fold_cameras().fold_cameras() is model
    assert (model(**x) - before).abs().max() < 1e-5
    assert (model(**one_chunk) - few_tokens).abs().max() < 1e-5
    again = CausalVideoDiT(MODES[mode]).eval()
    again.load_state_dict(model.state_dict())
    assert (again(**x) - before).abs().max() < 1e-5
    model.load_state_dict(trained(MODES[mode]).state_dict())  # unfolded weights into a folded model
    assert (model(**x) - before).abs().max() < 1e-5


def test_what_depends_on_the_frame_cannot_be_folded() -> None:
    with pytest.raises(InputError, match="cannot be folded"):
        CausalVideoDiT(MODES["full prope"]).fold_cameras()
    for mode in ("none", "qk", "dual"):  # nothing to fold
        CausalVideoDiT(MODES[mode]).fold_cameras()


# --- the projective reading and the second branch, written out -----------------------------------------------------


@torch.no_grad()
def test_eq_3_projective_carries_to_the_world_and_back_to_the_camera() -> None:
    torch.manual_seed(0)
    cameras = make_inputs(BASE)["cameras"][:1, :2].double()
    conditions = CameraConditions(cameras.float(), torch.tensor([[True, False]]), MODES["full prope"])
    residual, projection = ProjectiveResidual(8), nn.Linear(8, 8)
    residual.feature.normal_()
    x = torch.randn(1, 2, 3, 8)
    v = projection(x)
    t = cameras[0, 0, 9:12]
    c2w = torch.eye(4, dtype=torch.float64)
    c2w[:3, :3], c2w[:3, 3] = cameras[0, 0, :9].reshape(3, 3), t.sign() * torch.log(1 + t.abs())
    for token in range(3):
        to_world = torch.cat([(c2w @ v[0, 0, token, i : i + 4].double()) for i in (0, 4)]).float()
        to_camera = torch.cat([(c2w.inverse() @ v[0, 0, token, i : i + 4].double()) for i in (0, 4)]).float()
        expected_v = v[0, 0, token] + residual.feature @ to_world
        expected_o = v[0, 0, token] + residual.feature @ to_camera
        torch.testing.assert_close(residual.value(projection, x, conditions)[0, 0, token], expected_v)
        out = residual.output(projection, x, conditions)[0, 0, token]
        moved = residual.feature @ torch.cat([(c2w.inverse() @ x[0, 0, token, i : i + 4].double())
                                              for i in (0, 4)]).float()  # fmt: skip
        torch.testing.assert_close(out, v[0, 0, token] + moved)
        assert (expected_v - expected_o).abs().max() > 0.1
    # The second frame has no valid camera: identity.
    torch.testing.assert_close(residual.value(projection, x, conditions)[0, 1], v[0, 1] + v[0, 1] @ residual.feature.T)


@torch.no_grad()
def test_the_second_branch_sees_relative_cameras_alone() -> None:
    """Turning the whole world changes nothing in it; turning one camera does. Positions do not reach it either."""
    torch.manual_seed(0)
    layer = SelfAttention(MODES["dual"]).eval()
    layer.o.weight.zero_()
    layer.o.bias.zero_()  # the first branch is silenced
    nn.init.normal_(layer.camera_branch_output.weight)
    cameras = make_inputs(BASE, batch=1, chunks=2)["cameras"]
    cameras[..., 9:12] = 0  # bounded translations are no group; rotations are
    x = torch.randn(1, 6, 4, 48)

    def run(cameras: Tensor, start: float = 0.0) -> Tensor:
        rotors = position_rotors(start + torch.arange(6.0)[None], (2, 2), BASE)[:, :, :, None]
        conditions = CameraConditions(cameras, torch.ones(1, 6, dtype=torch.bool), MODES["dual"])
        return layer(x, rotors, conditions, ChunkMask.causal(2), None, None)

    turned, one = cameras.clone(), cameras.clone()
    turn = rotation_yaw(torch.tensor([35.0]))[0].float()
    turned[..., :9] = (turn @ cameras[..., :9].unflatten(-1, (3, 3))).flatten(-2)
    one[:, 2, :9] = (turn @ cameras[:, 2, :9].unflatten(-1, (3, 3))).flatten(-2)
    before = run(cameras)
    assert (run(turned) - before).abs().max() < 1e-4
    assert (run(one) - before).abs().max() > 1e-2
    assert torch.equal(run(cameras, start=7.0), before)


@torch.no_grad()
def test_the_second_branch_is_prope_written_out() -> None:
    torch.manual_seed(0)
    layer = SelfAttention(MODES["dual"]).eval()
    nn.init.normal_(layer.camera_branch_output.weight)
    x, cameras = torch.randn(1, 3, 1, 48), make_inputs(BASE, batch=1, chunks=1)["cameras"]
    valid = torch.ones(1, 3, dtype=torch.bool)
    rotors = position_rotors(torch.arange(3.0)[None], (1, 1), BASE)[:, :, :, None]
    conditions = CameraConditions(cameras, valid, MODES["dual"])
    with_branch = layer(x, rotors, conditions, None, None, None)
    layer.camera_branch_output.weight.zero_()
    branch = with_branch - layer(x, rotors, conditions, None, None, None)
    p = projection_matrices(cameras, valid)[0].double()
    q, k = layer.norm_q(layer.q(x)).double(), layer.norm_k(layer.k(x)).double()
    v = layer.v(x).double()
    out = torch.zeros(3, 4, 12, dtype=torch.float64)
    for head in range(4):
        part = slice(12 * head, 12 * head + 12)
        for i in range(3):
            relative = [torch.block_diag(*[p[i] @ p[j].inverse()] * 3) for j in range(3)]
            scores = torch.stack([q[0, i, 0, part] @ relative[j] @ k[0, j, 0, part] for j in range(3)]) / 12**0.5
            out[i, head] = sum(w * relative[j] @ v[0, j, 0, part] for j, w in enumerate(scores.softmax(0)))
    torch.manual_seed(0)
    weight = SelfAttention(MODES["dual"])  # same draws: only the branch's projection differs
    nn.init.normal_(weight.camera_branch_output.weight)
    expected = out.flatten(1).float() @ weight.camera_branch_output.weight.T
    torch.testing.assert_close(branch[0, :, 0], expected, atol=1e-3, rtol=1e-3)


@torch.no_grad()
def test_translations_are_bounded_and_groups_are_neighbours() -> None:
    descriptor = make_inputs(BASE)["cameras"][:1, :1].clone()
    descriptor[..., 9:12] = torch.tensor([1e6, -1e6, 1e-3])
    moved = bounded_c2w(descriptor, torch.ones(1, 1, dtype=torch.bool))[0, 0, :3, 3]
    torch.testing.assert_close(moved, torch.tensor([13.8155, -13.8155, 1e-3]), atol=1e-4, rtol=0)
    swap = torch.eye(4)[[1, 0, 2, 3]]
    x = torch.arange(8.0).reshape(1, 1, 1, 8)
    assert transform_groups(x, swap[None, None])[0, 0, 0].tolist() == [1, 0, 2, 3, 5, 4, 6, 7]


@pytest.mark.parametrize("changes", [{"camera_mode": "dual"}, {"camera_mode": "full", "vo_transform": "prope"}])
def test_a_head_that_does_not_split_into_groups_of_four_is_refused(changes: dict) -> None:
    with pytest.raises(InputError, match="multiple of 4"):
        DiTConfig(dim=30, ffn_dim=60, num_heads=3, num_layers=1, **changes)
