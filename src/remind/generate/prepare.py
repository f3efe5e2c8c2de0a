"""From what a user said to tensors: files are read, prompts and cameras laid out over time, nothing computed yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from remind.clip import Cameras, Clip
from remind.data.interrupt import InterruptionRecipe, apply_interruption, sample_recipe
from remind.errors import InputError, VideoError
from remind.frame_graph import FrameGraph, Schedule, chunk_of_frame, frames_of_chunk
from remind.generate.command import GenerateCommand
from remind.generate.inputs import FPS, Given, read_picture, read_prefix
from remind.generate.prompt_file import read_prompt_schedule
from remind.inference.camera_path import camera_path
from remind.inference.options import GenerationOptions
from remind.inference.session import FIRST_FRAMES
from remind.prompt_schedule import PromptSchedule

MOST_GIVEN = 27
"""Chunks, 20 s, that are read of a video where nobody says how long all of it is to be. Our choice: a film would not
fit into memory, and nobody means to continue one after its first two hours."""


@dataclass(frozen=True)
class ReadFile:
    """A file that was read.

    Args:
        kind: `image`, `video` or `reference`.
        path: where it is.
        given: what came out of it.
        start_s, hold: how it was read.
    """

    kind: Literal["image", "video", "reference"]
    path: Path
    given: Given
    start_s: float = 0.0
    hold: bool = False


@dataclass(frozen=True)
class Prepared:
    """A video that is ready to be made.

    Args:
        files: all that was read, references in their order.
        told: prompts over time.
        options: seed, sampler, guidance, memory.
        num_chunks: of the whole video.
        image: its first frame, or None.
        video: its given frames as the model sees them: whole chunks, interrupted if it was asked for.
        truth: what the given video really shows, as long as the whole; only where it was interrupted.
        degraded: the same, interrupted.
        references: pictures or clips of what was there before.
        gap_chunks: from the first reference to the video; None = right after them.
        cameras: one per frame of the whole video, or None.
        camera_said: what the user wrote for them.
        recipe: of the interruption, or None.
    """

    files: tuple[ReadFile, ...]
    told: PromptSchedule
    options: GenerationOptions
    num_chunks: int
    image: UInt8[Tensor, "h w 3"] | None = None
    video: UInt8[Tensor, "t h w 3"] | None = None
    truth: UInt8[Tensor, "whole h w 3"] | None = None
    degraded: UInt8[Tensor, "whole h w 3"] | None = None
    references: tuple[UInt8[Tensor, "_ h w 3"], ...] = ()
    gap_chunks: int | None = None
    cameras: Cameras | None = None
    camera_said: str = ""
    recipe: InterruptionRecipe | None = None

    @property
    def mode(self) -> Literal["t2v", "i2v", "v2v"]:
        return "v2v" if self.video is not None else "i2v" if self.image is not None else "t2v"

    @property
    def num_frames(self) -> int:
        return frames_of_chunk(self.num_chunks - 1).stop

    @property
    def schedule(self) -> Schedule | None:
        """Of the interruption."""
        return None if self.recipe is None else self.recipe.schedule(self.num_frames)

    @property
    def notices(self) -> tuple[str, ...]:
        """How inputs were adapted."""
        return tuple(notice for file in self.files for notice in file.given.notices)

    def asked(self) -> dict[str, Any]:
        """Keyword arguments of `RemindPipeline.stream` beside the prompt."""
        return {
            **vars(self.options), "image": self.image, "video": self.video, "cameras": self.cameras,
            "num_chunks": self.num_chunks, "schedule": self.schedule, "references": self.references,
            "reference_gap": self.gap_chunks, "allow_camera_jumps": True,  # they were looked at already
        }  # fmt: skip


def prepare(
    command: GenerateCommand, options: GenerationOptions, *, hw: tuple[int, int], usual_frames: int
) -> Prepared:
    """Read what a command names.

    Args:
        options: of the pipeline that will make the video.
        hw: its frame size, px.
        usual_frames: length of its usual clip.

    Raises:
        InputError, VideoError, CameraError: a file that cannot be read, or numbers that do not fit together.
    """
    references = tuple(_reference(path, hw) for path in command.reference)
    num_chunks = command.chunks or chunk_of_frame(usual_frames - 1) + 1
    recipe = None
    if command.interrupt is not None:
        frames = frames_of_chunk(num_chunks - 1).stop
        recipe = sample_recipe(command.interrupt, frames, np.random.default_rng([command.seed, 0x9E4]))
    if command.video is not None:
        most = frames_of_chunk(num_chunks - 1 - (recipe is None)).stop if num_chunks > 1 else 0
        if not most:
            raise InputError("nothing is left to generate", got="1 chunk in all, and a video",
                             expected="at least 2", fix="raise --chunks")  # fmt: skip
        if command.chunks is None and recipe is None:
            most = frames_of_chunk(MOST_GIVEN - 1).stop
        given = read_prefix(command.video, hw, max_frames=most, start_s=command.start_s, hold=command.hold)
        main: tuple[ReadFile, ...] = (ReadFile("video", command.video, given, command.start_s, command.hold),)
        if recipe is None:
            num_chunks = command.chunks or chunk_of_frame(len(given.rgb) - 1) + 1 + num_chunks
        elif len(given.rgb) < most:
            raise InputError("the video is too short to be interrupted", got=f"{len(given.rgb)} frames at {FPS} fps",
                             expected=f"{most}", fix="start earlier, ask for fewer --chunks, or give a longer video")
    elif command.image is not None:
        main = (ReadFile("image", command.image, read_picture(command.image, hw)),)
    else:
        main = ()
    cameras = None
    if command.camera is not None:
        cameras = camera_path(command.camera, num_frames=frames_of_chunk(num_chunks - 1).stop, hw=hw,
                              fov_deg=command.fov_deg, convention=command.camera_convention, fit=command.camera_fit,
                              allow_jumps=command.allow_camera_jumps)  # fmt: skip
    return arrange(
        main + references, _told(command, recipe, num_chunks), options, num_chunks, cameras=cameras,
        camera_said=command.camera or "", recipe=recipe, gap_chunks=command.reference_gap,
    )  # fmt: skip


def arrange(
    files: Sequence[ReadFile], told: PromptSchedule, options: GenerationOptions, num_chunks: int, *,
    cameras: Cameras | None, camera_said: str, recipe: InterruptionRecipe | None, gap_chunks: int | None,
    seen_cameras: bool = False,
) -> Prepared:  # fmt: skip
    """Put what was read in its places, and interrupt what is to be interrupted; see `Prepared`.

    Args:
        seen_cameras: cameras are interrupted already, as a manifest's are.

    Raises:
        InputError: prompts for chunks that will not be.
    """
    told.per_chunk(num_chunks)
    first = {file.kind: file.given.rgb for file in reversed(files)}
    video, truth, degraded = first.get("video"), None, None
    if video is not None and recipe is not None:
        truth = video
        degraded = apply_interruption(Clip(video, float(FPS)), recipe).rgb
        frontier = FrameGraph(recipe.schedule(len(video))).frontier
        assert frontier is not None
        video = degraded[: frames_of_chunk(frontier).start]
    if cameras is not None and recipe is not None and not seen_cameras:  # a zoom has another lens
        blank = torch.zeros(len(cameras), *cameras.hw, 3, dtype=torch.uint8)
        cameras = apply_interruption(Clip(blank, float(FPS), cameras=cameras), recipe).cameras
    return Prepared(
        tuple(files), told, options, num_chunks, image=first["image"][0] if "image" in first else None, video=video,
        truth=truth, degraded=degraded, references=tuple(f.given.rgb for f in files if f.kind == "reference"),
        gap_chunks=gap_chunks, cameras=cameras, camera_said=camera_said, recipe=recipe,
    )  # fmt: skip


def _told(command: GenerateCommand, recipe: InterruptionRecipe | None, num_chunks: int) -> PromptSchedule:
    if recipe is not None:
        frames = frames_of_chunk(num_chunks - 1).stop
        return PromptSchedule.of_interruption(command.prompt, recipe.schedule(frames))
    if command.schedule is not None:
        return read_prompt_schedule(command.schedule, base=command.prompt)
    return PromptSchedule(command.prompt)


def _reference(path: Path, hw: tuple[int, int]) -> ReadFile:
    """A picture, or the first chunk of a video."""
    try:
        return ReadFile("reference", path, read_picture(path, hw))
    except InputError as no_picture:
        try:
            return ReadFile("reference", path, read_prefix(path, hw, max_frames=FIRST_FRAMES))
        except VideoError:
            raise no_picture from None

