"""A window becomes a clip: encoded, annotated, given cameras and an interruption, packed; each step is remembered."""

from __future__ import annotations

from dataclasses import asdict
from fractions import Fraction
from typing import Any

import numpy as np
import torch

from remind.clip import Clip
from remind.curation.annotate import PROMPT_VERSION
from remind.curation.build_report import Dropped
from remind.curation.clip_words import event_and_caption, provenance_of, taxonomy, taxonomy_key
from remind.curation.item import WorldMedia
from remind.curation.item_context import ItemContext, OpenedSource
from remind.curation.keep_policy import why_dropped as why_dropped_by_vlm
from remind.curation.loop_nodes import find_camera_loop
from remind.curation.outcome import PackedClip
from remind.curation.scan import Window
from remind.curation.sources.world import world_states
from remind.curation.stages import ANNOTATE, CAMERAS, ENCODE, INTERRUPT, PACK, Failed
from remind.curation.window_annotation import groups_of, read_annotation, why_no_answer
from remind.curation.window_cameras import CameraRecord, estimated_cameras, given_cameras, unknown
from remind.curation.windows import anchored, read_window_yuv
from remind.data.clip_members import encode_members
from remind.data.interrupt import Event as RecipeEvent
from remind.data.interrupt import GivenStyle, InterruptionRecipe, sample_composition
from remind.data.memory_clip import DepthMap, MemoryClip
from remind.data.store_format import ClipFacts
from remind.data.video_io import YuvFrames, decode, encode_mp4, encode_yuv_mp4
from remind.errors import VideoError
from remind.frame_graph import Interruption
from remind.prompt_schedule import chunk_prompts


def clip_id_of(sha256: str, window: Window) -> str:
    """The id of a window's clip: what its file holds, and which window of it."""
    return f"{sha256[:16]}-{window.number:05d}"


def make_clip(work: ItemContext, source: OpenedSource, window: Window, unit: str) -> PackedClip | Dropped:
    """The clip of a window that moves enough, or why a model that looked at it dropped it.

    Raises:
        Failed: a stage could not do its work.
    """
    there = work.blobs.has
    place = [work.sha256, asdict(window)]
    rgb_digest = encode_window(work, window, unit)
    work.used.add(rgb_digest)
    annotation = _annotation(work, source, window, unit)
    if annotation is not None and (reason := _why_dropped(work, annotation)):
        return Dropped(unit, ANNOTATE.name, reason)
    rgb_mp4 = work.blobs.get(rgb_digest)
    cameras = work.memo.run(
        CAMERAS, unit, [place, None if work.item.cameras is None else asdict(work.item.cameras), source.hw],
        lambda: _cameras(work, source, window), lambda p: p["digest"] is None or there(p["digest"]),
    )  # fmt: skip
    if cameras["digest"] is not None:
        work.used.add(cameras["digest"])
    recipe = work.memo.run(INTERRUPT, unit, [work.sha256, window.number, window.start_pts, cameras["digest"]],
                           lambda: _recipe(work, window, cameras))  # fmt: skip
    packed = work.memo.run(
        PACK, unit,
        [place, rgb_digest, annotation, cameras, recipe, work.item.describe(), work.tools, taxonomy_key()],
        lambda: _pack(work, window, rgb_mp4, annotation, cameras, recipe),
        lambda p: all(there(digest) for digest in p["members"].values()),
    )  # fmt: skip
    work.used |= set(packed["members"].values())
    return PackedClip(packed["clip_id"], packed["members"], ClipFacts.from_row(packed["facts"]))


def encode_window(work: ItemContext, window: Window, unit: str, pictures: YuvFrames | None = None) -> str:
    """Digest of the window's rgb.mp4; `pictures` are the window's where they are in memory."""

    def encode() -> str:
        fps, crf = Fraction(work.options.fps), work.options.crf
        if isinstance(work.item.media, WorldMedia):
            data = encode_mp4(work.scene().rgb, fps, crf=crf, effort="fast")
        else:
            seen = pictures or read_window_yuv(work.path(), window, work.options.scan)
            data = encode_yuv_mp4(seen, fps, crf=crf)
        found = sum(1 for _ in decode(data))  # what was written is what will be read
        if found != work.options.num_frames:
            raise VideoError("a clip did not survive encoding", got=f"{found} frames",
                             expected=work.options.num_frames)  # fmt: skip
        return work.blobs.put(data)

    return str(work.memo.run(ENCODE, unit, [work.sha256, asdict(window)], encode, work.blobs.has))


def _cameras(work: ItemContext, source: OpenedSource, window: Window) -> dict[str, Any]:
    if isinstance(work.item.media, WorldMedia):
        scene = work.scene()
        assert scene.cameras is not None
        assert scene.depth is not None
        depth = DepthMap(scene.depth.float(), scene.cameras.intrinsics_px)
        record = CameraRecord(anchored(scene.cameras), None, "metric", "world: exact", depth)
    elif work.item.cameras is not None:
        record = given_cameras(work.item, work.path(), window, first_pts=source.first_pts, hw=source.hw,
                               fps=source.fps, options=work.options)  # fmt: skip
    elif work.options.cameras != "given":
        record = estimated_cameras(work.path(), window, hw=source.hw, options=work.options)
    else:
        record = unknown("none: the source gives no cameras")
    return {"digest": None if record.cameras is None else work.blobs.put(record.to_bytes()),
            "verdict": record.verdict}  # fmt: skip


def _annotation(work: ItemContext, source: OpenedSource, window: Window, unit: str) -> str | None:
    """The record of what a VLM says; None where nobody is asked."""
    look, known = work.look, taxonomy()
    if look is None or isinstance(work.item.media, WorldMedia):
        return None
    question = [PROMPT_VERSION, sorted(event.id for event in known.types)]
    record: str = work.memo.run(
        ANNOTATE, unit, [work.sha256, asdict(window), question],
        lambda: look.at(work.path(), window, source.hw, work.options.scan, known),
    )  # fmt: skip
    if read_annotation(record) is None:
        raise Failed(ANNOTATE.name, unit, why_no_answer(record))
    return record


def _why_dropped(work: ItemContext, annotation: str) -> str | None:
    found = read_annotation(annotation)
    assert found is not None
    return why_dropped_by_vlm(found.annotation, work.options.keep, groups_of(taxonomy()))


def _recipe(work: ItemContext, window: Window, cameras: dict[str, Any]) -> str:
    """A camera that loops is an interruption by itself (ReMind F.2); otherwise drawn for the window's place alone,
    so that other windows may come and go."""
    intrinsics = None
    if cameras["digest"] is not None:
        record = CameraRecord.from_bytes(work.blobs.get(cameras["digest"]), cameras["verdict"])
        assert record.cameras is not None
        loop = find_camera_loop(record.cameras, scene_depth=record.scene_depth)
        if isinstance(loop, Interruption):
            event = RecipeEvent(interruption=loop, style=GivenStyle(), seed=0, also=())
            return InterruptionRecipe(events=(event,)).to_json()
        fx, fy, cx, cy = record.cameras.intrinsics_px[0].tolist()
        intrinsics = (fx, fy, cx, cy)
    generator = np.random.default_rng([work.options.seed, int(work.sha256[:16], 16), window.number])
    return sample_composition(work.options.num_frames, generator, work.options.interruptions,
                              window=work.options.window(intrinsics)).to_json()  # fmt: skip


def _pack(
    work: ItemContext, window: Window, rgb_mp4: bytes, annotation: str | None, cameras: dict[str, Any], recipe_json: str
) -> dict[str, Any]:
    recipe = InterruptionRecipe.from_json(recipe_json)
    digest, verdict = cameras["digest"], cameras["verdict"]
    record = unknown(verdict) if digest is None else CameraRecord.from_bytes(work.blobs.get(digest), verdict)
    clip_id = clip_id_of(work.sha256, window)
    event, caption = event_and_caption(work.item, window, annotation)
    # The pictures are in `rgb_mp4`; one that takes no memory has their shape.
    shape = torch.zeros(1, 1, 1, 3, dtype=torch.uint8).expand(work.options.num_frames, *work.options.hw, 3)
    clean = Clip(shape, float(work.options.fps), record.cameras, caption=caption, clip_id=clip_id)
    media = work.item.media
    memory_clip = MemoryClip(
        clean, recipe, chunk_prompts(caption, recipe.schedule(len(clean))),
        provenance_of(work.item, window, work.sha256, camera_verdict=verdict, tools=work.tools), event,
        pose_conf=record.pose_conf, scale_kind=record.scale_kind, depth=record.depth,
        states=world_states(media) if isinstance(media, WorldMedia) else None,
    )  # fmt: skip
    members = encode_members(memory_clip, crf=work.options.crf, rgb_mp4=rgb_mp4)
    digests = {name: work.blobs.put(data) for name, data in members.items()}
    return {"clip_id": clip_id, "members": digests, "facts": memory_clip.facts.to_row()}
