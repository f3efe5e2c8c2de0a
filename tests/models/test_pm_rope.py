"""PM-RoPE: rotary phases of original positions (Eq. 7), camera phases (Eq. 2), V/O residuals (Eq. 3)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.nn.functional import linear, scaled_dot_product_attention

from remind.geometry import invert_rigid
from remind.models.attention import ChunkMask
from remind.models.camera_conditions import CameraConditions, camera_6dof, rotation_log
from remind.models.config import DiTConfig
from remind.models.pm_rope import CameraPhase, CameraResidual, position_rotors, rotate
from remind.models.self_attention import SelfAttention

from .conftest import make_inputs


def time_angles(position: float, config: DiTConfig) -> Tensor:
    """Phases of a token at row 0, column 0: temporal pairs first, the spatial ones at 0."""
    pairs_t, pairs_h, pairs_w = config.rotary_pairs_thw
    time = position * 10_000.0 ** (-torch.arange(pairs_t, dtype=torch.float64) / pairs_t)
    return torch.cat([time, torch.zeros(pairs_h + pairs_w, dtype=torch.float64)])


def rotation_matrix(angles: Tensor) -> Tensor:
    """R of Eq. 7 as a block-diagonal matrix, counterclockwise."""
    return torch.block_diag(*(torch.tensor([[math.cos(a), -math.sin(a)], [math.sin(a), math.cos(a)]],
                                           dtype=torch.float64) for a in angles.tolist()))


def score(q: Tensor, k: Tensor, t_q: float, t_k: float, config: DiTConfig) -> float:
    """<R(t_q) q, R(t_k) k> through the code under test."""
    rotors = position_rotors(torch.tensor([[float(t_q), float(t_k)]]), (1, 1), config)[:, :, :, None]
    a, b = rotate(torch.stack([q, k])[None, :, None, None], rotors)[0, :, 0, 0]
    return float(a.double() @ b.double())


@pytest.fixture
def qk(config: DiTConfig) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(config.head_dim, generator=generator), torch.randn(config.head_dim, generator=generator)


@pytest.mark.parametrize(("t_q", "t_k"), [(0, 0), (5, 2), (20, 0), (2, 5), (1500, 3), (40_000, 39_000)])
def test_eq_7_the_score_is_q_rotated_by_the_relative_time(
    config: DiTConfig, qk: tuple[Tensor, Tensor], t_q: int, t_k: int
) -> None:
    q, k = qk
    relative = rotation_matrix(time_angles(t_k - t_q, config))
    assert score(q, k, t_q, t_k, config) == pytest.approx(float(q.double() @ relative @ k.double()), abs=1e-4)


def test_eq_7_has_a_direction(config: DiTConfig, qk: tuple[Tensor, Tensor]) -> None:
    q, k = qk
    assert abs(score(q, k, 5, 2, config) - score(q, k, 2, 5, config)) > 0.1


@given(st.integers(0, 300), st.integers(0, 300), st.integers(0, 100_000))
@settings(deadline=None, max_examples=40)
def test_a_score_depends_on_the_offset_alone_also_far_beyond_any_table(t_q: int, t_k: int, shift: int) -> None:
    config = DiTConfig(dim=48, ffn_dim=96, num_heads=4, num_layers=1)
    generator = torch.Generator().manual_seed(t_q)
    q, k = (torch.randn(config.head_dim, generator=generator) for _ in range(2))
    assert score(q, k, t_q, t_k, config) == pytest.approx(
        score(q, k, t_q + shift, t_k + shift, config), abs=1e-4
    )


def test_rotors_at_position_10000_are_exact_to_the_last_bit_of_float32() -> None:
    config = DiTConfig.preset("wan-1.3b")
    pairs_t, pairs_h, pairs_w = config.rotary_pairs_thw
    assert (pairs_t, pairs_h, pairs_w) == (22, 21, 21)
    rotors = position_rotors(torch.tensor([[10_000.0]]), (2, 3), config)[0, 0].numpy()

    def exact(coordinate: int, pairs: int) -> np.ndarray:
        angle = np.longdouble(coordinate) * np.longdouble(10_000) ** (
            -np.arange(pairs, dtype=np.longdouble) / np.longdouble(pairs)
        )
        return np.cos(angle) + 1j * np.sin(angle)

    for token, (row, column) in enumerate((r, c) for r in range(2) for c in range(3)):
        truth = np.concatenate([exact(10_000, pairs_t), exact(row, pairs_h), exact(column, pairs_w)])
        assert np.abs(rotors[token] - truth).max() < 1e-7


def test_rotation_keeps_lengths_and_the_dtype_of_its_input(config: DiTConfig) -> None:
    x = torch.randn(1, 3, 4, 2, config.head_dim)
    rotors = position_rotors(torch.tensor([[0.0, 7.0, 900.0]]), (2, 2), config)[:, :, :, None]
    torch.testing.assert_close(rotate(x, rotors).norm(dim=-1), x.norm(dim=-1))
    assert rotate(x.bfloat16(), rotors).dtype == torch.bfloat16
    assert torch.equal(rotate(x, torch.ones_like(rotors)), x)


# --- camera phases, Eq. 2 ------------------------------------------------------------------------------------------


def camera_phase(config: DiTConfig, **changes: object) -> CameraPhase:
    torch.manual_seed(1)
    phase = CameraPhase(DiTConfig(**{**vars(config), **changes}))
    torch.nn.init.normal_(phase.mlp[2].weight)
    torch.nn.init.normal_(phase.mlp[2].bias)
    return phase


@torch.no_grad()
def test_eq_2_query_and_key_turn_by_theta_plus_delta(config: DiTConfig, qk: tuple[Tensor, Tensor]) -> None:
    phase = camera_phase(config)
    cameras = make_inputs(config)["cameras"][:1, 3:5]
    deltas = phase.mlp(cameras)[0].double()
    t_q, t_k = 9.0, 4.0
    rotors = position_rotors(torch.tensor([[float(t_q), float(t_k)]]), (1, 1), config)[:, :, :, None]
    rotors = rotors * phase(cameras, torch.ones(1, 2, dtype=torch.bool))
    a, b = rotate(torch.stack(qk)[None, :, None, None], rotors)[0, :, 0, 0].double()
    q, k = (x.double() for x in qk)
    torch.testing.assert_close(a, rotation_matrix(time_angles(t_q, config) + deltas[0]) @ q, atol=1e-5, rtol=0)
    relative = time_angles(t_k, config) + deltas[1] - time_angles(t_q, config) - deltas[0]
    torch.testing.assert_close(a @ b, q @ rotation_matrix(relative) @ k, atol=1e-5, rtol=0)


@torch.no_grad()
def test_one_phase_offset_for_all_frames_changes_no_score(config: DiTConfig) -> None:
    phase = camera_phase(config)
    still = make_inputs(config)["cameras"][:1, 4:5].repeat(1, 6, 1)
    offset = phase(still, torch.ones(1, 6, dtype=torch.bool))
    assert (offset - 1).abs().max() > 0.5
    rotors = position_rotors(torch.arange(6.0)[None], (1, 1), config)[:, :, :, None]
    q, k = torch.randn(2, 1, 6, 1, 4, config.head_dim).unbind(0)

    def scores(r: Tensor) -> Tensor:
        return torch.einsum("btlnd,bslnd->bnts", rotate(q, r), rotate(k, r))

    torch.testing.assert_close(scores(rotors * offset), scores(rotors), atol=1e-4, rtol=0)


@torch.no_grad()
def test_frames_without_a_camera_get_exactly_no_phase_and_no_bias(config: DiTConfig) -> None:
    cameras = make_inputs(config)["cameras"][:1, :3]
    valid = torch.tensor([[True, False, True]])
    rotors = camera_phase(config)(cameras, valid)
    assert (rotors[:, 1] == 1).all()
    assert (rotors[:, [0, 2]] != 1).any()
    residual = CameraResidual(config.dim)
    torch.nn.init.normal_(residual.camera)
    bias = residual.frame_bias(camera_6dof(cameras, inverse=False), valid)
    assert (bias[:, 1] == 0).all()
    assert bias[:, 2].abs().max() > 0.1


@torch.no_grad()
def test_offsets_may_be_temporal_only_and_per_head(config: DiTConfig) -> None:
    cameras, valid = make_inputs(config)["cameras"][:1, :3], torch.ones(1, 3, dtype=torch.bool)
    pairs_t = config.rotary_pairs_thw[0]
    rotors = camera_phase(config, phase_pairs="temporal", phase_per_head=True)(cameras, valid)
    assert rotors.shape == (1, 3, 1, config.num_heads, config.head_dim // 2)
    assert (rotors[..., pairs_t:] == 1).all()
    assert (rotors[..., :pairs_t] - 1).abs().min() > 0
    assert not torch.equal(rotors[..., 0, :], rotors[..., 1, :])
    assert camera_phase(config)(cameras, valid).shape[3] == 1


# --- the 6-DoF embedding -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("angle", [0.0, 1e-8, 1e-4, 0.5, 2.0, math.pi - 1e-4, math.pi - 1e-7, math.pi])
def test_rotation_log_is_scipys_also_at_angle_0_and_pi(angle: float) -> None:
    axes = np.random.default_rng(0).standard_normal((50, 3))
    axes = np.concatenate([axes / np.linalg.norm(axes, axis=1, keepdims=True), np.eye(3), -np.eye(3)])
    rotations = Rotation.from_rotvec(angle * axes)
    vectors = rotation_log(torch.from_numpy(rotations.as_matrix())).numpy()
    assert np.isfinite(vectors).all()
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), angle, atol=1e-7)
    np.testing.assert_allclose(Rotation.from_rotvec(vectors).as_matrix(), rotations.as_matrix(), atol=1e-7)
    if angle < math.pi:  # at pi both directions of the axis are right
        np.testing.assert_allclose(vectors, rotations.as_rotvec(), atol=1e-6)


@given(st.integers(0, 10_000))
@settings(deadline=None, max_examples=50)
def test_rotation_log_of_random_rotations_is_scipys(seed: int) -> None:
    rotations = Rotation.random(8, random_state=seed)
    vectors = rotation_log(torch.from_numpy(rotations.as_matrix())).numpy()
    np.testing.assert_allclose(vectors, rotations.as_rotvec(), atol=1e-7)


def test_camera_6dof_is_axis_angle_and_translation_and_its_inverse() -> None:
    rotations = Rotation.random(5, random_state=0)
    translation = torch.randn(5, 3, dtype=torch.float64)
    descriptor = torch.zeros(1, 5, 14, dtype=torch.float64)
    descriptor[0, :, :9] = torch.from_numpy(rotations.as_matrix()).flatten(1)
    descriptor[0, :, 9:12] = translation
    forward, inverse = (camera_6dof(descriptor, inverse=i)[0] for i in (False, True))
    rotvec = torch.from_numpy(rotations.as_rotvec())
    torch.testing.assert_close(forward, torch.cat([rotvec, translation], -1))
    moved_back = torch.from_numpy(-rotations.inv().apply(translation.numpy()))
    torch.testing.assert_close(inverse, torch.cat([-rotvec, moved_back], -1))
    c2w = torch.eye(4, dtype=torch.float64).repeat(5, 1, 1)
    c2w[:, :3, :3], c2w[:, :3, 3] = torch.from_numpy(rotations.as_matrix()), translation
    torch.testing.assert_close(inverse[:, 3:], invert_rigid(c2w)[:, :3, 3])


# --- V/O residuals, Eq. 3 ------------------------------------------------------------------------------------------


def residual(dim: int, generator: torch.Generator) -> CameraResidual:
    made = CameraResidual(dim).double()
    with torch.no_grad():
        made.feature.normal_(std=0.3, generator=generator)
        made.camera.normal_(generator=generator)
    return made


@torch.no_grad()
def test_eq_3_folded_equals_the_linear_map_on_the_concatenation() -> None:
    dim, generator = 24, torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    projection = torch.nn.Linear(dim, dim).double()
    embedding = torch.randn(2, 3, 6, dtype=torch.float64, generator=generator)
    x = torch.randn(2, 3, 5, dim, dtype=torch.float64, generator=generator)
    valid = torch.ones(2, 3, dtype=torch.bool)
    delta = residual(dim, generator)
    w_delta = torch.cat([delta.feature, delta.camera], 1)  # [A | B]
    e = embedding[:, :, None].expand(2, 3, 5, 6)

    v = projection(x)
    unfolded = v + linear(torch.cat([v, e], -1), w_delta)
    folded = linear(x, *delta.folded_value(projection)) + delta.frame_bias(embedding, valid)
    torch.testing.assert_close(folded, unfolded, atol=1e-6, rtol=0)

    unfolded = projection(x) + linear(torch.cat([x, e], -1), w_delta)
    folded = linear(x, *delta.folded_output(projection)) + delta.frame_bias(embedding, valid)
    torch.testing.assert_close(folded, unfolded, atol=1e-6, rtol=0)


@torch.no_grad()
def test_a_whole_layer_is_eqs_2_and_3_written_out(config: DiTConfig) -> None:
    """The key's inverse camera on the value, the query's own camera on the output, theta + delta on q and k."""
    torch.manual_seed(0)
    layer = SelfAttention(config).eval()
    for parameter in layer.parameters():
        if (parameter == 0).all():
            parameter.normal_(std=0.3)
    inputs = make_inputs(config, batch=1, chunks=2)
    cameras, positions = inputs["cameras"], inputs["positions"]
    x = torch.randn(1, 6, 4, config.dim)
    rotors = position_rotors(positions, (2, 2), config)[:, :, :, None]
    conditions = CameraConditions(cameras, torch.ones(1, 6, dtype=torch.bool), config)
    got = layer(x, rotors, conditions, ChunkMask.causal(2), None, None)

    heads = config.num_heads
    turned = rotors * torch.polar(torch.ones(()), layer.camera_phase.mlp(cameras))[:, :, None, None]
    q = rotate(layer.norm_q(layer.q(x)).unflatten(-1, (heads, -1)), turned)
    k = rotate(layer.norm_k(layer.k(x)).unflatten(-1, (heads, -1)), turned)
    v = layer.v(x)

    def delta(part: CameraResidual, feature: Tensor, pose: Tensor) -> Tensor:
        joined = torch.cat([feature, pose[:, :, None].expand(*feature.shape[:3], 6)], -1)
        return linear(joined, torch.cat([part.feature, part.camera], 1))

    v = v + delta(layer.camera_value, v, camera_6dof(cameras, inverse=True))
    q, k, v = (y.reshape(1, 24, heads, -1).transpose(1, 2) for y in (q, k, v))
    y = scaled_dot_product_attention(q, k, v, attn_mask=ChunkMask.causal(2).dense(12))
    y = y.transpose(1, 2).reshape(1, 6, 4, config.dim)
    truth = layer.o(y) + delta(layer.camera_output, y, camera_6dof(cameras, inverse=False))
    torch.testing.assert_close(got, truth, atol=1e-5, rtol=0)
