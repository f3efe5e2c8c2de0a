"""Encoded pairs that stay in memory once they were read: for stores that fit."""

from __future__ import annotations

from remind.data.encoded_pair import EncodedPair, PairReader
from remind.frame_graph import num_latent_frames
from remind.models.codec import BLOCK_PX, CHANNELS


def pair_bytes(num_frames: int, hw: tuple[int, int]) -> int:
    """Memory of one pair: two tracks of float32 latents, descriptors and flags."""
    values = CHANNELS * (hw[0] // BLOCK_PX) * (hw[1] // BLOCK_PX) + 14
    return 2 * num_latent_frames(num_frames) * (4 * values + 1)


class KeptPairs:
    """Reads each pair once. Processes forked after a pair was read share its memory."""

    def __init__(self, pairs: PairReader):
        self.pairs, self.variants = pairs, pairs.variants
        self._kept: dict[tuple[int, int], EncodedPair] = {}

    @property
    def clip_ids(self) -> tuple[str, ...]:
        return self.pairs.clip_ids

    def read(self, clip: int, variant: int) -> EncodedPair:
        """One pair; errors as those of the reader behind it, which are not kept."""
        kept = self._kept.get((clip, variant))
        if kept is None:
            kept = self._kept[clip, variant] = self.pairs.read(clip, variant)
        return kept
