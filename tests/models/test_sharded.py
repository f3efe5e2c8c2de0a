"""The model under FSDP2 on two ranks is the model of one process, though weights are used outside their layers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing

from . import sharded_ranks

EXACT = ["sharded", "replicated", "accumulated", "from the meta device", "compiled, recomputed, bands"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each rank found."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(sharded_ranks.main, (str(folder),), nprocs=2)
    return [json.loads(Path(folder, f"rank{rank}.json").read_text()) for rank in range(2)]


@pytest.mark.parametrize("case", EXACT)
def test_outputs_and_gradients_are_those_of_one_process(case: str, found: list[dict[str, Any]]) -> None:
    for rank in found:
        output, gradient = rank["equality"][case]
        assert output < 1e-5
        assert gradient < 1e-5


def test_autocast_is_the_same_under_sharding(found: list[dict[str, Any]]) -> None:
    """Weights and all-gathers stay float32; gradients round in bfloat16 before they are reduced."""
    for rank in found:
        output, gradient = rank["equality"]["bfloat16"]
        assert output < 1e-3
        assert gradient < 0.05


def test_whole_weights_come_back_under_their_names_and_missing_ones_are_named(found: list[dict[str, Any]]) -> None:
    for rank in found:
        assert rank["full"]["names"]
        assert rank["full"]["equal"]
        assert "blocks.1.self_attn.camera_value.feature" in rank["full"]["message"]
