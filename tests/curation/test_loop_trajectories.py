"""Every trajectory leaves its first view, hides it and comes back, with clean chunks around."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from remind.clip import Cameras
from remind.curation.loop_nodes import find_camera_loop, pose_distance
from remind.curation.loop_trajectories import LOOP_KINDS, LoopKind, fields_of_view_deg, loop_trajectory
from remind.errors import InputError
from remind.frame_graph import FrameGraph, Interruption, Schedule
from remind.geometry import check_rotations, intrinsics_from_fov

HW = (336, 560)


@pytest.mark.parametrize("kind", LOOP_KINDS)
@pytest.mark.parametrize("num_frames", [57, 81])
@pytest.mark.parametrize("fov_deg", [35.0, 60.0])
def test_it_is_a_memory_clip(kind: LoopKind, num_frames: int, fov_deg: float) -> None:
    intrinsics = intrinsics_from_fov(fov_deg, HW, num_frames)
    view = fields_of_view_deg(intrinsics[0], HW)
    assert view[0] == pytest.approx(fov_deg)
    drawn = []
    for seed in range(6):
        c2w = loop_trajectory(kind, num_frames, np.random.default_rng(seed), fov_deg=view, scene_depth=2.0)
        check_rotations(c2w)
        assert torch.equal(c2w[0], torch.eye(4, dtype=torch.float64))
        assert torch.equal(c2w[-1], c2w[0])
        loop = find_camera_loop(Cameras(c2w, intrinsics, HW, torch.ones(num_frames, dtype=torch.bool)), scene_depth=2.0)
        assert isinstance(loop, Interruption), loop
        assert loop.hidden_stop - loop.hidden_start >= 4
        drawn.append(FrameGraph(Schedule(num_frames, (loop,))).draw())
        moves = (c2w[:, :3, 3].norm(dim=-1) > 1e-9).any()
        assert bool(moves) == (kind in ("loop", "orbit"))
    assert all(graph[0] == "A" and "R" in graph for graph in drawn)
    assert num_frames == 57 or len(set(drawn)) > 1


def test_kinds_differ_as_they_say() -> None:
    def made(kind: LoopKind) -> torch.Tensor:
        return loop_trajectory(kind, 81, np.random.default_rng(1), fov_deg=(60.0, 40.0), scene_depth=2.0)

    away = {kind: pose_distance(made(kind), scene_depth=2.0)[20:60] for kind in LOOP_KINDS}
    stays = {kind: int((distance.diff().abs() < 1e-9).sum()) for kind, distance in away.items()}
    # It holds its farthest view; the others turn back at once. Both may be at rest at an end of these frames.
    assert stays["lookaway"] >= 8 + max(stays[kind] for kind in LOOP_KINDS if kind != "lookaway")
    ahead = torch.tensor([0.0, 0.0, 2.0, 1.0], dtype=torch.float64)
    seen = torch.linalg.inv(made("orbit")) @ ahead  # an orbit keeps its middle in the middle
    torch.testing.assert_close(seen[:, :3], ahead[:3].expand(81, 3), atol=1e-9, rtol=0)
    loop = made("loop")
    side = int(loop[:, 0, 3].abs().argmax())
    assert loop[side, 0, 3] * loop[side, 0, 2] > 0  # it steps to the side that it turns to
    pans = [loop_trajectory("pan", 81, np.random.default_rng(s), fov_deg=(60.0, 40.0), scene_depth=2.0)
            for s in range(8)]  # fmt: skip
    assert {bool(pan[40, 0, 2] > 0) for pan in pans} == {True, False}


def test_what_cannot_be_is_refused() -> None:
    rng = np.random.default_rng(0)
    for fov_deg, depth in (((150.0, 40.0), 1.0), ((60.0, 40.0), 0.0)):
        with pytest.raises(InputError, match="no trajectory for such a view"):
            loop_trajectory("pan", 81, rng, fov_deg=fov_deg, scene_depth=depth)
    with pytest.raises(InputError, match="too short"):
        loop_trajectory("pan", 45, rng, fov_deg=(60.0, 40.0), scene_depth=1.0)
