"""A video in the making, chunk by chunk: what is said and where the camera goes may be decided on the way.

A session joins the rollout with what stands around it: prompts become embeddings, camera moves become pose descriptors
in one gauge, latents become frames as they are made, and frames say what role their chunk had (`roles`).
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from pydantic import ValidationError
from torch import Tensor

from remind.errors import CheckpointError, InputError, RemindError
from remind.frame_graph import (
    FRAMES_PER_LATENT,
    LATENTS_PER_CHUNK,
    FrameGraph,
    Role,
    Schedule,
    frames_of_chunk,
)
from remind.geometry import PoseReading
from remind.inference.camera_path import DEFAULT_FOV_DEG, CameraSpec
from remind.inference.camera_walk import CameraWalk
from remind.inference.chunk_memory import ChunkMemory
from remind.inference.components import Components
from remind.inference.glance import Glance
from remind.inference.memory_policy import most_remembered
from remind.inference.options import GenerationOptions
from remind.inference.past import ChunkConditions
from remind.inference.roles import Looks, RoleTracker
from remind.inference.rollout import KnockOut, Rollout
from remind.inference.rollout_state import load_rollout, save_rollout
from remind.inference.session_facts import SessionFacts
from remind.models.video_codec import BLOCK_PX

logger = logging.getLogger(__name__)

CHUNK_FRAMES = FRAMES_PER_LATENT * LATENTS_PER_CHUNK
FIRST_FRAMES = CHUNK_FRAMES - FRAMES_PER_LATENT + 1
"""Frames of a clip's first chunk, and so of a reference."""
KEPT_PROMPTS = 8
"""Embeddings that a session keeps: at Wan size 8 MB each."""


class Session:
    """One video, from its start to wherever it is now. Made by `RemindPipeline.start`, or by `load`.

    What it makes is a function of what it was given and asked for, chunk by chunk, and of the seed: how many chunks a
    call asks for changes no bit of them.

    Args:
        components: of the pipeline.
        options: how it is generated; those of the rollout.
        rollout: what has been made so far, and how it goes on.
        walk: cameras of its frames so far.
        prompt: what is going on, until `step` says otherwise.
        graph: roles of all chunks where an interruption is planned; None = they are read off frames and cameras.
        first_frame: the video's first frame, given.
    """

    def __init__(
        self,
        components: Components,
        options: GenerationOptions,
        rollout: Rollout,
        walk: CameraWalk,
        *,
        prompt: str = "",
        graph: FrameGraph | None = None,
        first_frame: UInt8[Tensor, "h w 3"] | None = None,
    ):
        self.components, self.options, self.rollout, self.walk = components, options, rollout, walk
        self.prompt, self.graph, self.tracker = prompt, graph, RoleTracker()
        self._first_frame = first_frame
        self._stream = components.codec.stream()
        self._texts: dict[str, Tensor] = {}
        self._warned_of_distance = False

    @classmethod
    def start(
        cls,
        components: Components,
        options: GenerationOptions,
        *,
        prompt: str = "",
        references: Sequence[UInt8[Tensor, "_ h w 3"]] = (),
        reference_gap: int | None = None,
        first_frame: UInt8[Tensor, "h w 3"] | None = None,
        graph: FrameGraph | None = None,
        fov_deg: int | float = DEFAULT_FOV_DEG,
        allow_camera_jumps: bool = False,
        horizon: int = 7,
        final: bool = False,
    ) -> Session:
        """A session with no video yet.

        Args:
            references: clean pictures or clips of what was there before, [t h w 3] each: a picture is held for a
                chunk's 9 frames, of a clip the first 9 are taken.
            reference_gap: the paper's G: chunks from the first reference to the video, >= the number of references;
                None = right after them.
            fov_deg: horizontal field of view of camera moves in words, degrees.
            allow_camera_jumps: take camera paths that jump.
            final: whether there will be no more chunks than that; a budget is then only taken as far as they need it.
            horizon: chunks that are expected, >= 1; memory without a budget is allocated at first for what the policy
                would keep of so many.

        Raises:
            InputError: pictures of another size, a gap that references do not fit, or options that cannot be followed.
        """
        if horizon < 1:
            raise InputError("a video has at least one chunk", got=horizon)
        if reference_gap is not None and not 0 < len(references) <= reference_gap:
            raise InputError("the gap is from the first reference to the video, and must hold all of them",
                             got=f"gap of {reference_gap} chunks, {len(references)} references",
                             fix="give references, and a gap of at least as many chunks")
        height, width = components.facts.hw
        planned: list[Role] = ["reference" for _ in references]
        planned += () if graph is None else graph.roles
        planned += ["clean"] * (len(references) + horizon - len(planned))
        rollout = Rollout(
            components.model, batch=1, latent_hw=(height // BLOCK_PX, width // BLOCK_PX), seeds=(options.seed,),
            sampler=options.sampler, guidance=options.guidance, policy=options.policy,
            budget_bytes=options.memory_budget, storage=options.memory_storage, context_noise=options.memory_noise,
            chunks_per_pass=options.chunks_per_pass, measure_importance=options.measure_importance,
            first_position=LATENTS_PER_CHUNK * (len(references) if reference_gap is None else reference_gap),
            horizon=most_remembered(options.policy, planned) + 1, most_chunks=len(planned) if final else None,
        )  # fmt: skip
        walk = CameraWalk(components.facts.hw, fov_deg=fov_deg, allow_jumps=allow_camera_jumps)
        session = cls(components, options, rollout, walk, prompt=prompt, graph=graph, first_frame=first_frame)
        if first_frame is not None:
            session._check_size(first_frame[None])
        session._refer(references)
        return session

    # --- what there is ---------------------------------------------------------------------------------------------

    @property
    def num_chunks(self) -> int:
        """Chunks so far, given ones included."""
        return self.rollout.num_chunks

    @property
    def num_frames(self) -> int:
        return frames_of_chunk(self.num_chunks - 1).stop if self.num_chunks else 0

    @property
    def roles(self) -> tuple[Role, ...]:
        """Of all chunks so far, as the schedule has them or as they were read off frames and cameras."""
        return tuple(past.role for past in self.rollout.past if past.chunk >= 0)

    @property
    def memory(self) -> ChunkMemory:
        """What is remembered; `session.memory.table()` explains it."""
        return self.rollout.memory

    # --- what goes in and out --------------------------------------------------------------------------------------

    def give(
        self,
        rgb: UInt8[Tensor, "t h w 3"],
        *,
        prompts: Sequence[str] | None = None,
        camera: CameraSpec | None = None,
    ) -> None:
        """Begin with a video that is known: whole chunks, 12k - 3 frames.

        Args:
            prompts: one per chunk; None = the session's.
            camera: of these frames, see `camera_path`.

        Raises:
            InputError: something was generated already, another size, or frames that are not whole chunks.
        """
        if self.num_chunks or self._first_frame is not None:
            raise InputError("a known video comes first", got=f"{self.num_chunks} chunks, or a first frame, before it")
        count = (len(rgb) + FRAMES_PER_LATENT - 1) // CHUNK_FRAMES
        if not count or len(rgb) != frames_of_chunk(count - 1).stop:
            raise InputError("a known video must be whole chunks", got=f"{len(rgb)} frames",
                             expected=f"12k - 3, e.g. {frames_of_chunk(max(count, 1) - 1).stop}", fix="cut it")
        told = [self.prompt] * count if prompts is None else list(prompts)
        if len(told) != count:
            raise InputError("every chunk has one prompt", got=len(told), expected=count)
        self._check_size(rgb)
        latents = self._encode(rgb)
        self._extend(camera, count)
        try:
            conditions = [self._conditions(chunk, told[chunk], "clean") for chunk in range(count)]
        except BaseException:
            self.walk.cut(0)
            raise
        with self.components.placement.using(self.components.codec, self._stream):
            self._stream.push(latents)  # its frames are known; a codec may look back on them
        spans = [frames_of_chunk(chunk) for chunk in range(count)]
        for chunk, span in enumerate(spans):  # all of it is looked at before anything could be forgotten
            self.tracker.see(chunk, rgb[span.start : span.stop], self.walk.view(chunk))
        for chunk, asked in enumerate(conditions):
            role = self._planned_role(chunk) or self.tracker.roles[chunk]
            part = latents[:, LATENTS_PER_CHUNK * chunk : LATENTS_PER_CHUNK * (chunk + 1)]
            self.rollout.give(part, [replace(asked, role=role)])
            self._set_role(chunk, role)
        self.prompt = told[-1]

    def step(
        self,
        prompt: str | None = None,
        camera: CameraSpec | None = None,
        *,
        camera_convention: PoseReading | None = None,
        num_chunks: int = 1,
        glance: Callable[[Glance], None] | None = None,
    ) -> UInt8[Tensor, "t h w 3"]:
        """Go on by some chunks: 12 frames each, 9 for the video's first.

        Args:
            prompt: what is going on from now on; None = as before.
            camera: where the camera goes in these chunks, e.g. `right-3` for one: words, a file, matrices or
                `Cameras`, see `CameraWalk.extend`. None = it stays where it is, if it is known where that is.
            camera_convention: how matrices are to be read.
            num_chunks: how many, >= 1.
            glance: called in every denoising pass with what was looked at.

        Returns:
            The new frames.

        Raises:
            InputError, CameraError: a camera that cannot be followed; nothing has happened then.
        """
        if num_chunks < 1:
            raise InputError("a step makes at least one chunk", got=num_chunks)
        self._extend(camera, num_chunks, camera_convention)
        self.prompt = self.prompt if prompt is None else prompt
        try:
            return torch.cat([self._one(glance) for _ in range(num_chunks)])
        finally:  # after an error, cameras of chunks that were not made are not there either
            self.walk.cut(self.num_frames)

    def _one(self, glance: Callable[[Glance], None] | None) -> UInt8[Tensor, "t h w 3"]:
        chunk, components = self.num_chunks, self.components
        given = self._first_frame if chunk == 0 else None
        first = None if given is None else self._encode(given[None])
        latents = self.rollout.generate(self._conditions(chunk, self.prompt, self._coming_role(chunk)),
                                        first_frame=first, glance=glance)  # fmt: skip
        with components.placement.using(components.codec, self._stream):
            rgb = self._stream.push(latents)[0].cpu()
        if given is not None:
            rgb = torch.cat([given[None], rgb[1:]])
        self._learn_roles(chunk, rgb)
        self._warn_of_distance(chunk)
        return rgb

    # --- what is remembered ----------------------------------------------------------------------------------------

    def protect(self, chunk: int) -> None:
        """Keep a chunk in memory before others. Anchors are protected by themselves."""
        self.rollout.protect(chunk)

    def knock_out(self, chunk: int, how: KnockOut = "rebuild") -> None:
        """Remove a memory and see what changes; see `Rollout.knock_out`. Only `rebuild` is a causal test: later
        entries have absorbed the chunk. What was generated while it was remembered stays as it is."""
        self.rollout.knock_out(chunk, how)

    def fork(self) -> Session:
        """Another future of the same past; from here on the two share nothing that changes."""
        other = copy.copy(self)
        other.rollout, other.walk, other.tracker = self.rollout.fork(), self.walk.fork(), self.tracker.fork()
        other._stream, other._texts = self._stream.fork(), dict(self._texts)
        return other

    def save(self, file: Path | str) -> None:
        """Write all that the session needs to go on, but weights and frames: one file, no pickle.

        Raises:
            InputError: nothing has been made yet.
        """
        if not self.num_chunks:
            raise InputError("there is nothing to save yet", got="a session before its first chunk")
        looks = self.tracker.clean
        about = SessionFacts(
            prompt=self.prompt, negative_prompt=self.options.negative_prompt, fov_deg=self.walk.fov_deg,
            allow_camera_jumps=self.walk.allow_jumps,
            num_frames=0 if self.graph is None else self.graph.schedule.num_frames,
            interruptions=() if self.graph is None else self.graph.schedule.interruptions,
            clean_light=() if looks is None else tuple(looks.light.tolist()),
            clean_volume=() if looks is None else tuple(looks.volume.tolist()),
            seen_degraded=tuple(chunk for chunk, role in self.tracker.roles.items() if role == "degraded"),
        )  # fmt: skip
        save_rollout(Path(file), self.rollout, checkpoint=self.components.facts.checkpoint_hash,
                     about=about.model_dump(mode="json"))  # fmt: skip

    @classmethod
    def load(cls, file: Path | str, components: Components) -> Session:
        """Go on bit for bit where a session was saved, under the weights that it ran with.

        What was made is decoded again, since a codec looks back on it.

        Raises:
            CheckpointError: a damaged or strange file, or one of another checkpoint.
        """
        rollout, about = load_rollout(Path(file), components.model, checkpoint=components.facts.checkpoint_hash)
        try:
            facts = SessionFacts.model_validate(about)
            options = GenerationOptions(
                seed=rollout.seeds[0], sampler=rollout.sampler, guidance=rollout.guidance, memory=rollout.policy,
                negative_prompt=facts.negative_prompt, memory_budget=rollout.budget_bytes,
                memory_storage=rollout.storage, memory_noise=rollout.context_noise,
                chunks_per_pass=rollout.chunks_per_pass, measure_importance=rollout.measure_importance,
            )  # fmt: skip
            graph = FrameGraph(Schedule(facts.num_frames, facts.interruptions)) if facts.num_frames else None
            walk = CameraWalk(components.facts.hw, fov_deg=facts.fov_deg, allow_jumps=facts.allow_camera_jumps)
            made = [past for past in rollout.past if past.chunk >= 0]
            for past in made:
                walk.extend(past.conditions.view)
        except (ValidationError, RemindError) as error:
            said = " ".join(str(error).split())[:300]
            raise CheckpointError("the file holds a rollout, but no session", got=f"{file}: {said}") from None
        session = cls(components, options, rollout, walk, prompt=facts.prompt, graph=graph)
        with components.placement.using(components.codec, session._stream):
            for past in made:
                session._stream.push(past.latents.to(components.device))
                session.tracker.add(past.chunk, past.chunk in facts.seen_degraded, past.conditions.view)
        if facts.clean_light:
            session.tracker.clean = Looks(torch.tensor(facts.clean_light), torch.tensor(facts.clean_volume))
        return session

    # --- how -------------------------------------------------------------------------------------------------------

    def _extend(
        self, camera: CameraSpec | None, num_chunks: int, convention: PoseReading | None = None
    ) -> None:
        """Cameras of the coming chunks; the walk is as it was if they cannot be followed."""
        if camera is None and self.walk.cameras.valid.any():
            camera = f"stay-{LATENTS_PER_CHUNK * num_chunks}"
        if camera is not None and self.components.model.config.camera_mode == "none":
            said = repr(camera[:40]) if isinstance(camera, str) else "a camera path"
            raise InputError("this checkpoint knows no cameras", got=f"camera_mode none, and {said}",
                             fix="leave the camera out, or use a checkpoint that was trained with cameras")
        self.walk.extend(camera, LATENTS_PER_CHUNK * num_chunks, convention=convention)

    def _conditions(self, chunk: int | None, prompt: str, role: Role) -> ChunkConditions:
        """Of a chunk of the walk, or of a reference (None), whose camera is unknown."""
        guided = self.options.guidance != 1
        cameras, valid, view = torch.zeros(LATENTS_PER_CHUNK, 14), torch.zeros(LATENTS_PER_CHUNK).bool(), None
        if chunk is not None:
            (cameras, valid), view = self.walk.conditions(chunk), self.walk.view(chunk)
        return ChunkConditions(
            self._text(prompt), self._text(self.options.negative_prompt) if guided else None, cameras[None],
            valid[None], role, view,
        )  # fmt: skip

    def _text(self, prompt: str) -> Float[Tensor, "1 s e"]:
        if prompt not in self._texts:
            with self.components.placement.using(self.components.text):
                self._texts[prompt] = self.components.text([prompt]).cpu()
            for old in list(self._texts)[:-KEPT_PROMPTS]:
                del self._texts[old]
        return self._texts[prompt]

    def _refer(self, references: Sequence[UInt8[Tensor, "_ h w 3"]]) -> None:
        latents = []
        for rgb in references:
            self._check_size(rgb)
            if len(rgb) != 1 and len(rgb) < FIRST_FRAMES:
                raise InputError("a reference is a picture or a whole chunk", got=f"{len(rgb)} frames",
                                 expected=f"1, or {FIRST_FRAMES} and more")
            latents.append(self._encode(rgb.expand(FIRST_FRAMES, -1, -1, -1) if len(rgb) == 1 else rgb[:FIRST_FRAMES]))
        if latents:
            self.rollout.reference(torch.cat(latents, 1),
                                   [self._conditions(None, self.prompt, "reference")] * len(latents))  # fmt: skip

    def _encode(self, rgb: UInt8[Tensor, "t h w 3"]) -> Float[Tensor, "1 i c y x"]:
        with self.components.placement.using(self.components.codec):
            return self.components.codec.encode(rgb[None]).to(self.components.device)

    def _check_size(self, rgb: UInt8[Tensor, "t h w 3"]) -> None:
        if rgb.dtype != torch.uint8 or rgb.ndim != 4 or tuple(rgb.shape[1:]) != (*self.components.facts.hw, 3):
            height, width = self.components.facts.hw
            raise InputError("pictures must have the model's size", got=f"{rgb.dtype} {tuple(rgb.shape)}",
                             expected=f"uint8 (frames, {height}, {width}, 3)",
                             fix="resize them; `remind generate` does it for files")

    def _planned_role(self, chunk: int) -> Role | None:
        return self.graph.roles[chunk] if self.graph is not None and chunk < self.graph.num_chunks else None

    def _coming_role(self, chunk: int) -> Role:
        """As planned; else a guess from what was seen last, until the chunk has been seen itself."""
        after_darkness = bool(self.roles) and self.roles[-1] == "degraded"
        return self._planned_role(chunk) or ("recovery" if after_darkness else "clean")

    def _learn_roles(self, chunk: int, rgb: UInt8[Tensor, "t h w 3"]) -> None:
        """What the frames say of their chunk, and of earlier ones: what is clean before darkness was an anchor."""
        for other, role in self.tracker.see(chunk, rgb, self.walk.view(chunk)).items():
            if other == chunk or self._planned_role(other) is None:
                self._set_role(other, self._planned_role(other) or role)

    def _set_role(self, chunk: int, role: Role) -> None:
        if any(past.chunk == chunk and past.knocked_out for past in self.rollout.past):
            return  # whatever it was, it is not to be remembered
        self.rollout.set_role(chunk, role)
        if role == "anchor":
            self.rollout.protect(chunk)

    def _warn_of_distance(self, chunk: int) -> None:
        """Once, when attention reaches farther back than it ever did in training."""
        most = self.components.model.config.max_trained_distance
        if most is None or self._warned_of_distance:
            return
        positions = [row.position for row in self.memory.table()]
        reached = max(positions) - min(positions) + LATENTS_PER_CHUNK - 1
        if reached > most:
            self._warned_of_distance = True
            logger.warning("chunk %d looks %d latent frames back, farther than in training (%d)", chunk, reached, most)
