"""A manifest of a small generation, with real files around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from PIL import Image

from remind.clip import Cameras
from remind.generate.inputs import file_sha256
from remind.generate.manifest import Machine, Manifest, MemoryLine, Output, Timings
from remind.generate.manifest_files import relative_to, write_cameras
from remind.generate.outputs import VideoWriter
from remind.generate.request import CameraFile, CheckpointFacts, InputFile, Request, SamplerFacts
from tests.data.make_video import moving_square

WEIGHTS = "ab" * 32


def some_cameras(num_frames: int = 21) -> Cameras:
    c2w = torch.eye(4, dtype=torch.float64).repeat(num_frames, 1, 1)
    c2w[:, 0, 3] = torch.arange(num_frames) * 0.1
    return Cameras(c2w, torch.tensor([[30.0, 30, 16, 16]], dtype=torch.float64).repeat(num_frames, 1), (32, 32),
                   torch.ones(num_frames, dtype=torch.bool))  # fmt: skip


def make_manifest(folder: Path, image: Path | None = None, **request: Any) -> Manifest:
    """Two chunks from an image in `folder`, written as folder/a.mp4 with its cameras; the manifest itself is not."""
    out = folder / "a.mp4"
    if image is None:
        image = folder / "start.png"
        Image.new("RGB", (32, 32), (90, 120, 50)).save(image)
    frames = moving_square(21, (32, 32))
    with VideoWriter(out) as writer:
        writer.push(frames)
    camera, camera_sha256 = write_cameras(out, some_cameras())
    facts: dict[str, Any] = {
        "mode": "i2v",
        "inputs": (InputFile(kind="image", path=relative_to(folder, image), sha256=file_sha256(image),
                             adaptations=("start.png is a little green",)),),
        "prompt": "a ball rolls slowly",
        "schedule": ("a ball rolls slowly", "a ball rolls slowly, the lights go off"),
        "cameras": CameraFile(path=camera, sha256=camera_sha256, said="right-20"),
        "sampler": SamplerFacts(steps=4, shift=4.0),
        "num_chunks": 2,
        "hw": (32, 32),
        "checkpoint": CheckpointFacts(name="nano", sha256=WEIGHTS, licence="Apache-2.0"),
        **request,
    }  # fmt: skip
    return Manifest(
        request=Request(**facts),
        machine=Machine(device="cpu", threads=2, versions={"remind": "0.1.0", "torch": "2.13.0", "python": "3.11.9"}),
        timings=Timings(first_frame_s=0.5, chunks_s=(0.4, 0.2), total_s=1.0),
        output=Output(path=out.name, sha256=file_sha256(out), frame_digest=writer.digest, num_frames=21,
                      first_generated_frame=1),
        memory_table=(MemoryLine(slot=0, chunk=0, position=0, role="clean", protected=True, importance=0.25,
                                 bytes=1000),),
    )  # fmt: skip
