"""The measures must rank what is known: controls by memory, and mutations of the truth below the truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from remind.data.world_clips import TEST_SEEDS, make_world_clip
from remind.errors import InputError
from remind.evaluation.aggregate import aggregate, compare
from remind.evaluation.calibration import Calibration
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.controls import CONTROLS, render_states, run_control
from remind.evaluation.world_benchmark import score_video, state_progress
from tests.evaluation.conftest import HW, find, lossy


def score_control(item, name, calibration, **kwargs):
    return score_video(item.case, run_control(name, item.meter, **kwargs), item.meter, calibration)


@pytest.fixture(scope="module")
def scores(metered, calibration):
    return {name: [score_control(m, name, calibration) for m in metered] for name in CONTROLS}


def test_controls_rank(scores):
    mean = {name: aggregate(s)["state_progress"]["mean"] for name, s in scores.items()}
    assert mean["oracle"] == pytest.approx(1, abs=0.01)
    assert mean["linear"] == pytest.approx(mean["oracle"], abs=0.02)  # rates are constant here: see below
    assert mean["linear"] > mean["freeze"] + 0.5
    assert mean["freeze"] == pytest.approx(0, abs=0.05)
    assert mean["copy_anchor"] == pytest.approx(mean["freeze"], abs=0.05)
    assert mean["reset"] < mean["freeze"] - 0.2
    within = {name: aggregate(s)["within_15"]["mean"] for name, s in scores.items()}
    assert within["oracle"] == 1
    assert within["freeze"] == within["reset"] == 0


def test_a_line_fails_where_things_stop(calibration):
    """A line has no notion of an end or of a start: opening things keep it below the oracle."""
    cases = find(TEST_SEEDS.start + 900, 6, families=["door", "chest", "barrier"])
    meters = [CaseMeter(c) for c in cases]
    error = {
        name: np.mean([score_video(c, run_control(name, m), m, calibration).after_error
                       for c, m in zip(cases, meters, strict=True)])
        for name in ("oracle", "linear", "freeze", "reset")
    }  # fmt: skip
    assert error["oracle"] < 0.01 < error["linear"] < error["freeze"] < error["reset"]


def test_standing_still_is_plausible_and_coherent(scores):
    for name in ("freeze", "oracle", "linear"):
        assert all(s.plausible for s in scores[name])
        assert all(s.coherent in (True, None) for s in scores[name])


def test_a_codec_alone_costs_nothing_but_pictures(metered, calibration, scores):
    through = aggregate([score_control(m, "oracle", calibration, round_trip=lossy) for m in metered])
    assert through["state_progress"]["mean"] == pytest.approx(1, abs=0.05)
    assert through["plausible"]["mean"] >= 0.95
    assert through["coherent"]["mean"] >= 0.95
    assert through["background_psnr"]["mean"] < aggregate(scores["oracle"])["background_psnr"]["mean"]


def teleporting(item):
    """The state jumps half the range and back within the after-interval."""
    states = item.meter.true_state.clone()
    middle = (item.meter.stop + len(states)) // 2
    states[middle:] = torch.where(states[middle:] > 0.5, states[middle:] - 0.5, states[middle:] + 0.5)
    return render_states(item.case, states)


def object_pixels(item):
    extremes = torch.stack([item.case.scene.render_rgb(torch.full((1,), s), item.case.scene.cameras[:1])[0]
                            for s in np.linspace(0, 1, 9)]).int()  # fmt: skip
    return (extremes.amax(0) - extremes.amin(0)).amax(-1) > 20


def recoloured(item):
    video, where = item.case.degraded.rgb.clone(), object_pixels(item)
    after = video[item.meter.after]
    after[:, where] = 255 - after[:, where].flip(-1)
    video[item.meter.after] = after
    return video


def flickering(item):
    """Every second picture of the object is that of the opposite state."""
    states = item.meter.true_state.clone()
    other = torch.where(states > 0.5, 0.0, 1.0)
    odd = torch.arange(len(states)) % 2 == 1
    odd[: item.meter.stop] = False
    return render_states(item.case, torch.where(odd, other, states))


def vanishing(item):
    """The object's place shows the wall's mean colour."""
    video, where = item.case.degraded.rgb.clone(), object_pixels(item)
    after = video[item.meter.after]
    after[:, where] = after[:, ~where].float().mean(1).round().to(torch.uint8)[:, None]
    video[item.meter.after] = after
    return video


def cut(item):
    """Half-way through the after-interval the room is another one."""
    video = item.case.degraded.rgb.clone()
    middle = (item.meter.stop + len(video)) // 2
    video[middle:] = video[middle:].flip(2).roll(40, -1)
    return video


@pytest.mark.parametrize(
    ("mutate", "measure", "at_most"),
    [(teleporting, "plausible", 0.1), (flickering, "plausible", 0.25), (recoloured, "plausible", 0.1),
     (vanishing, "plausible", 0.1), (cut, "coherent", 0.1)],
)  # fmt: skip
def test_mutations_are_caught(mutate, measure, at_most, metered, calibration):
    judged = [getattr(score_video(m.case, mutate(m), m.meter, calibration), measure) for m in metered]
    judged = [j for j in judged if j is not None]
    assert len(judged) >= 10
    assert np.mean(judged) <= at_most


def staying_hidden(item):
    """The view never comes back: the last hidden picture stays to the end."""
    video = item.case.degraded.rgb.clone()
    video[item.meter.after] = video[item.case.schedule.interruptions[-1].hidden_stop - 1]
    return video


def noise(item):
    """The after-interval is coloured noise."""
    video = item.case.degraded.rgb.clone()
    after = video[item.meter.after]
    video[item.meter.after] = torch.randint(
        256, after.shape, generator=torch.Generator().manual_seed(0), dtype=torch.uint8
    )
    return video


@pytest.mark.parametrize("mutate", [staying_hidden, noise])
def test_pictures_that_show_no_state_make_no_progress(mutate, metered, calibration):
    """The meter names the nearest state of any picture; such a name must not count as memory."""
    scores = [score_video(m.case, mutate(m), m.meter, calibration) for m in metered]
    frozen = [score_video(m.case, run_control("freeze", m.meter), m.meter, calibration) for m in metered]
    assert np.mean([s.shown_share for s in scores]) < 0.1
    assert abs(np.mean([s.progress for s in scores])) < 0.1
    assert np.mean([s.within_15 for s in scores]) <= 0.05  # one: to a sunset, darkness *is* a state
    errors = [np.mean([s.after_error for s in these]) for these in (scores, frozen)]
    assert errors[0] == pytest.approx(errors[1], abs=0.03)
    for score in scores:
        if score.shown_share == 0:
            assert score.progress == 0
            assert all(v is None for v in score.measured[-5:])


def test_true_pictures_show_their_state(metered, calibration):
    for name in ("oracle", "freeze", "reset"):  # right or wrong, a state is shown
        scores = [score_control(m, name, calibration, round_trip=lossy) for m in metered]
        assert np.mean([s.shown_share for s in scores]) > 0.97


def test_a_switch_that_is_not_shown_is_wrong_even_if_nothing_changed(calibration):
    (case,) = find(TEST_SEEDS.start + 900, 1, families=["door"], eligible=False)
    meter = CaseMeter(case)
    video = case.degraded.rgb.clone()
    video[meter.after] = 0
    score = score_video(case, video, meter, calibration)
    assert score.accuracy == 0
    assert score_video(case, case.degraded.rgb, meter, calibration).accuracy == 1


@pytest.mark.parametrize("sign", [1, -1])
def test_progress_and_within_15_do_not_depend_on_direction(sign):
    truth = sign * torch.linspace(0.3, 0.5, 10)
    assert state_progress(truth, truth, 0.0) == (pytest.approx(1), True)
    assert state_progress(torch.zeros(10), truth, 0.0) == (0.0, False)
    assert state_progress(truth * 0.86, truth, 0.0)[1]  # 14 % short
    assert not state_progress(truth * 0.84, truth, 0.0)[1]  # 16 % short
    assert not state_progress(truth * 1.16, truth, 0.0)[1]  # 16 % too far
    assert state_progress(-9 * truth, truth, 0.0)[0] == -1  # clipped
    assert state_progress(9 * truth, truth, 0.0)[0] == 2
    with pytest.raises(InputError, match="true change"):
        state_progress(truth, torch.zeros(10), 0.0)


def test_right_on_average_is_not_within_15():
    truth = torch.full((10,), 0.5)
    wobbly = truth + 0.3 * torch.tensor([1.0, -1.0]).repeat(5)
    progress, within = state_progress(wobbly, truth, 0.0)
    assert progress == pytest.approx(1)
    assert not within


def test_hidden_frames_are_judged_only_if_generated(metered, calibration):
    for item in metered[:6]:
        truth = item.case.degraded.rgb
        given = score_video(item.case, truth, item.meter, calibration)
        assert given.observation is None
        asked = score_video(item.case, truth, item.meter, calibration, generated_from=1)
        assert asked.observation is True
        ignored = score_video(item.case, item.case.clean.rgb, item.meter, calibration, generated_from=1)
        assert ignored.observation is False
        assert ignored.returned_share == 1
        gone = truth.clone()
        gone[item.meter.after] = truth[item.case.schedule.interruptions[0].hidden_start]
        if item.case.recipe.kind != "camera_loop":
            assert (
                score_video(item.case, gone, item.meter, calibration, generated_from=1).observation is False
            )


def test_turning_and_switching_scenes_stay_out_of_the_headline(calibration):
    cases = find(TEST_SEEDS.start + 500, 6, families=["clock", "door"], eligible=False)
    meters = [CaseMeter(c) for c in cases]
    table = aggregate(
        [score_video(c, c.degraded.rgb, m, calibration) for c, m in zip(cases, meters, strict=True)]
    )
    assert table["state_progress"] == {"mean": None, "low": None, "high": None, "n": 0, "median": None,
                                       "median_low": None, "median_high": None}  # fmt: skip
    assert table["periodic"]["in_phase"]["mean"] == 1
    assert table["discrete"]["accuracy"]["mean"] == 1
    assert table["counts"]["periodic"] == table["counts"]["discrete"] == 3
    frozen = [
        score_video(c, run_control("freeze", m), m, calibration) for c, m in zip(cases, meters, strict=True)
    ]
    assert aggregate(frozen)["periodic"]["phase_error_turns"]["mean"] > 0.05


def test_a_scene_without_background_is_counted_apart(metered, calibration, scores):
    table = aggregate(scores["oracle"])
    without = table["counts"]["no_background"]
    assert table["background_psnr"]["n"] == len(metered) - without
    assert table["coherent"]["n"] == len(metered) - without


def test_pairs_and_parts(scores):
    difference = compare(scores["oracle"], scores["freeze"])
    assert difference["state_progress"]["low"] > 0.9
    table = aggregate(scores["oracle"])
    assert set(table["by_kind"]) == {"light_toggle", "occluder", "camera_loop"}
    assert (
        sum(part["state_progress"]["n"] for part in table["by_family"].values())
        == table["state_progress"]["n"]
    )
    with pytest.raises(InputError, match="same clips"):
        compare(scores["oracle"], scores["freeze"][1:])


def test_prefix_is_the_given_one(metered):
    for item in metered[:3]:
        first = item.meter.first_generated_v2v
        for name in CONTROLS:
            assert torch.equal(run_control(name, item.meter)[:first], item.case.degraded.rgb[:first])


def test_bad_input(metered, calibration, tmp_path):
    item = metered[0]
    with pytest.raises(InputError, match="does not fit its case"):
        score_video(item.case, item.case.degraded.rgb[:80], item.meter, calibration)
    with pytest.raises(InputError, match="another case"):
        score_video(metered[1].case, item.case.degraded.rgb, item.meter, calibration)
    with pytest.raises(InputError, match="another resolution"):
        score_video(
            item.case,
            item.case.degraded.rgb,
            item.meter,
            Calibration((64, 64), {"*": 0.1}, {"*": 20.0}, {"*": 0.5}, 0.1, 0.1, 1),
        )
    with pytest.raises(InputError, match="not a calibration"):
        Calibration.load(tmp_path / "none.json")
    calibration.save(tmp_path / "limits.json")
    assert Calibration.load(tmp_path / "limits.json") == calibration


def test_a_drifting_camera_can_be_scored(calibration):
    case = make_world_clip(TEST_SEEDS.start + 3, hw=HW, family="growing", kind="occluder")
    score = score_video(case, case.degraded.rgb, CaseMeter(case), calibration)
    assert score.observable
    assert score.after_error is not None
    assert math.isfinite(score.after_error)
