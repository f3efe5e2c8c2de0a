"""`remind generate ...`: one video, the same one again, or many.

Every field of `GenerateCommand` is an option. What loads torch is imported inside the functions: `main` sets what torch
reads when it loads.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tyro

from remind.errors import InputError

if TYPE_CHECKING:
    from remind.generate.arguments import GenerateArguments

EXAMPLES = """\
Make a video that remembers: from words, from a picture, or from a video that is continued.

  remind generate --image room.png --prompt "a tank fills" --camera "right-10, left-11" --out room.mp4
  remind generate --video cup.mp4 --interrupt light_toggle --prompt "a cup fills" --compare --out cup.mp4
  remind generate --image room.png --schedule lights.txt --chunks 20 --memory retrieve:4 --out long.mp4
  remind generate --from cup.mp4.json --out again.mp4
  remind generate --batch requests.jsonl --out videos

Beside OUT stand OUT.json, with all that is needed to make it again, and OUT.cameras.npz if cameras were known.
"""


def generate(arguments: Sequence[str], *, prog: str = "remind generate") -> None:
    """What `remind generate` with these arguments does.

    Raises:
        RemindError: whatever a user can mend.
    """
    from remind.generate.arguments import GenerateArguments

    asked = tyro.cli(GenerateArguments, prog=prog, args=list(arguments) or ["--help"], description=EXAMPLES)
    if asked.from_ is not None and asked.batch is not None:
        raise InputError("give a manifest or a batch, not both", got=f"--from {asked.from_} and --batch {asked.batch}")
    if asked.batch is not None and (asked.dry_run or asked.plan_picture is not None):
        raise InputError("a dry run is of one video", got=f"--batch {asked.batch}",
                         fix="give one of its requests as options")  # fmt: skip
    if asked.batch is not None:
        _batch(asked)
    elif asked.from_ is not None:
        _again(asked)
    elif asked.dry_run or asked.plan_picture is not None:
        _dry_run(asked)
    else:
        _one(asked)


def _one(asked: GenerateArguments) -> None:
    from rich.console import Console

    from remind.generate.run import generate as run

    console = Console(stderr=True)
    with _chunk_bar(console) as watch:
        manifest = run(asked, watch=watch, say=lambda text: console.print(f"note: {text}", markup=False))
    print(_told(manifest, asked.out))


def _again(asked: GenerateArguments) -> None:
    from rich.console import Console

    from remind.generate.run import generate_again

    assert asked.from_ is not None
    strange = asked.changed_beside("out", "from_", "checkpoint", "base", "device", "dtype", "offload", "allow",
                                   "png_frames")  # fmt: skip
    if strange:
        raise InputError("a manifest says by itself what to generate", got=", ".join(strange),
                         fix="leave these out, or generate without --from")  # fmt: skip
    console = Console(stderr=True)
    checkpoint = asked.checkpoint if asked.changed("checkpoint") else None
    placed = asked.placement if asked.changed("device") or asked.changed("dtype") or asked.offload else None
    with _chunk_bar(console) as watch:
        manifest = generate_again(
            asked.from_, asked.out, checkpoint=checkpoint, base=asked.base, placement=placed, allow=asked.allow,
            watch=watch, say=print, png_frames=asked.png_frames,
        )  # fmt: skip
    print(_told(manifest, asked.out))


def _told(manifest: Any, out: Path) -> str:
    output, request, timings = manifest.output, manifest.request, manifest.timings
    columns = " | ".join(output.columns)
    roles = f"; chunks {request.roles} (A anchor, x degraded, R recovery)" if request.roles else ""
    return (f"wrote {out} ({columns}), generated from frame {output.first_generated_frame} of {output.num_frames}"
            f"{roles}; first frame after {timings.first_frame_s:.1f} s, {timings.total_s:.1f} s in all; "
            f"how to make it again: {out}.json")  # fmt: skip


class _chunk_bar:
    """A bar over the chunks of one video, with the time that is left."""

    def __init__(self, console: Any):
        from remind.training.progress import progress_bar

        self._bar = progress_bar("generating", console)
        self._opened: tuple[Any, ...] = ()

    def __enter__(self) -> Any:
        def watch(made: Any, total: int) -> None:
            if not self._opened:  # with the first chunk: what is wrong with the request is said without a bar
                self._opened = self._bar.__enter__()
            bar, task = self._opened
            bar.update(task, total=total, completed=made.chunk + 1,
                       note=f"remembers {len(made.session.memory.resident)} chunks")  # fmt: skip

        return watch

    def __exit__(self, *problem: object) -> None:
        if self._opened:
            self._bar.__exit__(*problem)


def _batch(asked: GenerateArguments) -> None:
    import torch
    from rich.console import Console

    from remind.generate.batch import read_batch
    from remind.generate.batch_commands import ALLOWED, BatchMaker, shared_of
    from remind.generate.batch_run import run_batch, wait_for_other_ranks

    assert asked.batch is not None
    rank, world_size = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    shared = shared_of(asked, asked.out)
    gpus = torch.cuda.device_count()
    if world_size > 1 and shared.device == "auto" and gpus:
        shared = replace(shared, device=f"cuda:{int(os.environ.get('LOCAL_RANK', '0')) % gpus}")
    maker = BatchMaker(shared)
    items = read_batch(asked.batch, asked.out, allowed=ALLOWED, allow=asked.allow)
    on_gpus = asked.engine == "ray" and gpus > 0 and shared.device in ("auto", "cuda")
    report = run_batch(
        items, maker, asked.out, context=maker.context(), rank=rank, world_size=world_size, engine=asked.engine,
        workers=asked.ray_workers or (gpus if on_gpus else max(1, (os.cpu_count() or 2) // 2)),
        gpus_per_worker=1.0 if on_gpus else 0.0, console=Console(stderr=True) if rank == 0 else None,
    )  # fmt: skip
    print(f"rank {rank}: {report}" if world_size > 1 else str(report), flush=True)
    wait_for_other_ranks()
    if report.exit_code:
        raise SystemExit(report.exit_code)


def _dry_run(asked: GenerateArguments) -> None:
    from rich.console import Console

    from remind.generate.dry_run import dry_run

    dry_run(asked, Console(), picture=asked.plan_picture)
