"""`remind data ...`: build memory data, look at it, pass it on. Every command is one function, as in `cli`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import tyro

from remind.errors import InputError

QUARANTINED = 3
"""Exit status of a build that went through but could not do everything."""


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
        overwrite: Replace a store of other videos that is in the way.
        dry_run: Say what would be read and stop.
    """
    from rich.console import Console

    from remind.curation.motion_policy import MotionPolicy
    from remind.curation.options import BuildOptions, VlmChoice
    from remind.curation.pipeline import build_store
    from remind.curation.source_kinds import SourceSpec
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
    report = build_store(spec, out, options, engine=engine, workers=workers, overwrite=overwrite,
                         console=Console(stderr=True))  # fmt: skip
    _say(report, out)


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
    from remind.curation.pipeline import explain as run

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


def inspect(
    store: tyro.conf.Positional[Path], clip: tyro.conf.Positional[str], /, out: Path = Path("clip.png")
) -> None:
    """Show one clip: its frames clean and interrupted, its graph, cameras, captions and where it comes from.

    Args:
        store: The store.
        clip: The clip's id (see index.parquet or `remind data stats`), or its number.
        out: The picture to write.
    """
    from rich.console import Console

    from remind.data.clip_store import ClipStore
    from remind.data.inspect_clip import inspect_clip

    opened = ClipStore.open(store)
    known = clip not in opened.clip_ids and clip.isdecimal() and int(clip) < len(opened)
    Console().print(inspect_clip(opened, opened.clip_ids[int(clip)] if known else clip, out))


def stats(store: tyro.conf.Positional[Path], /, figure: Path | None = None, json: Path | None = None) -> None:
    """Count clips per tag group (as ReMind Table 7), event type, source and interruption, and what was dropped and why.

    Args:
        store: The store.
        figure: A picture of it to write, .png or .svg.
        json: The numbers to write.
    """
    from rich.console import Console

    from remind.data.store_figure import draw_stats
    from remind.data.store_stats import collect_stats

    found = collect_stats(store)
    Console().print(found)
    if figure is not None:
        draw_stats(found, figure)
    if json is not None:
        json.write_text(found.to_json())


def verify(store: tyro.conf.Positional[Path], /, workers: int = 2) -> None:
    """Check everything in a store: checksums, frames, cameras, depth, recipes, prompts. Exit status 1 for any problem.

    Args:
        store: The store.
        workers: Processes.
    """
    from rich.console import Console

    from remind.data.store_check import verify as run

    report = run(store, workers=workers, console=Console(stderr=True))
    Console().print(report)
    sys.exit(report.exit_code)


def latents(
    store: tyro.conf.Positional[Path],
    /,
    out: Path,
    variants: int = 2,
    seed: int = 0,
    dtype: Literal["float32", "bfloat16", "float16"] = "float32",
    vae: Path | None = None,
    dry_run: bool = False,
) -> None:
    """Encode a store once, clean and in a few degraded versions of every clip, so that training reads latents.

    Kill it at any time and run it again. Clips that cannot be read are recorded in STORE/quarantine.json and left out.

    Args:
        store: The store.
        out: Folder of the latents.
        variants: Degraded versions of each clip: the stored recipe, and others drawn by SEED.
        seed: Of those.
        dtype: Of the stored latents.
        vae: Folder of a Wan VAE; the embedded codec if none is given.
        dry_run: Say how much would be encoded and stop.
    """
    from rich.progress import Progress

    from remind.data.clip_store import ClipStore
    from remind.data.latent_build import build_latents, plan_latents
    from remind.data.latent_cache import LatentSpec
    from remind.data.quarantine import Quarantine
    from remind.models.codec import LinearCodec
    from remind.models.vae import WanVAE

    encoder = LinearCodec.load() if vae is None else WanVAE.from_pretrained(vae)
    spec = LatentSpec(variants=variants, seed=seed, dtype=dtype)
    opened, listed = ClipStore.open(store), Quarantine(store / "quarantine.json")
    plan = plan_latents(opened, encoder, out, spec, skip=listed.read())
    print(f"{plan.new_entries} of {len(plan.entries)} tracks to encode, {plan.new_bytes / 2**20:,.1f} MiB")
    if dry_run:
        return
    with Progress() as bar:
        task = bar.add_task("latents", total=plan.new_entries)
        report = build_latents(opened, encoder, out, spec, quarantine=listed,
                               progress=lambda done, total: bar.update(task, completed=done, total=total))  # fmt: skip
    size = f"{report.num_bytes / 2**20:,.1f} MiB"
    print(f"encoded {report.encoded}, kept {report.kept}, removed {report.removed}; {size}")
    for clip_id, reason in report.failed.items():
        print(f"quarantined {clip_id}: {reason}", file=sys.stderr)
    if report.failed:
        sys.exit(QUARANTINED)


def release(
    store: tyro.conf.Positional[Path], /, out: Path, takedown: Path | None = None, include_media: bool = False,
    name: str = "memory-clips", version: str = "1.0.0",
) -> None:  # fmt: skip
    """Make a store publishable: ids, spans, hashes, annotations, a card and Croissant metadata; pictures only where
    their licence allows it.

    Args:
        store: The store.
        out: Folder of the release; must not exist.
        takedown: List of what must not be in it: a clip id, source sha256, url or author a line.
        include_media: Add the pictures of clips whose licence allows redistribution.
        name: Of the data set.
        version: Of the data set.
    """
    from remind.curation.release import release as run
    from remind.curation.takedown import Takedown
    from remind.data.clip_store import ClipStore

    listed = None if takedown is None else Takedown.read(takedown)
    made = run(ClipStore.open(store), out, takedown=listed, include_media=include_media, name=name, version=version)
    print(f"released {made.clips} clips, {made.media} with pictures; {len(made.taken_down)} taken down: see {out}")
    for reason, count in made.without_media.items():
        print(f"  {count} without pictures: {reason}")
    for line in made.unmatched:
        print(f"takedown line matches nothing: {line}", file=sys.stderr)


def takedown(store: tyro.conf.Positional[Path], listed: tyro.conf.Positional[Path], /) -> None:
    """Remove clips from a store for good.

    Latents made of it must be built again; `remind data build` would bring them back, so take the videos away too.

    Args:
        store: The store.
        listed: What to remove: a clip id, source sha256, url or author a line; # begins a comment.
    """
    from remind.curation.takedown import Takedown, take_down

    done = take_down(store, Takedown.read(listed))
    print(f"removed {len(done.removed)} clips; run `remind data latents` again if there are any")
    for line in done.unmatched:
        print(f"matches nothing: {line}", file=sys.stderr)


def _say(report: Any, out: Path) -> None:
    """One line, and exit status 3 if something could not be done."""
    print(f"kept {report.kept} clips; dropped {len(report.dropped)} ({report.reasons() or 'nothing'}); "
          f"failed {len(report.failed)} ({report.failures() or 'nothing'}): see {out / 'report.json'}")
    if report.failed:
        print(f"remind data explain {out} NAME says why; remind data retry {out} tries again", file=sys.stderr)
        sys.exit(QUARANTINED)


DATA_COMMANDS: dict[str, Callable[..., Any]] = {
    "build": build, "retry": retry, "explain": explain, "inspect": inspect, "stats": stats, "verify": verify,
    "latents": latents, "taxonomy": taxonomy, "prompts": prompts, "release": release, "takedown": takedown,
}  # fmt: skip
