"""Prefix attention is dense masked attention is the softmax written out; and the mass per chunk is exact."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from remind.errors import InputError
from remind.models.attention import (
    ChunkMask,
    attention_with_lse,
    chunk_attention,
    chunk_lse,
    dense_attention,
    prefix_attention,
    runs,
    take_chunks,
)

TOKENS = 3


def teacher_forced(num: int) -> tuple[tuple[int, ...], ...]:
    """[clean history | noised targets]: target k sees history < k and itself."""
    history = [tuple(range(k + 1)) for k in range(num - 1)]
    return (*history, *((*range(k), num - 1 + k) for k in range(num)))


@st.composite
def visibilities(draw: st.DrawFn) -> tuple[tuple[int, ...], ...]:
    """Any pattern in which a chunk sees at least itself; neighbours are often alike."""
    num = draw(st.integers(1, 6))
    rows = [draw(st.sets(st.integers(0, num - 1), max_size=num)) | {i} for i in range(num)]
    return tuple(tuple(sorted(row)) for row in rows)


def make_qkv(num_chunks: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, 2, 2, num_chunks * TOKENS, 4, generator=generator).unbind(0)
    return q, k, v


def naive(q: Tensor, k: Tensor, v: Tensor, visibility: tuple[tuple[int, ...], ...]) -> Tensor:
    """Softmax over exactly the visible keys, one query at a time, in float64."""
    out = torch.zeros_like(q, dtype=torch.float64)
    for i in range(q.shape[2]):
        seen = [TOKENS * c + t for c in visibility[i // TOKENS] for t in range(TOKENS)]
        keys, values = k[:, :, seen].double(), v[:, :, seen].double()
        weights = (keys @ q[:, :, i, :, None].double() / q.shape[-1] ** 0.5).softmax(-2)
        out[:, :, i] = (weights * values).sum(-2)
    return out.float()


PATTERNS = [
    ChunkMask.causal(4).visibility,
    ChunkMask.bidirectional(3).visibility,
    teacher_forced(2),
    teacher_forced(5),
    ((0,), (0, 1), (0, 2), (0, 2, 3)),
    ((0, 1), (1,)),
]


@pytest.mark.parametrize("visibility", PATTERNS)
def test_prefix_dense_and_the_naive_softmax_agree(visibility: tuple[tuple[int, ...], ...]) -> None:
    q, k, v = make_qkv(len(visibility))
    truth, mask = naive(q, k, v, visibility), ChunkMask(visibility)
    with_gradients = prefix_attention(q, k, v, mask)
    with torch.no_grad():  # another code path
        without = prefix_attention(q, k, v, mask)
    for got in (with_gradients, without, dense_attention(q, k, v, mask)):
        torch.testing.assert_close(got, truth, atol=1e-5, rtol=0)


@given(visibilities(), st.integers(0, 100))
@settings(deadline=None, max_examples=40)
def test_they_agree_for_any_visibility_and_so_do_their_gradients(
    visibility: tuple[tuple[int, ...], ...], seed: int
) -> None:
    mask = ChunkMask(visibility)
    weights = torch.randn(2, 2, len(visibility) * TOKENS, 4, generator=torch.Generator().manual_seed(seed + 1))
    results, gradients = [], []
    for kernel in (prefix_attention, dense_attention, lambda q, k, v, m: naive(q, k, v, m.visibility)):
        leaves = [x.clone().requires_grad_() for x in make_qkv(len(visibility), seed)]
        out = kernel(*leaves, mask)
        (out * weights).sum().backward()
        results.append(out.detach())
        gradients.append([leaf.grad if leaf.grad is not None else torch.zeros_like(leaf) for leaf in leaves])
    for result, gradient in zip(results[:2], gradients[:2], strict=True):
        torch.testing.assert_close(result, results[2], atol=1e-5, rtol=0)
        torch.testing.assert_close(gradient, gradients[2], atol=1e-5, rtol=0)


def test_both_kernels_of_a_mask_give_the_same() -> None:
    q, k, v = make_qkv(4)
    visibility = (*teacher_forced(2)[:1], (0, 1), (0, 2), (0, 2, 3))
    by_prefix = chunk_attention(q, k, v, ChunkMask(visibility))
    by_dense = chunk_attention(q, k, v, ChunkMask(visibility, kernel="dense"))
    torch.testing.assert_close(by_prefix, by_dense, atol=1e-5, rtol=0)


def test_what_is_not_visible_cannot_matter() -> None:
    q, k, v = make_qkv(4)
    mask = ChunkMask(((0,), (0, 1), (0, 2), (0, 2, 3)))
    hidden = slice(TOKENS, 2 * TOKENS)  # chunk 1
    k2, v2 = k.clone(), v.clone()
    k2[:, :, hidden], v2[:, :, hidden] = 100.0, float("nan")
    before, after = prefix_attention(q, k, v, mask), prefix_attention(q, k2, v2, mask)
    for chunk in (0, 2, 3):
        rows = slice(TOKENS * chunk, TOKENS * (chunk + 1))
        assert torch.equal(before[:, :, rows], after[:, :, rows])
    assert after[:, :, hidden].isnan().all()


def test_a_dense_mask_is_true_where_a_query_may_look() -> None:
    assert ChunkMask(((0,), (0, 1))).dense(2).int().tolist() == [
        [1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]
    ]  # fmt: skip


def test_the_log_sum_exp_gives_the_mass_of_the_dense_softmax() -> None:
    q, k, v = make_qkv(4)
    lse = chunk_lse(q, k, v, TOKENS)
    mass = (lse - lse.logsumexp(-1, keepdim=True)).exp()
    truth = (q @ k.transpose(-1, -2) / 4**0.5).softmax(-1).unflatten(-1, (4, TOKENS)).sum(-1)
    torch.testing.assert_close(mass, truth, atol=1e-6, rtol=0)
    assert mass.amax() > 0.5  # somebody looks somewhere


@pytest.mark.parametrize("visibility", PATTERNS)
def test_flex_attention_agrees_where_it_runs_unfused(visibility: tuple[tuple[int, ...], ...]) -> None:
    q, k, v = make_qkv(len(visibility))
    mask = ChunkMask(visibility, kernel="flex").prepare(q.shape[2] // len(visibility), q.device)
    got = chunk_attention(q, k, v, mask)
    torch.testing.assert_close(got, naive(q, k, v, visibility), atol=1e-5, rtol=0)


def test_attention_with_lse_is_attention_and_its_log_sum_exp() -> None:
    q, k, v = make_qkv(3)
    out, lse = attention_with_lse(q, k, v)
    torch.testing.assert_close(out, torch.nn.functional.scaled_dot_product_attention(q, k, v), atol=1e-6, rtol=0)
    torch.testing.assert_close(lse, (q @ k.mT / 4**0.5).logsumexp(-1), atol=1e-6, rtol=0)


@pytest.mark.parametrize("row", [(), (1, 0), (0, 0), (0, 3), (-1, 0)])
def test_rows_that_do_not_list_chunks_in_order_are_refused(row: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="chunk mask row"):
        ChunkMask(((0,), row, (0, 1, 2)))


def test_a_sequence_that_is_not_whole_chunks_is_refused() -> None:
    q, k, v = make_qkv(4)
    with pytest.raises(InputError, match="multiple of 5"):
        prefix_attention(q, k, v, ChunkMask.causal(5))


def test_contiguous_chunks_are_a_view_and_others_a_copy() -> None:
    x = make_qkv(5)[0]
    assert runs((0, 1, 2, 5)) == [range(0, 3), range(5, 6)]
    assert take_chunks(x, (1, 2), TOKENS).untyped_storage().data_ptr() == x.untyped_storage().data_ptr()
    picked = take_chunks(x, (0, 3, 4), TOKENS)
    assert torch.equal(picked, x[:, :, [0, 1, 2, *range(9, 15)]])
