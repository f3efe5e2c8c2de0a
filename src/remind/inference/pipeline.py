"""RemindPipeline: a checkpoint with its codec and text encoder; clips in, clips out."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from remind.clip import Clip
from remind.errors import CheckpointError, InputError
from remind.frame_graph import LATENTS_PER_CHUNK, FrameGraph, Schedule
from remind.inference.rollout import Conditions, Glance, KnockOut, rollout
from remind.inference.samplers import Sampler
from remind.models.camera_conditions import camera_conditions
from remind.models.checkpoint import load_run
from remind.models.codec import LinearCodec
from remind.models.dit import CausalVideoDiT
from remind.models.text import TextEncoder, WordHashEncoder
from remind.prompt_schedule import chunk_prompts

SHIPPED = ("nano", "nano-base", "nano-matched")


@dataclass(frozen=True)
class RecoveryTask:
    """A video that was interrupted, to be continued from the moment at which the view returns.

    Args:
        degraded: what was seen; frames from the frontier on are not read, its cameras are.
        schedule: when it was interrupted.
        seed: of the noise.
    """

    degraded: Clip
    schedule: Schedule
    seed: int

    @property
    def graph(self) -> FrameGraph:
        return FrameGraph(self.schedule)


class RemindPipeline:
    """Generates with memory.

    Args:
        model: in eval mode.
        codec: between frames and latents.
        config: the checkpoint's `config.json`.
    """

    def __init__(self, model: CausalVideoDiT, codec: LinearCodec, config: dict[str, Any]):
        self.model, self.codec, self.config = model, codec, config
        self.device = next(model.parameters()).device
        self.encoder: TextEncoder = WordHashEncoder(model.config.text_dim, model.config.text_len)

    @staticmethod
    def from_pretrained(name_or_folder: str | Path) -> RemindPipeline:
        """A shipped checkpoint by name (`nano`, `nano-base`, `nano-matched`) or a run folder.

        Raises:
            CheckpointError: neither, or damaged.
        """
        folder = Path(name_or_folder)
        if not folder.exists() and str(name_or_folder) in SHIPPED:
            folder = Path(str(resources.files("remind") / "assets" / "checkpoints" / str(name_or_folder)))
        if not folder.is_dir() and str(name_or_folder) in SHIPPED:
            raise CheckpointError("this installation carries no weights", got=name_or_folder,
                                  fix=f"train them: remind train {name_or_folder} --out RUN")
        if not folder.is_dir():
            raise CheckpointError("no such checkpoint", got=name_or_folder,
                                  expected=f"a folder, or one of {', '.join(SHIPPED)}")
        model, config = load_run(folder)
        if model.config.vo_transform == "concat":
            model.fold_cameras()
        codec = LinearCodec.load()
        trained_with = config.get("codec")
        if trained_with is not None and trained_with != codec.digest:
            raise CheckpointError("the checkpoint was trained with another codec", got=trained_with,
                                  expected=codec.digest, fix="use the version of remind that trained it")
        return RemindPipeline(model, codec, config)

    @property
    def hw(self) -> tuple[int, int]:
        """The frame size it was trained at."""
        height, width = self.config["train"]["hw"]
        return height, width

    def recover(
        self,
        tasks: Sequence[RecoveryTask],
        *,
        sampler: Sampler = Sampler(),  # noqa: B008 (frozen)
        knock_out_anchors: KnockOut | None = None,
        glance: Callable[[list[int], Glance], None] | None = None,
        progress: Callable[[int], None] | None = None,
        max_batch: int = 32,
    ) -> list[UInt8[Tensor, "t h w 3"]]:
        """V2V: chunks before the frontier are given as seen, the suffix is generated.

        Tasks with an equal layout of chunks run as one batch; a task's result does not depend on its batch.

        Args:
            knock_out_anchors: remove every chunk that shows the state (`FrameGraph.witnesses`), see `rollout`.
            glance: called with (indices of the batch's tasks, what was looked at).
            progress: called with the number of tasks that have just been finished.

        Returns:
            Per task the full clip: the given frames untouched, then generated ones.

        Raises:
            InputError: a task without an interruption, or of another frame size.
        """
        for task in tasks:
            if task.graph.frontier is None:
                raise InputError("nothing is interrupted in this clip", fix="give a schedule with an interruption")
        results: dict[int, Tensor] = {}
        for batch in self._batches(tasks, max_batch):
            graph, num_frames = tasks[batch[0]].graph, len(tasks[batch[0]].degraded)
            rgb = torch.stack([tasks[i].degraded.rgb for i in batch])
            given = LATENTS_PER_CHUNK * (graph.frontier or 0)
            prefix = self.codec.encode(rgb)[:, :given].to(self.device)
            latents = rollout(
                self.model, prefix, self._conditions([tasks[i] for i in batch]),
                sampler=sampler,
                knocked_out=graph.witnesses if knock_out_anchors else (),
                knock_out=knock_out_anchors or "rebuild",
                glance=None if glance is None else partial(glance, batch),
            )
            suffix = self.codec.decode(latents[:, given:].cpu(), starts_clip=False)
            for row, i in enumerate(batch):
                kept = num_frames - suffix.shape[1]
                results[i] = torch.cat([tasks[i].degraded.rgb[:kept], suffix[row]])
            if progress is not None:
                progress(len(batch))
        return [results[i] for i in range(len(tasks))]

    def image_to_video(
        self,
        tasks: Sequence[RecoveryTask],
        *,
        sampler: Sampler = Sampler(),  # noqa: B008 (frozen)
        progress: Callable[[int], None] | None = None,
        max_batch: int = 32,
    ) -> list[UInt8[Tensor, "t h w 3"]]:
        """I2V: only the first frame of each clip is given; prompts announce the interruption of its schedule.

        Raises:
            InputError: a task of another frame size.
        """
        results: dict[int, Tensor] = {}
        for batch in self._batches(tasks, max_batch):
            first = self.codec.encode(torch.stack([tasks[i].degraded.rgb[:1] for i in batch])).to(self.device)
            latents = rollout(self.model, first[:, :0], self._conditions([tasks[i] for i in batch]), sampler=sampler,
                              first_frame=first)
            for i, video in zip(batch, self.codec.decode(latents.cpu()), strict=True):
                results[i] = torch.cat([tasks[i].degraded.rgb[:1], video[1:]])
            if progress is not None:
                progress(len(batch))
        return [results[i] for i in range(len(tasks))]

    def _batches(self, tasks: Sequence[RecoveryTask], max_batch: int) -> Iterator[list[int]]:
        """Indices of tasks that can run together: equal layout of chunks and equal length."""
        groups: dict[tuple[object, ...], list[int]] = {}
        for i, task in enumerate(tasks):
            if task.degraded.hw != self.hw:
                raise InputError("the clip has another size than the model", got=task.degraded.hw, expected=self.hw)
            graph = task.graph
            groups.setdefault((graph.roles, graph.frontier, graph.witnesses), []).append(i)
        for members in groups.values():
            for start in range(0, len(members), max_batch):
                yield members[start : start + max_batch]

    def _conditions(self, tasks: Sequence[RecoveryTask]) -> Conditions:
        cameras, valid = zip(*(camera_conditions(t.degraded.cameras, len(t.degraded)) for t in tasks), strict=True)
        text = torch.stack([self.encoder(chunk_prompts(t.degraded.caption, t.schedule)) for t in tasks])
        device = self.device
        return Conditions(text.to(device), torch.stack(cameras).to(device), torch.stack(valid).to(device),
                          tasks[0].graph.roles, tuple(t.seed for t in tasks))
