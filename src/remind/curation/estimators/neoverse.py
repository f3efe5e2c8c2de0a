"""Camera loops of real clips: NeoVerse renders a clip again along a trajectory that comes back (ReMind Sec. 3.1)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from remind.clip import Cameras, Clip
from remind.curation.estimators.adapter import Request, WorkerTool
from remind.curation.estimators.contract import EstimatorError, ResultInfo, read_file
from remind.curation.estimators.estimate import tool_facts
from remind.data.video_io import decode_all, encode_mp4, probe
from remind.errors import CameraError, InputError, VideoError
from remind.geometry import check_rotations, crop_intrinsics, rescale_intrinsics

NUM_FRAMES, FPS, HW = 81, 16.0, (336, 560)
_MAX_VIDEO_BYTES = 256 * 2**20
_CLOSES = 1e-6  # how exactly a loop must end where it began


def trajectory_json(c2w: Float[Tensor, "t 4 4"], *, name: str = "loop") -> str:
    """A trajectory in NeoVerse's JSON: OpenCV camera-to-world matrices for every frame, in the first frame's axes.

    Our choice: every frame is a key frame, so that nothing is interpolated, and `global` mode, in which the matrices
    are the cameras; in `relative` mode they are composed with the motion of the source, and a loop would not close.

    Args:
        c2w: 2 poses or more, the first one the identity.

    Raises:
        CameraError: no rotations, or a first pose that is not the identity.
    """
    check_rotations(c2w)
    if not torch.allclose(c2w[0], torch.eye(4, dtype=c2w.dtype), atol=1e-6):
        raise CameraError("a trajectory must begin at the first view", got=c2w[0].tolist(), expected="the identity",
                          fix="remind.geometry.anchor(c2w)")  # fmt: skip
    content = {
        "name": name,
        "mode": "global",
        "num_frames": len(c2w),
        "use_first_frame": True,
        "trajectory": {"frame_indices": list(range(len(c2w))), "frame_matrices": c2w.tolist()},
    }
    return json.dumps(content, allow_nan=False)


class NeoVerse:
    """NeoVerse behind the file contract. Use as a context manager.

    Args:
        command: an interpreter and `workers/neoverse_worker.py`.
        root: the NeoVerse checkout, on the worker's machine.
        python: interpreter of NeoVerse's environment; None takes the command's own.
        low_vram: about 38 GB instead of 74, slower.
        timeout_s: for one clip, weights loaded anew each time.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        root: Path,
        python: str | None = None,
        low_vram: bool = False,
        timeout_s: float = 1800.0,
    ):
        env = {"NEOVERSE_ROOT": str(root), **({"NEOVERSE_PYTHON": python} if python else {})}
        self.low_vram = low_vram
        self._tool = WorkerTool(command, timeout_s=timeout_s, env=env)

    def __enter__(self) -> NeoVerse:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._tool.close()

    def version(self) -> str:
        """The tool and its checkout, as the worker says; loads no weights.

        Raises:
            EstimatorSetupError: it is missing, or not a worker.
        """
        about = self._tool.handshake()
        return f"{about.tool} {about.tool_version}"

    def render(
        self, clip: Clip, c2w: Float[Tensor, "t 4 4"], *, prompt: str = "", seed: int = 0, clip_id: str = ""
    ) -> tuple[Clip, dict[str, str | float]]:
        """The clip seen along another trajectory, and what made it.

        NeoVerse does not say which focal length it rendered with; the source's own is assumed, brought to its picture.

        Args:
            clip: 81 frames at 16 fps with intrinsics (given or estimated); scaled and cropped to 336x560.
            c2w: one pose per frame, OpenCV, in the axes of the first frame; the first one is the identity. The unit of
                length is that of NeoVerse's own reconstruction.
            clip_id: of the new clip.

        Raises:
            InputError, CameraError: a clip or a trajectory that does not fit.
            EstimatorError: it crashed, took too long, or the video is not what was asked for.
        """
        if clip.cameras is None or not bool(clip.cameras.valid[0]):
            raise InputError("a clip needs intrinsics before it can be rendered again", got="no camera at frame 0",
                             fix="estimate its cameras first")  # fmt: skip
        if (len(clip), float(clip.fps), len(c2w)) != (NUM_FRAMES, FPS, NUM_FRAMES):
            raise InputError("NeoVerse renders clips of one length", got=(len(clip), clip.fps, len(c2w)),
                             expected=f"{NUM_FRAMES} frames at {FPS:g} fps and {NUM_FRAMES} poses")  # fmt: skip
        trajectory = trajectory_json(c2w.double())
        covered, intrinsics = cover(clip.rgb, clip.cameras)
        parameters = {"num_frames": NUM_FRAMES, "hw": list(HW), "seed": seed, "prompt": prompt,
                      "low_vram": self.low_vram}  # fmt: skip
        mp4 = encode_mp4(covered, FPS, crf=10)
        request = Request("render", parameters, mp4=mp4, texts={"trajectory.json": trajectory})

        def read(folder: Path, info: ResultInfo) -> tuple[UInt8[Tensor, "t h w 3"], dict[str, str | float]]:
            return read_video(read_file(folder, "result.mp4", max_bytes=_MAX_VIDEO_BYTES)), tool_facts(info)

        rgb, facts = self._tool.run(request, read)
        cameras = Cameras(c2w.double(), intrinsics, HW, torch.ones(NUM_FRAMES, dtype=torch.bool))
        rendered = replace(clip, rgb=rgb, fps=FPS, cameras=cameras, depth=None, clip_id=clip_id)
        return rendered, {**facts, "intrinsics": "assumed: the source's"}

    def render_loop(
        self, clip: Clip, c2w: Float[Tensor, "t 4 4"], *, prompt: str = "", seed: int = 0, clip_id: str = ""
    ) -> tuple[Clip, dict[str, str | float]]:
        """As `render`, for a trajectory that ends where it began.

        Raises:
            CameraError: it does not.
        """
        if not torch.allclose(c2w[-1], c2w[0], atol=_CLOSES):
            raise CameraError("the loop does not close", got=c2w[-1].tolist(), expected="the first pose again")
        return self.render(clip, c2w, prompt=prompt, seed=seed, clip_id=clip_id)


def cover(
    rgb: UInt8[Tensor, "t h w 3"], cameras: Cameras, hw: tuple[int, int] = HW
) -> tuple[UInt8[Tensor, "t h2 w2 3"], Float[Tensor, "t 4"]]:
    """Scale pictures to cover a frame, NeoVerse's if none is named, and crop the middle, intrinsics with them.

    The first frame's intrinsics serve all frames: NeoVerse renders without zoom.
    """
    height, width = rgb.shape[1:3]
    scale = max(hw[0] / height, hw[1] / width)
    big = max(hw[0], round(height * scale)), max(hw[1], round(width * scale))
    top, left = (big[0] - hw[0]) // 2, (big[1] - hw[1]) // 2
    pictures = torch.empty(len(rgb), *hw, 3, dtype=torch.uint8)
    for i, picture in enumerate(rgb):  # one at a time: a float copy of a whole clip is large
        resized = interpolate(picture.permute(2, 0, 1)[None].float(), big, mode="bilinear", antialias=True)[0]
        resized = resized[:, top : top + hw[0], left : left + hw[1]].round().clamp(0, 255)
        pictures[i] = resized.to(torch.uint8).permute(1, 2, 0)
    first = cameras.intrinsics_px[:1].double().repeat(len(rgb), 1)
    scaled = rescale_intrinsics(first, from_hw=cameras.hw, to_hw=big)
    return pictures, crop_intrinsics(scaled, left_px=torch.tensor(left), top_px=torch.tensor(top))


def read_video(data: bytes) -> UInt8[Tensor, "t h w 3"]:
    """A rendered video, if it is what was asked for.

    Raises:
        EstimatorError: no video, or one of another length, rate or size.
    """
    try:
        info = probe(data)
        if info.hw != HW or info.fps is None or abs(float(info.fps) - FPS) > 0.01:
            raise EstimatorError("the rendered video is not what was asked for", got=f"{info.hw} at {info.fps} fps",
                                 expected=f"{HW} at {FPS:g} fps")  # fmt: skip
        rgb = decode_all(data)
    except VideoError as error:
        raise EstimatorError(f"the rendered video cannot be read: {error.what}", got=error.got) from None
    if len(rgb) != NUM_FRAMES:
        raise EstimatorError("the rendered video is not what was asked for", got=f"{len(rgb)} frames",
                             expected=f"{NUM_FRAMES}")  # fmt: skip
    return rgb


def closure_psnr_db(rgb: UInt8[np.ndarray | Tensor, "t h w 3"]) -> float:
    """How alike the first and the last frame of a loop are, in dB; motion of the scene lowers it."""
    first, last = torch.as_tensor(rgb[0]).float(), torch.as_tensor(rgb[-1]).float()
    error = (first - last).square().mean().clamp_min(1e-6)
    return float(10 * torch.log10(255**2 / error))
