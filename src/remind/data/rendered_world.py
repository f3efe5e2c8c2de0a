"""Clips of the embedded world as samples, rendered when they are first read: for the few that validation looks at."""

from __future__ import annotations

from collections.abc import Sequence

from remind.data.encoded_pair import encode_track
from remind.data.memory_bank import WorldBankSpec
from remind.data.memory_sample import MemorySample, make_sample
from remind.models.codec import LinearCodec
from remind.models.text import TextEncoder


class RenderedWorld(Sequence[MemorySample]):
    """Item i is the clip of the i-th seed; what was rendered stays in memory.

    Args:
        seeds: of the clips.
        like: the bank whose size, length, families and interruptions they share.
    """

    def __init__(self, seeds: range, codec: LinearCodec, text: TextEncoder, like: WorldBankSpec):
        self.seeds, self.codec, self.text, self.like = seeds, codec, text, like
        self._kept: dict[int, MemorySample] = {}

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> MemorySample:  # type: ignore[override]
        if not 0 <= index < len(self):
            raise IndexError(index)
        if index not in self._kept:
            self._kept[index] = self._render(self.seeds[index])
        return self._kept[index]

    def _render(self, seed: int) -> MemorySample:
        clip = self.like.render(seed)
        clean, degraded = encode_track(clip.clean, self.codec), encode_track(clip.degraded, self.codec)
        row = {"clean": clean.latents, "degraded": degraded.latents,
               "clean_cameras": clean.cameras, "degraded_cameras": degraded.cameras,
               "clean_valid": clean.valid, "degraded_valid": degraded.valid}  # fmt: skip
        return make_sample(row, clip.recipe, clip.clean.caption, self.like.num_frames, self.text)
