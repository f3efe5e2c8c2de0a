"""On what terms a checkpoint may be used: what its folder says, in one line."""

from __future__ import annotations

import json
import re
from pathlib import Path

_MAX_BYTES = 1 << 20
_FRONT_MATTER = re.compile(r"\A---\s*\n(.*?)\n---", re.DOTALL)
_STATED = re.compile(r"^licen[sc]e(?:_name)?\s*:\s*[\"']?([^\"'\n]+)", re.MULTILINE | re.IGNORECASE)
UNSTATED = "not stated; ask whoever published it"


def checkpoint_licence(path: Path) -> str:
    """The licence that stands beside weights.

    Source: our choice, in this order: ReMind's own config.json, the front matter of a model card (README.md), the first
    line of a LICENSE file; all in the weights' folder or, for a pipeline's `transformer/`, the one above.

    Args:
        path: a file or folder of weights.

    Returns:
        One line, `UNSTATED` where nobody says anything.
    """
    folder = path if path.is_dir() else path.parent
    for place in (folder, folder.parent) if (folder.parent / "model_index.json").is_file() else (folder,):
        for found in (_of_config(place / "config.json"), _of_card(place / "README.md"), _of_file(place)):
            if found:
                return found
    return UNSTATED


def _text(path: Path) -> str:
    """The beginning of a small text file, or nothing."""
    try:
        if not path.is_file():
            return ""
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode(errors="replace")
    except OSError:
        return ""


def _of_config(path: Path) -> str:
    try:
        config = json.loads(_text(path) or "{}")
    except ValueError:
        return ""
    stated = config.get("licence") if isinstance(config, dict) else None
    return _one_line(stated) if isinstance(stated, str) else ""


def _of_card(path: Path) -> str:
    front = _FRONT_MATTER.match(_text(path).replace("\r\n", "\n"))
    stated = _STATED.search(front.group(1)) if front else None
    return _one_line(stated.group(1)) if stated else ""


def _of_file(folder: Path) -> str:
    for name in ("LICENSE", "LICENSE.txt", "LICENSE.md", "LICENCE"):
        lines = [line.strip(" #\t") for line in _text(folder / name).splitlines()]
        if first := next(filter(None, lines), ""):
            return f"{_one_line(first)} ({name})"
    return ""


def _one_line(text: str) -> str:
    """Printable, short: it comes from a stranger and goes to a terminal."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())[:200]
