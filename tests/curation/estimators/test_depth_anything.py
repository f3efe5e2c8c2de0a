"""Depth Anything 3 through a stand-in that answers the truth, and its worker against a package with its calls."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from remind.curation.estimators.colmap import WORKERS
from remind.curation.estimators.contract import EstimatorError, EstimatorSetupError
from remind.curation.estimators.depth_anything import DepthAnything3
from remind.curation.estimators.estimate import trajectory_error
from remind.errors import InputError
from remind.geometry import invert_rigid
from tests.curation.estimators.make_geometry import (
    PROCESS_HW,
    PROCESS_RES,
    moving_cameras,
    stand_in,
    world_clip,
    write_truth,
)


def estimator(truth: Path, behaviour: str = "good") -> DepthAnything3:
    return DepthAnything3(stand_in(truth, behaviour), model="tiny", process_res=PROCESS_RES, timeout_s=20.0)


def test_the_truth_comes_back_in_our_conventions(tmp_path: Path) -> None:
    """The stand-in sees 60x100 pictures, works at 42x70 in a world frame of its own and answers w2c."""
    truth = write_truth(tmp_path / "truth.npz")
    clip = world_clip(4, (60, 100))
    with estimator(tmp_path / "truth.npz") as tool:
        found = tool.estimate(clip.rgb)
    assert truth.cameras is not None
    assert clip.cameras is not None
    assert torch.allclose(found.cameras.c2w, truth.cameras.c2w, atol=1e-9)
    assert torch.equal(found.cameras.c2w[0], torch.eye(4, dtype=torch.float64))
    assert found.cameras.hw == PROCESS_HW
    assert torch.equal(found.cameras.intrinsics_px, truth.cameras.intrinsics_px)
    assert torch.equal(found.depth, truth.depth)
    assert found.scale_kind == "relative"
    assert found.facts["weights_licence"] == "CC0"
    assert found.facts["sha256"] == hashlib.sha256(clip.rgb.numpy().tobytes()).hexdigest()
    full = found.resized((60, 100))
    torch.testing.assert_close(full.cameras.intrinsics_px, clip.cameras.intrinsics_px)
    assert full.depth is not None
    assert clip.depth is not None
    assert ((full.depth / clip.depth - 1).abs() < 0.05).float().mean() > 0.9


def test_depth_and_cameras_fit_each_other(tmp_path: Path) -> None:
    """Points of the last frame, carried into the first by the estimate, look as they do there; the inverse does not."""
    truth = write_truth(tmp_path / "truth.npz")
    with estimator(tmp_path / "truth.npz") as tool:
        found = tool.estimate(truth.rgb)
    assert found.depth is not None

    def difference(c2w: torch.Tensor) -> float:
        fx, fy, cx, cy = found.cameras.intrinsics_px[-1].tolist()
        y, x = torch.meshgrid(torch.arange(42) + 0.5, torch.arange(70) + 0.5, indexing="ij")
        rays = torch.stack([(x - cx) / fx, (y - cy) / fy, torch.ones_like(x)], -1).double()
        point = rays * found.depth[-1][..., None]  # type: ignore[index]
        point = point @ c2w[-1, :3, :3].T + c2w[-1, :3, 3]
        u = (point[..., 0] / point[..., 2] * fx + cx).floor().long()
        v = (point[..., 1] / point[..., 2] * fy + cy).floor().long()
        inside = (u >= 0) & (u < 70) & (v >= 0) & (v < 42)
        there = truth.rgb[0][v[inside], u[inside]].float()
        return (there - truth.rgb[-1][inside].float()).abs().mean().item()

    right, wrong = difference(found.cameras.c2w), difference(invert_rigid(found.cameras.c2w))
    assert right < 0.5 * wrong


@pytest.mark.parametrize(
    ("behaviour", "line"),
    [
        ("nan_depth", "depth holds NaN"),
        ("negative_depth", "negative"),
        ("mirrored", "rotations are not rotations"),
        ("skewed", "rotations are not rotations"),
        ("nan_pose", "poses hold NaN"),
        ("zero_focal", "intrinsics are not a camera's"),
        ("frame_missing", "not what was asked for"),
        ("cropped", "another shape than the picture"),
        ("crash_midway", "out of memory"),
        ("older", "update the worker"),
    ],
)
def test_what_is_no_geometry_is_refused(tmp_path: Path, behaviour: str, line: str) -> None:
    truth = write_truth(tmp_path / "truth.npz")
    with estimator(tmp_path / "truth.npz", behaviour) as tool, pytest.raises(EstimatorError, match=line):
        tool.estimate(truth.rgb)


def test_options_are_checked() -> None:
    for process_res in (500, 0, 14 * 1000):
        with pytest.raises(InputError, match="patches of 14"):
            DepthAnything3(["python", "worker.py"], process_res=process_res)


# --- the worker script itself, against a package with the same calls ---

PACKAGE = '''
import numpy as np

LOADED = []


class Prediction:
    def __init__(self, depth, conf, extrinsics, intrinsics, sky):
        self.depth, self.conf, self.extrinsics, self.intrinsics = depth, conf, extrinsics, intrinsics
        self.sky, self.is_metric, self.scale_factor = sky, 0, None


class DepthAnything3:
    @classmethod
    def from_pretrained(cls, name):
        if name == "absent/model":
            raise OSError(f"{name} is not on the hub")
        LOADED.append(name)
        model = cls()
        model.name = name
        return model

    def to(self, device):
        assert device == "cpu"
        return self

    def inference(self, image, extrinsics=None, intrinsics=None, align_to_input_ext_scale=True, infer_gs=False,
                  use_ray_pose=False, ref_view_strategy="saddle_balanced", render_exts=None, render_ixts=None,
                  render_hw=None, process_res=504, process_res_method="upper_bound_resize"):
        print("[INFO ] Processed Images Done taking 0.1 seconds")
        assert isinstance(image, list) and all(i.dtype == np.uint8 and i.ndim == 3 for i in image)
        assert process_res_method == "upper_bound_resize"
        scale = process_res / max(image[0].shape[:2])
        n, h, w = len(image), *(round(side * scale / 14) * 14 for side in image[0].shape[:2])
        depth = np.full((n, h, w), 2 + len(LOADED), np.float32)
        sky = np.zeros((n, h, w), bool)
        sky[:, 0] = True
        a = np.linspace(0, 0.3, n, dtype=np.float32)
        w2c = np.zeros((n, 3, 4), np.float32)
        w2c[:, 0, 0] = w2c[:, 2, 2] = np.cos(a)
        w2c[:, 0, 2], w2c[:, 2, 0], w2c[:, 1, 1] = -np.sin(a), np.sin(a), 1
        w2c[:, 0, 3] = -np.arange(n)
        k = np.tile(np.array([[60, 0, w / 2], [0, 61, h / 2], [0, 0, 1]], np.float32), (n, 1, 1))
        if self.name.endswith("MONO-LARGE"):
            return Prediction(depth, None, None, None, sky)
        return Prediction(depth, depth * 0 + 0.5, w2c, k, sky)
'''


def command_with(package: Path, text: str) -> list[str]:
    (package / "depth_anything_3").mkdir(parents=True)
    (package / "depth_anything_3/__init__.py").write_text("")
    (package / "depth_anything_3/api.py").write_text(text)
    return ["env", f"PYTHONPATH={package}", sys.executable, str(WORKERS / "depth_anything3_worker.py")]


def test_the_worker_script_speaks_for_the_package(tmp_path: Path) -> None:
    command = command_with(tmp_path, PACKAGE)
    rgb = world_clip(4, (60, 100)).rgb
    with DepthAnything3(command, process_res=70, device="cpu") as tool:
        found, again = tool.estimate(rgb), tool.estimate(rgb)
        assert tool.handshake().tool == "depth_anything_3"
    assert found.cameras.hw == PROCESS_HW
    assert torch.equal(found.cameras.intrinsics_px[2], torch.tensor([60, 61, 35, 21], dtype=torch.float64))
    # w2c turns the world by +a about -y and shifts it left by i; inverted, the camera turns right and moves right.
    angle = torch.linspace(0, 0.3, 4, dtype=torch.float64)
    assert torch.allclose(found.cameras.c2w[:, 0, 2], torch.sin(angle), atol=1e-6)
    assert (found.cameras.c2w[1:, 0, 3] > 0).all()
    assert found.depth is not None
    assert found.confidence is not None
    assert (found.depth[:, 0] == 0).all()  # sky is unknown
    assert (found.depth[:, 1:] == 3).all()
    assert (found.confidence == 0.5).all()
    assert torch.equal(again.depth, found.depth)  # the model was loaded once: the package counts
    assert (found.facts["weights"], found.facts["weights_licence"]) == ("depth-anything/DA3-BASE", "Apache-2.0")


@pytest.mark.parametrize(
    ("model", "licence"), [("depth-anything/DA3-GIANT", "CC-BY-NC-4.0"), ("/models/my-own", "unknown")]
)
def test_the_licence_of_the_weights_is_recorded(tmp_path: Path, model: str, licence: str) -> None:
    with DepthAnything3(command_with(tmp_path, PACKAGE), model=model, process_res=70, device="cpu") as tool:
        assert tool.estimate(world_clip(2, (60, 100)).rgb).facts["weights_licence"] == licence


@pytest.mark.parametrize(
    ("model", "text", "line"),
    [
        ("absent/model", PACKAGE, "absent/model cannot be loaded on cpu.*not on the hub"),
        ("depth-anything/DA3MONO-LARGE", PACKAGE, "estimates no cameras"),
        ("any", "import no_such_thing", "depth_anything_3 cannot be imported here.*no_such_thing"),
    ],
)
def test_a_broken_environment_is_told_from_a_bad_clip(tmp_path: Path, model: str, text: str, line: str) -> None:
    with (
        DepthAnything3(command_with(tmp_path, text), model=model, process_res=70, device="cpu") as tool,
        pytest.raises(EstimatorSetupError, match=line),
    ):
        tool.estimate(world_clip(2, (60, 100)).rgb)


def test_trajectories_are_compared_up_to_a_similarity() -> None:
    true = moving_cameras(9, (60, 100))
    assert trajectory_error(true, true).ate_ratio < 1e-9
    moved = true.c2w.clone()
    moved[:, :3, 3] *= 7
    worse = moved.clone()
    worse[4, :3, 3] += 1
    twist = torch.linalg.inv(true.c2w[3]) @ torch.eye(4, dtype=torch.float64)
    for c2w, low, high in ((twist @ moved, 0, 1e-7), (twist @ worse, 1e-2, 1)):
        error = trajectory_error(type(true)(c2w, true.intrinsics_px, true.hw, true.valid), true)
        assert low <= error.ate_ratio <= high
        assert error.rotation_deg < 1e-5
        assert np.isclose(error.scale, 1 / 7, rtol=0.2)
    inverse = trajectory_error(type(true)(invert_rigid(true.c2w), true.intrinsics_px, true.hw, true.valid), true)
    assert inverse.max_rotation_deg > 5
    with pytest.raises(InputError, match="too few common frames"):
        trajectory_error(true[:2], true[:2])


def test_a_mirrored_path_has_no_scale() -> None:
    """Poses read the wrong way round move against the true ones; no similarity makes up for that."""
    true = moving_cameras(9, (60, 100))
    backwards = true.c2w.clone()
    backwards[:, :3, 3] *= -1
    error = trajectory_error(type(true)(backwards, true.intrinsics_px, true.hw, true.valid), true)
    assert error.scale == 0
    assert error.ate_ratio > 0.2
