"""All the work on one source item, as one picklable call: the same in this process, in a pool and on a cluster.

A worker reads the item and what the ledger knows of it, runs the stages that are missing, writes finished files as
blobs and gives back plain data. It has no other state, so killing it loses only the item at hand.
"""

from __future__ import annotations

import hashlib
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from remind.curation.blobs import Blobs
from remind.curation.build_report import Dropped, Quarantined
from remind.curation.claims import CLAIMS, Claims
from remind.curation.item import FileMedia, SourceItem, WorldMedia
from remind.curation.item_context import ItemContext, OpenedSource
from remind.curation.media import content_sha256
from remind.curation.motion_policy import why_dropped
from remind.curation.options import BuildOptions
from remind.curation.outcome import Outcome, PackedClip, Task
from remind.curation.scan import Window, scan
from remind.curation.stages import FETCH, SCAN, Failed, Memo
from remind.curation.takedown import Takedown
from remind.curation.window_annotation import Look
from remind.curation.window_work import clip_id_of, encode_window, make_clip
from remind.data.video_io import YuvFrames
from remind.errors import RemindError

# Left out without a look: they lie beside videos everywhere, and trying them would make every folder a failure.
_DOCUMENTS = frozenset([
    ".txt", ".md", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".yaml", ".yml", ".xml", ".html", ".pdf", ".srt",
    ".vtt", ".log", ".npy", ".npz", ".sha256", ".md5", ".py", ".sh",
])  # fmt: skip


@dataclass(frozen=True)
class Worker:
    """Does the work on items; plain data, so that it goes to any process.

    Args:
        scratch: for fetched files and claims; a file system that all workers share.
        tools: versions of what decides bytes.
        look: the model of `options.vlm`, with its key.
        takedown: what must not enter the store.
    """

    options: BuildOptions
    blobs: Blobs
    scratch: Path
    tools: dict[str, str]
    look: Look | None = None
    takedown: Takedown = field(default_factory=lambda: Takedown(()))

    def __call__(self, task: Task) -> Outcome:
        """Never raises for what is wrong with an item; does for a full disk or a missing tool."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # items, not operators, are what runs side by side
        try:
            return _ItemWork(self, task).outcome()
        finally:
            torch.set_num_threads(threads)  # they are the caller's where no process is between


class _TakenDown(Exception):
    """An item or a window that a takedown list names."""


class _Duplicate(Exception):
    """An item whose content an earlier one has."""


class _ItemWork:
    def __init__(self, worker: Worker, task: Task):
        self.worker, self.task, self.item = worker, task, task.item
        self.options = worker.options
        self.memo = Memo(task.item.item_id, worker.options, worker.tools, task.known)
        self.context = ItemContext(task.item, worker.options, worker.blobs, worker.scratch, worker.tools, worker.look,
                                   self.memo)  # fmt: skip
        self.clips: list[PackedClip] = []
        self.dropped: list[Dropped] = []
        self.failed: list[Quarantined] = []
        self.listed: list[str] = []
        self.duplicate_of = ""

    def outcome(self) -> Outcome:
        try:
            self._refuse_listed_item()
            source = self._world() if isinstance(self.item.media, WorldMedia) else self._video()
            for window in () if source is None else source.windows:
                assert source is not None
                self._window(source, window)
        except Failed as failure:
            self.failed.append(Quarantined(failure.unit, failure.stage, failure.reason))
        except _TakenDown:
            self.dropped.append(Dropped(self.item.item_id, "takedown", "on the takedown list"))
        except _Duplicate as duplicate:
            self.duplicate_of = str(duplicate)
        except (RemindError, MemoryError):
            raise
        except Exception as error:  # ours or a library's fault: one video must not end a run of a million
            self.failed.append(Quarantined(self.item.item_id, "internal", _where(error)))
        return Outcome(self.task.number, self.item.item_id, self.context.sha256, tuple(self.memo.new),
                       tuple(self.clips), tuple(self.dropped), tuple(self.failed), tuple(sorted(self.context.used)),
                       self.duplicate_of, tuple(self.listed))  # fmt: skip

    def _refuse_listed_item(self) -> None:
        """By its names, before anything is fetched. The content of a local file is identified even so: it must not come
        in under another name."""
        try:
            self._refuse_listed(url=self.item.url, author=self.item.author, item_id=self.item.item_id)
        except _TakenDown:
            if isinstance(self.item.media, FileMedia):
                with suppress(Failed):
                    self._identify()
            raise

    def _refuse_listed(self, **names: str) -> None:
        if lines := self.worker.takedown.lines_about(**names):
            self.listed += lines
            raise _TakenDown

    def _window(self, source: OpenedSource, window: Window) -> None:
        """One window: kept, dropped or failed by itself."""
        unit = source.unit(window)
        if reason := why_dropped(window, self.options.motion):
            self.dropped.append(Dropped(unit, "cut" if window.transition_s is not None else "motion", reason))
            return
        try:
            self._refuse_listed(clip_id=clip_id_of(self.context.sha256, window))
            made = make_clip(self.context, source, window, unit)
        except Failed as failure:
            self.failed.append(Quarantined(failure.unit, failure.stage, failure.reason))
        except _TakenDown:
            self.dropped.append(Dropped(unit, "takedown", "on the takedown list"))
        else:
            if isinstance(made, Dropped):
                self.dropped.append(made)
            else:
                self.clips.append(made)

    def _video(self) -> OpenedSource | None:
        """Fetch and scan; the windows that will be kept are encoded while their pictures are in memory."""
        media = self.item.media
        if isinstance(media, FileMedia) and Path(media.path).suffix.lower() in _DOCUMENTS:
            self.dropped.append(Dropped(self.item.item_id, "fetch", "a document by its name, not a video"))
            return None
        sha256 = self._identify()
        self._refuse_listed(sha256=sha256)
        if earlier := Claims(self.worker.scratch / CLAIMS).claim(sha256, self.task.number, self.item.item_id):
            raise _Duplicate(earlier)
        found = self.memo.run(SCAN, self.item.item_id, sha256, self._scan)
        windows = [Window(**{**w, "time_base": tuple(w["time_base"])}) for w in found["windows"]]
        for shot in found["short"]:
            name = self.item.item_id if found["num_shots"] == 1 else f"{self.item.item_id}#{shot['start_s']:.2f}s"
            self.dropped.append(Dropped(name, "window", shot["reason"]))
        return OpenedSource(self.item, windows, found["first_pts"], tuple(found["hw"]), found["fps"])

    def _identify(self) -> str:
        """The sha256 of the item's content."""
        known = [self.item.describe(), _stamp(self.item)]
        self.context.sha256 = self.memo.run(FETCH, self.item.item_id, known, self._fetch)["sha256"]
        return self.context.sha256

    def _fetch(self) -> dict[str, Any]:
        path = self.context.path()
        return {"sha256": content_sha256(path), "bytes": path.stat().st_size}

    def _scan(self) -> dict[str, Any]:
        return asdict(scan(self.context.path(), self.options.scan, self._encode_if_kept))

    def _encode_if_kept(self, window: Window, pictures: YuvFrames) -> None:
        if why_dropped(window, self.options.motion) is None:
            with suppress(Failed):  # it is remembered, and fails this window alone when its turn comes
                encode_window(self.context, window, f"{self.item.item_id}#{window.start_s:.2f}s", pictures)

    def _world(self) -> OpenedSource:
        """A scene is one window, and everything about it is known."""
        media, wanted = self.item.media, (self.options.hw, self.options.num_frames)
        assert isinstance(media, WorldMedia)
        if (media.hw, media.num_frames) != wanted:
            raise Failed(FETCH.name, self.item.item_id, f"a scene of {(media.hw, media.num_frames)}, not {wanted}")
        found = self.memo.run(
            FETCH, self.item.item_id, [self.item.describe(), self.worker.tools["remind-video"]],
            lambda: {"sha256": hashlib.sha256(self.context.scene().rgb.numpy().tobytes()).hexdigest()},
        )  # fmt: skip
        self.context.sha256 = found["sha256"]
        self._refuse_listed(sha256=found["sha256"])
        window = Window(0, 0, 0, 0, 0, media.num_frames - 1, (1, self.options.fps), media.num_frames, {})
        return OpenedSource(self.item, [window], 0, media.hw, float(self.options.fps))


def _where(error: Exception) -> str:
    """An unexpected error in one line that a bug report can quote."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    said = " ".join(str(error).split())[:300]
    return f"unexpected {type(error).__name__}: {said} at {Path(last.filename).name}:{last.lineno} in {last.name}"


def _stamp(item: SourceItem) -> list[int]:
    """Size and time of a local file, so that one that was replaced is hashed again."""
    path = getattr(item.media, "path", None) or getattr(item.media, "archive", None)
    try:
        return [] if path is None else [Path(path).stat().st_size, Path(path).stat().st_mtime_ns]
    except OSError:
        return []
