"""Two ranks that share the tokens of each latent frame are one process: outputs, gradients, and a step under FSDP."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch.multiprocessing

from remind.errors import InputError
from remind.models.config import DiTConfig
from remind.models.sequence_parallel import band, band_axis

from . import sequence_ranks
from .test_camera_modes import MODES

EQUAL = [*(f"causal, {mode}" for mode in MODES), *(f"{case}, {mode}" for case in ("teacher-forced", "dense", "columns")
         for mode in ("full", "dual")), "bidirectional", "without cameras", "a copy", "recomputed", "flex"]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the ranks found; they must agree."""
    folder = tmp_path_factory.mktemp("ranks")
    torch.multiprocessing.spawn(sequence_ranks.main, (str(folder),), nprocs=2)
    first, second = (json.loads(Path(folder, f"rank{rank}.json").read_text()) for rank in range(2))
    assert first == second
    return first


def test_nothing_is_missing(found: dict[str, Any]) -> None:
    assert set(found["equality"]) == {*EQUAL, "bfloat16"}


@pytest.mark.parametrize("case", EQUAL)
def test_joined_outputs_and_summed_gradients_are_those_of_one_process(case: str, found: dict[str, Any]) -> None:
    """Measured here: outputs of row bands bitwise, of column bands 3e-7; gradients 6e-6 of a parameter's largest."""
    output, gradient = found["equality"][case]
    assert output < 1e-5
    assert gradient < 1e-5


def test_tokens_travel_in_bfloat16_under_autocast(found: dict[str, Any]) -> None:
    """The same forward pass; sums of gradients round where bfloat16 rounds."""
    output, gradient = found["equality"]["bfloat16"]
    assert output < 1e-2
    assert gradient < 0.2


@pytest.mark.parametrize("mesh", ["1x2", "1x2, recomputed", "2x1", "2x1, recomputed"])
def test_a_step_under_fsdp_is_the_step_of_one_process(mesh: str, found: dict[str, Any]) -> None:
    """Every weight moves by 1e-4 to 1e-3 and ends within 1e-5; data x sequence ranks, sharded over both."""
    norm, weights, moved = found["sharded"][mesh]
    assert norm < 1e-5
    assert weights < 1e-5
    assert moved > 1e-4


@pytest.mark.parametrize(("what", "message"), [
    ("heads", r"heads do not divide.*3 heads, 2 ranks.*one of \[1, 3\].*Fix"),
    ("rows", "rows do not divide.*multiple of 2.*band_axis"),
    ("columns", "columns do not divide.*multiple of 2.*band_axis"),
    ("patches", "band of a sequence-parallel rank.*patches.*band_axis"),
    ("cache", "not sequence parallel.*sequence_parallel = None"),
    ("lse", "not sequence parallel.*sequence_parallel = None"),
])  # fmt: skip
def test_what_cannot_be_shared_is_refused(what: str, message: str, found: dict[str, Any]) -> None:
    assert re.search(message, found["refusals"][what])


def test_the_real_shape_is_shared_by_rows_or_by_columns() -> None:
    wan = DiTConfig.preset("wan-1.3b")
    assert [band_axis(wan, (60, 104), size) for size in (1, 2, 3, 4, 6)] == ["rows", "rows", "rows", "columns", "rows"]
    with pytest.raises(InputError, match=r"30 x 52 tokens, 12 ranks.*\[1, 2, 3, 4, 6\]"):
        band_axis(wan, (60, 104), 12)
    with pytest.raises(InputError, match=r"12 heads, 8 ranks.*\[1, 2, 3, 4, 6, 12\]"):
        band_axis(wan, (60, 104), 8)
    assert band_axis(DiTConfig.preset("wan-1.3b", camera_mode="dual"), (64, 104), 8) == "rows"  # 24 heads


def test_a_process_alone_has_all_of_it() -> None:
    x = torch.randn(2, 3, 4)
    assert band(x, None) is x
