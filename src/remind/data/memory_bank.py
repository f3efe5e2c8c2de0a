"""Memory samples in memory, for data that fits: what nano and tiny train on.

A bank holds both versions of each clip as latents, pose descriptors at the frames that the latents stand for,
captions and recipes. World banks are rendered from seeds and kept in a cache folder, keyed by everything that decides
their content.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from remind.clip import Clip
from remind.data.interrupt import InterruptionRecipe
from remind.data.memory_sample import MemorySample, Progress, make_sample
from remind.data.quarantine import exclusive
from remind.data.world_clips import HIDING_KINDS, WorldClip, make_world_clip
from remind.errors import InputError
from remind.frame_graph import InterruptionKind
from remind.models.camera_conditions import camera_conditions
from remind.models.codec import LinearCodec
from remind.models.text import TextEncoder
from remind.whole_file import whole_file
from remind.world import FAMILIES


@dataclass(frozen=True)
class WorldBankSpec:
    """What decides the content of a world bank: `size` clips of the seeds from `first_seed` on.

    Args:
        hw: frame size, px.
        num_frames: pixel frames per clip.
        families: that scenes are drawn from; none named = all.
        kinds: that interruptions are drawn from.
    """

    size: int
    hw: tuple[int, int]
    first_seed: int = 0
    num_frames: int = 81
    # Not in the repr, which is hashed: banks of everything keep the key that they had before there was a choice.
    families: tuple[str, ...] = field(default=(), repr=False)
    kinds: tuple[InterruptionKind, ...] = field(default=HIDING_KINDS, repr=False)

    def render(self, seed: int) -> WorldClip:
        """The clip of a seed; which of the families it shows is a function of the seed."""
        family = self.families[seed % len(self.families)] if self.families else None
        return make_world_clip(seed, hw=self.hw, num_frames=self.num_frames, family=family, kinds=self.kinds)

    def key(self, codec: LinearCodec) -> str:
        """Hash of this spec, the codec, and one rendered clip of every family: whatever changes pixels, prompts or
        schedules changes the key, and a new comment does not."""
        h = hashlib.sha256(f"{self} {codec.digest}".encode())
        if self.families or self.kinds != HIDING_KINDS:
            h.update(f"{self.families} {self.kinds}".encode())
        for i, family in enumerate(sorted(FAMILIES)):
            clip = make_world_clip(i, hw=self.hw, num_frames=self.num_frames, family=family)
            h.update(clip.clean.rgb.numpy().tobytes() + clip.degraded.rgb.numpy().tobytes())
            h.update(f"{clip.clean.caption} {clip.recipe.to_json()}".encode())
        return h.hexdigest()[:16]


def default_cache_dir() -> Path:
    """$REMIND_CACHE, or ~/.cache/remind."""
    return Path(os.environ.get("REMIND_CACHE", Path.home() / ".cache" / "remind"))


class MemoryBank(Sequence[MemorySample]):
    """Samples in memory; texts are embedded on access.

    Args:
        content: hash of what decides the samples; empty where nobody knows.
    """

    def __init__(self, tensors: dict[str, Tensor], recipes: list[InterruptionRecipe], captions: list[str],
                 encoder: TextEncoder, num_frames: int, content: str = ""):
        self.tensors, self.recipes, self.captions = tensors, recipes, captions
        self.encoder, self.num_frames, self.content = encoder, num_frames, content

    def __len__(self) -> int:
        return len(self.recipes)

    def __getitem__(self, index: int) -> MemorySample:  # type: ignore[override]
        row = {name: tensor[index] for name, tensor in self.tensors.items()}
        return make_sample(row, self.recipes[index], self.captions[index], self.num_frames, self.encoder)

    @staticmethod
    def from_clips(
        clips: Iterator[tuple[Clip, Clip, InterruptionRecipe]], codec: LinearCodec, encoder: TextEncoder
    ) -> MemoryBank:
        """Encode (clean, degraded, recipe) triples.

        Raises:
            InputError: no clips at all.
        """
        rows: list[dict[str, Tensor]] = []
        recipes, captions, num_frames = [], [], 0
        for clean, degraded, recipe in clips:
            rows.append(_encode_row(clean, degraded, codec))
            recipes.append(recipe)
            captions.append(clean.caption)
            num_frames = len(clean)
        if not rows:
            raise InputError("there are no clips to train on", fix="build the store again and read its report.json")
        tensors = {name: torch.stack([row[name] for row in rows]) for name in rows[0]}
        return MemoryBank(tensors, recipes, captions, encoder, num_frames)

    @staticmethod
    def world(
        spec: WorldBankSpec, codec: LinearCodec, encoder: TextEncoder, *, workers: int = 1,
        cache_dir: Path | None = None, progress: Progress | None = None,
    ) -> MemoryBank:
        """Render the world clips of a spec, or read them from the cache folder.

        Of several processes that ask at once, one renders; the others wait and read.

        Args:
            workers: processes that render.
            cache_dir: None = `default_cache_dir()`.
            progress: called after each block of clips.
        """
        folder = cache_dir or default_cache_dir()
        key = spec.key(codec)
        path = folder / f"world-bank-{key}.safetensors"
        if not path.is_file():
            folder.mkdir(parents=True, exist_ok=True)
            with exclusive(path.with_name(f".{path.stem}.lock")):
                if not path.is_file():
                    _render_bank(spec, codec, path, workers, progress)
        with safe_open(str(path), framework="pt") as f:
            tensors = {key: f.get_tensor(key) for key in f.keys()}  # noqa: SIM118 (not a dict)
            meta = f.metadata()
        recipes = [InterruptionRecipe.from_json(line) for line in meta["recipes"].splitlines()]
        return MemoryBank(tensors, recipes, meta["captions"].splitlines(), encoder, spec.num_frames, key)


def _encode_row(clean: Clip, degraded: Clip, codec: LinearCodec) -> dict[str, Tensor]:
    latents = codec.encode(torch.stack([clean.rgb, degraded.rgb]))
    row = {"clean": latents[0], "degraded": latents[1]}
    for name, clip in (("clean", clean), ("degraded", degraded)):
        row[f"{name}_cameras"], valid = camera_conditions(clip.cameras, len(clip))
        row[f"{name}_valid"] = valid.to(torch.uint8)
    return row


def _render_block(spec: WorldBankSpec, seeds: range, codec_tensors: dict[str, np.ndarray]) -> tuple[
    dict[str, np.ndarray], list[str], list[str]
]:
    """Runs in a worker process: arrays and strings cross the border, no torch handles."""
    torch.set_num_threads(1)
    codec = LinearCodec({k: torch.from_numpy(v) for k, v in codec_tensors.items()})
    rows, recipes, captions = [], [], []
    for seed in seeds:
        clip = spec.render(seed)
        rows.append(_encode_row(clip.clean, clip.degraded, codec))
        recipes.append(clip.recipe.to_json())
        captions.append(clip.clean.caption)
    return {k: torch.stack([r[k] for r in rows]).numpy() for k in rows[0]}, recipes, captions


def _render_bank(
    spec: WorldBankSpec, codec: LinearCodec, path: Path, workers: int, progress: Progress | None, block: int = 32
) -> None:
    stop = spec.first_seed + spec.size
    blocks = [range(s, min(s + block, stop)) for s in range(spec.first_seed, stop, block)]
    arrays = {k: v.numpy() for k, v in codec.tensors.items()}
    results = []
    with ProcessPoolExecutor(max(1, workers), mp_context=get_context("spawn")) as pool:
        for done, result in enumerate(pool.map(_render_block, *zip(*((spec, b, arrays) for b in blocks),
                                                                   strict=True)), 1):
            results.append(result)
            if progress is not None:
                progress(min(done * block, spec.size), spec.size)
    tensors = {k: torch.from_numpy(np.concatenate([r[0][k] for r in results])) for k in results[0][0]}
    meta = {"recipes": "\n".join(line for r in results for line in r[1]),
            "captions": "\n".join(line for r in results for line in r[2])}
    with whole_file(path) as file:
        save_file(tensors, str(file), meta)
