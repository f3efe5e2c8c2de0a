"""A camera path that grows while a session runs. What was handed out never changes: the gauge is the first chunk's."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remind.camera_io.track import MAX_POSES
from remind.clip import Cameras
from remind.errors import CameraError
from remind.frame_graph import FRAMES_PER_LATENT, LATENTS_PER_CHUNK, frames_of_chunk, num_latent_frames
from remind.geometry import PoseReading, intrinsics_from_fov
from remind.inference.camera_jumps import MAX_TURN_DEG, check_jumps
from remind.inference.camera_makers import spoken_c2w
from remind.inference.camera_path import DEFAULT_FOV_DEG, FPS, CameraSpec, Fit, is_spoken, lens_of, poses_of
from remind.models.camera_conditions import further_camera_conditions, gauge_scale


class CameraWalk:
    """Cameras of a rollout's frames so far, in the axes of frame 0, and what the model is told of them.

    The same path given at once or chunk by chunk gives the same conditions bit for bit: `Cameras` always, moves such as
    `right-3` at their own length.

    Args:
        hw: size of the video, px.
        fov_deg: horizontal field of view for paths without a lens, 5..170 degrees.
        allow_jumps: take paths that jump.
        max_turn_deg: the farthest turn from one frame to the next, degrees, > 0.
        fps: of the video, > 0.

    Raises:
        CameraError: a field of view out of its range.
    """

    def __init__(
        self,
        hw: tuple[int, int],
        *,
        fov_deg: int | float = DEFAULT_FOV_DEG,
        allow_jumps: bool = False,
        max_turn_deg: int | float = MAX_TURN_DEG,
        fps: int | float = FPS,
    ):
        if not 5 <= fov_deg <= 170:
            raise CameraError("no such field of view", got=f"{fov_deg} degrees", expected="5..170")
        self.hw, self.fov_deg, self.fps = hw, fov_deg, fps
        self.allow_jumps, self.max_turn_deg = allow_jumps, max_turn_deg
        none = torch.zeros(0, dtype=torch.float64)
        self.cameras = Cameras(none.reshape(0, 4, 4), none.reshape(0, 4), hw, torch.zeros(0, dtype=torch.bool))
        """Of all frames so far; `extend` takes it to begin another walk from here, after a load for one."""

    def __len__(self) -> int:
        return len(self.cameras)

    def fork(self) -> CameraWalk:
        """Another walk from the same past."""
        other = CameraWalk(self.hw, fov_deg=self.fov_deg, allow_jumps=self.allow_jumps,
                           max_turn_deg=self.max_turn_deg, fps=self.fps)  # fmt: skip
        other.cameras = self.cameras  # never changed in place
        return other

    def cut(self, num_frames: int) -> None:
        """Forget what comes after the first so many frames."""
        self.cameras = self.cameras[slice(0, num_frames)]

    def extend(
        self,
        spec: CameraSpec | None,
        num_latents: int = LATENTS_PER_CHUNK,
        *,
        convention: PoseReading | None = None,
        fit: Fit | None = None,
    ) -> Cameras:
        """Go on for some latent frames; four frames each, and one for the very first.

        Args:
            spec: words, a file or an array go on from the last pose, in that camera's axes: its first pose is the one
                where the camera stands. `Cameras` of just the new frames are in the axes of the walk's first frame, as
                a slice of `camera_path(...)` is. None: nothing is known of these frames.
            num_latents: how many, >= 1.
            convention, fit: as in `camera_path`; the path's length is that of the new frames, and where the camera has
                a pose already, one more.

        Returns:
            Cameras of the new frames, in the axes of frame 0.

        Raises:
            CameraError: what `camera_path` refuses, or a jump at the seam; the walk is then as it was.
        """
        if num_latents < 1 or len(self) + FRAMES_PER_LATENT * num_latents > MAX_POSES:
            raise CameraError("a camera path cannot go on for so long", got=f"{num_latents} latent frames",
                              expected=f"1 or more, {MAX_POSES} frames in all")  # fmt: skip
        count = FRAMES_PER_LATENT * num_latents - (0 if len(self) else FRAMES_PER_LATENT - 1)
        if spec is None:
            new = self._unknown(count)
        elif isinstance(spec, Cameras):
            new = self._as_given(spec, count)
        else:
            new = self._onwards(spec, count, convention, fit)
        joined = _join(self.cameras, new)
        if not self.allow_jumps and new.valid.any():
            before = max(0, len(self) - 1)
            check_jumps(joined.c2w[before:], joined.valid[before:], max_turn_deg=self.max_turn_deg, fps=self.fps,
                        first_frame=before, goes_on=True)  # fmt: skip
        self.cameras = joined
        return new

    @property
    def scale(self) -> float:
        """The unit of translation, fixed by the first chunk.

        Raises:
            CameraError: fewer than its nine frames so far.
        """
        needed = frames_of_chunk(0).stop
        if len(self) < needed:
            raise CameraError("the camera gauge needs the first chunk", got=f"{len(self)} frames", expected=needed)
        return gauge_scale(self.cameras)

    def conditions(self, chunk: int) -> tuple[Float[Tensor, "3 14"], Bool[Tensor, "3"]]:
        """Pose descriptors (Eq. 1) of a chunk's latent frames, and which of them may be used.

        Raises:
            CameraError: a chunk that the walk has not reached.
        """
        view = self.view(chunk)
        return further_camera_conditions(view, first_frame=frames_of_chunk(chunk).start, scale=self.scale)

    def view(self, chunk: int) -> Cameras:
        """Cameras of a chunk's frames.

        Raises:
            CameraError: a chunk that the walk has not reached.
        """
        frames = frames_of_chunk(chunk)
        if chunk < 0 or len(self) < frames.stop:
            raise CameraError("the camera path has not come so far", got=f"chunk {chunk}",
                              expected=f"frames below {len(self)}", fix="extend it first")  # fmt: skip
        return self.cameras[slice(frames.start, frames.stop)]

    @property
    def num_latents(self) -> int:
        """Latent frames so far."""
        return num_latent_frames(len(self)) if len(self) else 0

    def _unknown(self, count: int) -> Cameras:
        eye = torch.eye(4, dtype=torch.float64).repeat(count, 1, 1)
        return Cameras(eye, self._lens(count), self.hw, torch.zeros(count, dtype=torch.bool))

    def _as_given(self, cameras: Cameras, count: int) -> Cameras:
        if len(cameras) != count:
            raise CameraError("cameras for another number of frames", got=len(cameras), expected=count)
        if cameras.hw != self.hw:
            raise CameraError("cameras for pictures of another size", got=cameras.hw, expected=self.hw)
        eye = torch.eye(4, dtype=torch.float64)
        if not len(self) and cameras.valid[0] and not torch.equal(cameras.c2w[0], eye):
            raise CameraError("the first camera of a path is its origin", got="another pose than the identity",
                              fix="give it through camera_path, or anchor it")  # fmt: skip
        c2w = torch.where(cameras.valid[:, None, None], cameras.c2w, eye)
        return Cameras(c2w, cameras.intrinsics_px, cameras.hw, cameras.valid)

    def _onwards(self, spec: CameraSpec, count: int, convention: PoseReading | None, fit: Fit | None) -> Cameras:
        seam = 1 if len(self) else 0  # the path's first pose is the last one that there is
        standing = self.cameras.c2w[self.cameras.valid]
        start = standing[-1] if len(standing) else torch.eye(4, dtype=torch.float64)
        if isinstance(spec, str) and is_spoken(spec) and fit in (None, "stretch"):
            c2w = spoken_c2w(spec, num_frames=count + seam, start=start if seam else None)[seam:]
            return Cameras(c2w, self._lens(count), self.hw, torch.ones(count, dtype=torch.bool))
        path = poses_of(spec, num_frames=count + seam, convention=convention, fit=fit, fps=self.fps)
        lens = lens_of(path, self.hw)
        c2w = start @ path.c2w if seam else path.c2w
        eye = torch.eye(4, dtype=torch.float64)
        c2w = torch.where(path.valid[:, None, None], c2w, eye)[seam:]
        return Cameras(c2w, self._lens(count) if lens is None else lens[seam:], self.hw, path.valid[seam:])

    def _lens(self, count: int) -> Float[Tensor, "t 4"]:
        """That of the last frame."""
        if len(self):
            return self.cameras.intrinsics_px[-1:].expand(count, 4).contiguous()
        return intrinsics_from_fov(self.fov_deg, self.hw, count)


def _join(past: Cameras, new: Cameras) -> Cameras:
    return Cameras(torch.cat([past.c2w, new.c2w]), torch.cat([past.intrinsics_px, new.intrinsics_px]), new.hw,
                   torch.cat([past.valid, new.valid]))  # fmt: skip
