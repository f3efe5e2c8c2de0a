"""`remind data ...`: build memory data. Every command is one function, as in `cli`; more of them in `cli_store`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import tyro

from remind.cli_store import QUARANTINED, STORE_COMMANDS
from remind.errors import InputError


def build(
    source: str,
    out: Path,
    kind: Literal[
        "local", "manifest", "openvid", "dl3dv", "realestate10k", "generated", "pexels", "world"
    ] = "local",
    companion: str = "",
    hw: tuple[int, int] = (64, 64),
    seed: int = 0,
    engine: Literal["serial", "pool", "ray"] = "pool",
    workers: int = 2,
    min_object_area: float = 0.01,
    cut_detector: Literal["content", "transnetv2"] = "content",
    vlm_url: str = "",
    vlm_model: str = "",
    cameras: Literal["given", "colmap", "depth_anything"] = "given",
    camera_command: tuple[str, ...] = (),
    view_hw: tuple[int, int] | None = None,
    takedown: Path | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> None:
    """Turn videos into a store of memory clips.

    Each video is fetched, cut at scene changes and split into 81-frame windows at 16 fps; what does not move is
    dropped; every clip gets cameras if its source gives them, an interruption recipe and a frame graph. Kill it at any
    time and run it again: it goes on where it was. Bad videos are quarantined with their reason and the others go
    through; the exit status is then 3. See OUT/report.json, `remind data explain` and `remind data retry`.

    Args:
        source: A video, folder or glob; else what KIND calls for: a table (manifest), the CSV (openvid), the folder of
            scenes (dl3dv), of camera files (realestate10k) or of clips (generated), the permission file (pexels), or
            FIRST_SEED:COUNT (world).
        out: The store: index.parquet, report.json and tar shards.
        kind: What SOURCE is.
        companion: Its other half: the folder of zips (openvid) or of videos (realestate10k), or the prompt file
            (generated).
        hw: Height and width of the clips: 32 32 for nano, 64 64 for tiny, 480 832 for wan-1.3b.
        seed: Of the interruption recipes.
        engine: serial, a pool of processes, or ray (a cluster if RAY_ADDRESS names one). The store is the same.
        workers: Processes.
        min_object_area: Share of the picture that must move otherwise than the camera; 0 keeps camera motion alone.
        cut_detector: content (PySceneDetect) or transnetv2 (slower, finds gradual transitions too).
        vlm_url: An OpenAI-compatible server, e.g. http://localhost:8000/v1, whose model annotates every window and
            decides what is kept. Its key, if any, is read from REMIND_VLM_API_KEY.
        vlm_model: The model's name there; without VLM_URL the folder of a Qwen3-VL checkpoint to run here.
        cameras: given (by the source alone), or estimated where there are none: colmap (CPU, slow) or depth_anything.
        camera_command: How to start Depth Anything 3's worker: its interpreter and the worker script.
        view_hw: Store clips wider (HW) than what the model sees (this), so that it can look away.
        takedown: List of what must not enter the store: an item, clip id, source sha256, url or author a line; # begins
            a comment. The store remembers it for later builds.
        overwrite: Replace a store of other videos that is in the way.
        dry_run: Say what would be read and stop.
    """
    from rich.console import Console

    from remind.curation.motion_policy import MotionPolicy
    from remind.curation.options import BuildOptions, VlmChoice
    from remind.curation.pipeline import build_store
    from remind.curation.source_kinds import SourceSpec
    from remind.curation.takedown import Takedown
    from remind.data.interrupt import RecipeDistribution

    if vlm_url and not vlm_model:
        raise InputError("a VLM server may hold several models", got="--vlm-url alone", fix="add --vlm-model")
    motion = replace(MotionPolicy(), min_object_area=min_object_area)
    kinds = RecipeDistribution().kinds
    drawn = RecipeDistribution() if view_hw is None else RecipeDistribution(kinds=(*kinds, ("lookaway", 1.0)))
    options = BuildOptions(
        hw=hw, view_hw=view_hw, seed=seed, motion=motion, interruptions=drawn, cut_detector=cut_detector,
        cut_threshold=27.0 if cut_detector == "content" else 0.5, cameras=cameras, camera_command=camera_command,
        vlm=VlmChoice(vlm_url, vlm_model) if vlm_model else None,
    )  # fmt: skip
    spec = SourceSpec(kind, source, companion)
    if dry_run:
        items = list(spec.open(out, options).items())
        print(f"{len(items)} items from {kind}, first: {', '.join(i.item_id for i in items[:5])}; nothing was written")
        return
    report = build_store(
        spec, out, options, engine=engine, workers=workers, overwrite=overwrite,
        takedown=None if takedown is None else Takedown.read(takedown), console=Console(stderr=True),
    )  # fmt: skip
    for line in report.unmatched:
        print(f"takedown line matches nothing: {line}", file=sys.stderr)
    _say(report, out)


def loops(
    store: tyro.conf.Positional[Path],
    /,
    out: Path,
    neoverse: Path,
    command: tuple[str, ...] = (),
    python: str | None = None,
    low_vram: bool = False,
    kinds: tuple[Literal["lookaway", "pan", "loop", "orbit"], ...] = ("lookaway", "pan", "loop"),
    per_clip: int = 1,
    seed: int = 0,
    hw: tuple[int, int] | None = None,
    scene_depth: float = 1.0,
    assumed_fov_deg: float | None = None,
    timeout_s: float = 1800.0,
    retry: bool = False,
    overwrite: bool = False,
    dry_run: bool = False,
) -> None:
    """Render the clips of a store again along trajectories that look away and come back (NeoVerse), as a new store.

    Each render is a clip of its own, with its trajectory as cameras, its loop as interruption, and the provenance and
    licence of the video that it was made of. What does not show the clip's first view, or does not follow its
    trajectory, is dropped. Kill it at any time and run it again. Exit status 3 if some clips could not be done.

    Args:
        store: The store of source clips, of 81 frames at 16 fps; 336x560 px or more to be worth it.
        out: The store of loops.
        neoverse: The NeoVerse checkout.
        command: How to start its worker: an interpreter and the worker script; this interpreter and the package's own
            worker if none is given.
        python: Interpreter of NeoVerse's environment; the worker's if none is given.
        low_vram: About 38 GB on the GPU instead of 74, slower.
        kinds: Trajectories, taken in turn.
        per_clip: Loops of each clip.
        seed: Of trajectories and renders.
        hw: Size of the new clips; that of each source clip if none is given.
        scene_depth: Distance of the scene's middle in NeoVerse's unit, for loop and orbit.
        assumed_fov_deg: Horizontal field of view of clips without cameras, which are left out if none is given.
        timeout_s: For one render.
        retry: Try again what failed.
        overwrite: Replace a store of another source that is in the way.
        dry_run: Say what would be rendered and stop; needs no NeoVerse.
    """
    from rich.console import Console

    from remind.curation.estimators.colmap import WORKERS
    from remind.curation.estimators.neoverse import NeoVerse
    from remind.curation.loop_options import LoopOptions
    from remind.curation.loops import build_loops, plan_loops

    options = LoopOptions(kinds=kinds, per_clip=per_clip, seed=seed, hw=hw, scene_depth=scene_depth,
                          assumed_fov_deg=assumed_fov_deg)  # fmt: skip
    if dry_run:
        plan = plan_loops(store, out, options)
        print(f"{len(plan.loops)} loops of {store}; {plan.rendered} renders are there; {len(plan.dropped)} left out")
        for loop in plan.loops[:8]:
            print(f"  {loop.clip_id}  {loop.graph.draw()}")
        for left_out in plan.dropped[:8]:
            print(f"  {left_out.item}: {left_out.reason}")
        return
    worker = command or (sys.executable, str(WORKERS / "neoverse_worker.py"))
    report = build_loops(
        store, out, lambda: NeoVerse(worker, root=neoverse, python=python, low_vram=low_vram, timeout_s=timeout_s),
        options, again=retry, overwrite=overwrite, console=Console(stderr=True),
    )  # fmt: skip
    _say(report, out, again="run it with --retry to try again")


def retry(
    out: tyro.conf.Positional[Path], /, engine: Literal["serial", "pool", "ray"] = "pool", workers: int = 2
) -> None:
    """Try again what a build could not do, with the store's own source and options.

    Args:
        out: The store.
        engine: As for build.
        workers: Processes.
    """
    from rich.console import Console

    from remind.curation.pipeline import retry as run

    _say(run(out, engine=engine, workers=workers, console=Console(stderr=True)), out)


def explain(out: tyro.conf.Positional[Path], item: tyro.conf.Positional[str], /) -> None:
    """Say what became of one video: every stage, every window, every reason.

    Args:
        out: The store.
        item: Its name in the source, or a part of it that only one has.
    """
    from remind.curation.explain import explain as run

    found = run(out, item)
    print("\n".join([found.item, *(f"  {line}" for line in found.lines)]))


def taxonomy(query: tyro.conf.Positional[str] = "", /, group: str = "", id: str = "") -> None:
    """List and search the event types that memory data is made of (ReMind F.1).

    Args:
        query: Words to look for.
        group: Only this group: translational, monotonic_state, deformation, lighting_weather, interaction, periodic or
            discrete.
        id: Show one type in full.
    """
    from rich.console import Console

    from remind.curation.taxonomy import Taxonomy
    from remind.curation.taxonomy_table import render_event_type, render_taxonomy_table

    known, console = Taxonomy.load(), Console()
    if id:
        console.print(render_event_type(known[id], known.caption_guidance(id)))
        return
    types = known.search(query) if query else known.types
    inside = known.group(group) if group else known.types
    console.print(render_taxonomy_table([event for event in types if event in inside]))


def prompts(
    out: Path, types: tuple[str, ...] = (), per_type: int = 4, seed: int = 0, clips: Path | None = None,
    command: tuple[str, ...] = (), generator: str = "", licence: str = "", timeout_h: float = 24.0,
) -> None:  # fmt: skip
    """Write prompts for a video generator from the taxonomy, and run it if a command is given.

    The command gets the prompt file and an output folder in place of {prompts} and {out}, and must leave one
    <prompt_id>.mp4 per prompt there. Run it again to make what is missing. Then: remind data build --kind generated.

    Args:
        out: The prompt file to write (JSONL).
        types: Event types; all of them if none is named.
        per_type: Prompts of each.
        seed: Of the prompts.
        clips: Folder for the clips, with COMMAND.
        command: The generator, e.g. python generate.py {prompts} {out}.
        generator: Its name, for the clips' record.
        licence: On what terms its clips may be used.
        timeout_h: Longest run, hours.
    """
    from remind.curation.generator_prompts import write_prompts
    from remind.curation.sources.generated import Generator, run_generator
    from remind.curation.taxonomy import Taxonomy

    written = write_prompts(Taxonomy.load(), out, types=types or None, per_type=per_type, seed=seed)
    print(f"wrote {len(written)} prompts to {out}")
    if not command:
        return
    if clips is None or not generator:
        raise InputError("a generator needs a name and a folder for its clips", fix="give --generator and --clips")
    report = run_generator(command, out, clips, timeout_h * 3600, generator=Generator(name=generator, licence=licence))
    print(report.summary())
    if not report.complete:
        sys.exit(QUARANTINED)


def _say(report: Any, out: Path, again: str = "") -> None:
    """One line, and exit status 3 if something could not be done."""
    print(f"kept {report.kept} clips; dropped {len(report.dropped)} ({report.reasons() or 'nothing'}); "
          f"failed {len(report.failed)} ({report.failures() or 'nothing'}): see {out / 'report.json'}")
    if report.failed:
        again = again or f"remind data retry {out} tries again"
        print(f"remind data explain {out} NAME says why; {again}", file=sys.stderr)
        sys.exit(QUARANTINED)


DATA_COMMANDS: dict[str, Callable[..., Any]] = {
    "build": build, "retry": retry, "explain": explain, "loops": loops, **STORE_COMMANDS, "taxonomy": taxonomy,
    "prompts": prompts,
}  # fmt: skip
