"""KV importance against a dense softmax."""

import math

import numpy as np
import pytest
import torch

from remind.errors import InputError
from remind.evaluation.kv_importance import (
    KVImportanceRecorder,
    Reduction,
    all_layers,
    average,
    chunk_mass,
    mass_over_token_share,
    paper_reduction,
)

TOKENS = (5, 7, 3)


def chunk_lse(q, keys):
    """Log-sum-exp against chunks of unequal size, which the model's own `chunk_lse` does not have."""
    return torch.stack([torch.logsumexp(q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5, -1) for k in keys], -1)


@pytest.fixture
def attention():
    g = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, 8, generator=g)
    return q, [torch.randn(2, t, 8, generator=g) for t in TOKENS]


def test_mass_equals_dense_softmax(attention):
    q, keys = attention
    dense = torch.softmax(q @ torch.cat(keys, 1).transpose(-1, -2) / math.sqrt(8), -1)
    expected = torch.stack([part.sum(-1) for part in dense.split(TOKENS, -1)], -1)
    torch.testing.assert_close(chunk_mass(chunk_lse(q, keys)), expected)


def test_large_scores_do_not_overflow(attention):
    q, keys = attention
    mass = chunk_mass(chunk_lse(q * 1e3, keys))
    torch.testing.assert_close(mass.sum(-1), torch.ones(2, 4), atol=1e-3, rtol=0)


def test_hidden_chunks_get_nothing_and_blind_queries_are_an_error():
    lse = torch.tensor([[1.0, -math.inf, 1.0]])
    torch.testing.assert_close(chunk_mass(lse), torch.tensor([[0.5, 0.0, 0.5]]))
    with pytest.raises(InputError, match="no chunk"):
        chunk_mass(torch.full((1, 2), -math.inf))


def test_even_attention_has_a_ratio_of_one():
    lse = torch.log(torch.tensor([list(TOKENS)], dtype=torch.float32))  # every score 0
    torch.testing.assert_close(mass_over_token_share(chunk_mass(lse), TOKENS), torch.ones(1, 3))


def test_paper_layers_keep_their_relative_depth():
    assert paper_reduction(30).layers == (20, 21, 22, 23, 24)
    assert paper_reduction(12).layers == (8, 9)
    assert paper_reduction(6).layers == (4,)
    assert paper_reduction(1).layers == (0,)
    assert "maximum over layers 20-24" in paper_reduction(30).describe()


def test_recorder_reduces_in_the_stated_order(attention):
    q, keys = attention
    steps = [[chunk_lse(q * s * w, keys) for w in (1.0, 2.0)] for s in (0.5, 1.5)]
    recorder = KVImportanceRecorder(4, Reduction((0, 1)))
    for lse in steps:
        recorder.add(3, [0, 2, 3], lse, TOKENS)
    found = recorder.result()
    per_layer = torch.stack([torch.stack([chunk_mass(x).mean((0, 1)) for x in lse]) for lse in steps]).mean(0)
    np.testing.assert_allclose(found.mass[3, [0, 2, 3]], per_layer.amax(0).numpy(), rtol=1e-6)
    assert np.isnan(found.mass[3, 1])
    assert np.isnan(found.mass[:3]).all()
    assert np.nansum(found.history()[3]) == pytest.approx(1)
    assert found.to_json()["mass"][3][1] is None


def test_average_counts_only_readable_cells(attention):
    q, keys = attention

    def one(kv_chunks, scale):
        recorder = KVImportanceRecorder(4, all_layers(1))
        recorder.add(3, kv_chunks, [chunk_lse(q * scale, keys)], TOKENS)
        return recorder.result()

    first, second = one([0, 1, 3], 1.0), one([1, 2, 3], 2.0)
    mean = average([first, second])
    assert mean.num_clips == 2
    assert mean.mass[3, 0] == pytest.approx(first.mass[3, 0])
    assert mean.mass[3, 1] == pytest.approx((first.mass[3, 1] + second.mass[3, 1]) / 2)
    recorder = KVImportanceRecorder(4, Reduction((0,), over_heads="max"))
    recorder.add(3, [0, 1, 3], [chunk_lse(q, keys)], TOKENS)
    with pytest.raises(InputError, match="one reduction"):
        average([first, recorder.result()])
