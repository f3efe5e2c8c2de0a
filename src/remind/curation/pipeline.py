"""From a folder of videos to a store of memory clips: decode, cut, window, judge, interrupt, pack.

Source: ReMind Sec. 3.1 and F.2 for what a memory clip is; the filters are our choice. The same files and
options give the same store, byte for byte, in the same order.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import get_args

import av
import numpy as np
import torch
from jaxtyping import UInt8
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor

from remind.clip import Clip
from remind.data.clip_records import Provenance
from remind.data.clip_store import ClipStore
from remind.data.clip_store_writer import ClipStoreWriter
from remind.data.cuts import Shot, detect_shots, find_soft_transition
from remind.data.interrupt import sample_recipe
from remind.data.memory_clip import MemoryClip
from remind.data.motion import measure_motion, why_static
from remind.data.video_io import DEFAULT_LIMITS, Sample, VideoLimits, probe, sample
from remind.errors import InputError, RemindError, StoreError, VideoError
from remind.frame_graph import InterruptionKind, num_chunks
from remind.prompt_schedule import chunk_prompts

_AFTER_FADE_S = 0.5  # from the middle of a soft transition to the next window: most are over by then
# Recipes for finished frames; camera loops of real videos need a renderer of their own.
PLAIN_KINDS: tuple[InterruptionKind, ...] = ("light_toggle", "occluder", "zoom")


@dataclass(frozen=True)
class BuildOptions:
    """What decides the content of a store, beside the files.

    Args:
        hw: size of the clips, each side 16..2048.
        num_frames: 12k - 3 frames, at least 45.
        fps: of the clips, 1..120.
        kinds: interruptions to take in turn.
        seed: of the recipes, >= 0.
        cut_threshold: see `data.cuts.detect_shots`.
        min_change: and `min_moving_share`, see `data.motion.why_static`.
        crf: H.264 quality of the stored clips.
    """

    hw: tuple[int, int] = (64, 64)
    num_frames: int = 81
    fps: int = 16
    kinds: tuple[InterruptionKind, ...] = PLAIN_KINDS
    seed: int = 0
    cut_threshold: float = 27.0
    min_change: float = 5e-4
    min_moving_share: float = 0.01
    crf: int = 18
    limits: VideoLimits = DEFAULT_LIMITS

    def __post_init__(self) -> None:
        if not all(16 <= side <= 2048 for side in self.hw):
            raise InputError("clips of this size cannot be built", got=self.hw, expected="16..2048 px a side")
        if not 1 <= self.fps <= 120:
            raise InputError("clips of this frame rate cannot be built", got=self.fps, expected="1..120")
        if self.seed < 0:
            raise InputError("the seed must not be negative", got=self.seed, expected="0 or more")
        if not 0 <= self.crf <= 51:
            raise InputError("no such quality", got=f"crf {self.crf}", expected="0..51")
        num_chunks(self.num_frames)
        wrong = [kind for kind in self.kinds if kind not in PLAIN_KINDS]
        if wrong or not self.kinds:
            raise InputError(
                "interruptions that cannot be applied to plain videos",
                got=", ".join(wrong) or "none at all",
                expected=", ".join(PLAIN_KINDS),
            )
        for kind in self.kinds:  # a clip too short for a kind is an error now, not at the first window
            sample_recipe(kind, self.num_frames, np.random.default_rng(0))

    def describe(self) -> dict[str, object]:
        """As plain JSON values."""
        return json.loads(json.dumps(asdict(self)))


@dataclass(frozen=True)
class Dropped:
    """A file, a shot or a window that did not become a clip, the stage that refused it, and why."""

    item: str
    stage: str
    reason: str


@dataclass(frozen=True)
class BuildReport:
    """What a build kept and dropped.

    Args:
        kept: clips in the store.
        dropped: in order of the files.
        options: as `BuildOptions.describe`.
        sources: sha256 of every file, in order of the walk; the empty string where it could not be read.
        tool_versions: of what decided the content.
    """

    kept: int
    dropped: tuple[Dropped, ...]
    options: dict[str, object] = field(default_factory=dict)
    sources: dict[str, str] = field(default_factory=dict)
    tool_versions: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=1) + "\n"

    def reasons(self) -> str:
        """The stages that dropped something, most first: `read 3, window 2`."""
        return ", ".join(f"{stage} {n}" for stage, n in Counter(d.stage for d in self.dropped).most_common())


def build_store(
    source: Path,
    out: Path,
    options: BuildOptions | None = None,
    *,
    overwrite: bool = False,
    progress: bool = False,
) -> BuildReport:
    """Turn a video, or every file under a folder, into memory clips.

    A bad file is listed in the report with its reason and the others go through. A store that was built from
    the same files with the same options is left as it is; another one is only replaced with `overwrite`, and
    stays whole until the new one is.

    Args:
        source: a file or a folder, walked in order of names; hidden files are left out.
        out: folder of the store; its parent must exist.
        progress: show a bar on the terminal.

    Raises:
        InputError: no source, or a missing tool.
        StoreError: an output in the way or not writable; or no clip kept (the report is written even so).
    """
    options = options or BuildOptions()
    files = _walk(source, out)
    sources = {item: _sha256(path, options.limits) for item, path in files}
    tools = _tool_versions()
    if (old := _existing(out)) is not None:
        if (old.options, old.sources, old.tool_versions) == (options.describe(), sources, tools):
            return _checked(old, out)
        if old.kept and not overwrite:
            raise StoreError(
                "another store is in the way",
                got=f"{out}, of other files, options or versions",
                expected="a new folder",
                fix="choose another --out, or --overwrite this one",
            )

    dropped: list[Dropped] = []
    seen: dict[str, str] = {}
    with ClipStoreWriter(out) as writer, _bar(progress) as bar:
        sizes = [path.stat().st_size if path.exists() else 0 for _, path in files]
        task = None if bar is None else bar.add_task("build", total=sum(sizes))
        for (item, path), size in zip(files, sizes, strict=True):
            if bar is not None and task is not None:
                bar.update(task, description=item[-40:])
            sha256 = sources[item]
            if sha256 and sha256 in seen:
                dropped.append(Dropped(item, "duplicate", f"same content as {seen[sha256]}"))
            else:
                seen[sha256] = item
                try:
                    _build_file(writer, item, path, sha256, options, tools, dropped)
                except (VideoError, OSError) as error:
                    dropped.append(Dropped(item, "read", str(error)))
            if bar is not None and task is not None:
                bar.advance(task, size)
        kept = len(writer)
    report = BuildReport(kept, tuple(dropped), options.describe(), sources, tools)
    _write_report(out, report)
    return _checked(report, out)


def _build_file(
    writer: ClipStoreWriter,
    item: str,
    path: Path,
    sha256: str,
    options: BuildOptions,
    tools: dict[str, str],
    dropped: list[Dropped],
) -> None:
    """Add a file's clips to the writer, and to `dropped` what does not become one.

    Raises:
        VideoError: a bad file.
    """
    info = probe(path, limits=options.limits)
    shots = detect_shots(path, threshold=options.cut_threshold, limits=options.limits)
    ordinal = 0
    for number, shot in enumerate(shots):
        if reason := _too_short(shot, info.time_base, options):
            dropped.append(Dropped(_part(item, shot, info.time_base, shots), "window", reason))
            continue
        for window, rgb, faded in _windows(path, shot, options):
            name = f"{item}#{float(window[0].pts * info.time_base):.2f}s"
            if faded is not None:
                when_s = float(window[faded].pts * info.time_base)
                dropped.append(Dropped(name, "cut", f"a dissolve or fade at {when_s:.2f} s"))
                continue
            motion = measure_motion(rgb)
            reason = why_static(motion, min_change=options.min_change, min_share=options.min_moving_share)
            if reason:
                dropped.append(Dropped(name, "motion", reason))
                continue
            content = int(sha256[:16], 16)
            kind = options.kinds[(content + ordinal) % len(options.kinds)]  # kinds alternate within a file
            generator = np.random.default_rng([options.seed, content, ordinal])
            recipe = sample_recipe(kind, options.num_frames, generator)
            provenance = Provenance(
                source="local",
                item_id=item,
                sha256=sha256,
                start_pts=window[0].pts,
                stop_pts=window[-1].pts,
                time_base=(info.time_base.numerator, info.time_base.denominator),
                shot=number,
                scores=asdict(motion),
                tool_versions=tools,
            )
            clip = Clip(rgb, float(options.fps), clip_id=f"{sha256[:16]}-{ordinal:05d}")
            prompts = chunk_prompts(clip.caption, recipe.schedule(len(clip)))
            writer.add(MemoryClip(clip, recipe, prompts, provenance), crf=options.crf)
            ordinal += 1


def _windows(
    path: Path, shot: Shot, options: BuildOptions
) -> Iterator[tuple[list[Sample], UInt8[Tensor, "t h w 3"], int | None]]:
    """Windows of a shot without overlap, their pictures, and the middle of a soft transition if there is one.

    The window after a soft transition starts behind it; what is left at a shot's end is not used.
    """
    window: list[Sample] = []
    ticks = sample(
        path,
        fps=options.fps,
        hw=options.hw,
        start_pts=shot.start_pts,
        stop_pts=shot.stop_pts,
        limits=options.limits,
    )
    for tick in ticks:
        window.append(tick)
        if len(window) == options.num_frames:
            rgb = torch.from_numpy(np.stack([s.rgb for s in window]))
            faded = find_soft_transition(rgb, float(options.fps))
            yield window, rgb, faded
            window = [] if faded is None else window[faded + 1 + round(_AFTER_FADE_S * options.fps) :]


def _too_short(shot: Shot, time_base: Fraction, options: BuildOptions) -> str | None:
    needed = Fraction(options.num_frames - 1, options.fps)
    if (shot.stop_pts - shot.start_pts) * time_base > needed:
        return None
    what = (
        "one picture"
        if shot.num_pictures == 1
        else f"{shot.num_pictures} pictures in {shot.seconds(time_base):.2f} s"
    )
    needs = f"{options.num_frames} frames at {options.fps} fps need more than {float(needed):.2f} s"
    return f"too short: {what}, {needs}"


def _part(item: str, shot: Shot, time_base: Fraction, shots: Sequence[Shot]) -> str:
    return item if len(shots) == 1 else f"{item}#{float(shot.start_pts * time_base):.2f}s"


def _walk(source: Path, out: Path) -> list[tuple[str, Path]]:
    if source.is_file():
        return [(source.name, source)]
    if not source.is_dir():
        raise InputError(
            "no such file or folder", got=source, expected="videos to build from", fix="check --source"
        )
    found = [path for path in source.rglob("*") if path.is_file() or not path.exists()]  # dangling links too
    inside = [(path.relative_to(source), path) for path in found]
    out = out.resolve()
    return [
        (relative.as_posix(), path)
        for relative, path in sorted(inside)
        if not any(part.startswith(".") for part in relative.parts) and not path.resolve().is_relative_to(out)
    ]


def _sha256(path: Path, limits: VideoLimits) -> str:
    """Of a file that is small enough to be read; the reader says the rest about those that are not."""
    try:
        if path.stat().st_size > limits.max_bytes:
            return ""
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _tool_versions() -> dict[str, str]:
    versions = {"av": av.__version__, "libavcodec": ".".join(map(str, av.library_versions["libavcodec"]))}
    for package in ("remind-video", "scenedetect", "scenedetect-headless"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _existing(out: Path) -> BuildReport | None:
    """The report of a store that is already there.

    Raises:
        StoreError: something there that is not a store of ours.
    """
    if not out.exists():
        return None
    if not out.is_dir():
        raise StoreError(
            "a file is in the way", got=out, expected="a folder for the store", fix="choose another"
        )
    if not any(entry for entry in out.iterdir() if not entry.name.startswith(".building-")):
        return None
    try:
        raw = json.loads((out / "report.json").read_text())
        dropped = tuple(Dropped(d["item"], d["stage"], d["reason"]) for d in raw["dropped"])
        report = BuildReport(raw["kept"], dropped, raw["options"], raw["sources"], raw["tool_versions"])
        if len(ClipStore.open(out)) == report.kept:
            return report
    except (OSError, ValueError, KeyError, TypeError, RemindError):
        pass
    if (out / "index.parquet").is_file():  # a store, but not as its report says: replaced only on request
        return BuildReport(kept=1, dropped=())
    raise StoreError(
        "the output folder is not empty and is no store",
        got=out,
        expected="a new or empty folder",
        fix="choose another --out",
    )


def _write_report(out: Path, report: BuildReport) -> None:
    temporary = out / ".building-report.json"
    temporary.write_text(report.to_json())
    os.replace(temporary, out / "report.json")


def _checked(report: BuildReport, out: Path) -> BuildReport:
    if report.kept:
        return report
    raise StoreError(
        "no clip was kept",
        got=f"{len(report.sources)} files; dropped at: {report.reasons()}" if report.sources else "no files",
        expected="at least one shot that is long enough and moves",
        fix=f"read the reasons in {out / 'report.json'}",
    )


def _bar(show: bool) -> Progress | nullcontext[None]:
    if not show:
        return nullcontext(None)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )


assert set(PLAIN_KINDS) < set(get_args(InterruptionKind))
