"""Prompts for video generators, built from the taxonomy's cues: what to show, how close, which way it changes.

Source: ReMind Sec. 3.1 and F.1 (hard dynamics that fill the picture and last); the templates are our own.
"""

from __future__ import annotations

import itertools
import json
import os
import zlib
from collections.abc import Iterable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remind.curation.taxonomy import EventType, GroupGuide, Taxonomy
from remind.errors import InputError

MAX_PER_TYPE = 10_000
_MAX_BYTES = 1 << 30
_PACES = ("slowly but plainly", "at an even pace", "quickly")
_CAMERAS = ("The camera stays where it is", "The camera is fixed on a tripod", "The camera hardly moves")
_LASTING = "The change takes up most of the picture and goes on until the last frame"
_OCCUPYING = "What moves takes up most of the picture"



class Prompt(BaseModel):
    """One clip to ask a generator for: a line of a prompt file.

    Args:
        prompt_id: name of the mp4 to be; it carries a hash of text and seed, so another prompt is another file.
        event_type: id in the taxonomy.
        prompt: what to show.
        seed: for the generator.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    prompt_id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,79}$")]
    event_type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{2,39}$")]
    prompt: Annotated[str, Field(min_length=1, max_length=4000)]
    seed: Annotated[int, Field(ge=0, lt=2**31)]


def write_prompts(taxonomy: Taxonomy, out_jsonl: Path, *, types: Sequence[str] | None = None, per_type: int = 4,
                  seed: int = 0) -> tuple[Prompt, ...]:  # fmt: skip
    """Write a prompt file, whole or not at all; the same arguments give the same bytes.

    A larger `per_type` adds prompts and changes none, so that a folder of clips can grow.

    Args:
        types: ids of event types; None takes all of them.
        per_type: prompts for each, 1..10000; wordings repeat only after all have been used.
        seed: >= 0.

    Raises:
        InputError: an unknown type, one named twice, a number out of range, or a file that cannot be written.
    """
    if not 1 <= per_type <= MAX_PER_TYPE:
        raise InputError("this many prompts a type cannot be written", got=per_type, expected=f"1..{MAX_PER_TYPE}")
    if seed < 0:
        raise InputError("a seed must not be negative", got=seed, expected=">= 0")
    ids = [t.id for t in taxonomy.types] if types is None else list(types)
    if len(set(ids)) < len(ids) or not ids:
        raise InputError("event types for prompts", got=", ".join(ids) or "none", expected="each once, at least one")
    prompts = tuple(p for event in map(taxonomy.__getitem__, ids)
                    for p in _prompts_of(event, taxonomy.groups[event.group], per_type, seed))  # fmt: skip
    save_prompts(prompts, out_jsonl)
    return prompts


def save_prompts(prompts: Iterable[Prompt], path: Path) -> None:
    """Write prompts as JSON lines, whole or not at all.

    Raises:
        InputError: a file that cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(p.model_dump(), ensure_ascii=False) + "\n" for p in prompts)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise InputError("cannot write the prompts", got=f"{path}: {error.strerror}",
                         expected="a folder that exists and is writable") from None  # fmt: skip


def read_prompts(path: Path) -> tuple[Prompt, ...]:
    """Read a prompt file, ours or somebody else's.

    Raises:
        InputError: missing, too large, a line that is no prompt, an id given twice, or no prompt at all.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError("the prompt file is too large", got=path.name, expected=f"at most {_MAX_BYTES >> 20} MiB")
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError("cannot read the prompts", got=f"{path}: {error.strerror}", fix="check the path") from None
    prompts: dict[str, Prompt] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            prompt = Prompt.model_validate_json(line)
        except ValidationError as error:
            first = error.errors()[0]
            raise InputError(f"{path.name}, line {number}: not a prompt",
                             got=f"{'.'.join(map(str, first['loc'])) or 'line'}: {first['msg']}") from None  # fmt: skip
        # Folders of some systems do not tell case apart: two such clips would be one file.
        if prompt.prompt_id.lower() in prompts:
            raise InputError(f"{path.name}, line {number}: an id is given twice", got=prompt.prompt_id)
        prompts[prompt.prompt_id.lower()] = prompt
    if not prompts:
        raise InputError("the prompt file has no prompt", got=path.name, fix="write one with write_prompts")
    return tuple(prompts.values())


def _prompts_of(event: EventType, guide: GroupGuide, count: int, seed: int) -> list[Prompt]:
    wordings = _wordings(event, guide)
    key = [seed, zlib.crc32(event.id.encode())]
    order = np.random.default_rng([*key, 0]).permutation(len(wordings))
    prompts = []
    for index in range(count):
        text = wordings[int(order[index % len(order)])]
        clip_seed = int(np.random.default_rng([*key, 1, index]).integers(2**31))
        digest = sha256(f"{text}\n{clip_seed}".encode()).hexdigest()[:8]
        prompts.append(Prompt(prompt_id=f"{event.id}-{index:04d}-{digest}", event_type=event.id, prompt=text,
                              seed=clip_seed))  # fmt: skip
    return prompts


def _wordings(event: EventType, guide: GroupGuide) -> list[str]:
    """Every combination of framing, object, light, camera and, but for discrete types, pace."""
    lights = guide.lights or ("",)
    if event.cues.direction is None:
        changes = [f"At first {event.cues.before}. Then {event.cues.trigger}, and from then on {event.cues.after}"]
        extent = _OCCUPYING
    else:
        state = event.cues.state[0].upper() + event.cues.state[1:]
        changes = [f"{state} {event.cues.direction}, {pace}" for pace in _PACES]
        extent = _LASTING
    return [
        f"{framing} {thing}{', ' if light else ''}{light}. {change}. {extent}. {camera}; one take without a cut."
        for framing, thing, light, change, camera in itertools.product(
            guide.framings, event.cues.objects, lights, changes, _CAMERAS
        )
    ]
