"""Loops through NeoVerse's worker and a stand-in for its CLI that renders the embedded world along the trajectory."""

from __future__ import annotations

import json
import sys
from functools import cache

import pytest
import torch

from remind.clip import Cameras, Clip
from remind.curation.estimators.colmap import WORKERS
from remind.curation.estimators.contract import EstimatorError, EstimatorSetupError
from remind.curation.estimators.neoverse import (
    HW,
    NUM_FRAMES,
    NeoVerse,
    closure_psnr_db,
    cover,
    read_video,
    trajectory_json,
)
from remind.curation.loop_nodes import find_camera_loop
from remind.data.video_io import encode_mp4
from remind.errors import CameraError, InputError
from remind.frame_graph import Interruption
from remind.geometry import away_and_back, rigid, rotation_yaw, yaw_trajectory
from remind.world import sample_scene
from tests.curation.estimators.make_geometry import STAND_INS, world_clip

WORKER = [sys.executable, str(WORKERS / "neoverse_worker.py")]
AWAY = away_and_back(NUM_FRAMES, start=10, hidden_start=28, hidden_stop=44, stop=62)


def look_away(yaw_deg: float) -> torch.Tensor:
    side = 0.4 * AWAY  # a step to the right, too
    return rigid(rotation_yaw(yaw_deg * AWAY), torch.stack([side, 0 * side, 0 * side], -1))


@cache
def source(hw: tuple[int, int] = (42, 70)) -> Clip:
    scene = sample_scene(2, family="windmill", num_frames=NUM_FRAMES, hw=hw)
    return scene.clip(samples=1)


def tool(**options: object) -> NeoVerse:
    return NeoVerse(WORKER, root=STAND_INS / "neoverse", **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def loop() -> tuple[Clip, dict[str, str | float]]:
    with tool() as neoverse:
        return neoverse.render_loop(source(), look_away(70.0), prompt="windmill 2 good", clip_id="loop-0")


def psnr_db(a: torch.Tensor, b: torch.Tensor) -> float:
    return closure_psnr_db(torch.stack([a, b]))


def test_a_loop_comes_back_as_a_clip_with_its_cameras(loop: tuple[Clip, dict[str, str | float]]) -> None:
    clip, facts = loop
    assert (len(clip), clip.hw, clip.fps, clip.clip_id) == (81, (336, 560), 16.0, "loop-0")
    assert clip.caption == source().caption
    assert clip.depth is None
    assert clip.cameras is not None
    assert torch.equal(clip.cameras.c2w, look_away(70.0))
    true = sample_scene(2, family="windmill", num_frames=NUM_FRAMES, hw=HW).cameras
    torch.testing.assert_close(clip.cameras.intrinsics_px, true.intrinsics_px)
    assert facts["tool"] == "neoverse"
    assert facts["weights_licence"] == "unknown"
    assert "assumed" in str(facts["intrinsics"])


def test_the_loop_closes(loop: tuple[Clip, dict[str, str | float]]) -> None:
    clip, _ = loop
    assert closure_psnr_db(clip.rgb) > 40
    assert psnr_db(clip.rgb[0], clip.rgb[36]) < 25
    assert clip.cameras is not None
    found = find_camera_loop(clip.cameras, scene_depth=3.3)
    assert isinstance(found, Interruption)
    assert found.start < found.hidden_start <= 28
    assert 44 <= found.hidden_stop < found.stop <= 62


def test_the_camera_turns_to_the_right(loop: tuple[Clip, dict[str, str | float]]) -> None:
    """Seen from a camera that turns right, the scene moves left; measured in the pictures, by the best shift."""
    clip, _ = loop
    early = 13  # some degrees along
    first, later = clip.rgb[0, 100:240].float().mean(-1), clip.rgb[early, 100:240].float().mean(-1)

    def error(shift: int) -> float:  # the later picture is the first one moved by `shift` px to the right
        a, b = (first[:, :-shift], later[:, shift:]) if shift > 0 else (first[:, -shift:], later[:, :shift])
        return (a - b).abs().mean().item()

    shifts = [s for s in range(-80, 81, 2) if s]
    best = min(shifts, key=error)
    assert clip.cameras is not None
    yaw = torch.rad2deg(torch.asin(clip.cameras.c2w[early, 0, 2])).item()
    assert 1 < yaw < 10
    assert best < -5


def test_it_is_the_scene_along_that_path_and_not_its_mirror(loop: tuple[Clip, dict[str, str | float]]) -> None:
    clip, _ = loop
    scene = sample_scene(2, family="windmill", num_frames=NUM_FRAMES, hw=HW)
    assert clip.cameras is not None

    def picture(yaw_deg: float) -> torch.Tensor:
        c2w = look_away(yaw_deg)[22:23]
        there = Cameras(c2w, clip.cameras.intrinsics_px[:1], HW, torch.ones(1, dtype=torch.bool))  # type: ignore[union-attr]
        return scene.render_rgb(scene.states[:1], there, samples=1)[0]

    assert psnr_db(clip.rgb[22], picture(70.0)) > 30
    assert psnr_db(clip.rgb[22], picture(-70.0)) < 20


@pytest.mark.parametrize(
    ("num_frames", "fps", "hw", "line"),
    [
        (80, 16, HW, "got 80 frames"),
        (81, 24, HW, "24 fps"),
        (81, 16, (320, 560), r"\(320, 560\)"),
    ],
)
def test_a_video_that_was_not_asked_for_is_refused(num_frames: int, fps: int, hw: tuple[int, int], line: str) -> None:
    grey = torch.full((num_frames, *hw, 3), 90, dtype=torch.uint8)
    with pytest.raises(EstimatorError, match=f"not what was asked for.*{line}"):
        read_video(encode_mp4(grey, fps))


@pytest.mark.parametrize("data", [b"", b"not a video"])
def test_what_is_no_video_is_refused(data: bytes) -> None:
    with pytest.raises(EstimatorError, match="cannot be read"):
        read_video(data)


def test_a_crash_of_their_program_is_told() -> None:
    with tool() as neoverse, pytest.raises(EstimatorError, match="exit code 1 and no video") as caught:
        neoverse.render_loop(source(), look_away(10.0), prompt="windmill 2 crash")
    assert "OutOfMemoryError" in caught.value.stderr_tail


def test_a_missing_checkout_is_a_setup_error() -> None:
    with NeoVerse(WORKER, root=STAND_INS) as neoverse, pytest.raises(EstimatorSetupError, match=r"no inference\.py"):
        neoverse.render(source(), look_away(10.0))


def test_what_cannot_be_rendered_is_refused_before_anything_starts() -> None:
    with NeoVerse(["/no/such/python"], root=STAND_INS) as neoverse:
        with pytest.raises(CameraError, match="does not close"):
            neoverse.render_loop(source(), yaw_trajectory(torch.linspace(0, 30, NUM_FRAMES)))
        with pytest.raises(CameraError, match="begin at the first view"):
            neoverse.render(source(), look_away(10.0)[30:31] @ look_away(10.0))
        with pytest.raises(InputError, match="one length"):
            neoverse.render(world_clip(9, (42, 70)), look_away(10.0))
        with pytest.raises(InputError, match="needs intrinsics"):
            neoverse.render(Clip(source().rgb, 16.0), look_away(10.0))
        mirrored = look_away(10.0)
        mirrored[:, 0] *= -1
        with pytest.raises(CameraError, match="not rotations"):
            neoverse.render(source(), mirrored)


def test_the_trajectory_file_is_in_their_format() -> None:
    """Keys and units as NeoVerse documents them: 4x4 camera-to-world in OpenCV axes, frame by frame."""
    content = json.loads(trajectory_json(look_away(30.0)))
    matrices = torch.tensor(content["trajectory"]["frame_matrices"], dtype=torch.float64)
    assert matrices.shape == (81, 4, 4)
    assert torch.equal(matrices[0], torch.eye(4, dtype=torch.float64))
    assert torch.equal(matrices[80], torch.eye(4, dtype=torch.float64))
    assert (content["num_frames"], content["mode"]) == (81, "global")
    assert matrices[36, 0, 2] > 0.49  # their pan_right: +sin in the upper right corner


@pytest.mark.parametrize("hw", [(60, 60), (36, 100), (100, 36), (336, 560)])
def test_intrinsics_follow_the_scaling_and_the_crop(hw: tuple[int, int]) -> None:
    """A bright spot lands where the new intrinsics project its ray."""
    clip = world_clip(2, hw)
    assert clip.cameras is not None
    fx, fy, cx, cy = clip.cameras.intrinsics_px[0].tolist()
    y, x = hw[0] // 2 - 3, hw[1] // 2 + 4
    rgb = torch.zeros(2, *hw, 3, dtype=torch.uint8)
    rgb[:, y, x] = 255
    pictures, intrinsics = cover(rgb, clip.cameras)
    assert pictures.shape == (2, *HW, 3)
    weight = pictures[0, ..., 0].double()
    found_y = ((torch.arange(HW[0]) + 0.5)[:, None] * weight).sum() / weight.sum()
    found_x = ((torch.arange(HW[1]) + 0.5)[None] * weight).sum() / weight.sum()
    ray = ((x + 0.5 - cx) / fx, (y + 0.5 - cy) / fy)
    assert abs(ray[0] * intrinsics[0, 0] + intrinsics[0, 2] - found_x) < 0.6
    assert abs(ray[1] * intrinsics[0, 1] + intrinsics[0, 3] - found_y) < 0.6
