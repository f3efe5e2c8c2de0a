"""Regimes over any schedule: an anchor survives, nothing leaks, and plans of a batch attend alike."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.errors import GraphError, InputError
from remind.frame_graph import FrameGraph, Interruption, Schedule, frames_of_chunk
from remind.prompt_schedule import chunk_prompts
from remind.sequence_plan import PlanEntry, SequencePlan, shared_prompt_layout, shared_visibility
from remind.training.regimes import (
    REGIMES,
    BatchChoices,
    RegimeOptions,
    check_supports,
    draw_batch_choices,
)

# beartype checks a random item of each tuple, also while hypothesis draws; no example depends on which.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module")


@st.composite
def graphs(draw: st.DrawFn, chunks: int | None = None) -> FrameGraph:
    """Any clip of 3 to 9 chunks whose interruptions have a clean chunk before and after them."""
    num = chunks or draw(st.integers(3, 9))
    degraded = draw(st.lists(st.booleans(), min_size=num - 2, max_size=num - 2))
    flags = [False, *degraded, False]
    interruptions, k = [], 0
    while k < num:
        stop = k
        while stop < num and flags[stop]:
            stop += 1
        if stop > k:
            first, last = frames_of_chunk(k).start, frames_of_chunk(stop - 1).stop
            start = draw(st.integers(first, frames_of_chunk(k).stop - 1))
            end = draw(st.integers(max(start + 1, frames_of_chunk(stop - 1).start + 1), last))
            hidden = sorted(draw(st.tuples(st.integers(start, end), st.integers(start, end))))
            interruptions.append(Interruption("light_toggle", start, hidden[0], hidden[1], end))
        k = stop + 1
    graph = FrameGraph(Schedule(12 * num - 3, tuple(interruptions)))
    assert [role == "degraded" for role in graph.roles] == flags
    return graph


@st.composite
def batches(draw: st.DrawFn) -> list[FrameGraph]:
    chunks = draw(st.integers(3, 9))
    return draw(st.lists(graphs(chunks), min_size=1, max_size=4))


def build(name: str, graph: FrameGraph, seed: int, **options: object) -> SequencePlan:
    rng = np.random.default_rng(seed)
    return REGIMES[name](graph, rng, RegimeOptions(**options), draw_batch_choices([graph], rng))


def is_target(entry: PlanEntry) -> bool:
    return "sampled" in entry.sigma


any_seed = st.integers(0, 2**32 - 1)
quickly = settings(deadline=None, max_examples=60)


@pytest.mark.parametrize("name", REGIMES)
@given(graph=graphs(), seed=any_seed)
@quickly
def test_no_target_sees_a_target_its_own_answer_or_anything_later(name: str, graph: FrameGraph, seed: int) -> None:
    plan = build(name, graph, seed, memory_noise_share=0.7, clean_prefix_share=0.5)
    assert plan.regime == name
    for entry in plan.entries:
        for seen in (plan.entries[j] for j in entry.sees):
            assert not is_target(seen)
            assert seen.chunk < entry.chunk
        assert entry.position == 3 * entry.chunk


@pytest.mark.parametrize("name", REGIMES)
@given(graph=graphs(), seed=any_seed)
@quickly
def test_every_target_sees_all_the_history_before_it(name: str, graph: FrameGraph, seed: int) -> None:
    plan = build(name, graph, seed)
    history = [j for j, entry in enumerate(plan.entries) if not is_target(entry)]
    for entry in plan.entries:
        if is_target(entry):
            assert list(entry.sees) == [j for j in history if plan.entries[j].chunk < entry.chunk]


@pytest.mark.parametrize("name", REGIMES)
@given(graph=graphs(), seed=any_seed)
@quickly
def test_a_regime_is_a_pure_function(name: str, graph: FrameGraph, seed: int) -> None:
    assert build(name, graph, seed) == build(name, graph, seed)


@given(graph=graphs(), seed=any_seed)
@quickly
def test_all_history_supervises_every_chunk_and_seeds_the_first_frame(graph: FrameGraph, seed: int) -> None:
    plan = build("all_history", graph, seed)
    targets = [entry for entry in plan.entries if is_target(entry)]
    assert [entry.chunk for entry in targets] == list(range(graph.num_chunks))
    assert targets[0].sigma == ("zero", "sampled", "sampled")
    assert targets[0].supervised == (False, True, True)
    assert targets[0].sees == ()
    assert all(entry.supervised == (True,) * 3 for entry in targets[1:])
    assert all(entry.sigma == ("zero",) * 3 for entry in plan.entries if not is_target(entry))
    assert {entry.track for entry in plan.entries} == {"degraded"}
    assert [entry.role for entry in targets] == list(graph.roles)
    clean = build("all_history", graph, seed, track="clean")
    assert {(entry.track, entry.role) for entry in clean.entries} == {("clean", "clean")}


@given(graph=graphs(), seed=any_seed)
@quickly
def test_the_shared_pass_is_one_sequence_of_noised_chunks_that_see_each_other(graph: FrameGraph, seed: int) -> None:
    plan = build("all_history", graph, seed, history="shared")
    forced = [entry for entry in build("all_history", graph, seed).entries if is_target(entry)]
    assert [entry.chunk for entry in plan.entries] == list(range(graph.num_chunks))
    assert [entry.sees for entry in plan.entries] == [tuple(range(k)) for k in range(graph.num_chunks)]
    for mine, theirs in zip(plan.entries, forced, strict=True):  # what is learned is the same, what is seen is not
        assert (mine.sigma, mine.supervised, mine.track, mine.role) == (
            theirs.sigma, theirs.supervised, theirs.track, theirs.role)  # fmt: skip
        assert mine.position == 3 * mine.chunk
    for name in set(REGIMES) - {"all_history"}:
        assert build(name, graph, seed, history="shared") == build(name, graph, seed)


@given(graph=graphs(), seed=any_seed, share=st.floats(0, 1))
@quickly
def test_noisy_memory_leaves_an_anchor_clean(graph: FrameGraph, seed: int, share: float) -> None:
    plan = build("noisy_memory", graph, seed, memory_noise_share=share)
    history = [entry for entry in plan.entries if not is_target(entry)]
    assert {entry.sigma for entry in history} <= {("zero",) * 3, ("memory",) * 3}
    clean = {entry.chunk for entry in history if entry.sigma == ("zero",) * 3}
    assert clean & set(graph.anchors or range(graph.num_chunks))
    recoveries = {edge.recovery for edge in graph.edges}
    for recovery in recoveries:
        assert clean & {edge.anchor for edge in graph.edges if edge.recovery == recovery}
    if share == 1:
        assert len(clean) <= max(1, len(recoveries))


def test_noisy_memory_does_make_noise_and_any_anchor_may_survive() -> None:
    graph = FrameGraph(Schedule(81, (Interruption("light_toggle", 24, 27, 57, 60),)))
    clean = {
        entry.chunk
        for seed in range(30)
        for entry in build("noisy_memory", graph, seed, memory_noise_share=1.0).entries
        if entry.sigma == ("zero",) * 3
    }
    assert clean == {0, 1} == set(graph.anchors)


@given(graph=graphs(), seed=any_seed)
@quickly
def test_node_drop_replaces_every_interruption_node_and_leaves_an_anchor(graph: FrameGraph, seed: int) -> None:
    plan = build("node_drop", graph, seed)
    history = [entry for entry in plan.entries if not is_target(entry)]
    dropped = {entry.chunk for entry in history if entry.sigma == ("one",) * 3}
    assert all(entry.sigma in {("one",) * 3, ("zero",) * 3} for entry in history)
    assert set(graph.degraded) <= dropped <= set(graph.degraded) | set(graph.anchors)
    for recovery in {edge.recovery for edge in graph.edges}:
        assert {edge.anchor for edge in graph.edges if edge.recovery == recovery} - dropped


def test_with_two_interruptions_each_recovery_keeps_an_anchor_and_its_suffix_is_the_last_ones() -> None:
    events = (Interruption("occluder", 10, 13, 21, 24), Interruption("light_toggle", 47, 49, 57, 59))
    graph = FrameGraph(Schedule(81, events))
    assert graph.draw() == "AxxRxxR"
    for seed in range(60):
        for name, bad in (("noisy_memory", "memory"), ("node_drop", "one")):
            plan = build(name, graph, seed, memory_noise_share=1.0)
            spoilt = {e.chunk for e in plan.entries if e.sigma == (bad,) * 3}
            assert spoilt == {1, 2, 4, 5}  # its only anchor, and the recovery that anchors the second, survive
        supervised = [e.chunk for e in build("v2v_frontier", graph, seed).entries if e.is_supervised]
        assert supervised == [5, 6]


def test_of_a_recovery_without_anchors_the_latest_one_is_spared() -> None:
    """The nearest clean evidence before its interruption."""
    events = (Interruption("occluder", 22, 23, 30, 32), Interruption("light_toggle", 70, 72, 80, 80))
    graph = FrameGraph(Schedule(105, events))
    assert graph.draw() == "AAxRAAxR."
    clean = {
        tuple(e.chunk for e in build("noisy_memory", graph, seed, memory_noise_share=1.0).entries
              if e.sigma == ("zero",) * 3)
        for seed in range(80)
    }  # fmt: skip
    assert clean == {(0, 5), (1, 5), (1, 3), (1, 4)}  # one survivor at random, and the latest of the other group


def test_node_drop_sometimes_drops_an_anchor_too() -> None:
    graph = FrameGraph(Schedule(81, (Interruption("light_toggle", 24, 27, 57, 60),)))

    def kept(share: float) -> set[tuple[int, ...]]:
        plans = [build("node_drop", graph, seed, anchor_drop_share=share) for seed in range(60)]
        return {tuple(e.chunk for e in plan.entries if e.sigma == ("zero",) * 3) for plan in plans}

    assert kept(0.25) == {(0, 1), (0,), (1,)}  # chunk 6 is nobody's history
    assert kept(0.0) == {(0, 1)}
    assert kept(1.0) == {(0,), (1,)}


@pytest.mark.parametrize("name", ["noisy_memory", "node_drop"])
@given(graph=graphs(), seed=any_seed)
@quickly
def test_what_is_corrupted_is_memory_alone(name: str, graph: FrameGraph, seed: int) -> None:
    """What is learned, and who sees whom, is as in all-history."""
    plan, plain = build(name, graph, seed, memory_noise_share=0.8), build("all_history", graph, seed)
    assert plan.visibility == plain.visibility
    assert [e for e in plan.entries if is_target(e)] == [e for e in plain.entries if is_target(e)]


@given(batch=batches(), seed=any_seed)
@quickly
def test_v2v_supervises_the_recovery_suffix_and_its_history_ends_before_it(
    batch: list[FrameGraph], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    choices = draw_batch_choices(batch, rng)
    for graph in batch:
        plan = REGIMES["v2v_frontier"](graph, rng, RegimeOptions(clean_prefix_share=0.5), choices)
        frontier = choices.first_target if graph.frontier is None else graph.frontier
        supervised = [entry for entry in plan.entries if entry.is_supervised]
        assert [entry.chunk for entry in supervised] == list(range(frontier, graph.num_chunks))
        assert all(entry.supervised == (True,) * 3 for entry in supervised)
        seen = [plan.entries[j].chunk for j in supervised[0].sees]
        assert seen == list(range(frontier))  # the frontier chunk cannot see the state that came back
        assert len({entry.track for entry in plan.entries}) == 1


def test_v2v_prefixes_are_clean_or_degraded_as_often_as_asked() -> None:
    graph = FrameGraph(Schedule(81, (Interruption("light_toggle", 24, 27, 57, 60),)))
    for share in (0.0, 0.25, 1.0):
        clean = sum(
            build("v2v_frontier", graph, seed, clean_prefix_share=share).entries[0].track == "clean"
            for seed in range(400)
        )
        assert clean / 400 == pytest.approx(share, abs=0.07)


@given(batch=batches(), seed=any_seed)
@quickly
def test_references_lie_at_0_and_were_taken_before_anything_was_degraded(
    batch: list[FrameGraph], seed: int
) -> None:
    rng = np.random.default_rng(seed)
    choices = draw_batch_choices(batch, rng)
    for graph in batch:
        plan = REGIMES["reference_cache"](graph, rng, RegimeOptions(), choices)
        references = [entry for entry in plan.entries if entry.role == "reference"]
        assert [entry.position for entry in references] == [3 * i for i in range(choices.num_references)]
        assert all(entry.chunk < min(graph.degraded, default=graph.num_chunks) for entry in references)
        assert all(entry.sigma == ("zero",) * 3 for entry in references)
        targets = [entry for entry in plan.entries if is_target(entry)]
        assert targets[0].position == 3 * choices.gap_chunks >= 3 * choices.num_references
        assert targets[-1].chunk == graph.num_chunks - 1
        assert {entry.track for entry in references} == {"clean"}
        assert len({entry.track for entry in plan.entries if entry.role != "reference"}) == 1
        assert all(entry.is_supervised for entry in targets)


def test_reference_targets_are_clean_or_degraded_as_often_as_asked() -> None:
    graph = FrameGraph(Schedule(81, (Interruption("light_toggle", 24, 27, 57, 60),)))
    for share in (0.0, 0.5, 1.0):
        clean = sum(
            build("reference_cache", graph, seed, clean_target_share=share).entries[-1].track == "clean"
            for seed in range(400)
        )
        assert clean / 400 == pytest.approx(share, abs=0.07)


@pytest.mark.parametrize("name", REGIMES)
@given(graph=graphs(), seed=any_seed)
@quickly
def test_every_entry_is_told_what_happens_in_the_version_it_is_read_from(
    name: str, graph: FrameGraph, seed: int
) -> None:
    plan = build(name, graph, seed, clean_prefix_share=0.5)
    clean = chunk_prompts("a cup", Schedule(graph.schedule.num_frames))
    degraded = chunk_prompts("a cup", graph.schedule)
    for entry, told, place in zip(plan.entries, plan.told(clean, degraded), plan.prompt_of_entry, strict=True):
        assert plan.prompts[place] == (entry.track, entry.chunk)
        assert told == (clean if entry.track == "clean" else degraded)[entry.chunk]
        if entry.role == "reference":  # before anything happens, both schedules say the same
            assert told == "a cup" == degraded[entry.chunk]
        if entry.role == "degraded" and entry.track == "degraded":
            assert told != "a cup"


@given(batch=batches(), seed=any_seed)
@quickly
def test_batch_choices_suit_every_graph(batch: list[FrameGraph], seed: int) -> None:
    choices = draw_batch_choices(batch, np.random.default_rng(seed))
    num = batch[0].num_chunks
    first_degraded = min((g.degraded[0] for g in batch if g.degraded), default=2)
    assert 1 <= choices.num_references <= min(first_degraded, num - 1)
    assert choices.num_references <= choices.gap_chunks < num
    assert 1 <= choices.first_target < num
    assert all(choices.first_target <= g.frontier for g in batch if g.frontier is not None)


def test_batch_choices_use_their_whole_range() -> None:
    graph = FrameGraph(Schedule(81, (Interruption("light_toggle", 34, 36, 57, 60),)))
    drawn = [draw_batch_choices([graph], np.random.default_rng(seed)) for seed in range(200)]
    assert {c.num_references for c in drawn} == {1, 2, 3}
    assert {c.gap_chunks for c in drawn} == {1, 2, 3, 4, 5, 6}
    assert any(c.gap_chunks == c.num_references for c in drawn)  # contiguous is among them


@pytest.mark.parametrize("name", REGIMES)
@given(batch=batches(), seed=any_seed)
@quickly
def test_plans_of_one_batch_attend_alike(name: str, batch: list[FrameGraph], seed: int) -> None:
    rng = np.random.default_rng(seed)
    choices = draw_batch_choices(batch, rng)
    options = RegimeOptions(clean_prefix_share=0.5)
    plans = [REGIMES[name](graph, rng, options, choices) for graph in batch]
    assert shared_visibility(plans) == plans[0].visibility
    assert shared_prompt_layout(plans) == plans[0].prompt_of_entry


def test_distance_of_a_reference_plan_is_the_gap() -> None:
    graph = FrameGraph(Schedule(81, (Interruption("light_toggle", 24, 27, 57, 60),)))
    plan = REGIMES["reference_cache"](graph, np.random.default_rng(0), RegimeOptions(), BatchChoices(5, 1, 6))
    assert [entry.position for entry in plan.entries] == [0, 18]
    assert plan.largest_distance == 20


@pytest.mark.parametrize("num", [1, 2, 3])
def test_short_clean_clips_have_choices_too(num: int) -> None:
    graph = FrameGraph(Schedule(12 * num - 3))
    for seed in range(20):
        choices = draw_batch_choices([graph], np.random.default_rng(seed))
        assert 1 <= choices.num_references <= choices.gap_chunks
        assert choices.gap_chunks < num or num == 1
    for name in ("all_history", "noisy_memory", "node_drop"):
        assert build(name, graph, 0).entries[-1].chunk == num - 1


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize(
    "name", ["memory_noise_share", "anchor_drop_share", "clean_prefix_share", "clean_target_share"]
)
def test_shares_lie_within_0_and_1(name: str, share: float) -> None:
    with pytest.raises(InputError, match=name):
        RegimeOptions(**{name: share})


def test_data_that_no_regime_can_use_are_refused_with_what_is_missing() -> None:
    clean, short = FrameGraph(Schedule(81)), FrameGraph(Schedule(9))
    broken = FrameGraph(Schedule(81, (Interruption("light_toggle", 24, 27, 57, 60),)))
    for name in REGIMES:
        check_supports(name, [broken])
        check_supports(name, iter([clean, short, broken]))  # clips without are fine beside some with
    for name in ("all_history", "noisy_memory", "reference_cache"):
        check_supports(name, [clean])
    with pytest.raises(GraphError, match=r"v2v_frontier.*none of 2 clips.*recovery node"):
        check_supports("v2v_frontier", [clean, short])
    with pytest.raises(GraphError, match=r"node_drop.*none of 1 clips.*interruption"):
        check_supports("node_drop", [clean])
    for name in ("noisy_memory", "reference_cache"):
        with pytest.raises(GraphError, match=name):
            check_supports(name, [short])
    with pytest.raises(GraphError, match="none of 0 clips"):
        check_supports("all_history", [])
