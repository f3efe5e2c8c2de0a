"""From a command, or a manifest, to a video with its manifest beside it."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import torch

from remind import __version__
from remind.data.interrupt import InterruptionRecipe
from remind.data.video_io.writing import check_writable
from remind.errors import CheckpointError
from remind.frame_graph import FrameGraph
from remind.generate.command import GenerateCommand
from remind.generate.inputs import FPS, file_sha256, read_picture, read_prefix
from remind.generate.manifest import Machine, Manifest, MemoryLine, Output, Timings, differences
from remind.generate.manifest_files import checked_file, kept_input, read_cameras, relative_to, write_cameras
from remind.generate.outputs import VideoWriter, mp4_words, side_by_side
from remind.generate.prepare import Prepared, ReadFile, arrange, prepare
from remind.generate.request import (
    CameraFile,
    CheckpointFacts,
    InputFile,
    MemoryFacts,
    Request,
    SamplerFacts,
)
from remind.inference.components import SHIPPED
from remind.inference.options import GenerationOptions, HowToGenerate, generation_options
from remind.inference.pipeline import MadeChunk, RemindPipeline
from remind.inference.placement import Placement
from remind.inference.samplers import Sampler
from remind.prompt_schedule import WHOLE, PromptSchedule

Watcher = Callable[[MadeChunk, int], None]
"""Called with every chunk as it is made, and the number of chunks in all."""


def load_pipeline(command: GenerateCommand) -> RemindPipeline:
    """The pipeline that a command asks for."""
    return RemindPipeline.from_pretrained(command.checkpoint, base=command.base, placement=command.placement)


def options_of(command: GenerateCommand, *, wan: bool) -> GenerationOptions:
    """How a command's video is generated, the checkpoint's usual where it says nothing; see `generation_options`.

    Raises:
        InputError: a value out of its range.
    """
    how: HowToGenerate = {
        "seed": command.seed, "guidance": command.guidance, "negative_prompt": command.negative_prompt,
        "memory": command.memory, "memory_budget": command.budget_bytes, "memory_storage": command.memory_storage,
        "memory_noise": command.memory_noise,
    }  # fmt: skip
    if command.sampler is not None:
        how["sampler"] = command.sampler
    if command.steps is not None:
        how["steps"] = command.steps
    if command.shift is not None:
        how["shift"] = command.shift
    return generation_options(how, wan=wan)


def generate(command: GenerateCommand, pipeline: RemindPipeline | None = None, *, watch: Watcher | None = None,
             say: Callable[[str], None] = print, item_sha256: str | None = None) -> Manifest:  # fmt: skip
    """Make the video of a command, and its manifest.

    Args:
        pipeline: one that was loaded already; else the command's.
        watch: told of every chunk.
        say: gets a sentence for every liberty that was taken.
        item_sha256: of the batch's line, for the manifest.

    Raises:
        RemindError: an input that cannot be read, an output that cannot be written, options that do not fit.
    """
    began = time.perf_counter()
    command.check()
    check_writable(command.out)  # before weights are read
    made_by = pipeline or load_pipeline(command)
    facts = made_by.components.facts
    options = options_of(command, wan=facts.base is not None)
    ready = prepare(command, options, hw=made_by.hw, usual_frames=facts.num_frames)
    for notice in ready.notices:
        say(notice)
    return _make(ready, made_by, command.out, began, watch=watch, png_frames=command.png_frames,
                 keep_inputs=command.keep_inputs, compare=command.compare, item_sha256=item_sha256)  # fmt: skip


def generate_again(
    manifest: Path, out: Path, *, checkpoint: str | None = None, base: Path | None = None,
    placement: Placement | None = None, allow: Iterable[Path] = (), watch: Watcher | None = None,
    say: Callable[[str], None] = print, png_frames: bool = False,
) -> Manifest:  # fmt: skip
    """Make the video of a manifest once more.

    Args:
        manifest: as `generate` wrote it. It is not trusted: files that it names must be in its folder or in `allow`,
            and have the hashes that it says.
        checkpoint, base: where they are now, if not where they were.
        placement: where to compute; None = on the CPU or the first GPU. In the type that the manifest says, if it says
            none.
        allow: folders that its inputs may be in besides its own.

    Raises:
        RemindError: what the manifest names is not there, or is not what it was.
    """
    began = time.perf_counter()
    check_writable(out)
    then = Manifest.read(manifest, allow=allow)
    asked = then.request
    where = placement or Placement()
    where = where if where.dtype is not None else replace(where, dtype=asked.dtype)
    name = checkpoint or asked.checkpoint.name
    if checkpoint is None and name not in SHIPPED and not Path(name).exists():
        raise CheckpointError(f"{manifest.name}: the checkpoint that it names is not here", got=name,
                              expected=f"weights with sha256 {asked.checkpoint.sha256[:12]}...",
                              fix="say where they are: --checkpoint")  # fmt: skip
    pipeline = RemindPipeline.from_pretrained(name, base=base or asked.checkpoint.base, placement=where, hw=asked.hw)
    then.check_checkpoint(pipeline.components.facts.source, pipeline.components.facts.checkpoint_hash)
    ready = _again(then, manifest, pipeline, allow)
    now = _make(ready, pipeline, out, began, watch=watch, png_frames=png_frames, keep_inputs=True,
                compare=len(then.output.columns) > 1)  # fmt: skip
    if now.output.frame_digest == then.output.frame_digest:
        say("the same video, bit for bit")
    else:
        said = differences(then, now)
        say("not the same bits: " + ("; ".join(said) if said else "rounding differs on this machine"))
    return now


def _again(then: Manifest, manifest: Path, pipeline: RemindPipeline, allow: Iterable[Path]) -> Prepared:
    """What a manifest's request asks for, from the files that it names."""
    asked, hw = then.request, pipeline.hw
    files = []
    for item in asked.inputs:
        path = checked_file(manifest, item, allow=allow)
        if item.num_frames == 1 and item.kind != "video":
            given = read_picture(path, hw)
        else:
            given = read_prefix(path, hw, max_frames=item.num_frames, start_s=item.start_s, hold=item.hold)
        files.append(ReadFile(item.kind, path, given, item.start_s, item.hold))
    memory = asked.memory
    sampler = Sampler(asked.sampler.steps, asked.sampler.shift, asked.sampler.kind, asked.sampler.levels)
    options = GenerationOptions(
        seed=asked.seed, sampler=sampler, guidance=asked.guidance, negative_prompt=asked.negative_prompt,
        memory=memory.policy, memory_budget=memory.budget_bytes, memory_storage=memory.storage,
        memory_noise=memory.noise, chunks_per_pass=asked.chunks_per_pass,
    )  # fmt: skip
    cameras = None if asked.cameras is None else read_cameras(manifest, asked.cameras, allow=allow)
    recipe = None if asked.recipe is None else InterruptionRecipe.from_json(json.dumps(asked.recipe))
    said = asked.schedule
    told = PromptSchedule(asked.prompt, tuple((k, WHOLE + text) for k, text in enumerate(said)
                                              if k == 0 or text != said[k - 1]))  # fmt: skip
    return arrange(files, told, options, asked.num_chunks, cameras=cameras,
                   camera_said="" if asked.cameras is None else asked.cameras.said, recipe=recipe,
                   gap_chunks=asked.gap_chunks or None, seen_cameras=True)  # fmt: skip


def _make(
    ready: Prepared, pipeline: RemindPipeline, out: Path, began: float, *, watch: Watcher | None, png_frames: bool,
    keep_inputs: bool, compare: bool, item_sha256: str | None = None,
) -> Manifest:  # fmt: skip
    """Generate, write the video as it grows, and then what tells how it was made."""
    facts = pipeline.components.facts
    what = f"{facts.source}, seed {ready.options.seed}, weights sha256 {facts.checkpoint_hash[:12]}"
    first_s: float | None = None
    seconds: list[float] = []
    with VideoWriter(out, png_frames=png_frames, metadata=mp4_words(ready.told.base, what=what)) as writer:
        last = time.perf_counter()
        for made in pipeline.stream(ready.told, **ready.asked()):
            if not made.given:
                now = time.perf_counter()
                first_s = now - began if first_s is None else first_s
                seconds.append(now - last)
                last = now
            shown = None
            if compare and ready.truth is not None and ready.degraded is not None:
                here = slice(writer.num_frames, writer.num_frames + len(made.frames))
                shown = side_by_side([ready.truth[here], ready.degraded[here], made.frames])
            writer.push(made.frames, shown=shown)
            if watch is not None:
                watch(made, ready.num_chunks)
        session = made.session
    cameras = session.walk.cameras
    camera_file = None
    if cameras.valid.any():
        name, digest = write_cameras(out, cameras)
        camera_file = CameraFile(path=name, sha256=digest, said=ready.camera_said)
    first_generated = 0 if ready.mode == "t2v" else 1 if ready.video is None else len(ready.video)
    manifest = Manifest(
        request=request_of(ready, pipeline, out.parent, camera_file, keep_inputs=keep_inputs),
        machine=machine_of(pipeline),
        timings=Timings(first_frame_s=first_s or 0.0, chunks_s=tuple(seconds), total_s=time.perf_counter() - began),
        output=Output(path=out.name, sha256=file_sha256(out), frame_digest=writer.digest, num_frames=writer.num_frames,
                      first_generated_frame=first_generated,
                      columns=("truth", "given", "generated") if compare else ("generated",)),
        memory_table=tuple(
            MemoryLine(slot=row.slot, chunk=row.chunk, position=row.position, role=row.role, protected=row.protected,
                       importance=row.importance, last_importance=row.last_importance, bytes=row.nbytes)
            for row in session.memory.table()
        ),
        item_sha256=item_sha256,
    )  # fmt: skip
    manifest.write(out.with_name(f"{out.name}.json"))
    return manifest


def request_of(
    ready: Prepared, pipeline: RemindPipeline, folder: Path, cameras: CameraFile | None, *, keep_inputs: bool
) -> Request:
    """What decided a video, for its manifest; paths relative to the manifest's folder."""
    facts, options = pipeline.components.facts, ready.options

    def name_of(file: ReadFile) -> str:
        return kept_input(folder, file.path, file.given.sha256) if keep_inputs else relative_to(folder, file.path)

    return Request(
        mode=ready.mode,
        inputs=tuple(
            InputFile(kind=file.kind, path=name_of(file), sha256=file.given.sha256,
                      start_s=file.start_s, num_frames=len(file.given.rgb), hold=file.hold,
                      adaptations=file.given.notices)
            for file in ready.files
        ),
        prompt=ready.told.base, negative_prompt=options.negative_prompt,
        schedule=ready.told.per_chunk(ready.num_chunks),
        roles="" if ready.schedule is None else FrameGraph(ready.schedule).draw(),
        recipe=None if ready.recipe is None else json.loads(ready.recipe.to_json()),
        cameras=cameras,
        sampler=SamplerFacts(kind=options.sampler.kind, steps=options.sampler.steps, shift=options.sampler.shift,
                             levels=options.sampler.levels),
        guidance=options.guidance,
        memory=MemoryFacts(policy=options.policy.name, budget_bytes=options.memory_budget,
                           storage=options.memory_storage, noise=options.memory_noise),
        gap_chunks=ready.gap_chunks or 0, seed=options.seed, num_chunks=ready.num_chunks,
        chunks_per_pass=options.chunks_per_pass, hw=pipeline.hw, fps=float(FPS),
        dtype="bf16" if pipeline.model.dtype == torch.bfloat16 else "fp32",
        checkpoint=CheckpointFacts(
            name=facts.source, sha256=facts.checkpoint_hash, licence=facts.licence,
            base=None if facts.base is None else str(facts.base), codec=pipeline.codec.digest,
            text_encoder=pipeline.components.text.digest,
        ),
    )  # fmt: skip


def machine_of(pipeline: RemindPipeline) -> Machine:
    """What computed a video."""
    device = pipeline.components.device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    names = ["diffusers", "transformers"] if pipeline.components.facts.base is not None else []
    versions = {"remind": __version__, "torch": str(torch.__version__), "python": platform.python_version()}
    return Machine(device=name, threads=torch.get_num_threads(),
                   versions=versions | {package: version(package) for package in names})  # fmt: skip
