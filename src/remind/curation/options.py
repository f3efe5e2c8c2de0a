"""What decides the content of a store, beside the videos: every field belongs to the stages that name it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal

import numpy as np

from remind.curation.keep_policy import KeepPolicy
from remind.curation.motion_policy import MotionPolicy
from remind.curation.scan import CutDetectorName, ScanOptions
from remind.data.interrupt import RecipeDistribution, Window, sample_composition
from remind.data.video_io import DEFAULT_LIMITS, VideoLimits
from remind.errors import InputError
from remind.frame_graph import num_chunks

CameraMethod = Literal["given", "colmap", "depth_anything"]


@dataclass(frozen=True)
class VlmChoice:
    """Which vision-language model annotates. Its key, if it has one, is no option: options are written down.

    Args:
        base_url: of an OpenAI-compatible server, e.g. http://localhost:8000/v1; empty for a model in this process.
        model: as the server names it, or the folder of a Qwen3-VL checkpoint.
        side_px: longest side of the pictures it is shown, 64..2048.
    """

    base_url: str
    model: str
    side_px: int = 480


@dataclass(frozen=True)
class BuildOptions:
    """All options of a build.

    Args:
        hw: size of the stored clips, each side 16..2048.
        view_hw: what the model sees of them, where they are stored wider so that it can look away; None = all.
        num_frames: 12k - 3 frames, at least 45.
        fps: of the clips, 1..120.
        interruptions: what recipes are drawn from.
        seed: of the recipes, >= 0.
        cut_detector: `content` in the same pass, or `transnetv2` in one of its own.
        cut_threshold: of that detector; see `data.cuts` and `data.cuts_transnet`.
        motion: which windows move enough.
        vlm: None = nobody looks; the clips say so.
        keep: which of the windows that a VLM looked at are kept.
        cameras: `given` by the source alone; or estimated where there are none, by `colmap` or `depth_anything`.
        camera_command: how to start the estimator's worker; for `depth_anything`, which lives in an environment of its
            own.
        check_cameras: hold given cameras against the pictures.
        crf: H.264 quality of the stored clips, 0..51.
        limits: bounds on one file.
    """

    hw: tuple[int, int] = (64, 64)
    view_hw: tuple[int, int] | None = None
    num_frames: int = 81
    fps: int = 16
    interruptions: RecipeDistribution = field(default_factory=RecipeDistribution)
    seed: int = 0
    cut_detector: CutDetectorName = "content"
    cut_threshold: float = 27.0
    motion: MotionPolicy = field(default_factory=MotionPolicy)
    vlm: VlmChoice | None = None
    keep: KeepPolicy = field(default_factory=KeepPolicy)
    cameras: CameraMethod = "given"
    camera_command: tuple[str, ...] = ()
    check_cameras: bool = True
    crf: int = 18
    limits: VideoLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if not all(16 <= side <= 2048 for side in self.hw):
            raise InputError("clips of this size cannot be built", got=self.hw, expected="16..2048 px a side")
        if not 1 <= self.fps <= 120:
            raise InputError("clips of this frame rate cannot be built", got=self.fps, expected="1..120")
        if self.seed < 0:
            raise InputError("the seed must not be negative", got=self.seed, expected="0 or more")
        if not 0 <= self.crf <= 51:
            raise InputError("no such quality", got=f"crf {self.crf}", expected="0..51")
        if (self.cameras == "depth_anything") != bool(self.camera_command):
            raise InputError("a camera command and the method that runs it go together", got=self.cameras,
                             expected='cameras="depth_anything" with a camera_command')
        num_chunks(self.num_frames)
        # A clip too short for a kind is an error now, not at the first window.
        sample_composition(self.num_frames, np.random.default_rng(0), self.interruptions, window=self.window())

    def window(self, intrinsics_px: tuple[float, float, float, float] | None = None) -> Window | None:
        """Of the stored clip that the model sees; `intrinsics_px` of the stored pictures, where they are known."""
        if self.view_hw is None:
            return None
        return Window(stored_hw=self.hw, view_hw=self.view_hw, intrinsics_px=intrinsics_px)

    @property
    def scan(self) -> ScanOptions:
        return ScanOptions(self.hw, self.num_frames, self.fps, self.cut_detector, self.cut_threshold, self.limits)

    def of(self, names: tuple[str, ...]) -> dict[str, Any]:
        """Some fields, as plain JSON values."""
        return {name: value for name, value in self.describe().items() if name in names}

    def describe(self) -> dict[str, Any]:
        """All fields, as plain JSON values."""
        return dict(json.loads(json.dumps({f.name: _plain(getattr(self, f.name)) for f in fields(self)})))


def _plain(value: object) -> object:
    return asdict(value) if hasattr(value, "__dataclass_fields__") else value  # type: ignore[call-overload]
