"""Clips that are never trained on: a share of the videos of a store, chosen by a hash of their names."""

from __future__ import annotations

import hashlib

from remind.data.clip_store import ClipStore

SHARE = 50  # one video in so many
MIN_VIDEOS = 10


def held_out_clips(store: ClipStore) -> frozenset[str]:
    """Ids of the clips of a store that are kept for validation.

    Our choice: a video is held out with all of its clips, for clips of one video look alike; it is if the first eight
    bytes of the sha256 of `held out/<source>/<item>` are divisible by 50. So a store that grows never moves a clip from
    one side to the other. Where that finds none, and there are 10 videos or more, the video of the smallest hash is
    taken; with fewer none is.
    """
    columns = store.index.select(["source", "item_id"]).to_pydict()
    videos = list(zip(columns["source"], columns["item_id"], strict=True))
    hashes = {video: _hash(*video) for video in videos}
    chosen = {video for video, value in hashes.items() if value % SHARE == 0}
    if not chosen and len(hashes) >= MIN_VIDEOS:
        chosen = {min(hashes, key=lambda video: (hashes[video], video))}
    return frozenset(clip for clip, video in zip(store.clip_ids, videos, strict=True) if video in chosen)


def _hash(source: str, item_id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"held out/{source}/{item_id}".encode()).digest()[:8], "big")
