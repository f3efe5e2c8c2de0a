"""A memory clip as it is held in memory: clean pictures, how they are interrupted, and what is known about them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from remind.clip import Cameras, Clip
from remind.data.clip_records import Event, Provenance
from remind.data.interrupt import InterruptionRecipe, apply_interruption
from remind.data.store_format import ClipFacts
from remind.errors import CameraError, InputError
from remind.frame_graph import FrameGraph, Schedule
from remind.geometry import check_rotations

ScaleKind = Literal["metric", "relative", "unknown"]
SCALE_KINDS: tuple[ScaleKind, ...] = ("metric", "relative", "unknown")
"""Unit of the camera translations and of depth: metres, one unit per clip, or nobody knows."""

_MAX_DEPTH = 65504.0  # the largest float16
_ANCHORED = 1e-6


@dataclass(frozen=True)
class DepthMap:
    """Depth at a resolution of its own.

    Args:
        z: along the optical axis, in the unit of the camera translations; 0 = unknown; at most 65504.
        intrinsics_px: fx, fy, cx, cy in pixels of `z`.
    """

    z: Float[Tensor, "t h w"]
    intrinsics_px: Float[Tensor, "t 4"]

    def __post_init__(self) -> None:
        if not ((self.z >= 0) & (self.z <= _MAX_DEPTH)).all():  # NaN is neither
            raise CameraError("depth is out of range", got=f"{self.z.min().item():.3g} to {self.z.max().item():.3g}",
                              expected="finite, 0 to 65504", fix="set unknown and endless depth to 0")

    @property
    def hw(self) -> tuple[int, int]:
        return self.z.shape[1], self.z.shape[2]

    def resampled(self, hw: tuple[int, int]) -> Float[Tensor, "t h w"]:
        """On another grid, from the nearest pixel: a blend of near and far lies on no surface."""
        return self.z if self.hw == hw else interpolate(self.z[:, None], hw, mode="nearest-exact")[:, 0]


@dataclass(frozen=True)
class MemoryClip:
    """A clean clip, how it is interrupted, what happens in it, and where it comes from.

    Args:
        clean: the clip; its depth, if any, is `depth` on the grid of its pictures.
        recipe: of the interruption; schedule, graph and degraded clip are derived from it.
        prompts: one per chunk, as `prompt_schedule.chunk_prompts` makes them.
        provenance: where it comes from.
        event: what happens.
        pose_conf: of each camera, 0 or more, in the unit of whoever estimated it; None: 1 where the pose is valid.
        scale_kind: unit of translations and depth.
        depth: as measured.
        states: the hidden state of a world clip.

    Raises:
        InputError: parts that do not fit each other.
        CameraError: cameras that break the convention, see `check_cameras`.
    """

    clean: Clip
    recipe: InterruptionRecipe
    prompts: tuple[str, ...]
    provenance: Provenance
    event: Event = Event()  # noqa: RUF009 (frozen)
    pose_conf: Float[Tensor, " t"] | None = None
    scale_kind: ScaleKind = "unknown"
    depth: DepthMap | None = None
    states: Float[Tensor, " t"] | None = None

    def __post_init__(self) -> None:
        t = len(self.clean)
        lengths = {"pose_conf": self.pose_conf, "depth": None if self.depth is None else self.depth.z,
                   "states": self.states}
        for name, value in lengths.items():
            if value is not None and len(value) != t:
                raise InputError(f"clip and {name} differ in length", got=len(value), expected=t)
        if self.clean.depth is not None and self.depth is None:
            raise InputError("a clip's depth needs its intrinsics", expected="depth=DepthMap(...) too")
        if self.pose_conf is not None and self.clean.cameras is None:
            raise InputError("there is a pose_conf but there are no cameras")
        if len(self.prompts) != self.graph.num_chunks:
            raise InputError("one prompt is needed for each chunk", got=len(self.prompts),
                             expected=self.graph.num_chunks, fix="make them with chunk_prompts(caption, schedule)")
        if self.clean.cameras is not None:
            check_cameras(self.clean.cameras)

    @property
    def schedule(self) -> Schedule:
        return self.recipe.schedule(len(self.clean))

    @cached_property
    def graph(self) -> FrameGraph:
        return FrameGraph(self.schedule)

    def degraded(self) -> Clip:
        """The interrupted clip, rendered now.

        Raises:
            InputError: an interruption that cannot be applied to finished frames.
        """
        return apply_interruption(self.clean, self.recipe)

    @property
    def facts(self) -> ClipFacts:
        """What the store's index says about this clip."""
        cameras = self.clean.cameras
        return ClipFacts(
            source=self.provenance.source, item_id=self.provenance.item_id, kinds=interruption_kinds(self.schedule),
            event_types=self.event.types, groups=self.event.groups, judged_by=self.event.judged_by,
            safety_flags=self.event.safety_flags, num_frames=len(self.clean), height=self.clean.hw[0],
            width=self.clean.hw[1], fps=float(self.clean.fps),
            has_cameras=cameras is not None and bool(cameras.valid.any()), has_depth=self.depth is not None,
            licence=self.provenance.licence,
        )  # fmt: skip


def interruption_kinds(schedule: Schedule) -> tuple[str, ...]:
    """Kinds of the interruptions in order of time, each once."""
    return tuple(dict.fromkeys(event.kind for event in schedule.interruptions))


def check_cameras(cameras: Cameras) -> None:
    """Hold cameras to the store's convention wherever they are valid: rigid, anchored, with a focal length.

    Raises:
        CameraError: a rotation that is none, a lowest row other than 0 0 0 1, a first valid frame that is not the
            identity, or a focal length that is not positive.
    """
    c2w, intrinsics = cameras.c2w[cameras.valid].double(), cameras.intrinsics_px[cameras.valid]
    if len(c2w) == 0:
        return
    check_rotations(c2w)
    if not torch.equal(c2w[:, 3], torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=c2w.dtype).expand(len(c2w), 4)):
        raise CameraError("camera poses are not rigid motions", got=f"lowest row {c2w[0, 3].tolist()}",
                          expected="0 0 0 1")
    off = (c2w[0] - torch.eye(4, dtype=c2w.dtype)).abs().max().item()
    if off > _ANCHORED:
        raise CameraError("cameras are not anchored", got=f"a first valid pose {off:.3g} away from the identity",
                          expected="the first frame as the origin", fix="apply geometry.anchor")
    if not (torch.isfinite(intrinsics).all() and (intrinsics[:, :2] > 0).all()):
        raise CameraError("intrinsics are not in pixels", got=f"fx, fy = {intrinsics[:, :2].amin(0).tolist()}",
                          expected="finite, focal lengths above 0")
