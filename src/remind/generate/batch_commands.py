"""A batch's lines as commands, and what makes their videos: one pipeline for all, loaded when it is first needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from remind.errors import InputError
from remind.generate.batch import BatchItem
from remind.generate.batch_run import Make
from remind.generate.command import GenerateCommand
from remind.generate.manifest_files import canonical_sha256
from remind.generate.run import generate, load_pipeline
from remind.inference.components import checkpoint_hash, find_source

OF_ALL = frozenset({"checkpoint", "base", "device", "dtype", "offload"})
"""Options that a line cannot change, since all lines share one pipeline."""
ALLOWED = frozenset(field.name for field in fields(GenerateCommand)) - OF_ALL - {"out"}
"""Options of a line."""


@dataclass(frozen=True)
class BatchMaker:
    """Loads the pipeline, in whichever process the videos are made.

    Args:
        shared: what holds for every line that does not say otherwise.
    """

    shared: GenerateCommand

    def __call__(self) -> Make:
        pipeline = load_pipeline(self.shared)

        def make(item: BatchItem) -> None:
            generate(command_of(item, self.shared), pipeline, say=_silent, item_sha256=item.sha256)

        return make

    def context(self) -> str:
        """What decides all videos beside their lines: weights and shared options."""
        found = find_source(self.shared.checkpoint, base=self.shared.base, hw=None, num_frames=None)
        asked = {name: str(value) for name, value in vars(self.shared).items()
                 if name not in ("out", "checkpoint", "base", "device", "offload")}  # fmt: skip
        return canonical_sha256([checkpoint_hash(found.path), asked])


def command_of(item: BatchItem, shared: GenerateCommand) -> GenerateCommand:
    """A line as a command.

    Raises:
        InputError: a value of the wrong kind, or options that do not go together.
    """
    asked: dict[str, Any] = dict(item.options)
    if isinstance(asked.get("reference"), str):
        asked["reference"] = [asked["reference"]]
    try:
        typed = {name: _adapter(name).validate_python(value) for name, value in asked.items()}
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"line {item.line}, {item.id}: an option of the wrong kind", got=repr(first["input"])[:80],
                         expected=first["msg"]) from None  # fmt: skip
    return replace(shared, out=item.out, **_without_rivals(typed))


def _without_rivals(typed: Mapping[str, Any]) -> dict[str, Any]:
    """A line that names an image is not about the shared video, and the other way round."""
    rivals = {"image": "video", "video": "image", "interrupt": "schedule", "schedule": "interrupt"}
    return {rivals[name]: None for name in typed if name in rivals} | dict(typed)


@cache
def _adapter(name: str) -> Any:  # a TypeAdapter, a type that beartype does not know
    return TypeAdapter(get_type_hints(GenerateCommand)[name])


def _silent(_: str) -> None:
    """Liberties stand in the manifests."""


def shared_of(command: GenerateCommand, out: Path) -> GenerateCommand:
    """The part of the command line that holds for all lines."""
    own = {field.name: getattr(command, field.name) for field in fields(GenerateCommand)}
    return GenerateCommand(**{**own, "out": out})
