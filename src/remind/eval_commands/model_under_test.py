"""The checkpoint that an evaluation is about, and what its identity says of it."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from remind.inference.pipeline import RemindPipeline


def load_model(checkpoint: str, *, base: Path | None, device: str) -> tuple[RemindPipeline, dict[str, Any]]:
    """The pipeline, and the facts that decide its numbers.

    Raises:
        CheckpointError, InputError: as `RemindPipeline.from_pretrained`.
    """
    pipe = RemindPipeline.from_pretrained(checkpoint, base=base, placement=device)
    logging.getLogger("remind.inference.session").setLevel(logging.ERROR)  # a stress test goes beyond training
    facts = pipe.components.facts
    return pipe, {"checkpoint": checkpoint, "checkpoint_hash": facts.checkpoint_hash,
                  "base": None if facts.base is None else str(facts.base)}  # fmt: skip
