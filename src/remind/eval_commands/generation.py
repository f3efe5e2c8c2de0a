"""The videos of a test set, made by a checkpoint: a batch of requests, with a manifest beside each video."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from remind.errors import InputError
from remind.generate.batch import read_batch
from remind.generate.batch_commands import ALLOWED, BatchMaker
from remind.generate.batch_run import run_batch
from remind.generate.command import GenerateCommand
from remind.whole_file import whole_file


@dataclass(frozen=True)
class Made:
    """What came of a batch.

    Args:
        folder: of the videos and their manifests.
        problems: why a video could not be made, by id.
    """

    folder: Path
    problems: Mapping[str, str]


def maker_of(checkpoint: str, out: Path, *, base: Path | None, device: str) -> BatchMaker:
    """Who makes the videos; nothing is loaded yet."""
    return BatchMaker(GenerateCommand(out, checkpoint=checkpoint, base=base, device=device))


def make_videos(maker: BatchMaker, run: Path, requests: Sequence[Mapping[str, Any]], console: Console) -> Made:
    """Make what is not there yet in RUN/videos, from RUN/requests.jsonl, which `remind generate --batch` takes too.

    Raises:
        InputError: no request, or one that cannot be run.
        RemindError: a checkpoint that cannot be loaded.
    """
    if not requests:
        raise InputError("no video can be made", got="no task whose first frame is there")
    file, videos = run / "requests.jsonl", run / "videos"
    with whole_file(file) as partial:
        partial.write_text("".join(f"{json.dumps(request)}\n" for request in requests))
    allow = {Path(request["image"]).parent for request in requests}
    items = read_batch(file, videos, allowed=ALLOWED, allow=allow)
    report = run_batch(items, maker, videos, context=maker.context(), console=console)
    console.print(str(report), markup=False)
    return Made(videos, {failed.id: failed.error for failed in report.failed})
