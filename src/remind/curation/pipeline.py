"""From a source of videos to a store of memory clips: resumable, honest about what it left out, on one machine or many.

Source: ReMind Sec. 3.1 and F for what a memory clip is. The stages are in `stages`, the work on one item in
`item_work`, who runs it in `engines`; here are the beginning and the end: what is known already, and packing.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pydantic import TypeAdapter, ValidationError
from rich.console import Console

from remind.curation.blobs import Blobs
from remind.curation.build_checks import check_out, check_tools, tool_versions
from remind.curation.build_progress import BuildBar
from remind.curation.build_report import REPORT_NAME, BuildReport, Dropped, read_report
from remind.curation.claims import CLAIMS
from remind.curation.engines import Engine, run_engine
from remind.curation.item import Source, SourceItem
from remind.curation.item_work import Worker
from remind.curation.ledger import LEDGER, WORK, Ledger
from remind.curation.options import BuildOptions
from remind.curation.outcome import Outcome, PackedClip, Task
from remind.curation.packing import pack_clips, write_report
from remind.curation.source_kinds import SourceSpec
from remind.curation.stages import ANNOTATE
from remind.curation.takedown import Takedown, keep_list
from remind.curation.window_annotation import Look
from remind.errors import InputError, StoreError

_MAX_SILENCE = 16  # windows


def build_store(
    source: Source | SourceSpec | Path,
    out: Path,
    options: BuildOptions | None = None,
    *,
    engine: Engine = "serial",
    workers: int = 1,
    overwrite: bool = False,
    takedown: Takedown | None = None,
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
        takedown: what must not be in the store, now or later: the store remembers it, and so does every build of it.
        console: to show progress on; None = silent.

    Raises:
        InputError: no source, or a missing tool.
        StoreError: an output in the way or not writable, a full disk; or no clip kept (the report is written even so).
    """
    options = options or BuildOptions()
    spec = SourceSpec("local", str(source)) if isinstance(source, Path) else source
    check_out(out)
    check_tools(options)
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
        tools = tool_versions()
        listed = keep_list(out, takedown) if takedown is not None else Takedown.of_store(out)
        scratch = out / WORK / "scratch"
        shutil.rmtree(scratch / CLAIMS, ignore_errors=True)  # of a run that was killed
        worker = Worker(options, blobs, scratch, tools, _look(options, workers), (takedown or Takedown(())) + listed)
        tasks = (Task(n, item, tuple(ledger.of_item(item.item_id))) for n, item in enumerate(items))
        outcomes: list[Outcome | None] = [None] * len(items)
        silence = _Silence()
        with BuildBar(console, len(items)) as bar:
            for outcome in run_engine(engine, worker, tasks, workers):
                ledger.add(outcome.results)
                silence = silence.after(outcome)
                outcomes[outcome.number] = replace(outcome, results=())
                bar.advance(len(outcome.clips))
        done = _without_listed_contents([outcome for outcome in outcomes if outcome is not None])
        keep_list(out, Takedown(tuple(o.sha256 for o in done if o.taken_down and o.sha256)))
        clips, report = _gather(done)
        named = {line for outcome in done for line in outcome.listed}
        report = replace(report, options=options.describe(), tool_versions=tools, source=described,
                         unmatched=() if takedown is None else takedown.unmatched(named))  # fmt: skip
        pack_clips(out, ledger, blobs, clips)
        write_report(out, report)
        blobs.prune({digest for o in done for digest in o.blobs}, ledger.packed())
        shutil.rmtree(scratch, ignore_errors=True)
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
    if report.source.get("kind") == "loops":
        raise InputError("a store of loops is made by another command", got=out,
                         fix="remind data loops ... --retry tries again what failed")
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


def _without_listed_contents(outcomes: Sequence[Outcome]) -> list[Outcome]:
    """Items that have the content of one that is on the takedown list go with it, whatever their own names are."""
    listed = {o.sha256: o.item_id for o in outcomes if o.taken_down and o.sha256}
    done = []
    for o in outcomes:
        if o.sha256 in listed and not o.taken_down:
            why = Dropped(o.item_id, "takedown", f"same content as {listed[o.sha256]}, which is on the takedown list")
            o = replace(o, clips=(), dropped=(why,), failed=(), blobs=(), duplicate_of="")
        done.append(o)
    return done


def _gather(outcomes: Sequence[Outcome]) -> tuple[list[PackedClip], BuildReport]:
    """Clips and report in order of the items; of equal contents the first counts."""
    clips: list[PackedClip] = []
    dropped: list[Dropped] = []
    seen: dict[str, str] = {}
    for outcome in outcomes:
        if outcome.taken_down:
            dropped += outcome.dropped
            continue
        first = seen.setdefault(outcome.sha256, outcome.item_id) if outcome.sha256 else outcome.item_id
        first = outcome.duplicate_of or first  # it died, where its content is not known
        if first != outcome.item_id:
            dropped.append(Dropped(outcome.item_id, "duplicate", f"same content as {first}"))
            continue
        clips += outcome.clips
        dropped += outcome.dropped
    failed = tuple(f for outcome in outcomes for f in outcome.failed)
    sources = {outcome.item_id: outcome.sha256 for outcome in outcomes}
    return clips, BuildReport(len(clips), tuple(dropped), failed, sources=sources)


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
