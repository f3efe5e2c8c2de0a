"""What a batch runs in these tests: small real videos and manifests, some of which fail or kill their process."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from remind.errors import InputError
from remind.generate.batch import BatchItem, read_batch
from remind.generate.batch_run import run_batch
from remind.generate.inputs import file_sha256
from remind.generate.manifest import Machine, Manifest, Output, Timings
from remind.generate.outputs import VideoWriter
from remind.generate.request import CheckpointFacts, Request, SamplerFacts
from tests.data.make_video import moving_square

OPTIONS = ("image", "prompt", "seed", "camera", "schedule", "kill", "fail")


def make(item: BatchItem, may_die: bool = False) -> None:
    """A video of the item's seed."""
    if item.options.get("fail") == "input":
        raise InputError("the tank is empty", got=0, expected="water", fix="fill it")
    if item.options.get("fail") == "bug":
        raise ZeroDivisionError("two\nlines")
    if item.options.get("fail") == "nothing":
        return
    seed = item.options.get("seed", 0)
    with VideoWriter(item.out, png_frames=True) as writer:
        for frames in moving_square(9, (16, 16), seed=seed).split(3):
            writer.push(frames)
            if may_die and item.options.get("kill"):
                os.kill(os.getpid(), signal.SIGKILL)
    request = Request(mode="t2v", sampler=SamplerFacts(steps=1, shift=1.0), num_chunks=1, seed=seed, hw=(16, 16),
                      checkpoint=CheckpointFacts(name="none", sha256="0" * 64))  # fmt: skip
    output = Output(path=item.out.name, sha256=file_sha256(item.out), frame_digest=writer.digest, num_frames=9,
                    first_generated_frame=0)  # fmt: skip
    Manifest(request=request, machine=Machine(device="cpu", threads=1, versions={}), output=output,
             timings=Timings(first_frame_s=0, chunks_s=(), total_s=0), item_sha256=item.sha256).write(item.manifest)


def build(may_die: bool = False) -> Callable[[BatchItem], None]:
    return partial(make, may_die=may_die)


def build_fails() -> Callable[[BatchItem], None]:
    raise InputError("no pipeline here", got="nano")


if __name__ == "__main__":
    batch, out_dir = Path(sys.argv[1]), Path(sys.argv[2])
    run_batch(read_batch(batch, out_dir, allowed=OPTIONS), partial(build, True), out_dir)
