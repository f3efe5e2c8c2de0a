"""`remind generate --dry-run`: prompts, roles and cameras drawn, and what the video would take; nothing is computed."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from remind.frame_graph import FrameGraph, Role, chunk_of_frame, frames_of_chunk
from remind.generate.command import GenerateCommand
from remind.generate.prepare import Prepared, prepare
from remind.generate.preview import Preview, preview_table, save_preview
from remind.generate.run import options_of
from remind.inference.generation_plan import generation_plan
from remind.inference.memory_policy import most_remembered
from remind.inference.network_shapes import find_networks
from remind.inference.roles import RoleTracker


def dry_run(command: GenerateCommand, console: Console, *, picture: Path | None = None) -> None:
    """Read the inputs, draw what is asked for and say what it would take.

    Args:
        picture: draw it into this file, .png or .svg, and say no more.

    Raises:
        RemindError: what generating would refuse before it begins.
    """
    command.check()
    networks = find_networks(command.checkpoint, base=command.base, hw=None)
    options = options_of(command, wan=networks.vae is not None)
    ready = prepare(command, options, hw=networks.hw, usual_frames=frames_of_chunk(networks.num_chunks - 1).stop)
    told = ready.told.per_chunk(ready.num_chunks)
    given = 0 if ready.video is None else len(ready.video)
    preview = Preview(told, roles_of(ready), ready.cameras, given_frames=given or int(ready.image is not None))
    if picture is not None:
        save_preview(preview, picture)
        console.print(f"drew {picture}")
        return
    for notice in ready.notices:
        console.print(f"note: {notice}", markup=False, highlight=False)
    console.print(preview_table(preview))
    plan = generation_plan(
        command.checkpoint, base=command.base, placement=command.placement, num_chunks=ready.num_chunks,
        given_chunks=chunk_of_frame(given - 1) + 1 if given else 0, first_frame=ready.image is not None,
        steps=options.sampler.steps, guidance=options.guidance, prompts=len(set(told)),
        remembered=most_remembered(options.policy, preview.roles), budget_bytes=options.memory_budget,
        storage=options.memory_storage, chunks_per_pass=options.chunks_per_pass,
    )  # fmt: skip
    if options.memory_budget is not None:
        most_remembered(options.policy, preview.roles, room=plan.slots - 1)  # may not be enough for it
    plan.render(console)


def roles_of(ready: Prepared) -> tuple[Role, ...]:
    """As planned, else of given frames and cameras; what is to come counts as clean until it is seen."""
    if ready.schedule is not None:
        return FrameGraph(ready.schedule).roles
    tracker = RoleTracker()
    for chunk in range(ready.num_chunks):
        frames = frames_of_chunk(chunk)
        here = slice(frames.start, frames.stop)
        seen = None if ready.video is None else ready.video[here]
        tracker.see(chunk, seen, None if ready.cameras is None else ready.cameras[here])
    return tuple(tracker.roles[chunk] for chunk in range(ready.num_chunks))
