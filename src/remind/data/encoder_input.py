"""What decides a clip's latents, read from the index and its smallest files: no picture is decoded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from remind.data.clip_store import ClipStore
from remind.data.interrupt import InterruptionRecipe

_SEEN_BY_ENCODERS = ("rgb.mp4", "cameras.npz")


@dataclass(frozen=True)
class EncoderInput:
    """What is known of a clip before its pictures are decoded.

    Args:
        hw: of what the model sees: the stored size, or that of the recipe's view.
        content: hash over names, sizes and checksums of the files that pictures and cameras come from: equal for
            copies, another for anything encoded anew.
    """

    clip_id: str
    num_frames: int
    hw: tuple[int, int]
    fps: float
    recipe: InterruptionRecipe
    caption: str
    content: str


def encoder_input(store: ClipStore, number: int) -> EncoderInput:
    """Of one clip.

    Raises:
        StoreError: a damaged clip.
    """
    row, records = store.row(number), store.records(number)
    members = sorted((m["name"], m["size"], m["crc32"]) for m in row["members"] if m["name"] in _SEEN_BY_ENCODERS)
    content = hashlib.sha256(repr((members, row["height"], row["width"], row["fps"])).encode()).hexdigest()[:32]
    view = records.recipe.view
    hw = (row["height"], row["width"]) if view is None else view.hw
    return EncoderInput(row["clip_id"], row["num_frames"], hw, row["fps"], records.recipe, records.caption, content)
