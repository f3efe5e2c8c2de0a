"""True geometry of the embedded world, as a tool would answer it: in another world frame, at another resolution."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from remind.clip import Cameras, Clip
from remind.geometry import intrinsics_from_fov, invert_rigid, rigid, rotation_yaw
from remind.world import sample_scene

STAND_INS = Path(__file__).parent / "stand_ins"
PROCESS_RES = 70
PROCESS_HW = (42, 70)


def moving_cameras(num_frames: int, hw: tuple[int, int]) -> Cameras:
    """A path that turns and translates along all axes, so that no convention can be mistaken for another."""
    u = torch.linspace(0, 1, num_frames, dtype=torch.float64)
    c2w = rigid(rotation_yaw(20 * u), torch.stack([0.5 * u, 0.1 * u, 0.3 * u**2], -1))
    valid = torch.ones(num_frames, dtype=torch.bool)
    return Cameras(c2w, intrinsics_from_fov(55.0, hw, num_frames), hw, valid)


def world_clip(num_frames: int, hw: tuple[int, int]) -> Clip:
    """A scene at rest, so that what differs between frames is the camera."""
    scene = sample_scene(3, family="clock", num_frames=num_frames, hw=hw)
    resting = replace(scene, states=scene.states[:1].repeat(num_frames))
    return resting.clip(moving_cameras(num_frames, hw), samples=1)


def write_truth(path: Path, num_frames: int = 4) -> Clip:
    """Write what the stand-in answers; returns the clip at the tool's resolution."""
    clip = world_clip(num_frames, PROCESS_HW)
    assert clip.cameras is not None
    assert clip.depth is not None
    elsewhere = rigid(rotation_yaw(torch.tensor([77.0])), torch.tensor([[3.0, -2.0, 9.0]], dtype=torch.float64))
    w2c = invert_rigid(elsewhere @ clip.cameras.c2w)
    depth = clip.depth.numpy().astype(np.float32)
    np.savez(path, depth=depth, conf=1 / depth, w2c=w2c[:, :3].numpy(),
             intrinsics_px=clip.cameras.intrinsics_px.numpy())  # fmt: skip
    return clip


def stand_in(truth: Path, behaviour: str) -> list[str]:
    return [sys.executable, str(STAND_INS / "geometry_worker.py"), str(truth), behaviour]
