"""RemindPipeline: a checkpoint with its codec and text encoder; a video, an image or words in, a video out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch
from jaxtyping import UInt8
from torch import Tensor

from remind.clip import Cameras
from remind.errors import InputError
from remind.frame_graph import FrameGraph, Role, Schedule, frames_of_chunk
from remind.geometry import PoseReading
from remind.inference.camera_path import DEFAULT_FOV_DEG, CameraSpec, Fit, camera_path
from remind.inference.components import SHIPPED, Components, load_components
from remind.inference.glance import Glance
from remind.inference.memory_policy import most_remembered
from remind.inference.options import GenerationOptions, HowToGenerate, generation_options
from remind.inference.past import MemoryRow
from remind.inference.placement import Placement
from remind.inference.recovery import RecoveryTask, image_to_video, recover
from remind.inference.rollout import KnockOut
from remind.inference.samplers import Sampler
from remind.inference.session import Session
from remind.models.codec import LinearCodec
from remind.models.dit import CausalVideoDiT
from remind.models.video_codec import VideoCodec
from remind.prompt_schedule import PromptSchedule

__all__ = ["SHIPPED", "Generation", "HowToGenerate", "MadeChunk", "RecoveryTask", "RemindPipeline"]

DEFAULT_CHUNKS = 7


class WhatToGenerate(TypedDict, total=False):
    """What a video starts from and what happens in it; see `RemindPipeline.stream`."""

    image: UInt8[Tensor, "h w 3"] | None
    video: UInt8[Tensor, "t h w 3"] | None
    cameras: CameraSpec | None
    camera_convention: PoseReading | None
    camera_fit: Fit | None
    num_chunks: int | None
    schedule: Schedule | None
    references: Sequence[UInt8[Tensor, "_ h w 3"]]
    reference_gap: int | None
    fov_deg: int | float | None
    allow_camera_jumps: bool
    glance: Callable[[Glance], None] | None


@dataclass(frozen=True)
class MadeChunk:
    """One chunk of a video, as it is made.

    Args:
        chunk: which one, from 0.
        frames: of the chunk, uint8.
        given: whether it was given, not made.
        seconds: since the call, when it was ready.
        session: it has come from; shows what is remembered.
    """

    chunk: int
    frames: UInt8[Tensor, "t h w 3"]
    given: bool
    seconds: float
    session: Session


@dataclass(frozen=True)
class Generation:
    """A finished video.

    Args:
        frames: all of them, given ones untouched.
        first_generated_frame: the first that was not given.
        roles: of its chunks.
        cameras: one per frame, in the axes of frame 0; `valid` is False where nothing was known.
        memory: what was remembered at the end.
        chunk_seconds: when each chunk was ready, since the call; 0 for given ones.
    """

    frames: UInt8[Tensor, "t h w 3"]
    first_generated_frame: int
    roles: tuple[Role, ...]
    cameras: Cameras
    memory: tuple[MemoryRow, ...]
    chunk_seconds: tuple[float, ...]


class RemindPipeline:
    """Generates with memory.

    Args:
        components: model, codec, text encoder and where they came from.
    """

    def __init__(self, components: Components):
        self.components = components

    @staticmethod
    def from_pretrained(
        source: str | Path,
        *,
        base: str | Path | None = None,
        placement: Placement | str = "cpu",
        hw: tuple[int, int] | None = None,
    ) -> RemindPipeline:
        """A shipped checkpoint by name, a run folder, or any checkpoint of the Wan family; see `load_components`.

        Args:
            base: a local Wan pipeline in the diffusers layout, where the checkpoint needs its VAE and text encoder.
            placement: a device (`auto`, `cpu`, `cuda`, `mps`), or more about where parts compute.
            hw: frame size, px, of checkpoints that do not say theirs.

        Raises:
            CheckpointError: no such checkpoint, a damaged one, or one whose parts are missing.
            InputError: a device that is not there.
        """
        where = Placement(device=placement) if isinstance(placement, str) else placement
        return RemindPipeline(load_components(source, base=base, placement=where, hw=hw))

    @staticmethod
    def of_small_model(model: CausalVideoDiT, codec: LinearCodec, hw: tuple[int, int]) -> RemindPipeline:
        """With a model in memory that goes with the embedded codec, e.g. one in training."""
        return RemindPipeline(Components.of_small_model(model, codec, hw))

    @property
    def model(self) -> CausalVideoDiT:
        return self.components.model

    @property
    def codec(self) -> VideoCodec:
        return self.components.codec

    @property
    def config(self) -> dict[str, Any]:
        """The checkpoint's `config.json`."""
        return self.components.config

    @property
    def hw(self) -> tuple[int, int]:
        """Frame size, px."""
        return self.components.facts.hw

    # --- one video ---------------------------------------------------------------------------------------------------

    def __call__(
        self, prompt: str | PromptSchedule = "", *, progress: Callable[[MadeChunk], None] | None = None,
        **asked: Unpack[Asked],
    ) -> Generation:  # fmt: skip
        """Make a video: from words, from an image or from a video. Arguments as `stream`.

        Args:
            progress: called with every chunk as it is ready.

        Raises:
            InputError, CameraError: what `stream` refuses.
        """
        made: list[MadeChunk] = []
        for chunk in self.stream(prompt, **asked):
            made.append(chunk)
            if progress is not None:
                progress(chunk)
        session = made[-1].session
        given = [chunk.chunk for chunk in made if chunk.given]
        first = frames_of_chunk(given[-1]).stop if given else int(asked.get("image") is not None)
        return Generation(torch.cat([chunk.frames for chunk in made]), first, session.roles, session.walk.cameras,
                          session.memory.table(), tuple(chunk.seconds for chunk in made))  # fmt: skip

    def stream(self, prompt: str | PromptSchedule = "", **asked: Unpack[Asked]) -> Iterator[MadeChunk]:
        """The same, chunk by chunk as they are made; given chunks come first.

        Args:
            prompt: what is going on, or a schedule of prompts.
            image: start from this frame (I2V), uint8 of the model's size ...
            video: ... or continue this one (V2V), whole chunks (12k - 3 frames). Neither: from words alone (T2V).
            cameras: of the whole video, given frames included, from frame 0: words (`right-20, left-20`,
                `yaw:left:60@40`, `lookaway:60`), a file, matrices or `Cameras`; see `camera_path`. None = unknown.
            camera_convention, camera_fit: how matrices are read, and what is done with a path of another length; see
                `camera_path`.
            num_chunks: of the whole video, given ones included; a chunk is 12 frames, the first has 9. None = 7 (81
                frames), more if the video is that long.
            schedule: interruptions that are planned, which give chunks their roles; None = roles are read off frames
                and cameras as they come.
            references, reference_gap: see `Session.start`.
            fov_deg: horizontal field of view of cameras that have no lens of their own.
            allow_camera_jumps: take a camera path that jumps.
            glance: called in every denoising pass with what was looked at.
            seed, sampler, steps, shift, guidance, negative_prompt, memory, memory_budget, memory_storage, memory_noise,
                chunks_per_pass, measure_importance: see `GenerationOptions`; `sampler` may be a kind, with `steps` and
                `shift` beside it.

        Raises:
            InputError, CameraError: what cannot be followed, before anything is made.
        """
        what, how = _split(asked)
        began = time.perf_counter()
        video, image = what.get("video"), what.get("image")
        if video is not None and image is not None:
            raise InputError("give an image or a video, not both")
        given = 0 if video is None else (len(video) + 3) // 12
        asked_for, schedule = what.get("num_chunks"), what.get("schedule")
        num_chunks = max(DEFAULT_CHUNKS, given + 1) if asked_for is None else asked_for
        if num_chunks < 1:
            raise InputError("a video has at least one chunk", got=num_chunks)
        if num_chunks <= given:
            raise InputError("nothing is left to generate", got=f"{num_chunks} chunks in all, {given} given",
                             expected=f"at least {given + 1}")
        span = frames_of_chunk(num_chunks - 1).stop
        if schedule is not None and schedule.num_frames > span:
            raise InputError("the schedule is longer than the video", got=f"{schedule.num_frames} frames",
                             expected=f"{span} at most, as it has {num_chunks} chunks")
        told = (prompt if isinstance(prompt, PromptSchedule) else PromptSchedule(prompt)).per_chunk(num_chunks)
        path = self._path(what, num_chunks)
        session = self.start(
            told[0], image=image, schedule=schedule, references=what.get("references", ()),
            reference_gap=what.get("reference_gap"), fov_deg=what.get("fov_deg"),
            allow_camera_jumps=what.get("allow_camera_jumps", False), horizon=num_chunks, final=True, **how,
        )  # fmt: skip
        if session.options.memory_budget is not None:  # what does not fit at the end is said at the beginning
            roles: list[Role] = ["reference" for _ in what.get("references", ())]
            roles += () if session.graph is None else session.graph.roles
            roles += ["clean"] * (len(what.get("references", ())) + num_chunks - len(roles))
            most_remembered(session.options.policy, roles, room=len(session.memory.cache.slots) - 1)
        spans = [frames_of_chunk(chunk) for chunk in range(num_chunks)]
        parts = [None if path is None else path[slice(span.start, span.stop)] for span in spans]
        if video is not None:
            seen = None if path is None else path[slice(0, len(video))]
            session.give(video, prompts=told[:given], camera=seen)

        session.rollout.check_reach(num_chunks)

        def chunks() -> Iterator[MadeChunk]:
            for chunk in range(num_chunks):
                if video is not None and chunk < given:
                    yield MadeChunk(chunk, video[spans[chunk].start : spans[chunk].stop], True, 0.0, session)
                else:
                    rgb = session.step(told[chunk], parts[chunk], glance=what.get("glance"))
                    yield MadeChunk(chunk, rgb, False, time.perf_counter() - began, session)

        return chunks()

    def start(
        self,
        prompt: str = "",
        *,
        image: UInt8[Tensor, "h w 3"] | None = None,
        video: UInt8[Tensor, "t h w 3"] | None = None,
        schedule: Schedule | None = None,
        references: Sequence[UInt8[Tensor, "_ h w 3"]] = (),
        reference_gap: int | None = None,
        fov_deg: int | float | None = None,
        allow_camera_jumps: bool = False,
        horizon: int = DEFAULT_CHUNKS,
        final: bool = False,
        **how: Unpack[HowToGenerate],
    ) -> Session:
        """A session, to be asked for one chunk after another.

        Args:
            prompt, image, video, schedule, references, reference_gap, fov_deg, allow_camera_jumps: as `stream`.
            horizon, final: chunks that are expected, and whether there will be no more.
            how: see `stream`.

        Raises:
            InputError: what cannot be followed.
        """
        session = Session.start(
            self.components, self.options(**how), prompt=prompt, references=references, reference_gap=reference_gap,
            first_frame=image, graph=None if schedule is None else FrameGraph(schedule),
            fov_deg=DEFAULT_FOV_DEG if fov_deg is None else fov_deg, allow_camera_jumps=allow_camera_jumps,
            horizon=horizon, final=final,
        )  # fmt: skip
        if video is not None:
            session.give(video)
        return session

    def load_session(self, file: Path | str) -> Session:
        """Go on where a session was saved; see `Session.load`."""
        return Session.load(file, self.components)

    def options(self, **how: Unpack[HowToGenerate]) -> GenerationOptions:
        """What the keyword arguments of `stream` mean for this checkpoint.

        Raises:
            InputError: a value out of its range.
        """
        return generation_options(how, wan=self.components.facts.base is not None)

    def _path(self, what: WhatToGenerate, num_chunks: int) -> Cameras | None:
        spec = what.get("cameras")
        if spec is None:
            return None
        return camera_path(spec, num_frames=frames_of_chunk(num_chunks - 1).stop, hw=self.hw,
                           fov_deg=what.get("fov_deg"), convention=what.get("camera_convention"),
                           fit=what.get("camera_fit"), allow_jumps=what.get("allow_camera_jumps", False))  # fmt: skip

    # --- many clips with a known schedule ----------------------------------------------------------------------------

    def recover(
        self, tasks: Sequence[RecoveryTask], *, sampler: Sampler = Sampler(),  # noqa: B008 (frozen)
        knock_out_anchors: KnockOut | None = None, memory_noise: float = 0.0,
        glance: Callable[[list[int], Glance], None] | None = None, progress: Callable[[int], None] | None = None,
        max_batch: int = 32,
    ) -> list[UInt8[Tensor, "t h w 3"]]:  # fmt: skip
        """V2V in batches; see `recovery.recover`."""
        return recover(self.components, tasks, sampler=sampler, knock_out_anchors=knock_out_anchors,
                       memory_noise=memory_noise, glance=glance, progress=progress, max_batch=max_batch)  # fmt: skip

    def image_to_video(
        self, tasks: Sequence[RecoveryTask], *, sampler: Sampler = Sampler(),  # noqa: B008 (frozen)
        memory_noise: float = 0.0,
        progress: Callable[[int], None] | None = None, max_batch: int = 32,
    ) -> list[UInt8[Tensor, "t h w 3"]]:  # fmt: skip
        """I2V in batches; see `recovery.image_to_video`."""
        return image_to_video(self.components, tasks, sampler=sampler, memory_noise=memory_noise, progress=progress,
                              max_batch=max_batch)  # fmt: skip


class Asked(HowToGenerate, WhatToGenerate, total=False):
    """All keyword arguments of `RemindPipeline.stream`."""


def _split(asked: Asked) -> tuple[WhatToGenerate, HowToGenerate]:
    how: dict[str, Any] = {name: value for name, value in asked.items() if name in HowToGenerate.__annotations__}
    what: dict[str, Any] = {name: value for name, value in asked.items() if name not in how}
    strange = sorted(set(what) - set(WhatToGenerate.__annotations__))
    if strange:
        raise TypeError(f"unexpected keyword arguments: {', '.join(strange)}")
    return what, how  # type: ignore[return-value]
