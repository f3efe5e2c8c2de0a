"""`remind data ...`: build memory data, look at it, pass it on. Every command is one function, as in `cli`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import tyro

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
        overwrite: Replace a store of other videos that is in the way.
        dry_run: Say what would be read and stop.
    """
    from rich.console import Console

    from remind.curation.options import BuildOptions, MotionPolicy
    from remind.curation.pipeline import build_store
    from remind.curation.source_kinds import SourceSpec

    motion = replace(MotionPolicy(), min_object_area=min_object_area)
    threshold = 27.0 if cut_detector == "content" else 0.5
    options = BuildOptions(hw=hw, seed=seed, motion=motion, cut_detector=cut_detector, cut_threshold=threshold)
    spec = SourceSpec(kind, source, companion)
    if dry_run:
        items = list(spec.open(out, options).items())
        print(f"{len(items)} items from {kind}, first: {', '.join(i.item_id for i in items[:5])}; nothing was written")
        return
    report = build_store(spec, out, options, engine=engine, workers=workers, overwrite=overwrite,
                         console=Console(stderr=True))  # fmt: skip
    _say(report, out)


def retry(out: Path, engine: Literal["serial", "pool", "ray"] = "pool", workers: int = 2) -> None:
    """Try again what a build could not do, with the store's own source and options.

    Args:
        out: The store.
        engine: As for build.
        workers: Processes.
    """
    from rich.console import Console

    from remind.curation.pipeline import retry as run

    _say(run(out, engine=engine, workers=workers, console=Console(stderr=True)), out)


def explain(out: Path, item: tyro.conf.Positional[str], /) -> None:
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


def _say(report: Any, out: Path) -> None:
    """One line, and exit status 3 if something could not be done."""
    print(f"kept {report.kept} clips; dropped {len(report.dropped)} ({report.reasons() or 'nothing'}); "
          f"failed {len(report.failed)} ({report.failures() or 'nothing'}): see {out / 'report.json'}")
    if report.failed:
        print(f"remind data explain {out} NAME says why; remind data retry {out} tries again", file=sys.stderr)
        sys.exit(QUARANTINED)


DATA_COMMANDS: dict[str, Callable[..., Any]] = {
    "build": build, "retry": retry, "explain": explain, "taxonomy": taxonomy,
}  # fmt: skip
