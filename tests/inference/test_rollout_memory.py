"""What a rollout remembers: against recomputation without a cache, for every policy and form of guidance."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
import torch

from remind.errors import InputError
from remind.inference.memory_policy import (
    Anchors,
    Coming,
    Full,
    MemoryPolicy,
    Remembered,
    Retrieve,
    SinkWindow,
    Window,
)
from remind.inference.rollout import Rollout
from remind.models.dit import CausalVideoDiT
from remind.models.kv_cache import StreamingKVCache

from ..make_memory import TINY, filled_model
from .make_rollout import FAST, ask, clean_latents, engine, run
from .recomputed import Recomputed

GIVEN, CHUNKS = 3, 7
SLOT = StreamingKVCache.predict_nbytes(TINY, batch=2, num_slots=1, grid_hw=(1, 1))


@dataclass(frozen=True)
class Told:
    """Keeps what the test says, chunk by chunk; everything where it says nothing."""

    kept: dict[int, tuple[int, ...]] = field(default_factory=dict)
    recalls: bool = True
    needs_importance: bool = False
    name: str = "told"

    def keep(self, past: list[Remembered], coming: Coming, room: int) -> tuple[int, ...]:
        return self.kept.get(coming.chunk, tuple(p.chunk for p in past))


POLICIES: list[MemoryPolicy] = [
    Full(),
    Window(2),
    SinkWindow(1, 2),
    Anchors(1),
    Retrieve(3),
    Told({3: (0, 2), 4: (1, 3), 5: (0, 1), 6: (0, 2, 4, 5)}),  # chunks come back, and one is dropped while it waits
    Told({3: (0, 2), 4: (1, 3), 5: (0, 1), 6: (0, 2, 4, 5)}, recalls=False),
    Told({2: (), 5: (3, 4)}),
]


@pytest.fixture(scope="module")
def model() -> CausalVideoDiT:
    return filled_model()


CASES = [(policy, 1.0, 0.0) for policy in POLICIES] + [(POLICIES[i], 2.5, 0.3) for i in (0, 2, 4, 5)]


@pytest.mark.parametrize(("policy", "guidance", "context_noise"), CASES, ids=lambda x: getattr(x, "name", str(x)))
def test_memory_is_what_recomputing_everything_says(
    model: CausalVideoDiT, policy: MemoryPolicy, guidance: float, context_noise: float
) -> None:
    options = {"guidance": guidance, "context_noise": context_noise, "policy": policy}
    truth = Recomputed(model, (1, 2), steps=FAST.steps, shift=FAST.shift, **options)
    asked = [ask(k, guided=guidance != 1) for k in range(CHUNKS)]
    prefix = clean_latents(GIVEN)
    for k in range(GIVEN):
        truth.give(k, prefix[:, 3 * k : 3 * k + 3], asked[k])
    expected = torch.cat([truth.generate(k, asked[k]) for k in range(GIVEN, CHUNKS)], 1)
    for together in (1, 2, 3) if policy.name == "told" and guidance == 1 else (1, 2):
        rollout = engine(model, chunks_per_pass=together, measure_importance=True, **options)
        rollout.give(prefix, asked[:GIVEN])
        torch.testing.assert_close(run(rollout, CHUNKS - GIVEN), expected, atol=2e-4, rtol=1e-4)
        for past in rollout.past:
            assert past.importance == pytest.approx(truth.importance(past.chunk), abs=1e-5)
            assert past.last_seen == truth.last_seen.get(past.chunk)
        assert rollout.memory.resident == set(truth.resident)
        assert rollout.memory.waiting == [CHUNKS - 1]


def test_the_policies_really_differ(model: CausalVideoDiT) -> None:
    """Otherwise the test above would prove nothing."""
    made = []
    for policy in POLICIES:
        rollout = engine(model, policy=policy)
        rollout.give(clean_latents(GIVEN), [ask(k) for k in range(GIVEN)])
        made.append(run(rollout, CHUNKS - GIVEN)[:, -3:])
    for i, one in enumerate(made):
        assert all((one - other).abs().max() > 1e-3 for other in made[:i])


def test_however_calls_are_cut_the_bits_are_the_same(model: CausalVideoDiT) -> None:
    for policy in (Full(), Window(2), Retrieve(3)):
        whole = engine(model, policy=policy)
        whole.give(clean_latents(GIVEN), [ask(k) for k in range(GIVEN)])
        expected = run(whole, 4)
        pieces = engine(model, policy=policy)
        for k in range(GIVEN):
            pieces.give(clean_latents(GIVEN)[:, 3 * k : 3 * k + 3], [ask(k)])
            pieces.table()
        assert torch.equal(run(pieces, 4), expected)


def test_measuring_changes_no_bit(model: CausalVideoDiT) -> None:
    for options in ({}, {"storage": "int8"}, {"guidance": 2.0}):
        plain, measured = engine(model, **options), engine(model, measure_importance=True, **options)
        assert torch.equal(run(plain, 4), run(measured, 4))
        assert all(p.importance is None for p in plain.past)
        assert sum(p.importance is not None for p in measured.past) == 3


def test_a_policy_that_needs_importance_gets_it(model: CausalVideoDiT) -> None:
    rollout = engine(model, policy=Told(needs_importance=True))
    run(rollout, 3)
    assert [p.looks for p in rollout.past] == [2, 1, 0]


# --- the budget ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"guidance": 2.0}, {"storage": "int8"}])
def test_a_budget_is_never_exceeded_and_used_whole(
    model: CausalVideoDiT, options: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = options.get("storage", "float")
    one = StreamingKVCache.predict_nbytes(TINY, batch=2, num_slots=1, grid_hw=(1, 1), storage=storage)
    one *= 2 if "guidance" in options else 1
    rollout = engine(model, policy=Window(99), budget_bytes=4 * one + one - 1, **options)
    held: list[tuple[int, int]] = []
    forward = model.forward

    def watch(*args, **kwargs):  # type: ignore[no-untyped-def]
        held.append((rollout.cache_nbytes, len(rollout.memory.cache.entries)))
        return forward(*args, **kwargs)

    monkeypatch.setattr(model, "forward", watch)
    run(rollout, 8)
    assert {nbytes for nbytes, _ in held} == {4 * one}
    assert max(entries for _, entries in held) == 4  # three that are remembered and the one that is made
    assert [row.nbytes for row in rollout.table()] == [one, one, one, 0]
    assert rollout.latents_nbytes == 8 * 2 * 3 * 16 * 4 * 4


def test_a_budget_is_another_room_and_nothing_else(model: CausalVideoDiT) -> None:
    limited = engine(model, policy=Window(99), budget_bytes=4 * SLOT)
    free = engine(model, policy=Window(3))
    assert torch.equal(run(limited, 8), run(free, 8))


def test_too_small_a_budget_says_what_is_needed(model: CausalVideoDiT) -> None:
    with pytest.raises(InputError, match=rf"got {2 * SLOT - 1} bytes; expected at least {2 * SLOT} bytes"):
        engine(model, budget_bytes=2 * SLOT - 1)
    with pytest.raises(InputError, match=rf"expected at least {4 * SLOT} bytes.*2 branches"):
        engine(model, budget_bytes=2 * SLOT, guidance=3.0)
    run(engine(model, budget_bytes=2 * SLOT, policy=Window(5)), 3)


def test_recalled_chunks_stay_within_the_budget(model: CausalVideoDiT) -> None:
    policy = Told({k: ((k % 2), k - 1) if k > 2 else tuple(range(k))[-2:] for k in range(9)})
    rollout = engine(model, policy=policy, budget_bytes=3 * SLOT)
    run(rollout, 9)
    assert rollout.cache_nbytes == 3 * SLOT


def test_without_a_budget_memory_grows_as_needed(model: CausalVideoDiT) -> None:
    small, large = engine(model, horizon=1), engine(model, horizon=9)
    assert small.cache_nbytes == SLOT
    assert torch.equal(run(small, 8), run(large, 8))
    assert 8 * SLOT <= small.cache_nbytes <= 10 * SLOT


def test_a_policy_that_keeps_too_much_is_named(model: CausalVideoDiT) -> None:
    rollout = engine(model, policy=Told(), budget_bytes=3 * SLOT)
    with pytest.raises(InputError, match=r"told: chunks \[0, 1, 2\]; expected at most 2"):
        run(rollout, 4)


def test_hundreds_of_chunks_take_the_memory_of_a_few(model: CausalVideoDiT, monkeypatch: pytest.MonkeyPatch) -> None:
    rollout = engine(model, policy=SinkWindow(1, 3), budget_bytes=5 * SLOT)
    facts: list[tuple[int, int, int]] = []
    attend = StreamingKVCache.attend

    def watch(cache, layer, q, *args, **kwargs):  # type: ignore[no-untyped-def]
        facts.append((len(cache.entries), q.shape[2], cache.nbytes))
        return attend(cache, layer, q, *args, **kwargs)

    monkeypatch.setattr(StreamingKVCache, "attend", watch)
    run(rollout, 8)
    per_chunk = []
    for _ in range(12):
        facts.clear()
        run(rollout, 1)
        per_chunk.append(tuple(facts))
    assert len(set(per_chunk)) == 1
    monkeypatch.undo()
    late = engine(model, policy=SinkWindow(1, 3), first_position=3000)
    assert run(late, 6).isfinite().all()


# --- forms ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", [Full(), Retrieve(3)], ids=lambda p: p.name)
def test_int8_writes_together_what_it_writes_apart_and_stays_near(model: CausalVideoDiT, policy: MemoryPolicy) -> None:
    whole = run(engine(model, policy=policy), 6)
    apart, together = (run(engine(model, policy=policy, storage="int8", chunks_per_pass=n), 6) for n in (1, 2))
    torch.testing.assert_close(apart, together, atol=2e-4, rtol=1e-4)
    assert 0 < (apart - whole).abs().max() < 0.1 * whole.std()


def test_bfloat16_weights_make_a_bfloat16_cache_and_float32_latents() -> None:
    model = filled_model().to(torch.bfloat16)
    rollout = engine(model, budget_bytes=2 * SLOT, guidance=2.0, policy=Window(1))
    out = run(rollout, 3)
    assert out.dtype == torch.float32
    assert out.isfinite().all()
    assert rollout.memory.cache.dtype == torch.bfloat16
    assert rollout.cache_nbytes == 2 * SLOT


# --- asking for memories -------------------------------------------------------------------------------------------


def started(model: CausalVideoDiT, **options: object) -> Rollout:
    rollout = engine(model, **options)
    rollout.give(clean_latents(GIVEN), [ask(k) for k in range(GIVEN)])
    run(rollout, 2)
    return rollout


@pytest.mark.parametrize("chunk", [0, 2, 3, 4])
@pytest.mark.parametrize("context_noise", [0.0, 0.2])
def test_rebuild_is_as_if_the_chunk_had_never_been_written(
    model: CausalVideoDiT, chunk: int, context_noise: float
) -> None:
    rollout = started(model, context_noise=context_noise)
    rollout.knock_out(chunk, "rebuild")
    fresh = engine(model, policy=Told({k: tuple(c for c in range(k) if c != chunk) for k in range(9)}),
                   context_noise=context_noise)  # fmt: skip
    for past in rollout.past:
        fresh.give(past.latents, [past.conditions])
    torch.testing.assert_close(run(rollout, 2), run(fresh, 2), atol=1e-5, rtol=1e-5)
    assert chunk not in rollout.memory.resident


def test_direct_leaves_what_later_entries_have_absorbed(model: CausalVideoDiT) -> None:
    made = {}
    for how in ("direct", "rebuild", None):
        rollout = started(model)
        if how is not None:
            rollout.knock_out(1, how)
        made[how] = run(rollout, 2)
    assert (made["direct"] - made["rebuild"]).abs().max() > 1e-3
    assert (made["direct"] - made[None]).abs().max() > 1e-3
    apart = Told({k: tuple(c for c in range(k) if c != 1 or k < 5) for k in range(9)})  # written, then hidden
    told = engine(model, policy=apart)
    past = started(model).past
    told.give(torch.cat([p.latents for p in past], 1), [p.conditions for p in past])
    told.memory.flush([0, 1, 2, 3, 4])
    torch.testing.assert_close(made["direct"], run(told, 2), atol=1e-5, rtol=1e-5)


def test_what_is_knocked_out_is_gone_for_good(model: CausalVideoDiT) -> None:
    rollout = started(model, policy=Retrieve(9))
    rollout.knock_out(1, "direct")
    run(rollout, 2)
    assert 1 not in {row.chunk for row in rollout.table()}
    for ask_for in (rollout.protect, rollout.knock_out):
        with pytest.raises(InputError, match="was knocked out; got 1"):
            ask_for(1)
    with pytest.raises(InputError, match="no such chunk in memory; got 99"):
        rollout.set_role(99, "anchor")


def test_protection_and_roles_reach_policy_and_cache(model: CausalVideoDiT) -> None:
    rollout = engine(model, policy=Window(2))
    run(rollout, 2)
    rollout.protect(0)
    rollout.set_role(0, "anchor")
    run(rollout, 3)
    first, *_ = rollout.table()
    assert (first.slot, first.chunk, first.position, first.role, first.protected) == (0, 0, 0, "anchor", True)
    assert next(e for e in rollout.memory.cache.entries if e.chunk == 0).role == "anchor"
    rollout.protect(0, protected=False)
    run(rollout, 2)
    assert 0 not in {row.chunk for row in rollout.table()}


def test_the_table_shows_what_waits(model: CausalVideoDiT) -> None:
    rollout = started(model, measure_importance=True)
    rows = rollout.table()
    assert [(row.slot, row.chunk, row.nbytes) for row in rows] == [*((k, k, SLOT) for k in range(4)), (None, 4, 0)]
    assert rows[0].importance == pytest.approx(rollout.past[0].importance)
    assert rows[4].importance is None


def test_references_stand_before_a_gap(model: CausalVideoDiT) -> None:
    old, start = clean_latents(2, seed=8), 12
    rollout = engine(model, policy=Window(2), first_position=start, guidance=2.0)
    references = [ask(k, guided=True) for k in (50, 51)]
    assert rollout.reference(old, references) == (-2, -1)
    made = run(rollout, 5)
    rows = {row.chunk: row for row in rollout.table()}
    assert [(rows[c].position, rows[c].role, rows[c].protected) for c in (-2, -1)] == [
        (0, "reference", True), (3, "reference", True)
    ]  # fmt: skip
    assert rows[4].position == start + 12

    truth = Recomputed(model, (1, 2), Window(2), guidance=2.0, protected={-2, -1},
                       position_of=lambda c: start + 3 * c if c >= 0 else 3 * (c + 2))  # fmt: skip
    for i, chunk in enumerate((-2, -1)):
        truth.give(chunk, old[:, 3 * i : 3 * i + 3], references[i])
    expected = torch.cat([truth.generate(k, ask(k, guided=True)) for k in range(5)], 1)
    torch.testing.assert_close(made, expected, atol=2e-4, rtol=1e-4)
    rollout.knock_out(-2)
    assert rollout.memory.resident == {-1, 2, 3}
    assert run(rollout, 1).isfinite().all()


def test_references_come_first_and_chunk_0_after_them(model: CausalVideoDiT) -> None:
    with pytest.raises(InputError, match=r"after the references.*first_position=5; expected >= 6"):
        engine(model, first_position=5).reference(clean_latents(2), [ask(0), ask(1)])
    late = engine(model, first_position=9)
    run(late, 1)
    with pytest.raises(InputError, match="before everything else"):
        late.reference(clean_latents(1), [ask(0)])
