"""A rollout in the middle, as one file: safetensors with the facts as JSON in its header. No pickle.

What is read may come from anywhere: the facts are checked, every tensor is expected by name, type and shape before it
is read, and the file must be of the same weights. A rollout that is loaded goes on bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from remind.clip import Cameras
from remind.errors import CheckpointError, InputError, RemindError
from remind.frame_graph import LATENTS_PER_CHUNK
from remind.inference.memory_policy import memory_policy
from remind.inference.past import ChunkConditions, PastChunk
from remind.inference.rollout import Rollout
from remind.inference.rollout_facts import FORMAT, ChunkFacts, OptionFacts, RolloutFacts, SamplerFacts
from remind.inference.samplers import Sampler
from remind.models.dit import CausalVideoDiT
from remind.models.kv_cache import CacheEntry
from remind.whole_file import whole_file

_KEY = "remind"  # of the facts in the header
_DTYPES = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32, "F64": torch.float64, "I8": torch.int8,
           "BOOL": torch.bool, "C64": torch.complex64}  # fmt: skip
Form = tuple[tuple[int, ...], torch.dtype]


def save_rollout(file: Path, rollout: Rollout, *, checkpoint: str, about: Mapping[str, Any] | None = None) -> None:
    """Write all that a rollout needs to go on: memory, latents, conditions, choices. The file appears whole.

    Args:
        checkpoint: hash of the weights, which are not in the file.
        about: what the caller wants to find again, JSON values.

    Raises:
        InputError: a policy that has no text form, or facts that are no JSON.
    """
    memory = rollout.memory
    _policy_of(rollout)
    texts: list[Tensor] = []
    held = {slot: entry.chunk for slot, entry in enumerate(memory.cache.slots) if entry is not None}
    cameras = any(past.conditions.cameras is not None for past in rollout.past)
    try:
        facts = RolloutFacts(
            format=FORMAT,
            checkpoint=checkpoint,
            model=rollout.model.config.to_json(),
            options=_options(rollout),
            references=sum(past.chunk < 0 for past in rollout.past),
            chunks=tuple(_chunk_facts(past, texts) for past in rollout.past),
            slots=tuple(held.get(slot) for slot in range(1 + max(held, default=-1))),
            waiting=tuple(memory.waiting),
            texts=len(texts),
            cameras=cameras,
            about=dict(about or {}),
        )
        written = facts.model_dump_json()
    except ValueError as error:
        raise InputError("this rollout cannot be written down", got=str(error)) from None
    tensors = {f"text.{i}": text for i, text in enumerate(texts)} | _view_tensors(rollout.past)
    if rollout.past:
        tensors["latents"] = torch.stack([past.latents for past in rollout.past])
    if cameras:
        tensors |= _camera_tensors(rollout.past)
    for i, branch in enumerate(memory.branches):
        for slot in held:
            tensors |= {f"cache.{i}.{slot}.{name}": part for name, part in branch.cache.export_slot(slot).items()}
    own = {name: tensor.to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}
    with whole_file(file) as partial:
        save_file(own, str(partial), {_KEY: written})


def load_rollout(file: Path, model: CausalVideoDiT, *, checkpoint: str) -> tuple[Rollout, dict[str, Any]]:
    """The rollout of a file, on the model's device, and what its writer put into `about`.

    Raises:
        CheckpointError: no such file, a damaged or strange one, or one of another checkpoint.
    """
    if not file.is_file():
        raise CheckpointError("no such rollout", got=file, expected="a file that a session was saved to")
    try:
        with safe_open(str(file), framework="pt") as opened:
            facts = RolloutFacts.model_validate_json((opened.metadata() or {})[_KEY])
            _check_origin(facts, model, checkpoint)
            rollout = _empty(facts, model)
            expected = _expected(facts, rollout, opened)
            forms = {name: _form(opened, name) for name in opened.keys()}  # noqa: SIM118 (not a dict)
            if forms != expected:
                raise CheckpointError("the file does not hold what it says", got=_difference(forms, expected),
                                      expected=_difference(expected, forms), fix="do not trust it")
            _fill(rollout, facts, {name: opened.get_tensor(name) for name in forms})
    except CheckpointError:
        raise
    except RemindError as error:
        raise CheckpointError("the rollout's facts make no rollout", got=f"{file}: {error}") from None
    except (ValidationError, KeyError) as error:
        raise CheckpointError("the file is no rollout, or it is damaged", got=f"{file}: {_short(error)}",
                              expected=f"{FORMAT}, written by save") from None
    except Exception as error:  # safetensors raises its own type; torch, what it cannot allocate
        raise CheckpointError("the rollout cannot be read", got=f"{file}: {_short(error)}",
                              fix="copy the file again, or free memory") from None
    return rollout, facts.about


# --- facts ---------------------------------------------------------------------------------------------------------


def _policy_of(rollout: Rollout) -> None:
    try:
        same = memory_policy(rollout.policy.name) == rollout.policy
    except InputError:
        same = False
    if not same:
        raise InputError("this memory policy cannot be written down", got=rollout.policy.name,
                         expected="one that memory_policy() makes from its name")


def _options(rollout: Rollout) -> OptionFacts:
    return OptionFacts(
        latent_hw=rollout.latent_hw, seeds=rollout.seeds, sampler=SamplerFacts(**asdict(rollout.sampler)),
        guidance=rollout.guidance, policy=rollout.policy.name, budget_bytes=rollout.budget_bytes,
        storage=rollout.storage, context_noise=rollout.context_noise, chunks_per_pass=rollout.chunks_per_pass,
        first_position=rollout.first_position, measure_importance=rollout.measure_importance,
    )


def _chunk_facts(past: PastChunk, texts: list[Tensor]) -> ChunkFacts:
    """Facts of a chunk; its prompts are added to `texts` unless they are there."""
    asked = past.conditions
    view = None if asked.view is None else (len(asked.view), *asked.view.hw)
    return ChunkFacts(
        role=past.role, protected=past.protected, knocked_out=past.knocked_out, importance=past.importance,
        last_importance=past.last_importance,
        looks=past.looks, last_seen=past.last_seen, text=_number(asked.text, texts),
        negative=None if asked.negative is None else _number(asked.negative, texts), view=view,
    )


def _number(text: Tensor, texts: list[Tensor]) -> int:
    """Neighbours share one tensor for equal prompts, so that identity is enough."""
    for i, known in enumerate(texts):
        if known is text:
            return i
    texts.append(text)
    return len(texts) - 1


def _check_origin(facts: RolloutFacts, model: CausalVideoDiT, checkpoint: str) -> None:
    if facts.checkpoint != checkpoint:
        raise CheckpointError("the rollout was made with other weights", got=facts.checkpoint, expected=checkpoint,
                              fix="load the checkpoint that made it")
    if facts.model != model.config.to_json():
        raise CheckpointError("the rollout was made with a model of another shape", got=facts.model,
                              expected=model.config.to_json())


def _empty(facts: RolloutFacts, model: CausalVideoDiT) -> Rollout:
    """A rollout of the file's choices that has not begun, with slots for all that is there or waits."""
    options = facts.options
    needed = len(facts.slots) + len(facts.waiting)
    given = options.model_dump(exclude={"sampler", "policy"})
    rollout = Rollout(
        model, batch=len(options.seeds), sampler=Sampler(**options.sampler.model_dump()),
        policy=memory_policy(options.policy), horizon=max(1, needed), **given,
    )
    held = len(facts.waiting) + sum(chunk is not None for chunk in facts.slots)
    slots = len(rollout.memory.cache.slots)
    if held > slots or len(facts.slots) > slots:
        raise CheckpointError("the rollout's budget does not hold what is in memory", got=f"{slots} slots",
                              expected=f"{max(held, len(facts.slots))} or more")
    return rollout


# --- tensors -------------------------------------------------------------------------------------------------------


def _camera_tensors(past: Sequence[PastChunk]) -> dict[str, Tensor]:
    cameras = [p.conditions.cameras for p in past]
    valid = [p.conditions.camera_valid for p in past]
    everything = torch.ones(cameras[0].shape[:2], dtype=torch.bool) if cameras[0] is not None else None
    return {"cameras": torch.stack([c for c in cameras if c is not None]),
            "camera_valid": torch.stack([everything if v is None else v for v in valid])}  # type: ignore[misc]


def _view_tensors(past: Sequence[PastChunk]) -> dict[str, Tensor]:
    """Cameras of all chunks that have a view, one after another."""
    views = [p.conditions.view for p in past if p.conditions.view is not None]
    if not views:
        return {}
    return {"view.c2w": torch.cat([v.c2w for v in views]).double(),
            "view.intrinsics_px": torch.cat([v.intrinsics_px for v in views]).double(),
            "view.valid": torch.cat([v.valid for v in views])}  # fmt: skip


def _form(opened: Any, name: str) -> Form:
    part = opened.get_slice(name)
    return tuple(part.get_shape()), _DTYPES.get(part.get_dtype(), torch.uint8)


def _expected(facts: RolloutFacts, rollout: Rollout, opened: Any) -> dict[str, Form]:
    """Every tensor that a file of these facts holds. Prompts may have any length and precision, the same for all."""
    config, batch, count = rollout.model.config, rollout.batch, len(facts.chunks)
    latents = (count, batch, LATENTS_PER_CHUNK, config.in_channels, *rollout.latent_hw)
    expected: dict[str, Form] = {"latents": (latents, torch.float32)} if count else {}
    names = set(opened.keys())
    shape, dtype = _form(opened, "text.0") if "text.0" in names else ((), torch.uint8)
    if len(shape) != 3 or shape[1] > config.text_len or not dtype.is_floating_point:
        shape, dtype = (batch, config.text_len, config.text_dim), torch.float32
    expected |= {f"text.{i}": ((batch, shape[1], config.text_dim), dtype) for i in range(facts.texts)}
    if facts.cameras:
        expected["cameras"] = ((count, batch, LATENTS_PER_CHUNK, 14), torch.float32)
        expected["camera_valid"] = ((count, batch, LATENTS_PER_CHUNK), torch.bool)
    frames = [chunk.view[0] for chunk in facts.chunks if chunk.view is not None]
    if frames:
        total = sum(frames)
        expected |= {"view.c2w": ((total, 4, 4), torch.float64), "view.intrinsics_px": ((total, 4), torch.float64),
                     "view.valid": ((total,), torch.bool)}  # fmt: skip
    for i, branch in enumerate(rollout.memory.branches):
        for slot, chunk in enumerate(facts.slots):
            if chunk is not None:
                expected |= {f"cache.{i}.{slot}.{name}": form for name, form in branch.cache.layout(1).items()}
    return expected


def _fill(rollout: Rollout, facts: RolloutFacts, tensors: dict[str, Tensor]) -> None:
    memory = rollout.memory
    first = 0
    for i, (chunk, known) in enumerate(zip(facts.ids, facts.chunks, strict=True)):
        view = None
        if known.view is not None:
            frames, height, width = known.view
            rows = slice(first, first + frames)
            view = Cameras(tensors["view.c2w"][rows], tensors["view.intrinsics_px"][rows], (height, width),
                           tensors["view.valid"][rows])  # fmt: skip
            first += frames
        conditions = ChunkConditions(
            text=tensors[f"text.{known.text}"],
            negative=None if known.negative is None else tensors[f"text.{known.negative}"],
            cameras=tensors["cameras"][i] if facts.cameras else None,
            camera_valid=tensors["camera_valid"][i] if facts.cameras else None,
            role=known.role,
            view=view,
        )
        position = rollout.position_of(chunk, facts.references)
        memory.past[chunk] = PastChunk(
            chunk, position, conditions, tensors["latents"][i].clone(), known.protected, known.knocked_out,
            known.importance, known.last_importance, known.looks, known.last_seen,
        )
    memory.waiting = list(facts.waiting)
    for i, branch in enumerate(memory.branches):
        for slot, held in enumerate(facts.slots):
            if held is not None:
                entry = CacheEntry(held, memory.past[held].position, memory.past[held].role)
                parts = {name: tensors[f"cache.{i}.{slot}.{name}"] for name in branch.cache.layout(1)}
                branch.cache.import_slot(slot, entry, parts)


def _difference(some: dict[str, Form], others: dict[str, Form]) -> str:
    return str({name: some[name] for name in sorted(some) if others.get(name) != some[name]} or "nothing more")[:500]


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"[:300]
