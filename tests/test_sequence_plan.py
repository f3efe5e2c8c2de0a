"""The sequence plan: what it refuses, who sees whom, how far, and how it is drawn."""

from __future__ import annotations

from dataclasses import replace

import pytest

from remind.errors import GraphError
from remind.sequence_plan import PlanEntry, SequencePlan, shared_prompt_layout, shared_visibility

OFF, ON = (False,) * 3, (True,) * 3


def history(chunk: int, *sees: int) -> PlanEntry:
    return PlanEntry(chunk, "degraded", 3 * chunk, "clean", ("zero",) * 3, OFF, sees)


def target(chunk: int, *sees: int) -> PlanEntry:
    return PlanEntry(chunk, "degraded", 3 * chunk, "recovery", ("sampled",) * 3, ON, sees)


PLAN = SequencePlan("by_hand", (history(0), history(1, 0), target(1, 0), target(6, 0, 1)))


def test_only_noised_frames_can_be_in_the_loss() -> None:
    for rule in ("zero", "memory", "one"):
        with pytest.raises(GraphError, match="only noised"):
            replace(target(1), sigma=("sampled", "sampled", rule))
    seeded = replace(target(0), sigma=("zero", "sampled", "sampled"), supervised=(False, True, True))
    assert seeded.is_supervised
    assert not history(0).is_supervised


@pytest.mark.parametrize("change", [{"sigma": ("zero",) * 2}, {"supervised": (False,) * 4}])
def test_a_chunk_has_three_rules(change: dict) -> None:
    with pytest.raises(GraphError, match="rule per latent frame"):
        replace(history(0), **change)


def test_positions_start_at_0() -> None:
    with pytest.raises(GraphError, match="positions"):
        replace(history(0), position=-1)


def test_a_reference_is_clean_and_never_in_the_loss() -> None:
    for entry in (history(0), target(1)):
        with pytest.raises(GraphError, match="undegraded"):
            replace(entry, role="reference")
    with pytest.raises(GraphError, match="undegraded"):
        replace(target(1), role="reference", track="clean")
    assert replace(history(0), role="reference", track="clean").role == "reference"


def test_a_plan_that_supervises_nothing_is_refused() -> None:
    with pytest.raises(GraphError, match="supervises nothing"):
        SequencePlan("idle", (history(0), history(1, 0)))


@pytest.mark.parametrize("seen", [1, 2, -1])
def test_an_entry_neither_lists_itself_nor_what_is_not_there(seen: int) -> None:
    with pytest.raises(GraphError, match="missing entry or lists itself"):
        SequencePlan("bad", (history(0), target(1, seen)))


def test_memory_edges_point_back_in_time() -> None:
    with pytest.raises(GraphError, match="later time"):
        SequencePlan("bad", (history(2), target(1, 0)))
    SequencePlan("good", (history(1), target(1, 0)))  # the same time is not later


def test_visibility_is_what_it_sees_and_itself_ascending() -> None:
    assert PLAN.visibility == ((0,), (0, 1), (0, 2), (0, 1, 3))
    late_first = SequencePlan("order", (target(4, 1), history(0)))  # order in memory is not order in time
    assert late_first.visibility == ((0, 1), (1,))


def test_prompts_are_read_once_each_in_order_of_use_from_their_own_version() -> None:
    mixed = SequencePlan("mixed", (replace(history(0), track="clean"), history(4), target(4, 0), target(5, 0, 1)))
    assert mixed.prompts == (("clean", 0), ("degraded", 4), ("degraded", 5))
    assert mixed.prompt_of_entry == (0, 1, 1, 2)
    told = mixed.told([f"c{k}" for k in range(6)], [f"d{k}" for k in range(6)])
    assert told == ("c0", "d4", "d4", "d5")
    assert [row.split()[-1] for row in mixed.draw(told).splitlines()[1:]] == list(told)
    later = SequencePlan("later", (replace(history(1), track="clean"), history(5), target(5, 0), target(6, 0, 1)))
    assert shared_prompt_layout([mixed, later]) == (0, 1, 1, 2)  # other prompts, the same layout
    other = SequencePlan("other", (*mixed.entries[:3], target(6, 0, 1), target(4, 0)))
    with pytest.raises(GraphError, match=r"share prompts differently.*mixed.*other"):
        shared_prompt_layout([mixed, other])


def test_the_largest_distance_is_from_the_last_frame_of_a_query_to_the_first_of_a_key() -> None:
    assert PLAN.largest_distance == (3 * 6 + 2) - 0
    assert SequencePlan("alone", (target(5),)).largest_distance == 2
    gap = replace(target(0, 0), position=300)
    assert SequencePlan("gap", (history(0), gap)).largest_distance == 302


def test_the_drawing_shows_rules_supervision_and_sight() -> None:
    seeded = replace(target(0), sigma=("zero", "sampled", "sampled"), supervised=(False, True, True))
    noisy = replace(history(1, 0), sigma=("memory",) * 3)
    dropped = replace(history(2, 0, 1), sigma=("one",) * 3)
    head, *rows = SequencePlan("drawn", (history(0), noisy, dropped, seeded, target(3, 0, 1, 2))).draw().splitlines()
    assert head.startswith("drawn: 5 entries")
    cells = [row[row.index("[") :] for row in rows]
    assert cells == ["[0 0 0 ] o....", "[m m m ] #o...", "[1 1 1 ] ##o..", "[0 s*s*] ...o.", "[s*s*s*] ###.o"]
    assert "chunk 3 degraded recovery  t=9" in rows[4]


def test_plans_of_one_batch_must_attend_alike() -> None:
    assert shared_visibility([PLAN, replace(PLAN, regime="twin")]) == PLAN.visibility
    blind = SequencePlan("blind", (*PLAN.entries[:3], target(6, 0)))
    with pytest.raises(GraphError, match=r"attend differently.*by_hand.*blind"):
        shared_visibility([PLAN, PLAN, blind])
