"""The streaming KV cache: its size, the life of a slot, and what it refuses."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from remind.errors import InputError
from remind.models.config import DiTConfig
from remind.models.kv_cache import CacheEntry, StreamingKVCache, tokens_per_chunk

TOKENS = 6


@pytest.fixture
def cache(config: DiTConfig) -> StreamingKVCache:
    return StreamingKVCache(config, batch=2, num_slots=3, tokens_per_chunk=TOKENS)


def one_chunk(config: DiTConfig, value: float, *, batch: int = 2, tokens: int = TOKENS) -> Tensor:
    return torch.full((batch, config.num_heads, tokens, config.head_dim), value)


def remember(cache: StreamingKVCache, chunk: int, value: float) -> None:
    cache.open(chunk, 3 * chunk, "clean")
    for layer in range(cache.config.num_layers):
        cache.write_and_read(layer, one_chunk(cache.config, value), one_chunk(cache.config, -value))
    cache.close()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_size_is_known_to_the_byte_before_it_is_allocated(config: DiTConfig, dtype: torch.dtype) -> None:
    shape = {"batch": 2, "num_slots": 7, "tokens_per_chunk": 12, "dtype": dtype}
    assert StreamingKVCache(config, **shape).nbytes == StreamingKVCache.predict_nbytes(config, **shape)


def test_a_wan_chunk_at_480x832_is_0_86_gb() -> None:
    wan = DiTConfig.preset("wan-1.3b")
    tokens = tokens_per_chunk(wan, (60, 104))
    assert tokens == 3 * 1560
    per_chunk = StreamingKVCache.predict_nbytes(
        wan, batch=1, num_slots=1, tokens_per_chunk=tokens, dtype=torch.bfloat16
    )
    assert per_chunk == pytest.approx(0.8626e9, rel=1e-3)


def test_every_pass_overwrites_the_open_slot_and_the_last_one_stays(
    config: DiTConfig, cache: StreamingKVCache
) -> None:
    remember(cache, 0, 1.0)
    cache.open(1, 3, "anchor")
    for value in (5.0, 7.0):
        keys, values = cache.write_and_read(2, one_chunk(config, value), one_chunk(config, -value))
        assert keys[0, 0, :, 0].tolist() == [1.0] * TOKENS + [value] * TOKENS
        assert values[1, 3, :, -1].tolist() == [-1.0] * TOKENS + [-value] * TOKENS
    cache.close()
    assert cache.entries == (CacheEntry(0, 0, "clean"), CacheEntry(1, 3, "anchor"))


def test_layers_do_not_share_memory(config: DiTConfig, cache: StreamingKVCache) -> None:
    cache.open(0, 0, "clean")
    cache.write_and_read(0, one_chunk(config, 1.0), one_chunk(config, 1.0))
    keys, _ = cache.write_and_read(1, one_chunk(config, 2.0), one_chunk(config, 2.0))
    assert (keys == 2).all()
    assert (cache.write_and_read(0, one_chunk(config, 3.0), one_chunk(config, 3.0))[0] == 3).all()


def test_eviction_frees_a_slot_and_moves_nothing(config: DiTConfig, cache: StreamingKVCache) -> None:
    for chunk in range(3):
        remember(cache, chunk, float(chunk))
    cache.evict(1)
    assert [e.chunk for e in cache.entries] == [0, 2]
    cache.open(9, 27, "recovery")
    keys, _ = cache.write_and_read(0, one_chunk(config, 9.0), one_chunk(config, 9.0))
    assert [e.chunk for e in cache.entries] == [0, 9, 2]  # slot order, not time
    assert keys[0, 0, ::TOKENS, 0].tolist() == [0.0, 9.0, 2.0]


def test_a_gap_left_by_an_eviction_is_not_read(config: DiTConfig, cache: StreamingKVCache) -> None:
    remember(cache, 0, 1.0)
    remember(cache, 1, 2.0)
    cache.open(2, 6, "clean")
    cache.evict(0)
    keys, _ = cache.write_and_read(0, one_chunk(config, 3.0), one_chunk(config, 3.0))
    assert keys[0, 0, ::TOKENS, 0].tolist() == [2.0, 3.0]


def test_what_cannot_be_done_is_said(config: DiTConfig, cache: StreamingKVCache) -> None:
    with pytest.raises(InputError, match="no chunk is open"):
        cache.close()
    with pytest.raises(InputError, match="no chunk is open"):
        cache.write_and_read(0, one_chunk(config, 0.0), one_chunk(config, 0.0))
    with pytest.raises(InputError, match="no such chunk"):
        cache.evict(0)
    cache.open(0, 0, "clean")
    with pytest.raises(InputError, match="already open"):
        cache.open(1, 3, "clean")
    with pytest.raises(InputError, match="no such chunk"):
        cache.evict(0)  # the open one
    cache.close()
    with pytest.raises(InputError, match="already in the cache"):
        cache.open(0, 0, "clean")
    remember(cache, 1, 0.0)
    remember(cache, 2, 0.0)
    with pytest.raises(InputError, match="full"):
        cache.open(3, 9, "clean")
    with pytest.raises(InputError, match="at least one slot"):
        StreamingKVCache(config, batch=1, num_slots=0, tokens_per_chunk=1)


@pytest.mark.parametrize("wrong", [{"batch": 1}, {"tokens": TOKENS + 1}, {"tokens": 1}])
def test_a_chunk_of_another_batch_or_size_is_refused(
    config: DiTConfig, cache: StreamingKVCache, wrong: dict
) -> None:
    cache.open(0, 0, "clean")
    with pytest.raises(InputError, match="batch 2, 6 tokens"):
        cache.write_and_read(0, one_chunk(config, 0.0, **wrong), one_chunk(config, 0.0, **wrong))
