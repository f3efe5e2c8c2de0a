"""Who makes the videos of the stress suite: a model under some memory, or a control without any."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import UInt8
from torch import Tensor

from remind.errors import InputError
from remind.evaluation.blind_meter import held_hidden
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.continuation import Continuation
from remind.evaluation.controls import CONTROLS, Control, run_control
from remind.evaluation.stress_points import StressPoint
from remind.frame_graph import LATENTS_PER_CHUNK
from remind.inference.memory_policy import memory_policy
from remind.inference.pipeline import RemindPipeline
from remind.models.kv_cache import StreamingKVCache, grid_of
from remind.models.video_codec import BLOCK_PX

KNOCKED_OUT = "knocked_out"
StressControl = Literal["oracle", "linear", "middle", "freeze", "copy_anchor", "reset", "stays_hidden"]
Made = tuple[UInt8[Tensor, "t h w 3"], dict[str, Any]]
Maker = Callable[[StressPoint, CaseMeter, str, int], Made]
"""Makes a clip's video for a setting, a memory and a seed of the noise, and says what it took."""


@dataclass(frozen=True)
class Memory:
    """How much is remembered, from words: `full`, `window:6`, `retrieve:4@6`, `knocked_out`.

    Args:
        policy: see `memory_policy`.
        room: chunks that the cache may hold at any moment, the one that is made included; None = as many as the policy
            needs.
        knocked_out: everything is remembered but what shows the state, which is taken out by `rebuild`.
    """

    policy: str
    room: int | None
    knocked_out: bool

    @staticmethod
    def of(words: str) -> Memory:
        """Read a memory.

        Raises:
            InputError: no such policy, or a budget that is no number from 2 on.
        """
        policy, at, room = words.partition("@")
        if at and (not re.fullmatch(r"[0-9]{1,6}", room) or int(room) < 2):
            raise InputError("a budget of memory is a number of chunks, the one that is made included", got=words,
                             expected=f"e.g. {policy}@6")  # fmt: skip
        out = policy == KNOCKED_OUT
        return Memory("full" if out else memory_policy(policy).name, int(room) if at else None, out)


@dataclass(frozen=True)
class ModelMaker:
    """A model under the memory that is asked for."""

    pipe: RemindPipeline

    def __call__(self, point: StressPoint, meter: CaseMeter, memory: str, seed: int) -> Made:
        """See `Maker`.

        Raises:
            InputError: a budget that does not hold what a policy must keep.
        """
        asked = Memory.of(memory)
        budget = None if asked.room is None else asked.room * self.chunk_bytes
        script = point.script(meter.case)
        started = Continuation(self.pipe, script, seed=seed, memory=asked.policy, memory_budget=budget)
        forget = (*(point.witnesses(meter.case) if asked.knocked_out else ()), *point.dropped(meter.case))
        made = started.future(forget=forget)
        positions = [row.position for row in started.memory.table()]
        return made, {"prompts": list(script.prompts), "knocked_out": list(forget), "memory_budget_bytes": budget,
                      "chunks_remembered": len(positions), "cache_bytes": started.memory.nbytes,
                      "reach_latent_frames": max(positions) - min(positions) + LATENTS_PER_CHUNK - 1}  # fmt: skip

    @property
    def chunk_bytes(self) -> int:
        """Keys and values of one chunk."""
        model, (height, width) = self.pipe.model, self.pipe.hw
        return StreamingKVCache.predict_nbytes(
            model.config, batch=1, num_slots=1, grid_hw=grid_of(model.config, (height // BLOCK_PX, width // BLOCK_PX)),
            dtype=model.dtype,
        )  # fmt: skip


@dataclass(frozen=True)
class ControlMaker:
    """A control of the world benchmark, or `stays_hidden`: what lasts is the last hidden frame, as for a model whose
    memory holds nothing else."""

    control: StressControl

    def __call__(self, point: StressPoint, meter: CaseMeter, memory: str, seed: int) -> Made:
        """See `Maker`; memory and seed change nothing."""
        if self.control not in CONTROLS:
            return held_hidden(meter), {}
        name: Control = self.control
        return run_control(name, meter, generated_from=1 if point.mode == "i2v" else None), {}
