"""Prompt embeddings on disk, read at random: a text encoder of billions of weights runs once, not in every rank.

    TEXT/index.parquet                    one row per prompt
    TEXT/shards/text-<hash>.safetensors   embeddings [tokens dim] of many prompts, one after the other, and `entries`,
                                          their index rows as JSON

Only a prompt's own tokens are stored; the zeros after them are put back on reading. The key of a prompt hashes it with
the digest of its encoder, so what is stale cannot be mistaken for what is wanted. `text_build` writes it.
"""

from __future__ import annotations

import hashlib
import json
import re
import zlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from safetensors import SafetensorError, safe_open
from torch import Tensor

from remind.errors import StoreError
from remind.models.text import TextEncoder

TEXT_VERSION = "1"
TEXT_FOLDER = "text"  # beside the latents
AGAIN = "run `remind data latents ... --text ...` again: it embeds only what is missing"
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SCHEMA = pa.schema(
    [
        ("key", pa.string()), ("num_tokens", pa.int32()), ("shard", pa.string()), ("first", pa.int64()),
        ("dtype", pa.string()), ("crc32", pa.int64()),
    ]
)  # fmt: skip
SHARD_NAME = re.compile(r"text-[0-9a-f]{16}\.safetensors")
MAX_SIDE = 1 << 16


@runtime_checkable
class StorableTextEncoder(TextEncoder, Protocol):
    """A text encoder whose embeddings can be told from another's."""

    @property
    def digest(self) -> str:
        """Hash of all that decides the embeddings."""
        ...


def prompt_key(prompt: str, encoder_digest: str) -> str:
    """The name of an embedding: 64 hexadecimal digits."""
    return hashlib.sha256(json.dumps([TEXT_VERSION, encoder_digest, prompt]).encode()).hexdigest()


class CachedText:
    """A text encoder that reads what another one made. Keeps no file open: safe to pickle, to fork, and to share.

    Build one with `CachedText.open`.

    Attributes:
        dim, text_len: of the embeddings, as the encoder gave them.
        digest: of the encoder that made them.
    """

    def __init__(self, folder: Path, table: pa.Table, *, dim: int, text_len: int, digest: str):
        self.folder, self.table, self.dim, self.text_len, self.digest = folder, table, dim, text_len, digest
        starts = [int(key[:16], 16) for key in table.column("key").to_pylist()]
        self._starts = np.array(starts, dtype=np.uint64)
        self._order = np.argsort(self._starts, kind="stable")

    @classmethod
    def open(cls, folder: Path) -> CachedText:
        """Read and check the index.

        Raises:
            StoreError: no cache, one of another version, or a damaged or hostile index.
        """
        path = folder / "index.parquet"
        if not path.is_file():
            raise StoreError("there are no prompt embeddings", got=folder, expected="a folder with index.parquet",
                             fix="make them with `remind data latents ... --text ...`")  # fmt: skip
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise _damaged_index(path, str(error)[:120]) from None
        meta = {k.decode(errors="replace"): v.decode(errors="replace")
                for k, v in (table.schema.metadata or {}).items()}  # fmt: skip
        if meta.get("remind.text") != TEXT_VERSION or not table.schema.equals(SCHEMA):
            raise StoreError("the prompt embeddings have another format", got=f"version {meta.get('remind.text')}",
                             expected=TEXT_VERSION, fix="delete them and make them again")  # fmt: skip
        sizes = [meta.get(name, "") for name in ("dim", "text_len")]
        if not all(size.isdecimal() and 0 < int(size) <= MAX_SIDE for size in sizes):
            raise _damaged_index(path, f"sizes {sizes}")
        if any(column.null_count for column in table.columns):
            raise _damaged_index(path, "empty fields")
        for shard in table.column("shard").unique().to_pylist():
            if not SHARD_NAME.fullmatch(shard):
                raise StoreError("the index of prompts names a file outside of the cache", got=repr(shard)[:120],
                                 expected="text-<hash>.safetensors", fix="do not use this cache")  # fmt: skip
        if not all(re.fullmatch(r"[0-9a-f]{64}", key) for key in table.column("key").to_pylist()):
            raise _damaged_index(path, "a key that is none")
        return cls(folder, table, dim=int(sizes[0]), text_len=int(sizes[1]), digest=meta.get("encoder", ""))

    def __len__(self) -> int:
        """How many prompts there are."""
        return self.table.num_rows

    def __contains__(self, prompt: str) -> bool:
        return self._number(prompt) is not None

    def check(self, prompts: Iterable[str]) -> None:
        """Refuse prompts that are not there.

        Raises:
            StoreError: with the first of them.
        """
        missing = [prompt for prompt in dict.fromkeys(prompts) if prompt not in self]
        if missing:
            raise _missing(self.folder, missing[0], len(missing))

    def __call__(self, prompts: Sequence[str]) -> Float[Tensor, "b s d"]:
        """Embeddings in float32 on the CPU, zero after each prompt's end.

        Raises:
            StoreError: a prompt that is not there, or a damaged shard.
        """
        out = torch.zeros(len(prompts), self.text_len, self.dim)
        read: dict[str, Tensor] = {}
        for row, prompt in enumerate(prompts):
            if prompt not in read:
                read[prompt] = self._tokens(prompt)
            out[row, : len(read[prompt])] = read[prompt]
        return out

    def _number(self, prompt: str) -> int | None:
        key = prompt_key(prompt, self.digest)
        start = np.uint64(int(key[:16], 16))
        low, high = (int(np.searchsorted(self._starts, start, side=side, sorter=self._order))
                     for side in ("left", "right"))  # fmt: skip
        for number in self._order[low:high].tolist():
            if self.table.column("key")[number].as_py() == key:
                return int(number)
        return None

    def _tokens(self, prompt: str) -> Float[Tensor, "n d"]:
        number = self._number(prompt)
        if number is None:
            raise _missing(self.folder, prompt, 1)
        row = {name: self.table.column(name)[number].as_py() for name in SCHEMA.names}
        if not 0 <= row["num_tokens"] <= self.text_len:
            raise _damaged_shard(row, f"{row['num_tokens']} tokens")
        return read_tokens(self.folder, row, self.dim).float()


def read_tokens(folder: Path, row: dict[str, Any], dim: int) -> Float[Tensor, "n d"]:
    """A prompt's tokens as they are stored. Reads their bytes and no others.

    Raises:
        StoreError: a damaged shard.
    """
    first, stop = row["first"], row["first"] + row["num_tokens"]
    if first == stop:
        return torch.zeros(0, dim)
    try:
        with safe_open(str(folder / "shards" / row["shard"]), framework="pt") as file:
            tokens = file.get_slice("embeddings")[first:stop]
    except (SafetensorError, OSError, IndexError) as error:
        raise _damaged_shard(row, f"{type(error).__name__}: {str(error)[:120]}") from None
    if (tokens.dtype, tuple(tokens.shape)) != (DTYPES.get(row["dtype"]), (row["num_tokens"], dim)):
        raise _damaged_shard(row, f"{tokens.dtype}{list(tokens.shape)}")
    if tokens_crc32(tokens) != row["crc32"]:
        raise _damaged_shard(row, "another checksum")
    return tokens


def tokens_crc32(tokens: Float[Tensor, "n d"]) -> int:
    """CRC-32 over the bytes of a prompt's tokens as stored."""
    return zlib.crc32(tokens.contiguous().view(torch.uint8).numpy().data)


def _missing(folder: Path, prompt: str, count: int) -> StoreError:
    more = f" and {count - 1} more" if count > 1 else ""
    return StoreError("a prompt was never embedded", got=f"{prompt[:160]!r}{more}", expected=f"in {folder}", fix=AGAIN)


def _damaged_index(path: Path, got: str) -> StoreError:
    return StoreError("the index of prompts is damaged", got=f"{path}: {got}", fix=f"delete it and {AGAIN}")


def _damaged_shard(row: dict[str, Any], got: str) -> StoreError:
    return StoreError("prompt embeddings cannot be read", got=f"{row['shard']}: {got}",
                      fix=f"delete that shard and {AGAIN}")  # fmt: skip
