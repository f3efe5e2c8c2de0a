"""Prompt schedules from files: JSON, YAML, or lines such as `2.5s: the lights go off`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from remind.errors import InputError
from remind.prompt_schedule import MAX_ENTRIES, PromptSchedule
from remind.yaml_file import read_yaml

MAX_BYTES = 4 << 20


def read_prompt_schedule(path: Path, *, base: str = "") -> PromptSchedule:
    """The schedule in a file; `PromptSchedule.of` says what it may hold.

    Args:
        path: `.json`; `.yaml` or `.yml`; or `.txt` with a line for each prompt, its chunk or its seconds before a colon
            (`3: the lights go off`). There an empty prompt is the base prompt, and lines that begin with # are
            comments.
        base: the base prompt, where the file does not hold it under `base`.

    Raises:
        InputError: no such file, too large, of another kind, damaged, or no schedule; it names the file.
    """
    kind = path.suffix.lower()
    if kind in (".yaml", ".yml"):
        written: Any = read_yaml(path)
    elif kind == ".json":
        written = _json(path)
    elif kind == ".txt":
        written = _lines(path)
    else:
        raise InputError("no such kind of prompt schedule", got=path.name, expected=".json, .yaml, .yml or .txt")
    try:
        return PromptSchedule.of(written, base=base)
    except InputError as error:
        raise InputError(f"{path.name}: {error.what}", got=error.got, expected=error.expected, fix=error.fix) from None


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise InputError("cannot read the prompt schedule", got=f"{path}: {reason}", fix="check the path") from None
    if len(data) > MAX_BYTES:
        raise InputError(f"{path.name}: too large", got=f"over {MAX_BYTES >> 20} MiB")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise InputError(f"{path.name}: not text", expected="UTF-8") from None


def _json(path: Path) -> object:
    def once(pairs: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise InputError(f"{path.name}: `{key[:40]}` is given twice")  # json would keep the last one
            found[key] = value
        return found

    try:
        return json.loads(_text(path), object_pairs_hook=once)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path.name}: not a JSON file that can be read", got=str(error)[:120]) from None


def _lines(path: Path) -> dict[str, str | None]:
    written: dict[str, str | None] = {}
    for number, line in enumerate(_text(path).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        time, colon, prompt = (part.strip() for part in line.partition(":"))
        if not colon or time in written or len(written) >= MAX_ENTRIES:
            what = "is no prompt" if not colon else "is too much" if time not in written else "gives a time again"
            raise InputError(f"{path.name}: line {number} {what}", got=repr(line[:60]),
                             expected="a time, a colon and a prompt", fix="e.g. '3: the lights go off'")
        written[time] = prompt or None
    return written
