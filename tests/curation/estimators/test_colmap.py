"""COLMAP against the true poses of the embedded world, and its honest failures."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import pytest
import torch

from remind.clip import Cameras
from remind.curation.estimators.colmap import Colmap, estimate_poses
from remind.curation.estimators.contract import EstimatorError, EstimatorSetupError
from remind.curation.estimators.estimate import EstimatedGeometry, trajectory_error
from remind.errors import InputError
from remind.geometry import intrinsics_from_fov, rigid, rotation_yaw
from remind.world import sample_scene
from remind.world.clutter import add_clutter

pytest.importorskip("pycolmap", reason="the extra `camera` is not installed")
N, HW = 17, (160, 240)


@cache
def orbit() -> tuple[torch.Tensor, Cameras]:
    """A camera that goes to the left around a cluttered stage, looking at it, while the clock's hand goes round."""
    angle = torch.linspace(0, 0.6, N, dtype=torch.float64)
    position = 3.3 * torch.stack([-torch.sin(angle), 0 * angle, 1 - torch.cos(angle)], -1)
    c2w = rigid(rotation_yaw(torch.rad2deg(angle)), position)
    cameras = Cameras(c2w, intrinsics_from_fov(55.0, HW, N), HW, torch.ones(N, dtype=torch.bool))
    scene = add_clutter(sample_scene(1, family="clock", num_frames=N, hw=HW), count=80)
    return scene.render_rgb(cameras=cameras), cameras


@cache
def estimate() -> EstimatedGeometry:
    return estimate_poses(orbit()[0], 16.0)


def test_poses_are_the_true_ones_up_to_a_similarity() -> None:
    found, true = estimate(), orbit()[1]
    error = trajectory_error(found.cameras, true)
    assert error.num_frames == N
    assert error.ate_ratio < 0.02
    assert error.max_rotation_deg < 2
    focal = found.cameras.intrinsics_px[:, 0]
    assert (focal == focal[0]).all()
    assert abs(focal[0] / true.intrinsics_px[0, 0] - 1) < 0.1
    assert found.cameras.hw == HW
    assert torch.equal(found.cameras.c2w[0], torch.eye(4, dtype=torch.float64))
    # The direction of time and of the axes: the camera moved to its left and turned to its right.
    assert found.cameras.c2w[-1, 0, 3] < 0 < found.cameras.c2w[-1, 0, 2]
    assert found.depth is None
    assert found.scale_kind == "relative"
    assert found.facts["registered"] == N


def test_a_known_focal_length_is_kept() -> None:
    true = orbit()[1]
    focal_px = float(true.intrinsics_px[0, 0])
    found = estimate_poses(orbit()[0], 16.0, focal_px=focal_px)
    assert (found.cameras.intrinsics_px[:, :2] == focal_px).all()
    assert trajectory_error(found.cameras, true).ate_ratio < 0.02


def test_the_same_pictures_give_the_same_poses() -> None:
    again = estimate_poses(orbit()[0], 16.0)
    assert torch.equal(again.cameras.c2w, estimate().cameras.c2w)
    assert again.facts == estimate().facts


def test_frames_without_a_place_are_not_valid() -> None:
    """The first two and three later frames are black: the path is anchored at the first frame that has a place."""
    rgb = orbit()[0].clone()
    dark = [0, 1, 9, 10, 11]
    rgb[dark] = 0
    with Colmap(min_registered=0.3, min_points=100) as colmap:
        found = colmap.estimate(rgb)
        valid = found.cameras.valid
        assert not valid[dark].any()
        assert valid.sum() >= 8
        first = int(valid.nonzero()[0])
        assert found.facts["anchor_frame"] == first
        assert torch.equal(found.cameras.c2w[first], torch.eye(4, dtype=torch.float64))
        assert trajectory_error(found.cameras, orbit()[1]).ate_ratio < 0.05
    with Colmap(min_registered=0.3, min_points=5000) as colmap, pytest.raises(EstimatorError, match="too few points"):
        colmap.estimate(rgb)
    with Colmap(min_registered=0.95) as colmap, pytest.raises(EstimatorError, match="of 17; expected at least 95%"):
        colmap.estimate(rgb)


def test_pictures_without_texture_have_no_poses() -> None:
    with Colmap() as colmap:
        with pytest.raises(EstimatorError, match=r"too little texture, or no parallax.*0 features a picture"):
            colmap.estimate(torch.full((5, 64, 64, 3), 90, dtype=torch.uint8))
        still = orbit()[0][:1].repeat(5, 1, 1, 1)
        with pytest.raises(EstimatorError, match="no parallax"):
            colmap.estimate(still)
        with pytest.raises(InputError, match="this many frames"):
            colmap.estimate(still[:2])


def test_time_is_bounded() -> None:
    with Colmap(timeout_s=0.2) as colmap, pytest.raises(EstimatorError, match="stopped while answering"):
        colmap.estimate(orbit()[0])


def test_a_missing_pycolmap_names_the_extra(tmp_path: Path) -> None:
    worker = Path(sys.modules[Colmap.__module__].__file__ or "").parent / "workers/colmap_worker.py"
    (tmp_path / "pycolmap.py").write_text("raise ImportError('no module')")
    command = ["env", f"PYTHONPATH={tmp_path}", sys.executable, str(worker)]
    with Colmap(command) as colmap, pytest.raises(EstimatorSetupError, match=r"remind-video\[camera\]"):
        colmap.estimate(orbit()[0][:3])


def test_options_are_checked() -> None:
    for options in ({"overlap": 0}, {"max_side_px": 10}, {"min_registered": 1.5}, {"seed": -1}, {"focal_px": 0.0}):
        with pytest.raises(InputError, match=r"out of range|no focal length"):
            Colmap(**options)  # type: ignore[arg-type]


def test_global_mapping_finds_the_same_path() -> None:
    true = orbit()[1]
    found = estimate_poses(orbit()[0], 16.0, mapper="global", focal_px=float(true.intrinsics_px[0, 0]))
    error = trajectory_error(found.cameras, true)
    assert error.num_frames == N
    assert error.ate_ratio < 0.02
    assert error.max_rotation_deg < 2
    assert found.facts["mapper"] == "global"
    again = estimate_poses(orbit()[0], 16.0, mapper="global", focal_px=float(true.intrinsics_px[0, 0]))
    assert torch.equal(again.cameras.c2w, found.cameras.c2w)
