"""All the work on one source item, as one picklable call: the same in this process, in a pool and on a cluster.

A worker reads the item and what the ledger knows of it, runs the stages that are missing, writes finished files as
blobs and gives back plain data. It has no other state, so killing it loses only the item at hand.
"""

from __future__ import annotations

import hashlib
import traceback
from contextlib import suppress
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch

from remind.clip import Clip
from remind.curation.annotate import PROMPT_VERSION
from remind.curation.blobs import Blobs
from remind.curation.build_report import Dropped, Quarantined
from remind.curation.clip_words import event_and_caption, provenance_of, taxonomy, taxonomy_key
from remind.curation.item import FileMedia, SourceItem, WorldMedia
from remind.curation.keep_policy import why_dropped as why_dropped_by_vlm
from remind.curation.ledger import Result
from remind.curation.loop_nodes import find_camera_loop
from remind.curation.media import FetchLimits, content_sha256, fetch
from remind.curation.motion_policy import why_dropped
from remind.curation.options import BuildOptions
from remind.curation.scan import Window, scan
from remind.curation.sources.world import render_world_item, world_states
from remind.curation.stages import ANNOTATE, CAMERAS, ENCODE, FETCH, INTERRUPT, PACK, SCAN, Failed, Memo
from remind.curation.window_annotation import Look, groups_of, read_annotation, why_no_answer
from remind.curation.window_cameras import CameraRecord, estimated_cameras, given_cameras, unknown
from remind.curation.windows import anchored, read_window_yuv
from remind.data.clip_members import encode_members
from remind.data.interrupt import Event as RecipeEvent
from remind.data.interrupt import GivenStyle, InterruptionRecipe, sample_composition
from remind.data.memory_clip import DepthMap, MemoryClip
from remind.data.store_format import ClipFacts
from remind.data.video_io import YuvFrames, decode, encode_mp4, encode_yuv_mp4
from remind.errors import RemindError, VideoError
from remind.frame_graph import Interruption
from remind.prompt_schedule import chunk_prompts

# Left out without a look: they lie beside videos everywhere, and trying them would make every folder a failure.
_DOCUMENTS = frozenset([
    ".txt", ".md", ".json", ".jsonl", ".csv", ".tsv", ".parquet", ".yaml", ".yml", ".xml", ".html", ".pdf", ".srt",
    ".vtt", ".log", ".npy", ".npz", ".sha256", ".md5", ".py", ".sh",
])  # fmt: skip


@dataclass(frozen=True)
class Task:
    """One item and what is known of it; `number` is its place in the source."""

    number: int
    item: SourceItem
    known: tuple[Result, ...] = ()


@dataclass(frozen=True)
class PackedClip:
    """A finished clip: the digest of each of its files, and its row in the index."""

    clip_id: str
    members: dict[str, str]
    facts: ClipFacts


@dataclass(frozen=True)
class Outcome:
    """What became of an item; `sha256` is empty where its content could not be had, `blobs` is all it points at."""

    number: int
    item_id: str
    sha256: str
    results: tuple[Result, ...]
    clips: tuple[PackedClip, ...]
    dropped: tuple[Dropped, ...]
    failed: tuple[Quarantined, ...]
    blobs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Worker:
    """Does the work on items; plain data, so that it goes to any process.

    Args:
        scratch: for fetched files; a file system that all workers share.
        tools: versions of what decides bytes.
        look: the model of `options.vlm`, with its key.
    """

    options: BuildOptions
    blobs: Blobs
    scratch: Path
    tools: dict[str, str]
    look: Look | None = None

    def __call__(self, task: Task) -> Outcome:
        """Never raises for what is wrong with an item; does for a full disk or a missing tool."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # items, not operators, are what runs side by side
        try:
            return _ItemWork(self, task).outcome()
        finally:
            torch.set_num_threads(threads)  # they are the caller's where no process is between


class _ItemWork:
    def __init__(self, worker: Worker, task: Task):
        self.worker, self.task, self.item = worker, task, task.item
        self.options = worker.options
        self.memo = Memo(task.item.item_id, worker.options, worker.tools, task.known)
        self.clips: list[PackedClip] = []
        self.dropped: list[Dropped] = []
        self.failed: list[Quarantined] = []
        self.sha256 = ""
        self.blobs: set[str] = set()
        self._rendered: Clip | None = None

    def outcome(self) -> Outcome:
        try:
            source = self._world() if isinstance(self.item.media, WorldMedia) else self._video()
            for window in () if source is None else source.windows:
                assert source is not None
                unit = source.unit(window)
                if reason := why_dropped(window, self.options.motion):
                    self.dropped.append(Dropped(unit, "cut" if window.transition_s is not None else "motion", reason))
                    continue
                try:
                    self._window(source, window, unit)
                except Failed as failure:
                    self.failed.append(Quarantined(failure.unit, failure.stage, failure.reason))
        except Failed as failure:
            self.failed.append(Quarantined(failure.unit, failure.stage, failure.reason))
        except (RemindError, MemoryError):
            raise
        except Exception as error:  # ours or a library's fault: one video must not end a run of a million
            self.failed.append(Quarantined(self.item.item_id, "internal", _where(error)))
        return Outcome(self.task.number, self.item.item_id, self.sha256, tuple(self.memo.new), tuple(self.clips),
                       tuple(self.dropped), tuple(self.failed), tuple(sorted(self.blobs)))  # fmt: skip

    # ------------------------------------------------------------------ an item becomes windows

    def _video(self) -> _Source | None:
        """Fetch and scan; the windows that will be kept are encoded while their pictures are in memory."""
        media = self.item.media
        if isinstance(media, FileMedia) and Path(media.path).suffix.lower() in _DOCUMENTS:
            self.dropped.append(Dropped(self.item.item_id, "fetch", "a document by its name, not a video"))
            return None
        described = self.item.describe()
        fetched = self.memo.run(FETCH, self.item.item_id, [described, _stamp(self.item)], self._fetch)
        self.sha256 = fetched["sha256"]
        found = self.memo.run(SCAN, self.item.item_id, self.sha256, self._scan)
        windows = [Window(**{**w, "time_base": tuple(w["time_base"])}) for w in found["windows"]]
        for shot in found["short"]:
            name = self.item.item_id if found["num_shots"] == 1 else f"{self.item.item_id}#{shot['start_s']:.2f}s"
            self.dropped.append(Dropped(name, "window", shot["reason"]))
        return _Source(self.item, self.sha256, windows, found["first_pts"], tuple(found["hw"]), found["fps"])

    def _fetch(self) -> dict[str, Any]:
        path = self._path()
        return {"sha256": content_sha256(path), "bytes": path.stat().st_size}

    def _path(self) -> Path:
        return fetch(self.item.media, self.worker.scratch, FetchLimits(max_bytes=self.options.limits.max_bytes))

    def _scan(self) -> dict[str, Any]:
        return asdict(scan(self._path(), self.options.scan, self._encode_if_kept))

    def _encode_if_kept(self, window: Window, pictures: YuvFrames) -> None:
        if why_dropped(window, self.options.motion) is None:
            with suppress(Failed):  # it is remembered, and fails this window alone when its turn comes
                self._rgb(window, f"{self.item.item_id}#{window.start_s:.2f}s", pictures)

    def _world(self) -> _Source:
        """A scene is one window, and everything about it is known."""
        media, wanted = self.item.media, (self.options.hw, self.options.num_frames)
        assert isinstance(media, WorldMedia)
        if (media.hw, media.num_frames) != wanted:
            raise Failed(FETCH.name, self.item.item_id, f"a scene of {(media.hw, media.num_frames)}, not {wanted}")
        found = self.memo.run(FETCH, self.item.item_id, [self.item.describe(), self.worker.tools["remind-video"]],
                              lambda: {"sha256": hashlib.sha256(self._scene().rgb.numpy().tobytes()).hexdigest()})
        self.sha256 = found["sha256"]
        window = Window(0, 0, 0, 0, 0, media.num_frames - 1, (1, self.options.fps), media.num_frames, {})
        return _Source(self.item, self.sha256, [window], 0, media.hw, float(self.options.fps))

    def _scene(self) -> Clip:
        """The clip of a scene of the world, rendered when somebody needs it, once."""
        if self._rendered is None:
            assert isinstance(self.item.media, WorldMedia)
            self._rendered = render_world_item(self.item.media)
        return self._rendered

    # ------------------------------------------------------------------ a window becomes a clip

    def _window(self, source: _Source, window: Window, unit: str) -> None:
        there = self.worker.blobs.has
        place = [self.sha256, asdict(window)]
        rgb_digest = self._rgb(window, unit)
        self.blobs.add(rgb_digest)
        annotation = self._annotation(source, window, unit)
        if annotation is not None and (reason := self._why_dropped(annotation)):
            self.dropped.append(Dropped(unit, ANNOTATE.name, reason))
            return
        rgb_mp4 = self.worker.blobs.get(rgb_digest)
        cameras = self.memo.run(
            CAMERAS, unit, [place, None if self.item.cameras is None else asdict(self.item.cameras), source.hw],
            lambda: self._cameras(source, window), lambda p: p["digest"] is None or there(p["digest"]),
        )  # fmt: skip
        if cameras["digest"] is not None:
            self.blobs.add(cameras["digest"])
        recipe = self.memo.run(INTERRUPT, unit, [self.sha256, window.number, window.start_pts, cameras["digest"]],
                               lambda: self._recipe(window, cameras))  # fmt: skip
        packed = self.memo.run(
            PACK, unit,
            [place, rgb_digest, annotation, cameras, recipe, self.item.describe(), self.worker.tools, taxonomy_key()],
            lambda: self._pack(window, rgb_mp4, annotation, cameras, recipe),
            lambda p: all(there(digest) for digest in p["members"].values()),
        )  # fmt: skip
        self.blobs |= set(packed["members"].values())
        self.clips.append(PackedClip(packed["clip_id"], packed["members"], ClipFacts.from_row(packed["facts"])))

    def _rgb(self, window: Window, unit: str, pictures: YuvFrames | None = None) -> str:
        """Digest of the window's rgb.mp4; `pictures` are the window's where they are in memory."""

        def encode() -> str:
            fps, crf = Fraction(self.options.fps), self.options.crf
            if isinstance(self.item.media, WorldMedia):
                data = encode_mp4(self._scene().rgb, fps, crf=crf, effort="fast")
            else:
                seen = pictures or read_window_yuv(self._path(), window, self.options.scan)
                data = encode_yuv_mp4(seen, fps, crf=crf)
            found = sum(1 for _ in decode(data))  # what was written is what will be read
            if found != self.options.num_frames:
                raise VideoError("a clip did not survive encoding", got=f"{found} frames",
                                 expected=self.options.num_frames)
            return self.worker.blobs.put(data)

        return str(self.memo.run(ENCODE, unit, [self.sha256, asdict(window)], encode, self.worker.blobs.has))

    def _cameras(self, source: _Source, window: Window) -> dict[str, Any]:
        if isinstance(self.item.media, WorldMedia):
            scene = self._scene()
            assert scene.cameras is not None
            assert scene.depth is not None
            depth = DepthMap(scene.depth.float(), scene.cameras.intrinsics_px)
            record = CameraRecord(anchored(scene.cameras), None, "metric", "world: exact", depth)
        elif self.item.cameras is not None:
            record = given_cameras(self.item, self._path(), window, first_pts=source.first_pts, hw=source.hw,
                                   fps=source.fps, options=self.options)  # fmt: skip
        elif self.options.cameras != "given":
            record = estimated_cameras(self._path(), window, hw=source.hw, options=self.options)
        else:
            record = unknown("none: the source gives no cameras")
        return {"digest": None if record.cameras is None else self.worker.blobs.put(record.to_bytes()),
                "verdict": record.verdict}  # fmt: skip

    def _annotation(self, source: _Source, window: Window, unit: str) -> str | None:
        """The record of what a VLM says; None where nobody is asked."""
        look, known = self.worker.look, taxonomy()
        if look is None or isinstance(self.item.media, WorldMedia):
            return None
        question = [PROMPT_VERSION, sorted(event.id for event in known.types)]
        record: str = self.memo.run(
            ANNOTATE, unit, [self.sha256, asdict(window), question],
            lambda: look.at(self._path(), window, source.hw, self.options.scan, known),
        )  # fmt: skip
        if read_annotation(record) is None:
            raise Failed(ANNOTATE.name, unit, why_no_answer(record))
        return record

    def _why_dropped(self, annotation: str) -> str | None:
        found = read_annotation(annotation)
        assert found is not None
        return why_dropped_by_vlm(found.annotation, self.options.keep, groups_of(taxonomy()))

    def _recipe(self, window: Window, cameras: dict[str, Any]) -> str:
        """A camera that loops is an interruption by itself (ReMind F.2); otherwise drawn for the window's place alone,
        so that other windows may come and go."""
        intrinsics = None
        if cameras["digest"] is not None:
            record = CameraRecord.from_bytes(self.worker.blobs.get(cameras["digest"]), cameras["verdict"])
            assert record.cameras is not None
            loop = find_camera_loop(record.cameras, scene_depth=record.scene_depth)
            if isinstance(loop, Interruption):
                event = RecipeEvent(interruption=loop, style=GivenStyle(), seed=0, also=())
                return InterruptionRecipe(events=(event,)).to_json()
            fx, fy, cx, cy = record.cameras.intrinsics_px[0].tolist()
            intrinsics = (fx, fy, cx, cy)
        generator = np.random.default_rng([self.options.seed, int(self.sha256[:16], 16), window.number])
        return sample_composition(self.options.num_frames, generator, self.options.interruptions,
                                  window=self.options.window(intrinsics)).to_json()  # fmt: skip

    def _pack(
        self, window: Window, rgb_mp4: bytes, annotation: str | None, cameras: dict[str, Any], recipe_json: str
    ) -> dict[str, Any]:
        recipe = InterruptionRecipe.from_json(recipe_json)
        digest, verdict = cameras["digest"], cameras["verdict"]
        record = unknown(verdict) if digest is None else CameraRecord.from_bytes(self.worker.blobs.get(digest), verdict)
        clip_id = f"{self.sha256[:16]}-{window.number:05d}"
        event, caption = event_and_caption(self.item, window, annotation)
        # The pictures are in `rgb_mp4`; one that takes no memory has their shape.
        shape = torch.zeros(1, 1, 1, 3, dtype=torch.uint8).expand(self.options.num_frames, *self.options.hw, 3)
        clean = Clip(shape, float(self.options.fps), record.cameras, caption=caption, clip_id=clip_id)
        media = self.item.media
        memory_clip = MemoryClip(
            clean, recipe, chunk_prompts(caption, recipe.schedule(len(clean))),
            provenance_of(self.item, window, self.sha256, camera_verdict=verdict, tools=self.worker.tools), event,
            pose_conf=record.pose_conf, scale_kind=record.scale_kind, depth=record.depth,
            states=world_states(media) if isinstance(media, WorldMedia) else None,
        )  # fmt: skip
        members = encode_members(memory_clip, crf=self.options.crf, rgb_mp4=rgb_mp4)
        digests = {name: self.worker.blobs.put(data) for name, data in members.items()}
        return {"clip_id": clip_id, "members": digests, "facts": memory_clip.facts.to_row()}


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


@dataclass(frozen=True)
class _Source:
    """An item that was read: its windows, and of the video the first pts, size and rate."""

    item: SourceItem
    sha256: str
    windows: list[Window]
    first_pts: int
    hw: tuple[int, int]
    fps: float

    def unit(self, window: Window) -> str:
        return f"{self.item.item_id}#{window.start_s:.2f}s"
