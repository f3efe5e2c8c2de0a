"""Embed the prompts of a store once: the writer of `text_cache`.

As with latents, shards are whole when they appear and describe themselves, and the index is derived from them and
replaced last: whoever kills a build loses the shard in the making, and the next build goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from remind.data.clip_store import ClipStore
from remind.data.encoded_pair import VariantSpec
from remind.data.encoder_input import encoder_input
from remind.data.memory_sample import Progress
from remind.data.quarantine import exclusive
from remind.data.text_cache import (
    SCHEMA,
    SHARD_NAME,
    TEXT_VERSION,
    StorableTextEncoder,
    prompt_key,
    read_tokens,
    tokens_crc32,
)
from remind.errors import GraphError, StoreError
from remind.frame_graph import Schedule
from remind.prompt_schedule import chunk_prompts
from remind.whole_file import whole_file

Rows = dict[str, dict[str, Any]]
"""Index rows by key."""


@dataclass(frozen=True)
class TextReport:
    """What a build did: prompts embedded, kept from before and removed; size on disk."""

    embedded: int
    kept: int
    removed: int
    num_bytes: int


def store_prompts(store: ClipStore, spec: VariantSpec, *, skip: Collection[str] = ()) -> tuple[str, ...]:
    """All that training can ask of a store: each distinct prompt of each chunk of each clip, clean and in all variants.

    Clips that cannot be read are passed over: whoever reads their pictures says so.

    Args:
        skip: ids of clips to leave out.
    """
    found: dict[str, None] = {}
    for number, clip_id in enumerate(store.clip_ids):
        if clip_id in skip:
            continue
        try:
            facts = encoder_input(store, number)
            schedules = [Schedule(facts.num_frames)]
            for variant in range(spec.variants):
                recipe = spec.recipe(facts.recipe, clip_id, facts.num_frames, variant)
                schedules.append(recipe.schedule(facts.num_frames))
        except (StoreError, GraphError):
            continue
        for schedule in schedules:
            found.update(dict.fromkeys(chunk_prompts(facts.caption, schedule)))
    return tuple(found)


def missing_prompts(prompts: Sequence[str], encoder_digest: str, folder: Path) -> tuple[str, ...]:
    """Those that a build would embed: what `--dry-run` counts."""
    found = _find_rows(folder)
    return tuple(prompt for prompt in dict.fromkeys(prompts) if prompt_key(prompt, encoder_digest) not in found)


def build_text(
    prompts: Sequence[str],
    encoder: StorableTextEncoder,
    folder: Path,
    *,
    batch_size: int = 1,
    shard_bytes: int = 256 * 2**20,
    progress: Progress | None = None,
) -> TextReport:
    """Make the cache hold the embeddings of some prompts, no more and no less.

    Args:
        folder: of the cache; made if missing. One build at a time.
        batch_size: prompts per call of the encoder. 1 makes an embedding a function of its prompt alone; more is
            faster on a GPU, and may round last bits otherwise.
        shard_bytes: a shard is written once it is as large, > 0.
        progress: called after each call with (prompts embedded, prompts to embed).

    Raises:
        StoreError: another build at work, embeddings that are not finite, or a full disk.
    """
    try:
        (folder / "shards").mkdir(parents=True, exist_ok=True)
        with exclusive(folder / ".lock", wait=False):
            return _build(prompts, encoder, folder, batch_size, shard_bytes, progress)
    except BlockingIOError:
        raise StoreError("another build is at work in this cache", got=folder, fix="wait for it to end") from None
    except (OSError, SafetensorError) as error:
        raise StoreError("cannot write the prompt embeddings", got=f"{folder}: {error}",
                         fix="free some space or choose another folder; what is written stays") from None  # fmt: skip


def _build(prompts: Sequence[str], encoder: StorableTextEncoder, folder: Path, batch_size: int, shard_bytes: int,
           progress: Progress | None) -> TextReport:  # fmt: skip
    for left_over in (folder / "shards").glob(".*.partial"):
        left_over.unlink()
    before = _find_rows(folder)
    keys = {prompt_key(prompt, encoder.digest): prompt for prompt in prompts}
    wanted = [(key, prompt) for key, prompt in keys.items() if key not in before]
    writer = _ShardWriter(folder / "shards", shard_bytes)
    for start in range(0, len(wanted), batch_size):
        batch = wanted[start : start + batch_size]
        embeddings = encoder([prompt for _, prompt in batch]).cpu()
        for (key, prompt), embedding in zip(batch, embeddings, strict=True):
            if not torch.isfinite(embedding).all():
                writer.flush()
                raise StoreError("an embedding is not finite", got=f"{prompt[:160]!r}",
                                 fix="look at the encoder, or load it in another type")  # fmt: skip
            writer.add(key, _as_small_as_exact(_own_tokens(embedding)))
        if progress is not None:
            progress(start + len(batch), len(wanted))
    writer.flush()
    rows = _move_out(folder, {key: (before | writer.rows)[key] for key in keys}, writer, encoder.dim)
    about = {"remind.text": TEXT_VERSION, "encoder": encoder.digest, "dim": str(encoder.dim),
             "text_len": str(encoder.text_len)}  # fmt: skip
    table = pa.Table.from_pylist([rows[key] for key in sorted(rows)], schema=SCHEMA.with_metadata(about))
    with whole_file(folder / "index.parquet") as file:
        pq.write_table(table, file)
    live = {row["shard"] for row in rows.values()}
    for path in (folder / "shards").glob("text-*"):
        if path.name not in live:
            path.unlink()
    size = sum((folder / "shards" / name).stat().st_size for name in live)
    return TextReport(len(wanted), len(keys) - len(wanted), len(before.keys() - keys.keys()), size)


def _own_tokens(embedding: Float[Tensor, "s d"]) -> Float[Tensor, "n d"]:
    """Without the zeros after the prompt's end."""
    used = (embedding != 0).any(dim=-1).nonzero()
    return embedding[: int(used[-1]) + 1 if len(used) else 0]


def _as_small_as_exact(tokens: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
    """In bfloat16 where that loses nothing, as for an encoder that computes in it; else as they are."""
    half = tokens.to(torch.bfloat16)
    return half if torch.equal(half.float(), tokens) else tokens.float()


def _find_rows(folder: Path) -> Rows:
    rows: Rows = {}
    for path in sorted((folder / "shards").glob("text-*")):
        for row in _rows_of_shard(path):
            rows.setdefault(row["key"], row)
    return rows


def _rows_of_shard(path: Path) -> list[dict[str, Any]]:
    """A shard that cannot be opened holds none."""
    if not SHARD_NAME.fullmatch(path.name):
        return []
    try:
        with safe_open(str(path), framework="pt") as file:  # checks that the file is as long as it says
            count = file.get_slice("embeddings").get_shape()[0]
            rows = json.loads(file.get_tensor("entries").numpy().tobytes())
        good = all(
            isinstance(row["key"], str) and 0 <= row["first"] <= row["first"] + row["num_tokens"] <= count
            and isinstance(row["crc32"], int) and isinstance(row["dtype"], str) for row in rows
        )  # fmt: skip
    except (SafetensorError, OSError, ValueError, KeyError, TypeError):
        return []
    return [{**row, "shard": path.name} for row in rows] if good else []


def _move_out(folder: Path, rows: Rows, writer: _ShardWriter, dim: int) -> Rows:
    """Copy what is wanted out of shards that also hold other prompts, which so leave the disk with their shard."""
    by_shard: dict[str, list[dict[str, Any]]] = {}
    for row in rows.values():
        by_shard.setdefault(row["shard"], []).append(row)
    for shard, wanted in sorted(by_shard.items()):
        if len(wanted) == len(_rows_of_shard(folder / "shards" / shard)):
            continue
        for row in sorted(wanted, key=lambda row: row["first"]):
            writer.add(row["key"], read_tokens(folder, row, dim))
    writer.flush()
    return {key: writer.rows.get(key, row) for key, row in rows.items()}


class _ShardWriter:
    """Collects prompts and writes those of one type as a shard; `rows` are those on disk."""

    def __init__(self, folder: Path, shard_bytes: int):
        self.folder, self.shard_bytes = folder, shard_bytes
        self.rows: Rows = {}
        self._waiting: dict[torch.dtype, list[tuple[str, Tensor]]] = {}
        self._bytes = 0

    def add(self, key: str, tokens: Tensor) -> None:
        self._waiting.setdefault(tokens.dtype, []).append((key, tokens))
        self._bytes += tokens.numel() * tokens.element_size()
        if self._bytes >= self.shard_bytes:
            self.flush()

    def flush(self) -> None:
        """Write what waits."""
        for waiting in self._waiting.values():
            self._write(waiting)
        self._waiting, self._bytes = {}, 0

    def _write(self, waiting: list[tuple[str, Tensor]]) -> None:
        name = hashlib.sha256(" ".join(key for key, _ in waiting).encode()).hexdigest()[:16]
        name = f"text-{name}.safetensors"
        rows = list(_placed(waiting, name))
        entries = torch.frombuffer(bytearray(json.dumps(rows).encode()), dtype=torch.uint8)
        with whole_file(self.folder / name) as file:
            save_file({"embeddings": torch.cat([tokens for _, tokens in waiting]), "entries": entries}, str(file))
        self.rows |= {row["key"]: row for row in rows}


def _placed(waiting: Sequence[tuple[str, Tensor]], shard: str) -> Iterator[dict[str, Any]]:
    first = 0
    for key, tokens in waiting:
        yield {"key": key, "num_tokens": len(tokens), "shard": shard, "first": first,
               "dtype": str(tokens.dtype).removeprefix("torch."), "crc32": tokens_crc32(tokens)}  # fmt: skip
        first += len(tokens)
