"""Reading YAML from outside: bounded, without aliases, without keys that silently replace one another."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from remind.errors import InputError

_MAX_BYTES = 4 << 20


class _StrictLoader(yaml.SafeLoader):
    """Plain values only. Aliases can make a small file fill the machine; of two equal keys YAML keeps the last."""

    def compose_node(self, parent: yaml.Node | None, index: object) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.constructor.ConstructorError(None, None, "aliases are not read", self.peek_event().start_mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"`{key.value}` is given twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> object:
    """The plain values of a YAML file.

    Raises:
        InputError: missing, too large, not YAML, with aliases or with a key given twice.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except OSError as error:
        raise InputError("cannot read the file", got=f"{path}: {error.strerror}", fix="check the path") from None
    if len(data) > _MAX_BYTES:
        raise InputError(f"{path.name}: too large", got=f"over {_MAX_BYTES >> 20} MiB")
    try:
        return yaml.load(data, _StrictLoader)
    # Beside its own errors yaml lets through those of numbers, dates and characters that cannot be, and of depth.
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path.name}: not a YAML file that can be read", got=_in_one_line(error)) from None


def _in_one_line(error: Exception) -> str:
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error) or type(error).__name__
    return " ".join(problem.split())[:200] + (f" in line {mark.line + 1}" if mark is not None else "")
