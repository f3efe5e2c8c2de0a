"""`remind data ...` of a store that is there: look at it, encode it, pass it on, take clips out of it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import tyro

QUARANTINED = 3
"""Exit status of what went through but could not do everything."""


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
    text: Path | None = None,
    text_dtype: Literal["float32", "bfloat16"] = "bfloat16",
    text_batch: int = 1,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    dry_run: bool = False,
) -> None:
    """Encode a store once, clean and in a few degraded versions of every clip, so that training reads latents.

    With TEXT all its prompts too, into OUT/text: no rank of a training run then holds a text encoder. Kill it at any
    time and run it again. Clips that cannot be read are recorded in STORE/quarantine.json and left out.

    Args:
        store: The store.
        out: Folder of the latents.
        variants: Degraded versions of each clip: the stored recipe, and others drawn by SEED.
        seed: Of those.
        dtype: Of the stored latents.
        vae: Folder of a Wan VAE; the embedded codec if none is given.
        text: Folder of a Wan pipeline whose UMT5 embeds the prompts.
        text_dtype: What UMT5 computes in; 23 GB of weights in float32, half of it in bfloat16.
        text_batch: Prompts at once. More is faster on a GPU; with one, an embedding depends on its prompt alone.
        device: Where VAE and UMT5 run.
        dry_run: Say how much would be encoded and stop.
    """
    import torch
    from rich.console import Console

    from remind.data.encode_store import EncodeRequest, encode_store

    chosen = device if device != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    failed = encode_store(
        EncodeRequest(store, out, variants, seed, dtype, vae, text, text_dtype, text_batch, chosen),
        Console(stderr=True), dry_run=dry_run,
    )  # fmt: skip
    for clip_id, reason in failed.items():
        print(f"quarantined {clip_id}: {reason}", file=sys.stderr)
    if failed:
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
    """Remove clips from a store for good. Later builds of it leave them out.

    Latents made of it must be built again.

    Args:
        store: The store.
        listed: What to remove: a clip id, source sha256, url or author a line; # begins a comment.
    """
    from remind.curation.takedown import Takedown, take_down

    done = take_down(store, Takedown.read(listed))
    print(f"removed {len(done.removed)} clips; run `remind data latents` again if there are any")
    for line in done.unmatched:
        print(f"matches nothing: {line}", file=sys.stderr)


STORE_COMMANDS: dict[str, Callable[..., Any]] = {
    "inspect": inspect, "stats": stats, "verify": verify, "latents": latents, "release": release, "takedown": takedown,
}  # fmt: skip
