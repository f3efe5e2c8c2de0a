"""A clip and its cameras: plain frozen containers that every room shares."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from remind.errors import CameraError, InputError


@dataclass(frozen=True)
class Cameras:
    """One camera per pixel frame. OpenCV axes (x right, y down, z forward), camera-to-world.

    Args:
        c2w: camera-to-world transforms, float64; `geometry.anchor` makes frame 0 the identity.
        intrinsics_px: fx, fy, cx, cy in pixels of `hw`, float64; a pixel's centre is at +0.5.
        hw: the height and width that `intrinsics_px` belongs to.
        valid: False where the pose is unknown; such frames get no camera phase and no V/O bias.
    """

    c2w: Float[Tensor, "t 4 4"]
    intrinsics_px: Float[Tensor, "t 4"]
    hw: tuple[int, int]
    valid: Bool[Tensor, " t"]

    def __post_init__(self) -> None:
        if not torch.isfinite(self.c2w[self.valid]).all():
            raise CameraError("camera poses hold NaN or infinity", fix="mark those frames valid=False")

    def __len__(self) -> int:
        return self.c2w.shape[0]

    def __getitem__(self, frames: slice | Tensor) -> Cameras:
        return Cameras(self.c2w[frames], self.intrinsics_px[frames], self.hw, self.valid[frames])


@dataclass(frozen=True)
class Clip:
    """A short video with what is known about it.

    Args:
        rgb: frames, sRGB, 0..255.
        fps: frames per second, constant.
        cameras: one per frame, or None where there is no geometry at all.
        depth: z-depth in the unit of the camera translations, 0 = unknown.
        caption: names the object, the state variable and the direction of change; never the final state.
        clip_id: stable name.
    """

    rgb: UInt8[Tensor, "t h w 3"]
    fps: float
    cameras: Cameras | None = None
    depth: Float[Tensor, "t h w"] | None = None
    caption: str = ""
    clip_id: str = ""

    def __post_init__(self) -> None:
        if self.cameras is not None and len(self.cameras) != len(self):
            raise InputError("clip and cameras differ in length", got=len(self.cameras), expected=len(self))

    def __len__(self) -> int:
        return self.rgb.shape[0]

    @property
    def hw(self) -> tuple[int, int]:
        return self.rgb.shape[1], self.rgb.shape[2]

    def with_rgb(self, rgb: UInt8[Tensor, "t h w 3"]) -> Clip:
        return replace(self, rgb=rgb)
