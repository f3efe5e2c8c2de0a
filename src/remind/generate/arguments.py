"""The options of `remind generate`: those of a command, and what to do with it."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

import tyro

from remind.generate.command import GenerateCommand


@dataclass(frozen=True)
class GenerateArguments(GenerateCommand):
    """As `GenerateCommand`, and:

    Args:
        from_: make the video of this manifest again; beside it only --out, --checkpoint, --base, --device, --dtype,
            --offload, --allow and --png-frames have a meaning.
        allow: folders that files which a manifest or a batch names may be in, besides its own.
        batch: a file with one request a line (JSONL); --out is then a folder, and what else is given here holds for
            every line that does not say otherwise.
        engine: how a batch is carried out: in this process (under torchrun: each rank its share), or by Ray workers.
        ray_workers: of Ray; None = one per GPU, or one per two cores.
        dry_run: say what it would take and draw prompts and cameras in the terminal; nothing is computed or written.
        plan_picture: draw prompts and cameras into this file, .png or .svg; nothing else is done.
    """

    from_: Annotated[Path | None, tyro.conf.arg(name="from")] = None
    allow: tuple[Path, ...] = ()
    batch: Path | None = None
    engine: Literal["here", "ray"] = "here"
    ray_workers: int | None = None
    dry_run: bool = False
    plan_picture: Path | None = None

    def changed(self, name: str) -> bool:
        """Whether an option is not at its default."""
        found = next(field for field in fields(self) if field.name == name)
        return found.default is MISSING or getattr(self, name) != found.default

    def changed_beside(self, *names: str) -> list[str]:
        """Options that are not at their default, but for these; as they are written on the command line."""
        return [f"--{f.name.rstrip('_').replace('_', '-')}" for f in fields(self)
                if f.name not in names and self.changed(f.name)]  # fmt: skip
