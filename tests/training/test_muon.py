"""Muon: orthogonal updates, and the same steps as torch's own implementation."""

from __future__ import annotations

import pytest
import torch

from remind.training.muon import Muon, orthogonalise


def random_matrices(*shape: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 32, 8), (2, 8, 32)])
def test_singular_values_go_to_one_and_singular_vectors_stay(shape: tuple[int, int, int]) -> None:
    matrices = random_matrices(*shape)
    result = orthogonalise(matrices)
    assert result.shape == matrices.shape
    values = torch.linalg.svdvals(result)
    assert values.min() > 0.5
    assert values.max() < 1.3
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    inside = u.mT @ result @ vh.mT  # diagonal if the singular vectors are the same
    torch.testing.assert_close(inside, torch.diag_embed(inside.diagonal(dim1=1, dim2=2)), atol=1e-4, rtol=0)
    assert (inside.diagonal(dim1=1, dim2=2) > 0).all()  # and no sign has flipped


def test_the_scale_of_the_gradient_does_not_matter() -> None:
    matrices = random_matrices(1, 8, 8)
    torch.testing.assert_close(orthogonalise(1e-3 * matrices), orthogonalise(1e3 * matrices), atol=1e-5, rtol=0)


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="torch has its own since 2.9")
@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_the_same_steps_as_torch(weight_decay: float) -> None:
    """torch iterates in bfloat16, so steps agree to its precision: 2 % of a step's length."""
    mine, theirs = ([torch.nn.Parameter(random_matrices(*s)) for s in ((16, 16), (32, 8), (16, 16))]
                    for _ in range(2))  # fmt: skip
    ours = Muon(mine, 0.02, weight_decay=weight_decay)
    reference = torch.optim.Muon(theirs, 0.02, weight_decay=weight_decay, momentum=0.95)
    generator = torch.Generator().manual_seed(1)
    for step in range(5):
        for a, b in zip(mine, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        ours.step()
        reference.step()
        for a, b in zip(mine, theirs, strict=True):
            assert (a - b).norm() < 0.02 * 0.02 * (step + 1) * a.shape[1] ** 0.5 * 2


def test_a_weight_without_gradient_stays() -> None:
    weights = [torch.nn.Parameter(random_matrices(4, 4)) for _ in range(2)]
    weights[0].grad = torch.ones(4, 4)
    before = weights[1].detach().clone()
    Muon(weights, 0.1, weight_decay=0.5).step()
    assert torch.equal(weights[1], before)
    assert not torch.equal(weights[0], before)
