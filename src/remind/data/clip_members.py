"""A clip as the files of a store, and back. Decoders trust nothing: `row` is what the index promises of the clip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.clip import Cameras
from remind.data.clip_records import (
    Caption,
    Event,
    Provenance,
    read_graph,
    read_record,
    write_graph,
    write_record,
)
from remind.data.interrupt import InterruptionRecipe
from remind.data.memory_clip import SCALE_KINDS, DepthMap, MemoryClip, ScaleKind, interruption_kinds
from remind.data.npz import read_npz, write_npz
from remind.data.video_io import decode, encode_mp4, probe
from remind.errors import StoreError

Row = Mapping[str, Any]


@dataclass(frozen=True)
class ClipRecords:
    """All that a store knows about a clip in words; cheap to read."""

    caption: str
    recipe: InterruptionRecipe
    prompts: tuple[str, ...]
    event: Event
    provenance: Provenance


@dataclass(frozen=True)
class StoredCameras:
    """Cameras as stored; arguments as `MemoryClip`."""

    cameras: Cameras
    pose_conf: Float[Tensor, " t"]
    scale_kind: ScaleKind


def encode_members(clip: MemoryClip, *, crf: int = 18, rgb_mp4: bytes | None = None) -> dict[str, bytes]:
    """The files of a clip; a pure function, so that workers encode and the writer only packs.

    Args:
        crf: H.264 quality of the pictures, 0..51; 18 is visually transparent.
        rgb_mp4: the pictures, where they were encoded before.
    """
    clean = clip.clean
    members = {
        "rgb.mp4": rgb_mp4 or encode_mp4(clean.rgb, Fraction(clean.fps), crf=crf, effort="fast"),
        "graph.json": write_graph(len(clean), clip.recipe, clip.prompts),
        "event.json": write_record(clip.event),
        "caption.json": write_record(Caption(caption=clean.caption)),
        "provenance.json": write_record(clip.provenance),
    }
    if clean.cameras is not None:
        valid = clean.cameras.valid
        conf = valid.float() if clip.pose_conf is None else clip.pose_conf
        members["cameras.npz"] = write_npz({
            "c2w": clean.cameras.c2w.double().numpy(),
            "intrinsics_px": clean.cameras.intrinsics_px.float().numpy(),
            "hw": np.array(clean.cameras.hw, dtype=np.int64),
            "pose_valid": valid.numpy(),
            "pose_conf": conf.float().numpy(),
            "scale_kind": np.array(clip.scale_kind, dtype="U8"),
        })  # fmt: skip
    if clip.depth is not None:
        depth = {"depth": clip.depth.z.half().numpy(), "intrinsics_px": clip.depth.intrinsics_px.float().numpy()}
        members["depth.npz"] = write_npz(depth, compress=True)
    if clip.states is not None:
        members["state.npz"] = write_npz({"state": clip.states.double().numpy()})
    return members


def decode_graph(row: Row, data: bytes) -> tuple[InterruptionRecipe, tuple[str, ...]]:
    """Recipe and prompts of a clip, which must agree with the index."""
    num_frames, recipe, prompts = read_graph(data)
    if num_frames != row["num_frames"]:
        raise StoreError("its graph and the index disagree", got=f"{num_frames} frames, not {row['num_frames']}")
    kinds = interruption_kinds(recipe.schedule(num_frames))
    if kinds != tuple(row["kinds"]):
        raise StoreError("its graph and the index disagree", got=f"{kinds}, not {tuple(row['kinds'])}")
    return recipe, prompts


def decode_records(row: Row, files: dict[str, bytes]) -> ClipRecords:
    """The JSON of a clip."""
    recipe, prompts = decode_graph(row, files["graph.json"])
    caption = read_record(Caption, files["caption.json"]).caption
    event = read_record(Event, files["event.json"])
    return ClipRecords(caption, recipe, prompts, event, read_record(Provenance, files["provenance.json"]))


def decode_frames(row: Row, data: bytes, start: int, stop: int) -> UInt8[Tensor, "t h w 3"]:
    """Pictures `start` to `stop` of an mp4, which must be of the promised number and size."""
    h, w = row["height"], row["width"]
    ticks = 1 / (Fraction(row["fps"]).limit_denominator(1001) * probe(data).time_base) if start else Fraction(0)
    first_pts = round(start * ticks)
    pictures = (picture for picture in decode(data, start_pts=first_pts or None) if picture.pts >= first_pts)
    images, found = np.empty((stop - start, h, w, 3), np.uint8), 0
    # One more than promised is enough to notice.
    for picture in islice(pictures, stop - start + (stop == row["num_frames"])):
        if picture.display_hw() != (h + h % 2, w + w % 2):  # even sizes are an H.264 need, see `encode_mp4`
            raise StoreError("pictures of another size", got=picture.display_hw(), expected=(h, w))
        if found < len(images):
            images[found] = picture.rgb()[:h, :w]
        found += 1
    if found != len(images):
        raise StoreError(f"not {row['num_frames']} pictures")
    return torch.from_numpy(images)


def decode_cameras(row: Row, data: bytes) -> StoredCameras:
    """Cameras of the promised length, well-formed; `check_cameras` holds them to the convention."""
    t = row["num_frames"]
    arrays = read_npz(data, {
        "c2w": ("f8", (t, 4, 4)), "intrinsics_px": ("f4", (t, 4)), "hw": ("i8", (2,)), "pose_valid": ("?", (t,)),
        "pose_conf": ("f4", (t,)), "scale_kind": ("U8", ()),
    })  # fmt: skip
    intrinsics_px, valid = torch.from_numpy(arrays["intrinsics_px"]).double(), torch.from_numpy(arrays["pose_valid"])
    height, width = (int(side) for side in arrays["hw"])
    kind = next((kind for kind in SCALE_KINDS if arrays["scale_kind"] == kind), None)
    conf = torch.from_numpy(arrays["pose_conf"])
    if kind is None or min(height, width) < 1 or not (torch.isfinite(conf) & (conf >= 0)).all():
        raise StoreError(f"cameras.npz is damaged: hw {(height, width)}, and a scale_kind or pose_conf that is none")
    cameras = Cameras(torch.from_numpy(arrays["c2w"]), intrinsics_px, (height, width), valid)
    return StoredCameras(cameras, conf, kind)


def decode_depth(row: Row, data: bytes) -> DepthMap:
    """Depth of the promised length, of any resolution."""
    t = row["num_frames"]
    arrays = read_npz(data, {"depth": ("f2", (t, None, None)), "intrinsics_px": ("f4", (t, 4))})
    if 0 in arrays["depth"].shape:
        raise StoreError("depth without pixels", got=arrays["depth"].shape)
    intrinsics_px = torch.from_numpy(arrays["intrinsics_px"])
    return DepthMap(torch.from_numpy(arrays["depth"].astype(np.float32)), intrinsics_px)


def decode_states(row: Row, data: bytes) -> Float[Tensor, " t"]:
    """The hidden state of a world clip."""
    states = read_npz(data, {"state": ("f8", (row["num_frames"],))})["state"]
    if not np.isfinite(states).all():
        raise StoreError("state.npz holds NaN or infinity")
    return torch.from_numpy(states)
