"""The stress suite: settings that change one thing, controls that must rank, memories, resuming."""

import json

import pytest
import torch

from remind.errors import InputError
from remind.evaluation.blind_meter import BLIND
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.continuation import Continuation, from_reference
from remind.evaluation.eval_run import EvalRun, Record
from remind.evaluation.fixed_clock import fixed_cases, fixed_interruption
from remind.evaluation.limits import limits_for, shipped_limits
from remind.evaluation.stress_makers import ControlMaker, Memory, ModelMaker
from remind.evaluation.stress_points import StressPlan, distractor_points, gap_point, hidden_chunks, reference_point
from remind.evaluation.stress_suite import StressSuite, chance_progress
from remind.frame_graph import FrameGraph, Schedule, frames_of_chunk
from remind.inference.pipeline import RemindPipeline

HW = (32, 32)


@pytest.fixture(scope="module")
def pipe():
    return RemindPipeline.from_pretrained("nano")


def run_suite(folder, plan, maker, **how):
    suite = StressSuite(plan, HW)
    identity = suite.identity({"maker": getattr(maker, "__name__", repr(maker))}, shipped_limits())
    run = EvalRun(folder, identity, list(suite.examples))
    suite.run(run, maker, shipped_limits(), **how)
    return suite, run


def values(found, title):
    table = next(t for t in found["summary"]["tables"] if t["title"].startswith(title))
    return {row["name"]: [cell["value"] for cell in row["cells"].values()] for row in table["rows"]}


@pytest.mark.parametrize("seconds", [1.5, 3, 5, 10, 20, 30])
def test_a_gap_is_as_long_as_it_says_and_most_of_a_long_clip(seconds):
    point = gap_point(seconds, "light_toggle", "v2v")
    times, num_frames = point.interruption, frames_of_chunk(point.num_chunks - 1).stop
    assert times.hidden_stop - times.hidden_start == 16 * seconds
    graph = FrameGraph(Schedule(num_frames, (times,)))
    assert frames_of_chunk(graph.frontier).start == times.hidden_stop  # nothing leaks
    assert len(graph.anchors) >= 2
    if seconds >= 5:
        assert 16 * seconds >= num_frames / 2


def test_distractors_change_at_one_gap():
    points = distractor_points((0, 3, 5), 5.0, "light_toggle")
    assert len({(p.interruption, p.num_chunks) for p in points}) == 1
    case = fixed_cases(1, points[0].interruption, points[0].num_chunks, HW)[0].render()
    hidden = hidden_chunks(case)
    for point, left in zip(points, (0, 3, 5), strict=True):
        assert set(hidden) - set(point.dropped(case)) == set(hidden[len(hidden) - left :])
    with pytest.raises(InputError, match="so many hidden chunks"):
        distractor_points((99,), 5.0, "light_toggle")


def test_a_reference_is_all_that_is_known():
    point = reference_point(4, "light_toggle")
    case = fixed_cases(1, point.interruption, point.num_chunks, HW)[0].render()
    script = point.script(case)
    assert torch.equal(script.references[0], case.clean.rgb[:9])
    assert [script.frames(k) for k in (4, 5)] == [slice(48, 57), slice(57, 69)]
    assert script.frames(case.graph.num_chunks - 1).stop == len(case.clean)
    given = from_reference(case, offset=3)  # one dark chunk more is known
    assert not given.rgb[given.frames(3)].any()
    open_view = fixed_interruption("light_toggle", start=21, frontier=5)
    seen = fixed_cases(1, open_view, 7, HW)[0].render()
    with pytest.raises(InputError, match="everything must be hidden"):
        from_reference(seen, offset=1)


def test_a_reference_stands_where_it_says(pipe):
    point = reference_point(4, "light_toggle")
    case = fixed_cases(1, point.interruption, point.num_chunks, HW)[0].render()
    started = Continuation(pipe, point.script(case), seed=0)
    made = started.future()
    assert len(made) == len(case.clean)
    assert {row.chunk: row.position for row in started.memory.table()} == {-1: 0, 0: 12, 1: 15}
    assert not torch.equal(made, started.future(forget=(-1,)))


def test_controls_rank_at_every_gap(tmp_path):
    plan = {"studies": ("gap",), "gaps_s": (1.5, 10.0), "clips": 1}
    progress = {}
    for control in ("oracle", "freeze", "stays_hidden"):
        suite, run = run_suite(tmp_path / control, StressPlan(memories=(control,), **plan), ControlMaker(control))
        found = suite.finish(run)
        progress[control] = values(found, "State progress by gap")[control]
        assert found["counts"]["scored"] == 2
        shown = values(found, "Frames that show a state")[control]
        assert shown == pytest.approx([0.0, 0.0] if control == "stays_hidden" else [1.0, 1.0], abs=0.2)
    assert progress["oracle"] == pytest.approx([1, 1], abs=0.1)
    assert progress["freeze"] == pytest.approx([0, 0], abs=0.1)
    assert progress["stays_hidden"] == [0, 0]  # a model that remembers nothing but the dark


def test_a_model_that_forgets_the_anchors_makes_no_progress(pipe, tmp_path):
    plan = StressPlan(("gap",), (1.5,), memories=("full", "knocked_out"), clips=3)
    suite, run = run_suite(tmp_path, plan, ModelMaker(pipe))
    found = suite.finish(run, trained_latent_frames=20)
    progress = values(found, "State progress by gap")
    assert progress["full"][0] > 0.4
    assert abs(progress["knocked_out"][0]) < 0.1
    assert found["counts"]["reasons"] == {BLIND: 2}  # of one clip, under both memories
    assert values(found, "Difference")["knocked_out - full"][0] == pytest.approx(
        progress["knocked_out"][0] - progress["full"][0])  # fmt: skip
    curve = next(c for c in found["summary"]["curves"] if c["name"] == "full")
    assert curve["points"][0]["x"] == 1.5
    assert curve["points"][0]["n"] == 2
    kept = run.records()["gap-v2v-1.5-knocked_out-001"]
    assert kept.about["knocked_out"] == [0, 1, 2]
    assert kept.about["reach_latent_frames"] < run.records()["gap-v2v-1.5-full-001"].about["reach_latent_frames"] == 20
    assert (tmp_path / kept.about["video"]["path"]).is_file()
    assert (tmp_path / "figures" / "gap-v2v.png").stat().st_size > 1000


def test_budgets_hold_and_one_that_is_too_small_is_no_zero(pipe, tmp_path):
    plan = StressPlan(("gap",), (1.5,), memories=("full@3", "window:6@3"), clips=1)
    suite, run = run_suite(tmp_path, plan, ModelMaker(pipe))
    found = suite.finish(run)
    assert found["counts"]["reasons"] == {"the memory of policy full is used up": 1}
    assert values(found, "State progress by gap")["full@3"] == [None]
    kept = run.records()["gap-v2v-1.5-window=6-in-3-000"].about
    assert kept["cache_bytes"] <= kept["memory_budget_bytes"]
    assert kept["chunks_remembered"] <= 4  # the last chunk waits to be written
    for words in ("window:6@1", "window:6@x", "wide"):
        with pytest.raises(InputError):
            Memory.of(words)


def test_a_run_resumes_where_it_was(tmp_path):
    plan = StressPlan(("gap", "distractors"), (1.5,), distractors=(0,), distractor_gap_s=1.5,
                      memories=("freeze", "oracle"), clips=1)  # fmt: skip
    made = []

    class Counting:
        def __call__(self, point, meter, memory, seed):
            if len(made) == 3:
                raise KeyboardInterrupt
            made.append(point.name)
            return ControlMaker(memory)(point, meter, memory, seed)

        def __repr__(self):
            return "controls by name"

    with pytest.raises(KeyboardInterrupt):
        run_suite(tmp_path, plan, Counting())
    before = {path.name: path.read_text() for path in tmp_path.glob("examples/*.json")}
    assert len(before) == 3
    made.append("so that nothing interrupts any more")
    suite, run = run_suite(tmp_path, plan, Counting())
    assert len(made) == 4 + 1
    assert all((tmp_path / "examples" / name).read_text() == text for name, text in before.items())
    whole = suite.finish(run)
    again_suite, again = run_suite(tmp_path.with_name("again"), plan, Counting())
    assert json.dumps(whole) == json.dumps(again_suite.finish(again))


def test_failed_examples_are_tried_again_only_if_asked(tmp_path):
    plan = StressPlan(("gap",), (1.5,), memories=("freeze",), clips=1)
    suite = StressSuite(plan, HW)
    (name,) = suite.examples
    run = EvalRun(tmp_path, {"suite": "stress"}, [name])
    run.write(Record(name, "failed", {}, {}, "made to fail"))
    suite.run(run, ControlMaker("freeze"), shipped_limits())
    assert run.records()[name].status == "failed"
    suite.run(run, ControlMaker("freeze"), shipped_limits(), retry_failed=True)
    assert run.records()[name].status == "scored"


def test_plans_that_make_no_sense_are_refused(pipe):
    for wrong in ({"studies": ()}, {"memories": ("full", "full")}, {"gaps_s": (5.0, 5.0)}, {"gaps_s": (0.0,)},
                  {"reference_gaps": (1,)}):  # fmt: skip
        with pytest.raises(InputError):
            StressPlan(**wrong)
    with pytest.raises(InputError, match="1 or more"):
        StressSuite(StressPlan(("gap",), (1.5,), clips=0), HW)
    assert limits_for(pipe) == shipped_limits()


def test_a_guess_is_measured_against_the_same_truth():
    point = gap_point(1.5, "light_toggle", "v2v")
    meter = CaseMeter(fixed_cases(1, point.interruption, point.num_chunks, HW)[0].render())
    truth, last = meter.true_state[meter.after], meter.last_seen_state
    assert chance_progress(meter) == pytest.approx(
        min(2, max(-1, float((0.5 - last) / (truth - last).mean()))), rel=1e-5)  # fmt: skip


def test_a_clip_on_which_the_meter_is_blind_is_failed_for_everybody(tmp_path):
    """A dark plant: the meter took a black picture for one that had shrunk, and scored a blank video."""
    plan = StressPlan(("gap",), (1.5,), memories=("stays_hidden", "oracle"), clips=3)
    suite, run = run_suite(tmp_path, plan, lambda point, meter, memory, seed: ControlMaker(memory)(
        point, meter, memory, seed))  # fmt: skip
    found = suite.finish(run)
    assert found["counts"]["reasons"] == {BLIND: 2}
    assert {r.about["clip"] for r in run.records().values() if r.status == "failed"} == {2}
    assert values(found, "State progress by gap")["stays_hidden"] == [0]
    assert values(found, "State progress by gap")["oracle"] == pytest.approx([1], abs=0.05)
