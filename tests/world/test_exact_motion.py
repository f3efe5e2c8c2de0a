"""The exact motion of pixels: what it says of a picture is what the next picture shows."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import grid_sample

from remind.clip import Cameras
from remind.geometry import yaw_trajectory
from remind.world import sample_scene
from remind.world.exact_motion import object_flow

HW, LAG = (80, 128), 2


@pytest.mark.parametrize("family", ["rolling_ball", "walker", "inflating", "train"])
def test_a_pixel_is_found_again_where_its_motion_takes_it(family: str) -> None:
    """Depth, which light and texture do not change: the followed point is as far away as the next frame says."""
    scene = sample_scene(0, family=family, num_frames=45, hw=HW)
    flow = object_flow(scene, LAG)
    rgb = scene.clip().rgb[::LAG].double() / 255
    y, x = torch.meshgrid(torch.arange(HW[0]) + 0.5, torch.arange(HW[1]) + 0.5, indexing="ij")
    better = []
    for i in range(4, len(flow), 4):
        moves = flow[i].norm(dim=-1) > 1.0
        if moves.sum() < 50:
            continue
        at = torch.stack([x, y], -1) + flow[i]
        grid = 2 * at / torch.tensor([HW[1], HW[0]]) - 1
        picture = rgb[i + 1].permute(2, 0, 1)[None]
        followed = grid_sample(picture, grid[None], align_corners=False)[0].permute(1, 2, 0)
        error, stayed = ((a - rgb[i]).abs().mean(-1)[moves].mean() for a in (followed, rgb[i + 1]))
        better.append(float(error / stayed.clamp_min(1e-6)))
    assert better
    assert sum(better) / len(better) < 0.7  # what is covered or uncovered meanwhile remains


def test_a_camera_that_turns_moves_nothing_by_itself() -> None:
    scene = sample_scene(2, family="windmill", num_frames=9, hw=HW)
    turning = Cameras(yaw_trajectory(torch.linspace(0, 20, 9, dtype=torch.float64)), scene.cameras.intrinsics_px, HW,
                      scene.cameras.valid)  # fmt: skip
    still = replace(scene, states=scene.states[:1].repeat(9), cameras=turning)
    assert object_flow(still, 1).abs().max() < 1e-6
    moving = object_flow(replace(scene, states=scene.states[:1] + torch.linspace(0, 0.5, 9), cameras=turning), 1)
    assert (moving.norm(dim=-1) > 0.5).any()
