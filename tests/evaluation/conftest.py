"""Small world cases with their meters, built once for all tests of measurement."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from remind.data.world_clips import HIDING_KINDS, TEST_SEEDS, VALIDATION_SEEDS, WorldClip, make_world_clip
from remind.evaluation.calibration import Calibration, calibrate
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.world_benchmark import is_eligible
from remind.world import FAMILIES

HW = (32, 32)
RAMPS = [name for name, family in FAMILIES.items() if not (family.periodic or family.discrete)]


@dataclass(frozen=True)
class Metered:
    case: WorldClip
    meter: CaseMeter


def at_rest(case: WorldClip) -> bool:
    """A camera that does not drift: its meter is built sixty times faster."""
    return bool((case.scene.cameras.c2w == case.scene.cameras.c2w[:1]).all())


def find(start: int, count: int, *, families: list[str], eligible: bool = True) -> list[WorldClip]:
    """Cases over families and interruptions in turn."""
    found: list[WorldClip] = []
    seed = start
    while len(found) < count:
        i = len(found)
        case = make_world_clip(
            seed, hw=HW, family=families[i % len(families)], kind=HIDING_KINDS[i % len(HIDING_KINDS)]
        )
        seed += 1
        if at_rest(case) and (not eligible or is_eligible(case)):
            found.append(case)
    return found


def lossy(rgb: torch.Tensor) -> torch.Tensor:
    """A stand-in for a codec: half the resolution and a little noise."""
    x = rgb.permute(0, 3, 1, 2).float()
    y = interpolate(avg_pool2d(x, 2), scale_factor=2, mode="bilinear")
    y = y + 4 * torch.randn(y.shape, generator=torch.Generator().manual_seed(0))
    return y.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1).contiguous()


@pytest.fixture(scope="session")
def metered() -> list[Metered]:
    return [Metered(c, CaseMeter(c)) for c in find(TEST_SEEDS.start, 20, families=RAMPS)]


@pytest.fixture(scope="session")
def calibration() -> Calibration:
    return calibrate(find(VALIDATION_SEEDS.start, 16, families=RAMPS), lossy)
