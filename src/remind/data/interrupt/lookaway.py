"""Looking away on finished frames: a virtual camera that turns within a wider picture, by K R K'^-1.

A turn about the optical centre needs no depth: each pixel of the turned view is a pixel of the stored frame. What the
stored frame does not hold cannot be looked at, so its width bounds the turn. Source: ReMind F.2 (camera loops); the
homography is textbook; resting aside to gain room is our choice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from remind.clip import Cameras, Clip
from remind.data.interrupt.recipe import View
from remind.data.interrupt.styles import LookawayStyle
from remind.data.interrupt.virtual_camera import corners_px, inner, matrix, turned
from remind.errors import CameraError, InputError
from remind.geometry import anchor, intrinsics_from_fov, rescale_intrinsics


def look(clip: Clip, view: View, turns: Sequence[tuple[Float[Tensor, " t"], LookawayStyle]] = ()) -> Clip:
    """The clip through a view, turned along some clocks; with exact cameras and z-depth of the turned camera.

    At rest in the middle it is a plain crop, unless the principal point lies between pixels.

    Args:
        clip: the stored, wider one.
        turns: how far gone each frame is, and where to; disjoint in time.

    Raises:
        InputError: a view that leaves the stored pictures, or is said to be assumed although the clip knows better.
        CameraError: intrinsics that are neither known nor assumed.
    """
    if view.hw[0] > clip.hw[0] or view.hw[1] > clip.hw[1]:
        raise _outside(f"a view of {view.hw}", clip.hw)
    stored_px = stored_intrinsics(clip, view)
    yaw = torch.full((len(clip),), view.rest_deg, dtype=torch.float64)
    pitch = torch.zeros_like(yaw)
    for away, style in turns:
        yaw, pitch = yaw + away * style.turn_deg[0], pitch + away * style.turn_deg[1]
    rgb = torch.empty(len(clip), *view.hw, 3, dtype=torch.uint8)
    depth = None if clip.depth is None else torch.empty(len(clip), *view.hw, dtype=clip.depth.dtype)
    rotations, inner_px = [], []
    window, at = None, None
    for t in range(len(clip)):
        here = (float(yaw[t]), float(pitch[t]), *stored_px[t].tolist())
        if here != at:  # a camera at rest keeps its window
            window, at = _Window.of(stored_px[t], clip.hw, view.hw, turned(*here[:2])), here
        assert window is not None
        rgb[t] = window.colours(clip.rgb[t])
        if depth is not None and clip.depth is not None:
            depth[t] = window.depths(clip.depth[t])
        rotations.append(window.rotation)
        inner_px.append(window.inner_px)
    cameras = None if clip.cameras is None else _turned_cameras(clip.cameras, rotations, inner_px, view.hw)
    return replace(clip, rgb=rgb, depth=depth, cameras=cameras)


@dataclass(frozen=True)
class _Window:
    """Where each pixel of one view lies in the stored picture.

    Args:
        box: the part of the stored picture that is needed: top, bottom, left, right, px.
        grid: grid_sample's places within the box; None for a plain crop.
        nearer: z-depth in the view over z-depth in the stored picture.
    """

    rotation: Float[Tensor, "3 3"]
    inner_px: Float[Tensor, " 4"]
    box: tuple[int, int, int, int]
    grid: Float[Tensor, "1 h w 2"] | None
    nearer: Float[Tensor, "h w"]

    @staticmethod
    def of(
        stored_px: Float[Tensor, " 4"], stored_hw: tuple[int, int], hw: tuple[int, int], rotation: Float[Tensor, "3 3"]
    ) -> _Window:
        height, width = hw
        inner_px = inner(stored_px, hw)
        top, left = stored_px[3] - inner_px[3], stored_px[2] - inner_px[2]
        if torch.equal(rotation, torch.eye(3, dtype=rotation.dtype)) and _is_whole(top) and _is_whole(left):
            box = (round(float(top)), round(float(top)) + height, round(float(left)), round(float(left)) + width)
            _check_inside((float(box[0]), float(box[1]), float(box[2]), float(box[3])), stored_hw)
            return _Window(rotation, inner_px, box, None, torch.ones(hw))
        # A homography takes a convex figure to a convex one: the outermost pixels bound all others.
        u, v = corners_px(stored_px, hw, rotation, margin=0.5)
        _check_inside((float(v.min()) - 0.5, float(v.max()) + 0.5, float(u.min()) - 0.5, float(u.max()) + 0.5),
                      stored_hw)  # fmt: skip
        box = (max(0, int(v.min()) - 1), min(stored_hw[0], int(v.max()) + 2),
               max(0, int(u.min()) - 1), min(stored_hw[1], int(u.max()) + 2))  # fmt: skip
        to_box = torch.tensor([[2 / (box[3] - box[2]), 0, -2 * box[2] / (box[3] - box[2]) - 1],
                               [0, 2 / (box[1] - box[0]), -2 * box[0] / (box[1] - box[0]) - 1],
                               [0, 0, 1]], dtype=torch.float64)  # fmt: skip
        homography = to_box @ matrix(stored_px) @ rotation @ torch.linalg.inv(matrix(inner_px))
        y = (torch.arange(height, dtype=torch.float64) + 0.5)[:, None]
        x = (torch.arange(width, dtype=torch.float64) + 0.5)[None, :]
        rows = [((r[1] * y + r[2]).float(), (r[0] * x).float()) for r in homography]
        nearer = (rows[2][0] + rows[2][1]).reciprocal_()
        grid = torch.empty(1, height, width, 2)
        for i in (0, 1):
            torch.mul(rows[i][0] + rows[i][1], nearer, out=grid[0, :, :, i])
        return _Window(rotation, inner_px, box, grid, nearer)

    def colours(self, frame: Tensor) -> Tensor:
        part = frame[self.box[0] : self.box[1], self.box[2] : self.box[3]]
        if self.grid is None:
            return part
        seen = _sample(part.permute(2, 0, 1)[None].float(), self.grid, "bilinear")[0]
        return seen.round_().to(torch.uint8).permute(1, 2, 0)  # means of bytes need no clamp

    def depths(self, depth: Tensor) -> Tensor:
        part = depth[self.box[0] : self.box[1], self.box[2] : self.box[3]]
        if self.grid is None:
            return part
        return (_sample(part[None, None].float(), self.grid, "nearest")[0, 0] * self.nearer).to(depth.dtype)


def _sample(source: Float[Tensor, "1 c h w"], grid: Float[Tensor, "1 h2 w2 2"], mode: str) -> Tensor:
    return grid_sample(source, grid, mode=mode, padding_mode="border", align_corners=False)


def stored_intrinsics(clip: Clip, view: View) -> Float[Tensor, "t 4"]:
    """Per frame, in the clip's own pixels; frames without a pose borrow from the first that has one."""
    cameras = clip.cameras
    known = cameras is not None and bool(cameras.valid.any())
    if known == (view.assumed_fov_deg is not None):
        raise CameraError(
            "the intrinsics of the clip are " + ("known, but the recipe assumes some" if known else "not known"),
            got=f"assumed_fov_deg={view.assumed_fov_deg}",
            expected="a field of view to assume exactly where the clip has no cameras",
        )
    if cameras is None or view.assumed_fov_deg is not None:
        assert view.assumed_fov_deg is not None
        return intrinsics_from_fov(view.assumed_fov_deg, clip.hw, len(clip))
    intrinsics = rescale_intrinsics(cameras.intrinsics_px.double(), from_hw=cameras.hw, to_hw=clip.hw)
    first = intrinsics[int(cameras.valid.nonzero()[0, 0])]
    return intrinsics.where(cameras.valid[:, None], first)


def _turned_cameras(
    cameras: Cameras, rotations: Sequence[Tensor], inner_px: Sequence[Tensor], hw: tuple[int, int]
) -> Cameras:
    """The same places, looking where the view looks; a view that rests aside is relative to its own first frame."""
    c2w = cameras.c2w.clone()
    c2w[:, :3, :3] = cameras.c2w[:, :3, :3] @ torch.stack(list(rotations))
    origin = int(cameras.valid.nonzero()[0, 0]) if bool(cameras.valid.any()) else 0
    if not torch.equal(rotations[origin], torch.eye(3, dtype=torch.float64)):
        c2w = anchor(torch.cat([c2w[origin : origin + 1], c2w]))[1:]
    return Cameras(c2w, torch.stack(list(inner_px)).to(cameras.intrinsics_px.dtype), hw, cameras.valid)


def _is_whole(value: Tensor) -> bool:
    return abs(float(value) - round(float(value))) < 1e-6


def _check_inside(box: tuple[float, float, float, float], stored_hw: tuple[int, int]) -> None:
    top, bottom, left, right = box
    slack = 0.51  # of a pixel: the border's own half
    if top < -slack or left < -slack or bottom > stored_hw[0] + slack or right > stored_hw[1] + slack:
        raise _outside(f"rows {top:.1f}..{bottom:.1f}, columns {left:.1f}..{right:.1f}", stored_hw)


def _outside(got: str, stored_hw: tuple[int, int]) -> InputError:
    return InputError("the view leaves the stored pictures", got=got, expected=f"within {stored_hw}",
                      fix="turn less, or store the clip wider")  # fmt: skip
