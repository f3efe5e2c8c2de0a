"""Generation from files: a video through an interruption, or an image onwards; mp4 and manifest out."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from remind import __version__
from remind.clip import Clip
from remind.data.interrupt import InterruptionRecipe, apply_interruption, sample_recipe
from remind.data.video_io import check_writable, decode, probe, read_clip, write_video
from remind.errors import InputError
from remind.frame_graph import InterruptionKind, frames_of_chunk
from remind.inference.pipeline import RecoveryTask, RemindPipeline
from remind.inference.samplers import Sampler

FPS = 16
MIN_SHOWN_PX = 256
"""Small models' videos are enlarged by a whole factor to at least this height: players do not show 32 px."""


@dataclass(frozen=True)
class GenerateRequest:
    """What `remind generate` was asked for.

    Args:
        out: mp4 to write; the manifest stands beside it with `.json` appended.
        checkpoint: shipped name or run folder.
        video: continue this one (V2V) ...
        image: ... or start from this one (I2V); exactly one of the two.
        interrupt: what happens to the view.
        prompt: what is going on.
        start_s: where in the video to start, s, >= 0.
        steps: denoising steps per chunk, >= 1.
        seed: of interruption and noise, >= 0.
        compare: put what was given, and the truth where there is one, beside the result.
    """

    out: Path
    checkpoint: str = "nano"
    video: Path | None = None
    image: Path | None = None
    interrupt: InterruptionKind = "light_toggle"
    prompt: str = ""
    start_s: float = 0.0
    steps: int = 4
    seed: int = 0
    compare: bool = False

    def __post_init__(self) -> None:
        if (self.video is None) == (self.image is None):
            raise InputError("give exactly one of --video and --image",
                             got="both" if self.video is not None else "neither")
        if self.interrupt == "lookaway":
            raise InputError("a lookaway needs pictures wider than the model's view", got="interrupt=lookaway",
                             fix="use camera_loop with an image, or another interruption")
        if self.steps < 1 or self.seed < 0 or not self.start_s >= 0:
            raise InputError("steps must be positive, seed and start not negative",
                             got=(self.steps, self.seed, self.start_s))


def generate(request: GenerateRequest) -> dict[str, Any]:
    """Make the video; returns what the manifest says.

    Raises:
        RemindError: an input that cannot be read, an output that cannot be written, a checkpoint that does not fit.
    """
    manifest_path = request.out.with_name(request.out.name + ".json")
    check_writable(request.out)
    pipeline = RemindPipeline.from_pretrained(request.checkpoint)
    num_frames = int(pipeline.config["train"]["num_frames"])
    recipe = sample_recipe(request.interrupt, num_frames, np.random.default_rng([request.seed, 0x9E4]))
    clip, truth = _given(request, pipeline.hw, num_frames, recipe)
    task = RecoveryTask(clip, recipe.schedule(num_frames), request.seed)
    sampler = Sampler(steps=request.steps)
    if request.video is not None:
        video = pipeline.recover([task], sampler=sampler)[0]
        assert task.graph.frontier is not None
        generated_from = frames_of_chunk(task.graph.frontier).start
    else:
        video = pipeline.image_to_video([task], sampler=sampler)[0]
        generated_from = 1
    columns = [video]
    if request.compare and truth is not None:
        columns = [truth, clip.rgb, video]
    write_video(request.out, enlarge(torch.cat(columns, 2)), FPS)
    manifest = {
        "remind": __version__,
        "mode": "v2v" if request.video is not None else "i2v",
        "input": _fingerprint(request.video or request.image),
        "start_s": request.start_s,
        "prompt": request.prompt,
        "recipe": json.loads(recipe.to_json()),
        "graph": task.graph.draw(),
        "first_generated_frame": generated_from,
        "columns": ["truth", "given", "generated"] if len(columns) == 3 else ["generated"],
        "sampler": {"steps": sampler.steps, "shift": sampler.shift},
        "seed": request.seed,
        "checkpoint": {"name": request.checkpoint, "commit": pipeline.config.get("commit"),
                       "steps_done": pipeline.config.get("steps_done"), "licence": pipeline.config.get("licence")},
        "size_px": list(pipeline.hw),
        "fps": FPS,
        "output_sha256": hashlib.sha256(request.out.read_bytes()).hexdigest(),
    }
    temporary = manifest_path.with_name(f".{manifest_path.name}.{os.getpid()}.partial")
    temporary.write_text(json.dumps(manifest, indent=1) + "\n")
    temporary.replace(manifest_path)
    return manifest


def _given(
    request: GenerateRequest, hw: tuple[int, int], num_frames: int, recipe: InterruptionRecipe
) -> tuple[Clip, UInt8[Tensor, "t h w 3"] | None]:
    """The interrupted clip as the model is given it, and the real continuation where there is one."""
    if request.video is not None:
        start_pts = None
        if request.start_s > 0:
            first = next(decode(request.video)).pts  # a transport stream does not start at 0
            start_pts = first + int(request.start_s / probe(request.video).time_base)
        frames = read_clip(request.video, num_frames=num_frames, fps=FPS, hw=hw, start_pts=start_pts).rgb
        clean = Clip(frames, float(FPS), caption=request.prompt, clip_id=request.video.stem)
        return apply_interruption(clean, recipe), frames
    assert request.image is not None
    picture = read_clip(request.image, num_frames=1, fps=FPS, hw=hw).rgb
    return Clip(picture.expand(num_frames, -1, -1, -1), float(FPS), caption=request.prompt,
                clip_id=request.image.stem), None


def enlarge(rgb: UInt8[Tensor, "t h w 3"]) -> UInt8[Tensor, "t h2 w2 3"]:
    """Repeat pixels by a whole factor until the height reaches `MIN_SHOWN_PX`."""
    factor = max(1, -(-MIN_SHOWN_PX // rgb.shape[1]))
    return rgb.repeat_interleave(factor, 1).repeat_interleave(factor, 2)


def _fingerprint(path: Path | None) -> dict[str, str]:
    assert path is not None
    return {"name": path.name, "sha256": hashlib.sha256(path.read_bytes()).hexdigest()}
