"""From a store to a store of camera loops, rendered by a generator of views: resumable, honest about what it left out.

Source: ReMind Sec. 3.1 and F.2. One renderer does all the work, one clip after the other: it fills a GPU by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from remind.curation.blobs import Blobs
from remind.curation.build_checks import check_out
from remind.curation.build_progress import BuildBar
from remind.curation.build_report import REPORT_NAME, BuildReport, Dropped, Quarantined, read_report
from remind.curation.ledger import LEDGER, WORK, Ledger
from remind.curation.loop_options import LoopOptions
from remind.curation.loop_work import RENDER, LoopRenderer, PlannedLoop, make_loop, plan_loop
from remind.curation.outcome import PackedClip
from remind.curation.packing import pack_clips, write_report
from remind.curation.stages import Failed, Memo
from remind.curation.takedown import Takedown
from remind.data.clip_store import ClipStore
from remind.errors import InputError, RemindError, StoreError

LOOPS = "loops"  # the kind of source that a report names


@dataclass(frozen=True)
class LoopPlan:
    """What a build of loops would do.

    Args:
        loops: all that could be planned, in order.
        dropped: what could not, and why.
        rendered: how many renders an earlier build left behind, of whatever version and options.
    """

    loops: tuple[PlannedLoop, ...]
    dropped: tuple[Dropped, ...]
    rendered: int


def plan_loops(store: Path, out: Path, options: LoopOptions) -> LoopPlan:
    """Say what a build would do, without a renderer and without writing anything: what `--dry-run` prints.

    Raises:
        StoreError: no store.
    """
    plans = [plan for *_, plan in _plans(ClipStore.open(store), Takedown.of_store(out), options)]
    rendered = 0
    if (out / LEDGER).is_file():
        with Ledger.read(out / LEDGER) as ledger:
            rendered = sum(r.stage == RENDER.name and r.status == "ok"
                           for item in ledger.items() for r in ledger.of_item(item))  # fmt: skip
    return LoopPlan(tuple(plan for plan in plans if isinstance(plan, PlannedLoop)),
                    tuple(plan for plan in plans if isinstance(plan, Dropped)), rendered)  # fmt: skip


def build_loops(
    store: Path,
    out: Path,
    renderer: Callable[[], AbstractContextManager[LoopRenderer]],
    options: LoopOptions | None = None,
    *,
    again: bool = False,
    overwrite: bool = False,
    console: Console | None = None,
) -> BuildReport:
    """Render the clips of a store along trajectories that come back, and make a store of the renders.

    Killed at any moment, it loses the render at hand. With the same store, options and renderer it renders nothing;
    what failed stays out until `again`. The clips carry the provenance of their source videos, and their loops as
    interruptions that their own cameras make.

    Args:
        store: of the source clips.
        out: folder of the new store; its parent must exist.
        renderer: opens it, e.g. `lambda: NeoVerse(command, root=...)`.
        again: try once more what failed.
        overwrite: replace a store of another source that is in the way.
        console: to show progress on; None = silent.

    Raises:
        StoreError: no source store, an output in the way, a full disk; or no loop kept (the report is written even so).
        EstimatorSetupError: the renderer is missing or broken; what is done stays done.
    """
    options = options or LoopOptions()
    opened = ClipStore.open(store)
    if store.resolve() == out.resolve():
        raise InputError("a store cannot be made of itself", got=out, fix="choose another --out")
    check_out(out)
    old = read_report(out)
    if old is not None and old.source.get("kind") != LOOPS and not overwrite:
        raise StoreError("another store is in the way", got=f"{out}, not of loops", expected="a new folder",
                         fix="choose another --out, or --overwrite this one")
    clips: list[PackedClip] = []
    dropped: list[Dropped] = []
    failed: list[Quarantined] = []
    used: set[str] = set()
    with Ledger.open(out / LEDGER) as ledger, renderer() as tool:
        if again:
            ledger.forget_failures()
        version = tool.version()
        shards = out / "shards"
        packed = {d: place for d, place in ledger.packed().items() if (shards / place[0]).is_file()}
        blobs = Blobs(out / WORK / "blobs", shards, packed)
        with BuildBar(console, len(opened) * options.per_clip) as bar:
            for source, unit, plan in _plans(opened, Takedown.of_store(out), options):
                kept = 0
                if isinstance(plan, Dropped):
                    dropped.append(plan)
                elif isinstance(plan, Quarantined):
                    failed.append(plan)
                else:
                    memo = Memo(source, options, {}, ledger.of_item(source))
                    try:
                        made, blobs_of = make_loop(plan, opened, tool, version, options, blobs, memo, unit)
                    except Failed as failure:
                        failed.append(Quarantined(failure.unit, failure.stage, failure.reason))
                    else:
                        used |= blobs_of
                        kept = isinstance(made, PackedClip)
                        (clips if isinstance(made, PackedClip) else dropped).append(made)  # type: ignore[arg-type]
                    finally:
                        ledger.add(memo.new)
                bar.advance(int(kept))
        report = BuildReport(
            len(clips), tuple(dropped), tuple(failed), options.describe(),
            {clip_id: opened.sha256(n) for n, clip_id in enumerate(opened.clip_ids)}, {"renderer": version},
            {"kind": LOOPS, "path": str(store), "companion": ""},
        )  # fmt: skip
        pack_clips(out, ledger, blobs, clips)
        write_report(out, report)
        blobs.prune(used, ledger.packed())
    if not report.kept:
        left = [text for text in (report.reasons(), report.failures()) if text]
        raise StoreError("no loop was kept", got="; ".join(left) or "a store without clips",
                         fix=f"read {out / REPORT_NAME}")
    return report


def _plans(
    store: ClipStore, listed: Takedown, options: LoopOptions
) -> Iterator[tuple[str, str, PlannedLoop | Dropped | Quarantined]]:
    """Source clip, unit and plan of every loop, in order."""
    for number, source in enumerate(store.clip_ids):
        for j in range(options.per_clip):
            unit = f"{source}#{j}"
            plan: PlannedLoop | Dropped | Quarantined
            try:
                plan = plan_loop(store, number, j, options)
                if isinstance(plan, PlannedLoop):
                    provenance = store.records(number).provenance
                    if listed.matches(source, provenance) or listed.lines_about(clip_id=plan.clip_id):
                        plan = Dropped(unit, "takedown", "on the takedown list")
            except RemindError as error:
                plan = Quarantined(unit, "read", str(error))
            yield source, unit, plan
