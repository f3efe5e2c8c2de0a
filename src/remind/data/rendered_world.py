"""Clips of the embedded world as samples, rendered when they are first read: for the few that validation looks at."""

from __future__ import annotations

from collections.abc import Sequence

from remind.data.encoded_pair import encode_track
from remind.data.memory_sample import MemorySample, make_sample
from remind.data.world_clips import make_world_clip
from remind.models.codec import LinearCodec
from remind.models.text import TextEncoder


class RenderedWorld(Sequence[MemorySample]):
    """Item i is the clip of the i-th seed; what was rendered stays in memory.

    Args:
        seeds: of the clips.
        hw: frame size, px.
        num_frames: pixel frames per clip.
    """

    def __init__(self, seeds: range, codec: LinearCodec, text: TextEncoder, *, hw: tuple[int, int], num_frames: int):
        self.seeds, self.codec, self.text, self.hw, self.num_frames = seeds, codec, text, hw, num_frames
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
        clip = make_world_clip(seed, hw=self.hw, num_frames=self.num_frames)
        clean, degraded = encode_track(clip.clean, self.codec), encode_track(clip.degraded, self.codec)
        row = {"clean": clean.latents, "degraded": degraded.latents,
               "clean_cameras": clean.cameras, "degraded_cameras": degraded.cameras,
               "clean_valid": clean.valid, "degraded_valid": degraded.valid}  # fmt: skip
        return make_sample(row, clip.recipe, clip.clean.caption, self.num_frames, self.text)
