"""The KV suite: sinks told from recall, unavailable cells, knock-outs on forks of one past, resuming."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure

from remind.errors import InputError
from remind.evaluation.continuation import Continuation, interrupted, uninterrupted
from remind.evaluation.eval_run import EvalRun, Record
from remind.evaluation.fixed_clock import fixed_cases
from remind.evaluation.kv_groups import group_shares
from remind.evaluation.kv_heatmap import draw_map
from remind.evaluation.kv_html import heatmaps_html
from remind.evaluation.kv_importance import KVImportance, paper_reduction, reduction_of
from remind.evaluation.kv_settings import KVPlan, KVSetting
from remind.evaluation.kv_suite import KVSuite
from remind.evaluation.kv_summary import summarise
from remind.evaluation.limits import limits_for
from remind.evaluation.report_charts import heatmap
from remind.inference.pipeline import RecoveryTask, RemindPipeline

SETTING = KVSetting.of("v2v-occluder")
GIVEN = 45, 57  # frames of the last given chunk


@pytest.fixture(scope="module")
def pipe():
    return RemindPipeline.from_pretrained("nano")


@pytest.fixture(scope="module")
def clip(pipe):
    return fixed_cases(2, SETTING.interruption, 7, pipe.hw)[1].render()


def importance(rows):
    """A map whose rows hold these masses, each with as much on the chunk itself as makes one."""
    mass = np.full((7, 7), np.nan)
    for query, shares in rows.items():
        mass[query, list(shares)] = list(shares.values())
        mass[query, query] = 1 - sum(shares.values())
    return KVImportance(mass, mass * np.isfinite(mass).sum(1, keepdims=True), "in layer 0")


def both_readers(shares):
    return importance({5: shares, 6: {**shares, 5: 0.0}})


def record(number, interrupted_map, calm_map):
    maps = {"interrupted": interrupted_map, "uninterrupted": calm_map, "without_anchors": calm_map}
    return Record(str(number), "scored", {
        "progress": {"with": 0.9, "without_anchors": 0.1 * number, "without_hidden": 0.8},
        "shown": {"with": 1.0, "without_anchors": 0.0, "without_hidden": 1.0},
        "groups": {reader: {which: group_shares(maps[which], SETTING.graph, query)
                            for which in ("interrupted", "uninterrupted")}
                   for reader, query in SETTING.readers.items()},
        "maps": {which: found.to_json() for which, found in maps.items()},
    }, {})  # fmt: skip


def test_settings_have_an_anchor_that_is_no_sink():
    assert SETTING.graph.draw() == "AAxxxxR"
    assert SETTING.graph.frontier == SETTING.readers["return"] == 5
    assert KVSetting.of("i2v-camera_loop").graph.draw() == "AAxxxxR"
    with pytest.raises(InputError, match="no such setting"):
        KVSetting.of("v2v-zoom")


def test_groups_share_out_all_attention_to_the_past():
    even = both_readers(dict.fromkeys(range(5), 0.1))
    found = group_shares(even, SETTING.graph, 5)
    assert {name: share["mass"] for name, share in found.items()} == pytest.approx(
        {"first": 0.2, "other_anchors": 0.2, "previous": 0.2, "rest": 0.4}
    )
    assert [share["over_token_share"] for share in found.values()] == pytest.approx([1] * 4)
    with pytest.raises(InputError, match="nothing is known"):
        group_shares(even, SETTING.graph, 3)


def test_a_sink_is_not_taken_for_recall(tmp_path):
    sink = both_readers({0: 0.6, 1: 0.05, 2: 0.05, 3: 0.05, 4: 0.05})
    recall = both_readers({0: 0.6, 1: 0.16, 2: 0.02, 3: 0.01, 4: 0.01})
    of_sink, of_recall = (
        {row["name"]: row["cells"] for row in summarise(tmp_path, {SETTING: found})["tables"][0]["rows"]}
        for found in ([record(i, sink, sink) for i in range(3)], [record(i, recall, sink) for i in range(3)])
    )
    first, other = "first chunk (anchor and sink)", "other anchors"
    for found in (of_sink, of_recall):
        assert found[first]["mass"]["value"] == pytest.approx(0.75)
        assert found[first]["beyond that"]["value"] == pytest.approx(0, abs=1e-9)
    assert of_sink[other]["beyond that"]["value"] == 0
    assert of_recall[other]["beyond that"]["value"] == pytest.approx((0.16 - 0.05) / 0.8)
    assert of_recall[other]["mass over token share"]["value"] == pytest.approx(5 * 0.2)


def test_effects_are_paired_and_failures_are_no_zeros(tmp_path):
    even = both_readers(dict.fromkeys(range(5), 0.1))
    kept = [record(i, even, even) for i in range(3)]
    lost = Record("3", "failed", {}, {}, "broken")
    cells = summarise(tmp_path, {SETTING: [*kept, lost]})["tables"][-2]["rows"][0]["cells"]
    assert cells["effect of the anchors"] | {"low": 0, "high": 0} == {
        "value": pytest.approx(0.8), "low": 0, "high": 0, "n": 3}
    assert cells["effect of hidden chunks"]["low"] == pytest.approx(0.1)  # equal differences: no width


def test_cells_that_could_not_be_read_are_hatched_and_the_future_is_blank():
    found = both_readers(dict.fromkeys((0, 1, 4), 0.1))
    cells = found.cells()
    assert len(cells["read"]) == 3 + 4
    assert sorted(cells["unavailable"]) == sorted(
        [(q, k) for q in range(1, 5) for k in range(q)] + [(5, 2), (5, 3), (6, 2), (6, 3)])
    assert len(cells["future"]) == 28
    axes = Figure().add_subplot()
    draw_map(axes, found, SETTING.graph)
    assert sum(patch.get_hatch() is not None for patch in axes.patches) == len(cells["unavailable"])
    assert sum(patch.get_hatch() is None for patch in axes.patches) == len(cells["read"])
    assert heatmap(found, "map", range(1, 7)).count('class="absent"') == len(cells["unavailable"])


def test_maps_survive_json():
    found = both_readers(dict.fromkeys((0, 1, 4), 0.1))
    again = KVImportance.from_json(json.loads(json.dumps(found.to_json())))
    np.testing.assert_allclose(again.mass, found.mass, atol=1e-6)
    np.testing.assert_allclose(again.over_token_share, found.over_token_share, atol=1e-6)
    assert (again.reduction, again.num_clips) == (found.reduction, found.num_clips)


def test_reductions_are_said_in_words():
    assert reduction_of("paper", 30) == paper_reduction(30)
    assert reduction_of("3-4", 6).layers == (3, 4)
    assert reduction_of("2", 6, over_heads="max").over_heads == "max"
    assert reduction_of("all", 6).over_layers == "mean"
    for words in ("4-3", "6", "first"):
        with pytest.raises(InputError, match="no such layers"):
            reduction_of(words, 6)


def test_futures_fork_from_one_past(pipe, clip):
    started = Continuation(pipe, interrupted(clip), seed=3)
    whole, without = started.future(), started.future(forget=clip.graph.witnesses)
    assert torch.equal(whole, started.future())  # a knock-out leaves the past as it was
    assert torch.equal(whole[:57], clip.degraded.rgb[:57])
    assert torch.equal(whole[:57], without[:57])
    assert not torch.equal(whole[57:], without[57:])
    task = RecoveryTask(clip.degraded, clip.schedule, 3)
    assert torch.equal(whole, pipe.recover([task])[0])
    assert torch.equal(without, pipe.recover([task], knock_out_anchors="rebuild")[0])


def test_from_an_image_all_futures_share_what_was_made(pipe, clip):
    seen = []
    started = Continuation(pipe, interrupted(clip, image=True), seed=3, glance=lambda g: seen.append(g.chunk))
    assert set(seen) == set(range(5))
    whole, without = started.future(), started.future(forget=clip.graph.witnesses)
    assert torch.equal(whole[0], clip.degraded.rgb[0])
    assert torch.equal(whole[:57], without[:57])
    assert not torch.equal(whole[57:], without[57:])


def test_the_twin_has_nothing_to_recall(pipe, clip):
    calm = uninterrupted(clip)
    assert set(calm.prompts) == {clip.clean.caption}
    assert torch.equal(Continuation(pipe, calm, seed=3).future()[:57], clip.clean.rgb[:57])
    assert clip.clean.rgb[GIVEN[0] : GIVEN[1]].ne(clip.degraded.rgb[GIVEN[0] : GIVEN[1]]).any()


def test_a_run_resumes_and_counts_what_failed(pipe, tmp_path):
    suite = KVSuite(KVPlan(("v2v-occluder",), clips=2), pipe, limits_for(pipe))
    run = EvalRun(tmp_path, suite.identity({"checkpoint": "nano"}), list(suite.examples))
    with pytest.raises(InputError, match="2 of 2 examples missing"):
        suite.finish(run)
    first, second = suite.examples
    run.write(Record(first, "failed", {}, {}, "made to fail"))
    suite.run(run)
    found = suite.finish(run)
    assert run.records()[first].reason == "made to fail"  # what was there is not done again
    assert found["counts"] == {"examples": 2, "scored": 1, "failed": 1, "reasons": {"made to fail": 1}}
    kept = run.records()[second]
    assert {cell["n"] for row in found["summary"]["tables"][-1]["rows"] for cell in row["cells"].values()} == {1}
    assert kept.scores["progress"]["with"] > 0.5 > kept.scores["progress"]["without_anchors"]
    assert kept.scores["progress"]["without_hidden"] > 0.5
    assert found["summary"]["heatmaps"][0]["maps"]["interrupted"]["cells"] == {
        "read": 11, "unavailable": 10, "future": 28}  # fmt: skip
    assert {path.name for path in tmp_path.glob("videos/*")} == {
        f"{second}-{which}.mp4" for which in ("with", "without_anchors", "without_hidden")}  # fmt: skip
    page = heatmaps_html(json.loads((tmp_path / "scores.json").read_text())["summary"])
    assert [figure.count('class="absent"') for figure in page] == [10, 10, 16]  # the last: anchors are not in memory
    with pytest.raises(InputError, match="no results of the KV suite"):
        heatmaps_html({"tables": []})
    assert (tmp_path / "figures" / "kv-v2v-occluder.png").stat().st_size > 1000
    other = KVSuite(replace(suite.plan, layers="all"), pipe, suite.limits)
    with pytest.raises(InputError, match="another evaluation"):
        EvalRun(tmp_path, other.identity({"checkpoint": "nano"}), list(other.examples))
