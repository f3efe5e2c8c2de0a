"""Small real stores of 57-frame clips, and ways to damage them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from remind.clip import Cameras, Clip
from remind.data.clip_records import Provenance
from remind.data.clip_store_writer import ClipStoreWriter
from remind.data.interrupt import InterruptionRecipe, sample_recipe
from remind.data.memory_clip import MemoryClip
from remind.geometry import intrinsics_from_fov, rigid, rotation_yaw
from remind.prompt_schedule import chunk_prompts
from tests.data.make_video import moving_square

FRAMES, HW = 57, (16, 16)
KINDS = ("light_toggle", "occluder", "zoom")


def clip_of(i: int, *, seed: int | None = None, caption: str | None = None) -> Clip:
    """A clip whose pictures depend on the seed; every second one has cameras."""
    cameras = None
    if i % 2 == 0:
        path = torch.linspace(0, 1 + i, FRAMES, dtype=torch.float64)
        c2w = rigid(rotation_yaw(20 * path), torch.stack([path, 0 * path, path**2], -1))
        cameras = Cameras(c2w, intrinsics_from_fov(60.0, HW, FRAMES), HW, torch.ones(FRAMES, dtype=torch.bool))
    return Clip(moving_square(FRAMES, HW, seed=i if seed is None else seed), 16.0, cameras,
                caption=f"square {i} moves" if caption is None else caption, clip_id=f"clip-{i}")  # fmt: skip


def recipe_of(i: int, *, seed: int = 0) -> InterruptionRecipe:
    return sample_recipe(KINDS[i % 3], FRAMES, np.random.default_rng([i, seed]))  # type: ignore[arg-type]


def provenance_of(i: int, **fields: str) -> Provenance:
    return Provenance(source="local", item_id=f"{i}.mp4", sha256=f"{i:064x}", start_pts=0, stop_pts=FRAMES - 1,
                      time_base=(1, 16), scores={"m": 0.5}, tool_versions={"av": "18"}, **fields)  # type: ignore[arg-type]  # fmt: skip


def memory_of(clip: Clip, recipe: InterruptionRecipe, provenance: Provenance) -> MemoryClip:
    return MemoryClip(clip, recipe, chunk_prompts(clip.caption, recipe.schedule(len(clip))), provenance)


def make_store(root: Path, count: int = 4, *, changed: dict[int, dict[str, int | str]] | None = None) -> Path:
    """Clips 0 to count - 1.

    Args:
        changed: per clip, another `seed` of its pictures, `recipe_seed` or `caption`.
    """
    with ClipStoreWriter(root) as writer:
        for i in range(count):
            other = dict((changed or {}).get(i, {}))
            recipe = recipe_of(i, seed=int(other.pop("recipe_seed", 0)))
            writer.add(memory_of(clip_of(i, **other), recipe, provenance_of(i)))  # type: ignore[arg-type]
    return root


def damage(root: Path, clip: int, member: str = "rgb.mp4") -> None:
    """Flip a byte in the middle of one file of a clip."""
    row = pq.read_table(root / "index.parquet").to_pylist()[clip]
    place = next(m for m in row["members"] if m["name"] == member)
    with (root / "shards" / row["shard"]).open("r+b") as file:
        file.seek(place["offset"] + place["size"] // 2)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 0xFF]))
