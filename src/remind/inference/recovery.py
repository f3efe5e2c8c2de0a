"""Clips with a known schedule in batches: an interruption that was seen and is continued, or one that is asked for.

What the exact benchmark runs. For one video of one's own there is `RemindPipeline.__call__`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import UInt8
from torch import Tensor

from remind.clip import Clip
from remind.errors import InputError
from remind.frame_graph import LATENTS_PER_CHUNK, FrameGraph, Schedule, frames_of_chunk
from remind.inference.components import Components
from remind.inference.glance import Glance
from remind.inference.rollout import Conditions, KnockOut, rollout
from remind.inference.samplers import Sampler
from remind.models.camera_conditions import camera_conditions
from remind.prompt_schedule import chunk_prompts


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


def recover(
    components: Components,
    tasks: Sequence[RecoveryTask],
    *,
    sampler: Sampler,
    knock_out_anchors: KnockOut | None = None,
    memory_noise: float = 0.0,
    glance: Callable[[list[int], Glance], None] | None = None,
    progress: Callable[[int], None] | None = None,
    max_batch: int = 32,
) -> list[UInt8[Tensor, "t h w 3"]]:
    """V2V: chunks before the frontier are given as seen, the suffix is generated.

    Tasks with an equal layout of chunks run as one batch; a task's result does not depend on its batch.

    Args:
        knock_out_anchors: remove every chunk that shows the state (`FrameGraph.witnesses`), see `rollout`.
        memory_noise: sigma in [0, 1) at which chunks are remembered; see `GenerationOptions`.
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
    for batch in _batches(components, tasks, max_batch):
        graph = tasks[batch[0]].graph
        rgb = torch.stack([tasks[i].degraded.rgb for i in batch])
        given = LATENTS_PER_CHUNK * (graph.frontier or 0)
        prefix = _encode(components, rgb)[:, :given]
        latents = rollout(
            components.model, prefix, _conditions(components, [tasks[i] for i in batch]), sampler=sampler,
            knocked_out=graph.witnesses if knock_out_anchors else (), knock_out=knock_out_anchors or "rebuild",
            glance=None if glance is None else partial(glance, batch), context_noise=memory_noise,
        )  # fmt: skip
        video = _decode(components, latents)  # from the start: a codec may look back on what was given
        kept = frames_of_chunk(graph.frontier or 0).start
        for row, i in enumerate(batch):
            results[i] = torch.cat([tasks[i].degraded.rgb[:kept], video[row, kept:]])
        if progress is not None:
            progress(len(batch))
    return [results[i] for i in range(len(tasks))]


def image_to_video(
    components: Components,
    tasks: Sequence[RecoveryTask],
    *,
    sampler: Sampler,
    memory_noise: float = 0.0,
    progress: Callable[[int], None] | None = None,
    max_batch: int = 32,
) -> list[UInt8[Tensor, "t h w 3"]]:
    """I2V: only the first frame of each clip is given; prompts announce the interruption of its schedule.

    Raises:
        InputError: a task of another frame size.
    """
    results: dict[int, Tensor] = {}
    for batch in _batches(components, tasks, max_batch):
        first = _encode(components, torch.stack([tasks[i].degraded.rgb[:1] for i in batch]))
        latents = rollout(components.model, first[:, :0], _conditions(components, [tasks[i] for i in batch]),
                          sampler=sampler, first_frame=first, context_noise=memory_noise)  # fmt: skip
        for i, video in zip(batch, _decode(components, latents), strict=True):
            results[i] = torch.cat([tasks[i].degraded.rgb[:1], video[1:]])
        if progress is not None:
            progress(len(batch))
    return [results[i] for i in range(len(tasks))]


def _batches(components: Components, tasks: Sequence[RecoveryTask], max_batch: int) -> Iterator[list[int]]:
    """Indices of tasks that can run together: equal layout of chunks and equal length."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for i, task in enumerate(tasks):
        if task.degraded.hw != components.facts.hw:
            raise InputError("the clip has another size than the model", got=task.degraded.hw,
                             expected=components.facts.hw)  # fmt: skip
        graph = task.graph
        groups.setdefault((graph.roles, graph.frontier, graph.witnesses), []).append(i)
    for members in groups.values():
        for start in range(0, len(members), max_batch):
            yield members[start : start + max_batch]


def _encode(components: Components, rgb: UInt8[Tensor, "b t h w 3"]) -> Tensor:
    with components.placement.using(components.codec):
        return components.codec.encode(rgb).to(components.device)


def _decode(components: Components, latents: Tensor) -> UInt8[Tensor, "b t h w 3"]:
    with components.placement.using(components.codec):
        return components.codec.decode(latents).cpu()


def _conditions(components: Components, tasks: Sequence[RecoveryTask]) -> Conditions:
    cameras, valid = zip(*(camera_conditions(t.degraded.cameras, len(t.degraded)) for t in tasks), strict=True)
    with components.placement.using(components.text):
        text = torch.stack([components.text(chunk_prompts(t.degraded.caption, t.schedule)) for t in tasks])
    device = components.device
    return Conditions(text.to(device), torch.stack(cameras).to(device), torch.stack(valid).to(device),
                      tasks[0].graph.roles, tuple(t.seed for t in tasks))  # fmt: skip
