"""Cameras for a video, one a frame, from whatever users write: words, files, arrays. Jumps and wrong lengths are said.

Source: the camera gauge of ReMind F.2 (frame 0 is the identity); the grammars are those of the field, see
`camera_makers` and `camera_files`. What the model gets of a path is made in `models.camera_conditions`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from scipy.signal import find_peaks
from torch import Tensor

from remind.camera_io.strings import whole_ends
from remind.camera_io.track import MAX_POSES, CameraTrack
from remind.clip import Cameras
from remind.errors import CameraError
from remind.geometry import PoseReading, anchor, cover_intrinsics, intrinsics_from_fov
from remind.inference.camera_files import (
    GivenPath,
    is_file,
    path_from_array,
    path_from_cameras,
    path_from_file,
)
from remind.inference.camera_jumps import MAX_TURN_DEG, check_jumps, turns_deg
from remind.inference.camera_makers import is_maker, spoken_c2w

CameraSpec = str | Path | Cameras | Tensor | np.ndarray
Fit = Literal["stretch", "hold", "exact"]
DEFAULT_FOV_DEG = 55.0
"""Horizontal field of view where nothing is known of the lens: the middle of the embedded world's 53..57 degrees, which
the small recipes train on, and that of a usual camera: a 35 mm lens before full-frame film."""
FPS = 16
_TURNING_DEG = 1.0  # a smaller swing is no turning point that must be kept
_TURNING_SHARE = 0.05  # of the farthest distance


def camera_path(
    spec: CameraSpec,
    *,
    num_frames: int,
    hw: tuple[int, int],
    convention: PoseReading | None = None,
    fov_deg: int | float | None = None,
    fit: Fit | None = None,
    allow_jumps: bool = False,
    max_turn_deg: int | float = MAX_TURN_DEG,
    fps: int | float = FPS,
) -> Cameras:
    """One camera for each frame of a video, frame 0 the identity (the first known one, if frame 0 is not).

    Args:
        spec: words (`camera_makers`), a file (`camera_files`; a text that ends in .json, .npy, .npz or .txt is one),
            matrices `[t 4 4]` or `[t 3 4]` with their `convention`, or `Cameras`.
        num_frames: of the video, >= 1.
        hw: size of the video, px. Known lenses follow as pictures do that are scaled to cover it and cropped.
        convention: of an array (must be said), of `.npy` (OpenCV c2w if not said) or of a bare list in JSON; other
            formats have their own, and contradicting it is an error.
        fov_deg: horizontal field of view, 5..170 degrees, instead of the lens that the path has. None: the path's lens,
            or `DEFAULT_FOV_DEG` where it has none.
        fit: what to do with a path of another length. `stretch`: another pace, the same angles and distances at the
            turning points. `hold`: its own pace; a shorter path rests at its last pose, a longer one is cut where the
            video ends. `exact`: an error. None: `stretch` for words, `exact` for the rest.
        allow_jumps: take a path that jumps, see `camera_jumps`.
        max_turn_deg: the farthest turn from one frame to the next, degrees, > 0.
        fps: of the video, > 0, for poses with times of their own.

    Raises:
        CameraError: words or files that are no path, another length, a jump; it names the frame.
    """
    if fov_deg is not None and not 5 <= fov_deg <= 170:
        raise CameraError("no such field of view", got=f"{fov_deg} degrees", expected="5..170")
    path = poses_of(spec, num_frames=num_frames, convention=convention, fit=fit, fps=fps)
    lens = None if fov_deg is not None else lens_of(path, hw)
    if lens is None:
        lens = intrinsics_from_fov(fov_deg or DEFAULT_FOV_DEG, hw, num_frames)
    if not allow_jumps:
        check_jumps(path.c2w, path.valid, max_turn_deg=max_turn_deg, fps=fps)
    return Cameras(path.c2w, lens, hw, path.valid)


def poses_of(
    spec: CameraSpec, *, num_frames: int, convention: PoseReading | None, fit: Fit | None, fps: int | float
) -> GivenPath:
    """The path of that length, anchored; its lens is left as it was given. Arguments and errors as `camera_path`."""
    if not 1 <= num_frames < MAX_POSES:
        raise CameraError("no camera path for a video of this length", got=f"{num_frames} frames",
                          expected=f"1..{MAX_POSES - 1}")  # fmt: skip
    given = _given(spec, num_frames, convention, fit, fps)
    if len(given) != num_frames:
        given = _fitted(given, num_frames, fit or "exact")
    return replace(given, c2w=_anchored(given))


def lens_of(path: GivenPath, hw: tuple[int, int]) -> Float[Tensor, "t 4"] | None:
    """Intrinsics for pictures that were scaled to cover `hw` and cropped; None where the path has none."""
    if path.intrinsics_px is None or path.hw is None or path.hw == hw:
        return path.intrinsics_px
    return cover_intrinsics(path.intrinsics_px, from_hw=path.hw, to_hw=hw)


def is_spoken(spec: object) -> bool:
    """Whether a path is given in words."""
    return isinstance(spec, str) and not is_file(spec)


def _given(
    spec: CameraSpec, num_frames: int, convention: PoseReading | None, fit: Fit | None, fps: int | float
) -> GivenPath:
    if isinstance(spec, Cameras):
        if convention not in (None, "c2w"):
            raise CameraError("Cameras have a convention of their own", got=convention, expected="c2w")
        return path_from_cameras(spec)
    if isinstance(spec, Tensor | np.ndarray):
        return path_from_array(spec, convention)
    if isinstance(spec, Path) or is_file(spec):
        return path_from_file(Path(spec), convention=convention, fps=fps)
    if convention not in (None, "c2w"):
        raise CameraError("a path in words has no other convention", got=convention, expected="c2w")
    fits = fit in (None, "stretch") or is_maker(spec)
    c2w = spoken_c2w(spec, num_frames=num_frames if fits else None)
    return GivenPath(c2w, torch.ones(len(c2w), dtype=torch.bool))


def _anchored(given: GivenPath) -> Float[Tensor, "t 4 4"]:
    """Poses relative to the first known one; a path that begins with the identity is left as it is, bit for bit."""
    eye = torch.eye(4, dtype=torch.float64)
    first = int(given.valid.nonzero()[0])
    if torch.equal(given.c2w[first], eye):
        return given.c2w
    c2w = given.c2w.clone()
    c2w[first:] = anchor(given.c2w[first:])
    c2w[first] = eye
    return torch.where(given.valid[:, None, None], c2w, eye)


def _fitted(given: GivenPath, num_frames: int, fit: Fit) -> GivenPath:
    if fit == "exact":
        raise CameraError("the camera path has another length than the video", got=f"a path of {len(given)} frames",
                          expected=f"{num_frames}, as the video has",
                          fix="fit it (fit, --camera-fit): stretch (another pace, the same angles) or hold (the same "
                              "pace; it rests at its end, or is cut where the video ends)")  # fmt: skip
    if fit == "hold" or len(given) == 1:
        rows = torch.arange(num_frames).clamp(max=len(given) - 1)
        lens = None if given.intrinsics_px is None else given.intrinsics_px[rows]
        return GivenPath(given.c2w[rows], given.valid[rows], lens, given.hw)
    return _stretched(given, num_frames)


def _stretched(given: GivenPath, num_frames: int) -> GivenPath:
    """Another pace; turning points fall on whole frames, so that peak angles stay what they were."""
    known = given.valid
    lens = torch.ones(len(given), 4, dtype=torch.float64) if given.intrinsics_px is None else given.intrinsics_px
    rows = torch.arange(len(given), dtype=torch.float64)
    track = CameraTrack(given.c2w[known], lens[known], given.hw or (1, 1), rows[known])
    if num_frames == 1:
        at = rows[:1]
    else:
        turning = _turning_points(given)
        ends = whole_ends([*turning, len(given) - 1], num_frames - 1)
        at = torch.from_numpy(np.interp(np.arange(num_frames), [0, *ends], [0, *turning, len(given) - 1]))
    cameras = track.at(at, max_gap_s=1.0)  # rows stand for seconds: only neighbours are interpolated
    eye = torch.eye(4, dtype=torch.float64)
    c2w = torch.where(cameras.valid[:, None, None], cameras.c2w, eye)
    return GivenPath(c2w, cameras.valid, None if given.intrinsics_px is None else cameras.intrinsics_px, given.hw)


def _turning_points(given: GivenPath) -> list[int]:
    """Rows, without the first and the last, at which the path is farthest or nearest before it turns."""
    rows = given.valid.nonzero()[:, 0]
    c2w = given.c2w[rows]
    angle = turns_deg(c2w[0].expand_as(c2w), c2w).numpy()
    distance = (c2w[:, :3, 3] - c2w[0, :3, 3]).norm(dim=-1).numpy()
    found: set[int] = set()
    for values, swing in ((angle, _TURNING_DEG), (distance, max(_TURNING_SHARE * distance.max(), 1e-6))):
        for signed in (values, -values):
            _, about = find_peaks(signed, prominence=swing, plateau_size=1)
            found |= {int(rows[edge]) for edges in ("left_edges", "right_edges") for edge in about[edges]}
    return sorted(found - {0, len(given) - 1})
