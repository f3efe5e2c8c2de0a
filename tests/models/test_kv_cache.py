"""The streaming KV cache: its size, the life of a slot, its other forms, and what it refuses."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from remind.errors import InputError
from remind.models.config import DiTConfig
from remind.models.kv_cache import CacheEntry, StreamingKVCache, grid_of

GRID = (1, 2)
TOKENS = 6
FORMS: list[dict[str, Any]] = [
    {}, {"keys": "raw"}, {"storage": "int8"}, {"keys": "raw", "storage": "int8"}
]  # fmt: skip


@pytest.fixture
def cache(config: DiTConfig) -> StreamingKVCache:
    return StreamingKVCache(config, batch=2, num_slots=3, grid_hw=GRID)


def one_chunk(config: DiTConfig, value: float, *, batch: int = 2, tokens: int = TOKENS) -> Tensor:
    return torch.full((batch, config.num_heads, tokens, config.head_dim), value)


def look(cache: StreamingKVCache, value: float, *, layer: int = 0) -> tuple[float, list[int]]:
    """Write values and keys that all weigh the same: what is read is the mean over the remembered chunks."""
    lse: list[Tensor] = []
    same = one_chunk(cache.config, 0.0)
    y = cache.attend(layer, same, same, one_chunk(cache.config, value), lse=lse)
    assert (y - y[0, 0, 0, 0]).abs().max() < 1e-5
    return round(float(y[0, 0, 0, 0]), 4), list(lse[0].shape[2:])


def remember(cache: StreamingKVCache, chunk: int, value: float) -> None:
    cache.open(chunk, 3 * chunk, "clean")
    for layer in range(cache.config.num_layers):
        look(cache, value, layer=layer)
    cache.close()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("mode", ["none", "qk", "full", "dual"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_its_size_is_known_to_the_byte_before_it_is_allocated(form: dict, mode: str, dtype: torch.dtype) -> None:
    config = DiTConfig(dim=48, ffn_dim=96, num_heads=4, num_layers=3, camera_mode=mode, phase_per_head=mode == "qk")
    shape = {"batch": 2, "num_slots": 7, "grid_hw": (2, 2), "dtype": dtype, **form}
    assert StreamingKVCache(config, **shape).nbytes == StreamingKVCache.predict_nbytes(config, **shape)


def test_a_wan_chunk_at_480x832_is_0_86_gb_and_half_of_it_in_int8() -> None:
    wan = DiTConfig.preset("wan-1.3b")
    shape = {"batch": 1, "num_slots": 1, "grid_hw": grid_of(wan, (60, 104)), "dtype": torch.bfloat16}
    assert StreamingKVCache.predict_nbytes(wan, **shape) == pytest.approx(0.8626e9, rel=1e-3)
    assert StreamingKVCache.predict_nbytes(wan, **shape, storage="int8") == pytest.approx(0.8626e9 / 2, rel=0.04)


def test_every_pass_overwrites_the_open_slot_and_the_last_one_stays(cache: StreamingKVCache) -> None:
    remember(cache, 0, 1.0)
    cache.open(1, 3, "anchor")
    assert look(cache, 5.0) == (3.0, [TOKENS, 2])
    assert look(cache, 7.0) == (4.0, [TOKENS, 2])
    cache.close()
    assert cache.entries == (CacheEntry(0, 0, "clean"), CacheEntry(1, 3, "anchor"))
    cache.open(2, 6, "clean")
    assert look(cache, 1.0) == (3.0, [TOKENS, 3])  # (1 + 7 + 1) / 3


@pytest.mark.parametrize("form", FORMS)
def test_open_chunks_see_those_opened_before_them(config: DiTConfig, form: dict) -> None:
    cache = StreamingKVCache(config, batch=2, num_slots=4, grid_hw=GRID, **form)
    remember(cache, 0, 1.0)
    remember(cache, 1, 2.0)
    cache.evict(0)  # so that the second open chunk lies in front of the first
    cache.open(2, 6, "clean")
    remembered = cache.num_open
    cache.open(3, 9, "clean")
    assert (remembered, cache.num_open) == (1, 2)
    same, lse = one_chunk(config, 0.0, tokens=2 * TOKENS), []
    values = torch.cat([one_chunk(config, 3.0), one_chunk(config, 7.0)], 2)
    y = cache.attend(0, same, same, values, lse=lse)
    torch.testing.assert_close(y[:, :, :TOKENS], one_chunk(config, 2.5))  # (2 + 3) / 2
    torch.testing.assert_close(y[:, :, TOKENS:], one_chunk(config, 4.0))  # (2 + 3 + 7) / 3
    assert [e.chunk for e in cache.entries] == [2, 1, 3]
    unseen = torch.isinf(lse[0][0, 0])
    assert unseen[:TOKENS].all(0).tolist() == [False, False, True]
    assert not unseen[TOKENS:].any()
    cache.close()
    cache.evict(2)  # the first one was closed, the other is still open
    with pytest.raises(InputError, match="no such chunk"):
        cache.evict(3)
    with pytest.raises(InputError, match="these are not the open chunks"):
        cache.attend(0, same, same, values)


def test_layers_do_not_share_memory(cache: StreamingKVCache) -> None:
    cache.open(0, 0, "clean")
    look(cache, 1.0, layer=0)
    look(cache, 2.0, layer=1)
    cache.close()
    cache.open(1, 3, "clean")
    assert look(cache, 1.0, layer=0)[0] == 1.0
    assert look(cache, 2.0, layer=1)[0] == 2.0


@pytest.mark.parametrize("form", FORMS)
def test_eviction_frees_a_slot_and_moves_nothing(config: DiTConfig, form: dict) -> None:
    cache = StreamingKVCache(config, batch=2, num_slots=3, grid_hw=GRID, **form)
    for chunk in range(3):
        remember(cache, chunk, float(chunk))
    before = cache._tensors["v"].clone()
    cache.evict(1)
    assert [e.chunk for e in cache.entries] == [0, 2]
    assert torch.equal(cache._tensors["v"], before)
    cache.open(9, 27, "recovery")
    assert look(cache, 10.0) == (4.0, [TOKENS, 3])
    assert [e.chunk for e in cache.entries] == [0, 9, 2]  # slot order, not time


@pytest.mark.parametrize("form", FORMS)
def test_a_gap_left_by_an_eviction_is_not_read(config: DiTConfig, form: dict) -> None:
    cache = StreamingKVCache(config, batch=2, num_slots=3, grid_hw=GRID, **form)
    remember(cache, 0, 1.0)
    remember(cache, 1, 2.0)
    cache.open(2, 6, "clean")
    cache.evict(0)
    assert look(cache, 4.0) == (3.0, [TOKENS, 2])


def test_int8_never_holds_more_than_one_chunk_in_full_precision(config: DiTConfig) -> None:
    cache = StreamingKVCache(config, batch=2, num_slots=3, grid_hw=GRID, storage="int8")
    for chunk in range(2):
        remember(cache, chunk, float(chunk))
    cache.open(2, 6, "clean")
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for x in out if isinstance(out, (tuple, list)) else (out,):
                if isinstance(x, Tensor) and x.is_floating_point() and x.ndim >= 4 and x.shape[-1] == config.head_dim:
                    largest = max(largest, x.shape[-2])
            return out

    with Watch():
        same = one_chunk(config, 0.0)
        cache.attend(0, same, same, same)
    assert largest == TOKENS


def test_keys_that_carry_their_phases_cannot_move(config: DiTConfig, cache: StreamingKVCache) -> None:
    remember(cache, 0, 1.0)
    with pytest.raises(InputError, match='keys="raw"'):
        cache.move(0, 5)
    raw = StreamingKVCache(config, batch=2, num_slots=3, grid_hw=GRID, keys="raw")
    remember(raw, 0, 1.0)
    raw.move(0, 5)
    assert raw.entries == (CacheEntry(0, 5, "clean"),)
    with pytest.raises(InputError, match="no such chunk"):
        raw.move(1, 5)


def test_what_cannot_be_done_is_said(config: DiTConfig, cache: StreamingKVCache) -> None:
    with pytest.raises(InputError, match="no chunk is open"):
        cache.close()
    with pytest.raises(InputError, match="no chunk is open"):
        look(cache, 0.0)
    with pytest.raises(InputError, match="no such chunk"):
        cache.evict(0)
    cache.open(0, 0, "clean")
    with pytest.raises(InputError, match="already in the cache"):
        cache.open(0, 0, "clean")
    with pytest.raises(InputError, match="no such chunk"):
        cache.evict(0)  # the open one
    for layer in range(config.num_layers):
        look(cache, 0.0, layer=layer)
    cache.close()
    with pytest.raises(InputError, match="already in the cache"):
        cache.open(0, 0, "clean")
    remember(cache, 1, 0.0)
    remember(cache, 2, 0.0)
    with pytest.raises(InputError, match="full"):
        cache.open(3, 9, "clean")
    with pytest.raises(InputError, match="at least one slot"):
        StreamingKVCache(config, batch=1, num_slots=0, grid_hw=(1, 1))


@pytest.mark.parametrize("wrong", [{"batch": 1}, {"tokens": TOKENS + 1}, {"tokens": 1}])
def test_a_chunk_of_another_batch_or_size_is_refused(
    config: DiTConfig, cache: StreamingKVCache, wrong: dict
) -> None:
    cache.open(0, 0, "clean")
    x = one_chunk(config, 0.0, **wrong)
    with pytest.raises(InputError, match="batch 2, 1 x 6 tokens"):
        cache.attend(0, x, x, x)


# --- what a long rollout needs -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
def test_a_chunk_that_is_written_again_does_not_see_its_successors(config: DiTConfig, form: dict) -> None:
    cache = StreamingKVCache(config, batch=2, num_slots=4, grid_hw=GRID, **form)
    for chunk in (0, 5, 6):
        remember(cache, chunk, float(chunk))
    cache.open(3, 9, "anchor")
    lse: list[Tensor] = []
    same = one_chunk(config, 0.0)
    y = cache.attend(0, same, same, one_chunk(config, 4.0), lse=lse)
    torch.testing.assert_close(y, one_chunk(config, 2.0))  # (0 + 4) / 2
    assert torch.isinf(lse[0][0, 0, 0]).tolist() == [False, True, True, False]


@pytest.mark.parametrize("form", FORMS)
def test_growing_keeps_everything_where_it_is(config: DiTConfig, form: dict) -> None:
    small = StreamingKVCache(config, batch=2, num_slots=2, grid_hw=GRID, **form)
    for chunk in range(2):
        remember(small, chunk, float(chunk))
    small.grow(5)
    assert small.nbytes == StreamingKVCache.predict_nbytes(config, batch=2, num_slots=5, grid_hw=GRID, **form)
    assert [entry and entry.chunk for entry in small.slots] == [0, 1, None, None, None]
    small.open(2, 6, "clean")
    assert look(small, 5.0) == (2.0, [TOKENS, 3])
    with pytest.raises(InputError, match="cannot shrink"):
        small.grow(4)


def test_a_role_can_change_and_an_open_chunk_be_given_up(cache: StreamingKVCache) -> None:
    remember(cache, 0, 1.0)
    cache.relabel(0, "anchor")
    assert cache.entries == (CacheEntry(0, 0, "anchor"),)
    cache.open(1, 3, "clean")
    cache.open(2, 6, "clean")
    with pytest.raises(InputError, match="no such chunk"):
        cache.relabel(1, "anchor")
    cache.discard_open()
    assert (cache.num_open, cache.entries) == (0, (CacheEntry(0, 0, "anchor"),))
    cache.open(1, 3, "clean")
    assert look(cache, 3.0) == (2.0, [TOKENS, 2])


@pytest.mark.parametrize("form", FORMS)
def test_a_copy_shares_nothing_and_an_export_holds_everything(config: DiTConfig, form: dict) -> None:
    cache = StreamingKVCache(config, batch=2, num_slots=3, grid_hw=GRID, **form)
    for chunk in range(3):
        remember(cache, chunk, float(chunk))
    cache.evict(2)
    other = cache.copy()
    other.evict(0)
    other.open(7, 21, "clean")
    look(other, 100.0)
    filled = StreamingKVCache(config, batch=2, num_slots=5, grid_hw=GRID, **form)
    for slot in range(2):
        entry = cache.slots[slot]
        assert entry is not None
        filled.import_slot(slot, entry, cache.export_slot(slot))
    for same in (cache, filled):
        same.open(3, 9, "clean")
        assert look(same, 5.0) == (2.0, [TOKENS, 3])
    for slot, error in ((0, "only a free slot"), (9, "only a free slot"), (4, "already in the cache")):
        with pytest.raises(InputError, match=error):
            filled.import_slot(slot, CacheEntry(0, 0, "clean"), cache.export_slot(0))
    empty = StreamingKVCache(config, batch=1, num_slots=5, grid_hw=GRID, **form)
    with pytest.raises(InputError, match="not the tensors of such a cache"):
        empty.import_slot(0, CacheEntry(0, 0, "clean"), cache.export_slot(0))
