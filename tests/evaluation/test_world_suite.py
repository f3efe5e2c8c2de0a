"""The world benchmark as a suite: its test set is fixed, controls rank, faults are found, and nothing failed counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from remind.data.kinds import KINDS
from remind.data.video_io import write_video
from remind.data.world_clips import TEST_SEEDS, VALIDATION_SEEDS
from remind.errors import InputError
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.controls import run_control
from remind.evaluation.eval_run import EvalRun
from remind.evaluation.found_videos import VideoProblem
from remind.evaluation.mutations import MUTATIONS, mutate
from remind.evaluation.world_files import read_case_video, scored_hw, write_case_video
from remind.evaluation.world_inputs import write_inputs
from remind.evaluation.world_makers import ControlMaker, ModelMaker, PreparedCase, through_codec
from remind.evaluation.world_run import identity_of, limits_at, run_maker, run_videos, videos_of
from remind.evaluation.world_scores import case_score, score_case
from remind.evaluation.world_suite import NUM_FRAMES, WorldSuite, read_suite, whole_suite
from remind.evaluation.world_summary import summarise
from remind.inference.pipeline import RemindPipeline
from remind.models.codec import LinearCodec
from remind.world import FAMILIES, HELD_OUT_FAMILIES, sample_scene
from tests.evaluation.conftest import at_rest

HW = (32, 32)
SUITE = whole_suite("world-v1")


def at_rest_cases(count: int, *, part: str = "main", families: tuple[str, ...] | None = None) -> WorldSuite:
    """The first clips of a part whose meter is fast."""
    kept = []
    for case in SUITE.cases:
        if case.part == part and (families is None or case.family in families):
            c2w = sample_scene(case.seed, family=case.family, hw=(8, 8)).cameras.c2w
            kept += [case] if bool((c2w == c2w[:1]).all()) else []
        if len(kept) == count:
            break
    return replace(SUITE, cases=tuple(kept))


@pytest.fixture(scope="module")
def limits():
    return limits_at(HW)


@pytest.fixture(scope="module")
def codec():
    return LinearCodec.load()


@pytest.fixture(scope="module")
def meters():
    found = [CaseMeter(case.render(HW)) for case in at_rest_cases(10).cases]
    assert all(at_rest(meter.case) for meter in found)
    return found


# --- the test set ---------------------------------------------------------------------------------------------------


def test_the_test_set_is_this_one():
    """Whoever changes a clip must give the set another name."""
    twin = whole_suite("world-v1-validation")
    assert (len(SUITE.cases), len(twin.cases)) == (350, 220)
    assert SUITE.sha256.startswith("826dabaa5cb9")
    assert twin.sha256.startswith("7851022d0623")
    SUITE.check_pixels()
    assert all(case.seed in TEST_SEEDS for case in SUITE.cases)
    assert all(case.seed in VALIDATION_SEEDS for case in twin.cases)


def test_what_is_held_out_is_held_out():
    assert not FAMILIES.keys() & HELD_OUT_FAMILIES.keys()
    for case in SUITE.cases:
        assert (case.family in HELD_OUT_FAMILIES) == (case.part == "unseen_families")
        if case.part == "unseen_kinds":
            assert KINDS[case.kind].held_out
        if case.part == "main":
            assert not KINDS[case.kind].held_out
            assert KINDS[case.kind].hides
        if case.gap_frames is not None:
            times = case.recipe.interruption
            assert times.hidden_stop - times.hidden_start == case.gap_frames
    twin = whole_suite("world-v1-validation")
    assert {case.part for case in twin.cases} == {"main", "zoom"}
    cells = {(c.family, c.kind, c.gap_frames) for c in SUITE.cases if c.part == "main"}
    assert len(cells) == len(FAMILIES) * 3 * 3


def test_a_changed_test_set_is_refused(tmp_path):
    from importlib import resources

    data = json.loads((Path(str(resources.files("remind") / "assets")) / "world-v1.json").read_text())
    data["cases"][0][2] += 1
    (tmp_path / "other.json").write_text(json.dumps(data))
    with pytest.raises(InputError, match="was changed"):
        read_suite(tmp_path / "other.json")
    with pytest.raises(InputError, match="does not look here"):
        WorldSuite(SUITE.name, SUITE.cases, "0" * 64).check_pixels()
    with pytest.raises(InputError, match="no such test set"):
        whole_suite("world-v2")
    with pytest.raises(InputError, match="needs examples"):
        SUITE.first(0)


# --- files ----------------------------------------------------------------------------------------------------------


def test_pixels_survive_the_file(tmp_path, meters):
    rgb = meters[0].case.degraded.rgb
    write_case_video(tmp_path / "new" / "a.mp4", rgb)
    back = read_case_video(tmp_path / "new" / "a.mp4", HW, NUM_FRAMES)
    assert (back.float() - rgb.float()).square().mean().sqrt() < 1
    for name, video, problem in (("short", rgb[:80], "wrong length"), ("wide", rgb[:, :, :30], "wrong size")):
        write_video(tmp_path / f"{name}.mp4", video, 16)
        with pytest.raises(VideoProblem) as found:
            read_case_video(tmp_path / f"{name}.mp4", HW, NUM_FRAMES)
        assert found.value.kind == problem


def test_large_videos_are_measured_small():
    assert scored_hw((32, 32)) == (32, 32)
    assert scored_hw((64, 64)) == (64, 64)
    assert scored_hw((480, 832)) == (60, 104)
    with pytest.raises(InputError, match="cannot be measured"):
        scored_hw((479, 832))


# --- what must rank, and what must be found ---------------------------------------------------------------------------


def test_controls_rank(meters, limits, codec):
    names = ("oracle", "linear", "freeze", "copy_anchor", "reset")
    rows = {name: [score_case(m, run_control(name, m, round_trip=lambda v: through_codec(codec, v)), limits, "v2v")
                   for m in meters] for name in names}  # fmt: skip
    p = {name: np.mean([s["progress"] for s in some if s["progress"] is not None and s["motion"] == "ramp"])
         for name, some in rows.items()}  # fmt: skip
    error = {name: np.mean([s["after_error"] for s in some]) for name, some in rows.items()}
    assert p["oracle"] == pytest.approx(1, abs=0.03)
    assert p["linear"] > p["freeze"] + 0.8
    assert p["freeze"] == pytest.approx(p["copy_anchor"], abs=0.03) == pytest.approx(0, abs=0.03)
    assert p["reset"] < p["freeze"] - 0.2
    assert error["oracle"] < error["linear"] < error["freeze"] < error["reset"]
    assert all(s["plausible"] and s["coherent"] in (True, None) and s["steady"] for s in rows["oracle"])
    assert {s["applied"] for some in rows.values() for s in some} == {True}  # the prefix hides


@pytest.mark.parametrize("name", MUTATIONS)
def test_faults_are_found(name, meters, limits, codec):
    """One in ten may pass; the study in experiments/suite_check takes 66 clips."""
    found = [score_case(m, mutate(name, m, round_trip=lambda v: through_codec(codec, v)), limits, "v2v")
             for m in meters]  # fmt: skip
    measures = ("steady",) if name == "jitter" else ("plausible", "coherent")
    assert sum(any(s[m] is False for m in measures) for s in found) >= len(meters) - 1


def test_a_video_without_interruption_is_not_applied(meters, limits):
    for meter in meters[:6]:
        asked = score_case(meter, meter.case.degraded.rgb, limits, "i2v")
        ignored = score_case(meter, meter.case.clean.rgb, limits, "i2v")
        assert (asked["applied"], asked["observation"]) == (True, True)
        assert (ignored["applied"], ignored["observation"]) == (False, False)
        assert ignored["psnr_before_db"] == 60 > ignored["psnr_during_db"]
        assert ignored["psnr_after_db"] == 60


# --- runs -----------------------------------------------------------------------------------------------------------


def begin(suite, folder, limits, made_by, mode="v2v"):
    return EvalRun(folder, identity_of(suite, mode, HW, made_by, limits=limits), [case.id for case in suite.cases])


def test_a_run_resumes_and_every_number_leads_to_its_video(tmp_path, limits):
    suite, maker = at_rest_cases(2), ControlMaker("freeze", HW)
    run = begin(suite, tmp_path / "run", limits, maker.identity())
    run_maker(run, suite, maker, limits, "v2v")
    first = run.records()
    (tmp_path / "run" / "examples" / f"{suite.cases[1].id}.json").unlink()
    done: list[int] = []
    again = begin(suite, tmp_path / "run", limits, maker.identity())
    run_maker(again, suite, maker, limits, "v2v", advance=done.append)
    assert done == [1]
    assert again.records() == first
    for record in first.values():
        rgb = read_case_video(tmp_path / "run" / record.about["video"]["path"], HW, NUM_FRAMES)
        case = next(case for case in suite.cases if case.id == record.id)
        assert score_case(CaseMeter(case.render(HW)), rgb, limits, "v2v") == record.scores
        assert record.about["world_seed"] == case.seed
        assert len(record.about["prompts"]) == 7
        assert case_score(record.scores).case_id.endswith(case.kind)
    with pytest.raises(InputError, match="another evaluation"):
        begin(suite, tmp_path / "run", limits, {"control": "reset"})
    with pytest.raises(InputError, match="no scores"):
        case_score({"progress": 1.0})


def test_anyones_videos_are_scored_and_bad_ones_named(tmp_path, limits):
    suite = at_rest_cases(5)
    good, misnamed, missing, short, broken = suite.cases
    folder = tmp_path / "theirs"
    for case in (good, misnamed, short, broken):
        write_case_video(folder / f"{case.id}.mp4", case.render(HW).degraded.rgb)
    (folder / f"{misnamed.id}.mp4").rename(folder / f"{misnamed.id}_final.mp4")
    write_case_video(folder / f"{short.id}.mp4", short.render(HW).degraded.rgb[:60])
    whole = (folder / f"{broken.id}.mp4").read_bytes()
    (folder / f"{broken.id}.mp4").write_bytes(whole[: len(whole) // 2])
    run = begin(suite, tmp_path / "run", limits, {"videos": "theirs"})
    found = videos_of(suite, folder)
    run_videos(run, suite, found, HW, limits, "v2v")
    records = run.records()
    assert {case.id: records[case.id].reason for case in suite.cases} == {
        good.id: "", misnamed.id: "missing", missing.id: "missing", short.id: "wrong length",
        broken.id: "truncated or damaged"}  # fmt: skip
    assert records[misnamed.id].about["meant"] == f"{misnamed.id}_final.mp4"
    assert found.extra == (f"{misnamed.id}_final.mp4",)
    summary = run.finish(summarise(records, "v2v", extra=found.extra))
    assert summary["counts"]["scored"] == 1
    head = summary["summary"]["tables"][0]["rows"][0]["cells"]
    assert head["plausible, %"]["n"] == head["plausible, %"]["k"] == 1  # the failed four are in no number
    write_case_video(folder / f"{missing.id}.mp4", missing.render(HW).degraded.rgb)
    write_case_video(folder / f"{good.id}.mp4", good.render(HW).clean.rgb)
    before = records[good.id].about["video"]["sha256"]
    run_videos(run, suite, videos_of(suite, folder), HW, limits, "v2v")
    assert run.records()[missing.id].status == "scored"
    assert run.records()[good.id].about["video"]["sha256"] != before


def test_a_checkpoint_and_its_memory(tmp_path, limits):
    suite, pipe = at_rest_cases(2), RemindPipeline.from_pretrained("nano")
    cases = [PreparedCase(number, case, HW) for number, case in enumerate(suite.cases)]
    plain = ModelMaker(pipe, {"checkpoint": "nano"})
    made = plain.make(cases, "v2v")
    for other in (replace(plain, memory_noise=0.5), replace(plain, knock_out="rebuild"), replace(plain, seed=1)):
        assert other.identity() != plain.identity()
        assert any(not torch.equal(a, b) for a, b in zip(made, other.make(cases, "v2v"), strict=True))
    noisy = replace(plain, memory_noise=0.5)
    alone, apart = plain.make(cases[:1], "i2v")[0], noisy.make(cases[:1], "i2v")[0]
    assert torch.equal(alone[0], cases[0].given.degraded.rgb[0])
    assert not torch.equal(alone, apart)
    with pytest.raises(InputError, match="only what was given"):
        replace(plain, knock_out="rebuild").make(cases, "i2v")
    with pytest.raises(InputError, match="noise level"):
        replace(plain, memory_noise=1.0)
    run = begin(suite, tmp_path / "run", limits, plain.identity())
    run_maker(run, suite, plain, limits, "v2v")
    assert [r.about["noise_seed"] for r in run.records().values()] == [0, 1]


def test_results_with_and_without_the_condition(tmp_path, limits):
    """Two clips that ignored their interruption are in one row of the headline, not in the other."""
    suite = at_rest_cases(4)
    for number, case in enumerate(suite.cases):
        clip = case.render(HW)
        write_case_video(tmp_path / "v" / f"{case.id}.mp4", clip.clean.rgb if number < 2 else clip.degraded.rgb)
    run = begin(suite, tmp_path / "run", limits, {"videos": "v"}, "i2v")
    run_videos(run, suite, videos_of(suite, tmp_path / "v"), HW, limits, "i2v")
    tables = {one["title"]: one for one in summarise(run.records(), "i2v")["tables"]}
    rows = {row["name"]: row["cells"] for row in tables["Five measures, I2V"]["rows"]}
    assert {name: cells["plausible, %"]["n"] for name, cells in rows.items()} == {
        "all clips": 4, "interruption applied": 2, "not applied": 2}  # fmt: skip
    assert rows["all clips"]["observation control, %"]["k"] == 2
    phases = {row["name"]: row["cells"] for row in tables["By phase"]["rows"]}
    applied = phases["during"]["interruption applied, %"]
    assert (applied["k"], applied["n"]) == (2, 4)
    assert phases["before"]["PSNR of frames, dB"]["value"] > 45  # the file costs a level of 255
    assert sum(row["cells"]["shown"]["n"] for row in tables["By gap, hidden frames"]["rows"]) == 4


def test_inputs_for_another_model(tmp_path):
    suite = at_rest_cases(1)
    write_inputs(suite, tmp_path / "in", HW)
    place = tmp_path / "in" / suite.cases[0].id
    task = json.loads((place / "task.json").read_text())
    clip = suite.cases[0].render(HW)
    prefix = read_case_video(place / "prefix.mp4", HW, task["given_frames"]["v2v"])
    assert (prefix.float() - clip.degraded.rgb[: len(prefix)].float()).abs().mean() < 1
    assert len(task["prompts"]) == 7
    assert task["prompts"][-1]["frames"] == [69, 81]
    assert np.load(place / "cameras.npz")["c2w"].shape == (81, 4, 4)
    with pytest.raises(InputError, match="holds something"):
        write_inputs(suite, tmp_path / "in", HW)
