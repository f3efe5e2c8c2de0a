"""Still windows are told from moving ones, whatever their brightness."""

from __future__ import annotations

import pytest
import torch

from remind.data.motion import measure_motion, why_static
from tests.data.make_video import moving_square


def test_a_still_picture_is_static() -> None:
    motion = measure_motion(moving_square(1).expand(81, -1, -1, -1))
    assert (motion.mean_change, motion.moving_share) == (0, 0)
    assert why_static(motion) == "static: 0.0% of the picture moves, at least 1.0% is needed"


def test_noise_of_a_level_or_two_is_static() -> None:
    still = moving_square(1).expand(81, -1, -1, -1)
    noise = torch.randint(0, 3, still.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    assert why_static(measure_motion(still + noise)) is not None


def test_a_moving_square_is_not() -> None:
    motion = measure_motion(moving_square(81))
    assert why_static(motion) is None
    assert 0.1 < motion.moving_share < 0.6  # the stripe that it crosses


def test_slow_but_visible_change_counts() -> None:
    fade = torch.arange(81)[:, None, None, None].expand(81, 16, 16, 3) * 3
    assert why_static(measure_motion(fade.to(torch.uint8).contiguous())) is None


def test_a_tiny_flicker_covers_area_but_hardly_changes() -> None:
    rgb = torch.full((81, 16, 16, 3), 100, dtype=torch.uint8)
    rgb[40] = 120
    motion = measure_motion(rgb)
    assert motion.moving_share == 1
    assert motion.mean_change == pytest.approx(2 * 20 / 255 / 80, rel=1e-3)
    reason = why_static(motion, min_change=0.01)
    assert reason is not None
    assert "luma changes by" in reason
