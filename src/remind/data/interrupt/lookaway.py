"""Looking away on finished frames: a virtual camera that turns within a wider picture, by K R K'^-1.

A turn about the optical centre needs no depth: each pixel of the turned view is a pixel of the stored frame. What the
stored frame does not hold cannot be looked at, so its width bounds the turn. Source: ReMind F.2 (camera loops); the
homography is textbook; resting aside to gain room is our choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import grid_sample

from remind.clip import Cameras, Clip
from remind.data.interrupt.recipe import View
from remind.data.interrupt.styles import LookawayStyle
from remind.errors import CameraError, InputError
from remind.geometry import anchor, intrinsics_from_fov, rescale_intrinsics, rotation_yaw

HIDDEN_OVERLAP = 0.02
"""Our choice: a turned view that shares less than this with the view at rest hides it. Which part of the picture holds
the event is not known, so the whole view must be left."""

Direction = Literal["left", "right", "up", "down"]


@dataclass(frozen=True)
class LookawayPlan:
    """How far one can look away within a stored picture.

    Args:
        view: the window and where it rests.
        style: the farthest turn that is needed or possible.
        overlap: share of the view at rest that the turned one still shows, 0..1.
        reason: why it does not hide, empty if it does.
    """

    view: View
    style: LookawayStyle
    overlap: float
    reason: str

    @property
    def hides(self) -> bool:
        return not self.reason


def plan_lookaway(
    stored_hw: tuple[int, int],
    view_hw: tuple[int, int],
    direction: Direction,
    *,
    intrinsics_px: Float[Tensor, " 4"] | None = None,
    assumed_fov_deg: float = 60.0,
) -> LookawayPlan:
    """The smallest turn that leaves the view at rest, or the farthest that the stored picture allows.

    The view rests in the middle where the room suffices; else it rests on the other side, so that it may turn twice as
    far. A turn up or down keeps to the middle column and never rests aside.

    Args:
        stored_hw: size of the stored pictures, px.
        view_hw: size of what the model sees, px of the stored picture.
        intrinsics_px: of the stored pictures, or None where they are unknown.
        assumed_fov_deg: horizontal field of view to assume then; the recipe records it.

    Raises:
        InputError: a view that is not smaller than the stored picture.
    """
    if view_hw[0] > stored_hw[0] or view_hw[1] > stored_hw[1] or view_hw == stored_hw:
        raise InputError("a lookaway needs pictures wider than the view", got=f"{stored_hw} for a view of {view_hw}",
                         fix="store the clips wider, or use another interruption")  # fmt: skip
    assumed = None if intrinsics_px is not None else assumed_fov_deg
    if intrinsics_px is None:
        intrinsics_px = intrinsics_from_fov(assumed_fov_deg, stored_hw, 1)[0]
    sideways, sign = direction in ("left", "right"), 1.0 if direction in ("right", "up") else -1.0
    room_deg = [_room_deg(intrinsics_px, stored_hw, view_hw, sideways, s) for s in (sign, -sign)]

    def overlap(turn_deg: float) -> float:
        turn = (sign * turn_deg, 0.0) if sideways else (0.0, sign * turn_deg)
        return view_overlap(intrinsics_px, view_hw, turn)

    needed = next((d for d in (0.25 * i for i in range(1, 481)) if overlap(d) < HIDDEN_OVERLAP), math.inf)
    farthest = room_deg[0] + (room_deg[1] if sideways else 0.0)
    reached = min(needed, farthest)
    rest = max(0.0, reached - room_deg[0])
    left_over = overlap(reached)
    reason = ""
    if reached < needed:
        side = "wide" if sideways else "high"
        reason = (
            f"the stored pictures are not {side} enough: they allow a turn of {reached:.1f} degrees, which leaves "
            f"{left_over:.0%} of the view in sight; hiding it needs {needed:.1f} degrees"
        )
    view = View(hw=view_hw, rest_deg=round(-sign * rest, 3), assumed_fov_deg=assumed)
    # Rounded towards rest: rounding must not lead out of the picture.
    turned = sign * math.floor(reached * 1000) / 1000
    return LookawayPlan(view, LookawayStyle(turn_deg=(turned, 0.0) if sideways else (0.0, turned)), left_over, reason)


def view_overlap(stored_px: Float[Tensor, " 4"], hw: tuple[int, int], turn_deg: tuple[float, float]) -> float:
    """Share of the view at rest that is still in sight after a turn, by a grid of rays.

    Args:
        stored_px: intrinsics of the stored pictures; the view shares their focal lengths.
        hw: size of the view, px.
        turn_deg: to the right and up, degrees.
    """
    height, width = hw
    inner_px = _inner(stored_px, hw)
    y = (torch.arange(64, dtype=torch.float64) + 0.5) / 64 * height
    x = (torch.arange(64, dtype=torch.float64) + 0.5) / 64 * width
    rays = _rays(inner_px, y, x) @ _turned(*turn_deg)  # the same directions, seen from the turned camera
    u = rays[..., 0] / rays[..., 2] * inner_px[0] + inner_px[2]
    v = rays[..., 1] / rays[..., 2] * inner_px[1] + inner_px[3]
    seen = (rays[..., 2] > 0) & (u >= 0) & (u <= width) & (v >= 0) & (v <= height)
    return float(seen.double().mean())


def look(clip: Clip, view: View, turns: Sequence[tuple[Float[Tensor, " t"], LookawayStyle]] = ()) -> Clip:
    """The clip through a view, turned along some clocks; with exact cameras and z-depth of the turned camera.

    Args:
        clip: the stored, wider one.
        turns: how far gone each frame is, and where to; disjoint in time.

    Raises:
        InputError: a view that leaves the stored pictures, or is said to be assumed although the clip knows better.
        CameraError: intrinsics that are neither known nor assumed.
    """
    stored_px = stored_intrinsics(clip, view)
    yaw = torch.full((len(clip),), view.rest_deg, dtype=torch.float64)
    pitch = torch.zeros_like(yaw)
    for away, style in turns:
        yaw, pitch = yaw + away * style.turn_deg[0], pitch + away * style.turn_deg[1]
    rgb = torch.empty(len(clip), *view.hw, 3, dtype=torch.uint8)
    depth = None if clip.depth is None else torch.empty(len(clip), *view.hw, dtype=clip.depth.dtype)
    rotations, inner = [], []
    window, at = None, None
    for t in range(len(clip)):
        here = (float(yaw[t]), float(pitch[t]), *stored_px[t].tolist())
        if here != at:  # a camera at rest keeps its window
            window, at = _Window.of(stored_px[t], clip.hw, view.hw, _turned(*here[:2])), here
        assert window is not None
        rgb[t] = window.colours(clip.rgb[t])
        if depth is not None and clip.depth is not None:
            depth[t] = window.depths(clip.depth[t])
        rotations.append(window.rotation)
        inner.append(window.inner_px)
    cameras = None if clip.cameras is None else _turned_cameras(clip.cameras, rotations, inner, view.hw)
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
        inner_px = _inner(stored_px, hw)
        top, left = stored_px[3] - inner_px[3], stored_px[2] - inner_px[2]
        if torch.equal(rotation, torch.eye(3, dtype=rotation.dtype)) and _is_whole(top) and _is_whole(left):
            box = (round(float(top)), round(float(top)) + height, round(float(left)), round(float(left)) + width)
            _check_inside((box[0], box[1], box[2], box[3]), stored_hw)
            return _Window(rotation, inner_px, box, None, torch.ones(hw))
        y = torch.arange(height, dtype=torch.float64) + 0.5
        x = torch.arange(width, dtype=torch.float64) + 0.5
        rays = _rays(inner_px, y, x) @ rotation.T
        u = rays[..., 0] / rays[..., 2] * stored_px[0] + stored_px[2]
        v = rays[..., 1] / rays[..., 2] * stored_px[1] + stored_px[3]
        if float(rays[..., 2].min()) <= 0:
            raise _outside("beyond 90 degrees", stored_hw)
        _check_inside((float(v.min()) - 0.5, float(v.max()) + 0.5, float(u.min()) - 0.5, float(u.max()) + 0.5),
                      stored_hw)  # fmt: skip
        box = (max(0, int(v.min()) - 1), min(stored_hw[0], int(v.max()) + 2),
               max(0, int(u.min()) - 1), min(stored_hw[1], int(u.max()) + 2))  # fmt: skip
        grid = torch.stack([(u - box[2]) / (box[3] - box[2]), (v - box[0]) / (box[1] - box[0])], -1) * 2 - 1
        return _Window(rotation, inner_px, box, grid[None].float(), (1 / rays[..., 2]).float())

    def colours(self, frame: Tensor) -> Tensor:
        part = frame[self.box[0] : self.box[1], self.box[2] : self.box[3]]
        if self.grid is None:
            return part
        seen = _sample(part.permute(2, 0, 1)[None].float(), self.grid, "bilinear")[0]
        return seen.round_().clamp_(0, 255).to(torch.uint8).permute(1, 2, 0)

    def depths(self, depth: Tensor) -> Tensor:
        part = depth[self.box[0] : self.box[1], self.box[2] : self.box[3]]
        if self.grid is None:
            return part
        return (_sample(part[None, None].float(), self.grid, "nearest")[0, 0] * self.nearer).to(depth.dtype)


def _sample(source: Float[Tensor, "1 c h w"], grid: Float[Tensor, "1 h2 w2 2"], mode: str) -> Tensor:
    return grid_sample(source, grid, mode=mode, padding_mode="border", align_corners=False)


def _turned(yaw_deg: float, pitch_deg: float) -> Float[Tensor, "3 3"]:
    """Camera-to-world rotation of a camera that looks to its right by the yaw, then up by the pitch."""
    a = math.radians(pitch_deg)
    up = torch.tensor([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]], dtype=torch.float64)
    return rotation_yaw(torch.tensor([yaw_deg], dtype=torch.float64))[0] @ up


def _inner(stored_px: Float[Tensor, " 4"], hw: tuple[int, int]) -> Float[Tensor, " 4"]:
    """Intrinsics of the view: the stored focal lengths, the principal point in the middle."""
    return torch.stack([stored_px[0], stored_px[1], torch.tensor(hw[1] / 2).double(), torch.tensor(hw[0] / 2).double()])


def _rays(intrinsics_px: Float[Tensor, " 4"], y: Tensor, x: Tensor) -> Float[Tensor, "h w 3"]:
    """Directions through pixels, with z = 1."""
    fx, fy, cx, cy = intrinsics_px
    rays = torch.ones(len(y), len(x), 3, dtype=torch.float64)
    rays[..., 0], rays[..., 1] = ((x - cx) / fx)[None, :], ((y - cy) / fy)[:, None]
    return rays


def _room_deg(
    intrinsics_px: Float[Tensor, " 4"], stored_hw: tuple[int, int], hw: tuple[int, int], sideways: bool, sign: float
) -> float:
    """How far the view may turn from the stored camera's axis until a corner leaves the picture, degrees."""
    low, high = 0.0, 89.0
    corners = _rays(_inner(intrinsics_px, hw), torch.tensor([0.0, hw[0]]), torch.tensor([0.0, hw[1]]))
    for _ in range(40):
        middle = (low + high) / 2
        turn = (sign * middle, 0.0) if sideways else (0.0, sign * middle)
        rays = corners @ _turned(*turn).T
        u = rays[..., 0] / rays[..., 2] * intrinsics_px[0] + intrinsics_px[2]
        v = rays[..., 1] / rays[..., 2] * intrinsics_px[1] + intrinsics_px[3]
        inside = (rays[..., 2] > 0) & (u >= 0) & (u <= stored_hw[1]) & (v >= 0) & (v <= stored_hw[0])
        low, high = (middle, high) if bool(inside.all()) else (low, middle)
    return low


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
    cameras: Cameras, rotations: Sequence[Tensor], inner: Sequence[Tensor], hw: tuple[int, int]
) -> Cameras:
    """The same places, looking where the view looks; a view that rests aside is relative to its own first frame."""
    c2w = cameras.c2w.clone()
    c2w[:, :3, :3] = cameras.c2w[:, :3, :3] @ torch.stack(list(rotations))
    origin = int(cameras.valid.nonzero()[0, 0]) if bool(cameras.valid.any()) else 0
    if not torch.equal(rotations[origin], torch.eye(3, dtype=torch.float64)):
        c2w = anchor(torch.cat([c2w[origin : origin + 1], c2w]))[1:]
    return Cameras(c2w, torch.stack(list(inner)).to(cameras.intrinsics_px.dtype), hw, cameras.valid)


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
