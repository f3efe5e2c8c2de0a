from __future__ import annotations

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from remind.data.video_io import write_video
from remind.errors import InputError
from remind.evaluation.eval_run import EvalRun, Record
from remind.evaluation.judge_calls import FAILED, Answer, Judge, replayed
from remind.evaluation.stevo import NUM_VOTES, identity_of, judge_videos
from remind.evaluation.stevo_questions import (
    CHECKLIST,
    METRICS,
    Metric,
    contradicts,
    official_wording,
    our_wording,
    read_process,
    read_vote,
)
from remind.evaluation.stevo_reports import import_reports, reports_sha256, write_reports
from remind.evaluation.stevo_table import summarise
from remind.evaluation.stevo_tasks import StevoCase, cases_of, read_tasks
from remind.evaluation.stevo_votes import verdict
from tests.data.make_video import moving_square
from tests.evaluation.make_judge import Says, approves, client, judging
from tests.evaluation.test_stevo_tasks import task_file

NAMES = ("a_curtain", "b_lightoff", "c_cardboard")


def cases_in(folder: Path, **how: str) -> list[StevoCase]:
    for name in NAMES:
        task_file(folder / "tasks", name, **how)
    return cases_of(read_tasks(folder / "tasks"), "text")


def videos_in(folder: Path, *names: str) -> Path:
    (folder / "videos").mkdir(exist_ok=True)
    for seed, name in enumerate(names):
        write_video(folder / "videos" / f"{name}.mp4", moving_square(9, seed=seed), 16)
    return folder / "videos"


def run_of(folder: Path, cases: list[StevoCase], name: str = "run") -> EvalRun:
    return EvalRun(folder / name, identity_of(cases, our_wording(), "some-judge"), [case.id for case in cases])


def judged(folder: Path, says: Says, *names: str, **how: str) -> tuple[EvalRun, list[StevoCase], int]:
    cases, videos = cases_in(folder, **how), videos_in(folder, *(names or NAMES))
    run = run_of(folder, cases)
    with judging(says) as server:
        judge_videos(run, cases, videos, Judge(folder / "run" / "replies", client(server)), our_wording())
    return run, cases, len(server.requests)


# --- rules ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", METRICS)
def test_votes_are_counted_by_the_official_rules(metric: Metric) -> None:
    for votes in itertools.product((True, False), repeat=3):
        expected = any(votes) if metric == "coherence" else sum(votes) >= 2
        assert verdict(metric, votes) is expected


@pytest.mark.parametrize("metric", METRICS)
def test_a_missing_vote_decides_nothing_and_a_decided_one_stands(metric: Metric) -> None:
    """Whatever the missing votes would have been, a verdict that is given would be the same."""
    for votes in itertools.product((True, False, None), repeat=3):
        outcomes = {verdict(metric, [next(filled) if vote is None else vote for vote in votes])
                    for fill in itertools.product((True, False), repeat=3) for filled in [iter(fill)]}
        assert verdict(metric, votes) is (outcomes.pop() if len(outcomes) == 1 else None)
    assert verdict("coherence", (True, None, None)) is True
    assert verdict("state_progress", (True, None, None)) is None
    assert verdict(metric, ()) is None


def said(text: str | None) -> Answer:
    return Answer(text, "", "key")


def test_replies_are_read_or_they_are_failures_never_a_guess() -> None:
    assert [read_vote("state_progress", said(text)) for text in (
        "VERDICT: Yes\nEXPLANATION: no ice is left", "**Verdict:** no.", "verdict: [Yes]", "Yes", "VERDICT: perhaps",
        "VERDICT: Yes\nVERDICT: No", "", None)] == [True, False, True, None, None, None, None, None]
    assert read_vote("plausibility", said('```json\n{"artifact": true}\n```')) is False
    assert read_vote("plausibility", said('{"artifact": false}')) is True
    for broken in ('{"artifact": "true"}', '{"artifact": 1}', "{}", '{"artifact": true', 'a {"artifact": true} {}'):
        assert read_vote("plausibility", said(broken)) is None
    assert read_vote("coherence", said("{}")) is None  # the official code would take it for coherent
    assert read_process(said("So.\nProcess: it melts\n")) == "it melts"
    assert read_process(said("It melts.")) == "It melts."
    assert read_process(said("  ")) is read_process(said(None)) is None


def test_a_reply_that_contradicts_its_own_checklist_is_noticed() -> None:
    clean = dict.fromkeys(CHECKLIST, False)
    assert not contradicts(said(json.dumps({**clean, "coherence": True})))
    assert contradicts(said(json.dumps({**clean, "teleport": True, "coherence": True})))
    assert contradicts(said(json.dumps({**clean, "coherence": False})))
    assert not contradicts(said('{"coherence": false}'))


# --- questions -----------------------------------------------------------------------------------------------------


def test_our_questions_say_what_the_judge_must_know(tmp_path: Path) -> None:
    [case, *_] = cases_in(tmp_path, camera="push it")
    wording = our_wording()
    for metric in ("plausibility", "coherence", "observation_control"):
        assert "A curtain falls" in wording.of(metric, case, "")  # type: ignore[arg-type]
    assert "more water" in wording.of("plausibility", case, "")
    assert "push it" in wording.of("action_control", case, "")
    assert "it melts" in wording.of("state_progress", case, "it melts")
    assert all(item in wording.of("coherence", case, "") for item in CHECKLIST)
    assert "push it" in wording.predict(case.trigger)
    assert wording.verify("x", True) != wording.verify("x", False)
    assert "turn away" in wording.coherence("camera pan")
    assert "stay clear" in wording.coherence("")


def checkout(folder: Path) -> Path:
    """A folder laid out like the official checkout, with imports that are not there and words of our own."""
    (folder / "eval").mkdir(parents=True)
    head = "import google_genai_that_is_not_installed\nfrom typing import Optional\nraise SystemExit\n"
    (folder / "eval" / "se_judge.py").write_text(head + (
        "def build_se_predict_prompt(action_prompt: Optional[str]) -> str:\n"
        "    return f'official predict {action_prompt}' if action_prompt else 'official predict'\n"
        "def build_se_verify_prompt(expected_process: str, camera_controlled: bool) -> str:\n"
        "    return f'official verify {expected_process} {camera_controlled}'\n"))
    (folder / "eval" / "quality_judge.py").write_text(head + (
        "def build_artifact_judge_prompt(requested_occlusion: str, init2final_edit_prompt: str) -> str:\n"
        "    return f'official artifact {requested_occlusion} {init2final_edit_prompt}'\n"
        "def build_coherence_judge_prompt(requested_occlusion: str) -> str:\n"
        "    return f'official coherence {requested_occlusion.lower()}'\n"))
    (folder / "eval" / "control_judge.py").write_text(head + (
        "def build_occlusion_judge_prompt(requested_occlusion: str) -> str:\n"
        "    return 'official occlusion ' + requested_occlusion\n"
        "def build_trigger_judge_prompt(requested_trigger: str) -> str:\n"
        "    return 'official trigger ' + requested_trigger\n"))
    return folder


def test_official_questions_come_from_a_users_checkout_without_its_libraries(tmp_path: Path) -> None:
    wording = official_wording(checkout(tmp_path / "repo"))
    assert wording.predict("") == "official predict"
    assert wording.predict("push") == "official predict push"
    assert wording.verify("it melts", True) == "official verify it melts True"
    assert wording.artifact("", "more water") == "official artifact none more water"
    assert wording.coherence("camera pan") == "official coherence camera pan"
    assert wording.occlusion("") == "official occlusion none"
    assert wording.trigger("push") == "official trigger push"
    assert wording.sha256 != our_wording().sha256


def test_a_checkout_of_another_version_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        official_wording(tmp_path)
    repo = checkout(tmp_path / "repo")
    file = repo / "eval" / "quality_judge.py"
    file.write_text(file.read_text().replace("build_coherence", "build_other"))
    with pytest.raises(InputError, match="another version"):
        official_wording(repo)
    file.write_text(file.read_text().replace("build_other", "build_coherence").replace(".lower()", ".nothing()"))
    with pytest.raises(InputError, match="cannot be built"):
        official_wording(repo).coherence("x")


# --- judging -------------------------------------------------------------------------------------------------------


def test_a_kind_judge_gives_every_point(tmp_path: Path) -> None:
    run, _, calls = judged(tmp_path, approves, camera="push it")
    assert calls == len(NAMES) * (1 + 5 * NUM_VOTES)
    records = run.records()
    assert all(all(record.scores[metric] is True for metric in METRICS) for record in records.values())
    about = records["a_curtain"].about
    assert about["process"] == "the water rises"
    assert len(about["replies"]["coherence"]) == NUM_VOTES
    assert (run.folder / "replies" / f"{about['replies']['coherence'][0]}.json").exists()
    cells = summarise("kind", records)["tables"][0]["rows"][0]["cells"]
    assert cells["Total"]["value"] == cells["Total"]["high"] == 500
    assert cells["Total"]["low"] == pytest.approx(5 * cells["Coherence"]["low"])
    assert (cells["Coherence"]["k"], cells["Coherence"]["n"]) == (3, 3)
    assert cells["Coherence"]["low"] == pytest.approx(100 * 3 / (3 + 1.96**2), abs=0.01)  # Wilson, not certainty


def test_what_was_not_asked_for_counts_as_done_and_is_not_asked(tmp_path: Path) -> None:
    run, _, calls = judged(tmp_path, approves)  # no trigger
    assert calls == len(NAMES) * (1 + 4 * NUM_VOTES)
    records = run.records()
    assert all(record.scores["action_control"] is True for record in records.values())
    conditions = summarise("x", records)["tables"][3]["rows"]
    assert conditions[2]["cells"]["share"] == {"value": None, "low": None, "high": None, "n": 0, "k": 0}


def test_the_judge_sees_video_frame_seed_and_temperature(tmp_path: Path) -> None:
    cases, videos = cases_in(tmp_path), videos_in(tmp_path, "a_curtain")
    with judging(approves) as server:
        judge_videos(run_of(tmp_path, cases), cases, videos, Judge(tmp_path / "replies", client(server)), our_wording())
    first, *others = [body for _, _, body in server.requests]
    assert [part["type"] for part in first["messages"][0]["content"]] == ["image_url", "text"]
    assert {part["type"] for body in others for part in body["messages"][0]["content"]} == {"video_url", "text"}
    assert {body["temperature"] for body in others} == {0.7}
    assert len({body["seed"] for body in others}) == NUM_VOTES


def test_a_judge_that_fails_half_the_time_is_counted_and_guesses_nothing(tmp_path: Path) -> None:
    def half(prompt: str, number: int) -> str:
        return "I would rather not say" if number % 2 else approves(prompt, number)

    run, _, calls = judged(tmp_path, half, camera="push it")
    records = run.records()
    summary = summarise("half", records)
    failed, asked = summary["judge"]["failed_votes"], summary["judge"]["asked_votes"]
    assert (failed, asked) == (calls // 2, calls - len(NAMES))  # all votes but the predictions, which are words anyway
    cells = summary["tables"][0]["rows"][0]["cells"]
    assert (cells["Judge failures"]["k"], cells["Judge failures"]["n"]) == (failed, asked)
    for record in records.values():
        for metric in METRICS:
            votes = record.about["votes"][metric]
            assert record.scores[metric] is verdict(metric, votes)
            assert record.scores[metric] in (True, None)  # nothing was said against any video
    undecided = summary["judge"]["undecided"]
    assert undecided["coherence"] == []  # one vote is enough there
    assert cells["Observation Control"]["n"] == 3 - len(undecided["observation_control"])
    assert sum(map(len, undecided.values())) > 0


def test_a_judge_that_says_nothing_useful_scores_nothing(tmp_path: Path) -> None:
    run, _, _ = judged(tmp_path, lambda prompt, number: "hm")
    records = run.records()
    assert {record.reason for record in records.values()} == {"judge: unreadable"}
    whole = run.finish(summarise("x", records))
    assert whole["counts"]["reasons"] == {"judge: unreadable": 3}
    assert whole["summary"]["tables"][0]["rows"][0]["cells"]["State Progress"]["value"] is None
    assert whole["summary"]["tables"][0]["rows"][0]["cells"]["Total"]["value"] is None


def test_bad_videos_are_named_and_never_a_zero(tmp_path: Path) -> None:
    cases, videos = cases_in(tmp_path), videos_in(tmp_path, "a_curtain", "extra", "c_cardbord")
    (videos / "b_lightoff.mp4").write_bytes((videos / "a_curtain.mp4").read_bytes()[:900])
    run = run_of(tmp_path, cases)
    with judging(approves) as server:
        extra = judge_videos(run, cases, videos, Judge(tmp_path / "replies", client(server)), our_wording(),
                             num_frames=9)
        summary = summarise("x", run.records(), extra=extra)
        assert summary["missing"] == {"b_lightoff": "truncated or damaged", "c_cardboard": "missing"}
        assert summary["extra_videos"] == ["c_cardbord.mp4", "extra.mp4"]
        assert run.records()["c_cardboard"].about["perhaps"] == "c_cardbord.mp4"
        cells = summary["tables"][0]["rows"][0]["cells"]
        assert (cells["Coherence"]["k"], cells["Coherence"]["n"], cells["Missing tasks"]["k"]) == (1, 1, 2)
        # mended: only what is new is judged, and the others' replies are not asked for again
        calls = len(server.requests)
        (videos / "c_cardbord.mp4").rename(videos / "c_cardboard.mp4")
        again = EvalRun(run.folder, identity_of(cases, our_wording(), "some-judge"), [case.id for case in cases])
        judge_videos(again, cases, videos, Judge(tmp_path / "replies", client(server)), our_wording(), num_frames=12)
        assert again.records()["c_cardboard"].reason == "wrong length"
        assert len(server.requests) == calls
    with pytest.raises(InputError, match="no such folder"):
        judge_videos(run, cases, tmp_path / "nowhere", replayed(tmp_path), our_wording())


def test_a_half_done_run_goes_on_and_a_replay_gives_the_same_numbers(tmp_path: Path) -> None:
    def moody(prompt: str, number: int) -> str:
        return approves(prompt, number).replace("false", "true") if number % 5 == 0 else approves(prompt, number)

    run, cases, _ = judged(tmp_path, moody)
    whole = summarise("x", run.records())
    (run.folder / "examples" / "b_lightoff.json").write_text('{"status": "sco')
    (run.folder / "examples" / "c_cardboard.json").unlink()
    again = run_of(tmp_path, cases)
    assert again.todo() == ["b_lightoff", "c_cardboard"]
    with judging(moody) as server:
        judge_videos(again, cases, tmp_path / "videos", Judge(run.folder / "replies", client(server)), our_wording())
    assert server.requests == []
    assert summarise("x", again.records()) == whole
    other = run_of(tmp_path, cases, "replayed")
    judge_videos(other, cases, tmp_path / "videos", replayed(run.folder), our_wording(), workers=3)
    assert summarise("x", other.records()) == whole
    next(iter((run.folder / "replies").glob("[0-9a-f]*.json"))).unlink()
    lost = run_of(tmp_path, cases, "lost")
    judge_videos(lost, cases, tmp_path / "videos", replayed(run.folder), our_wording())
    assert summarise("x", lost.records())["judge"]["failed_votes"] > 0


def test_retry_asks_again_only_where_a_call_failed(tmp_path: Path) -> None:
    run, cases, _ = judged(tmp_path, lambda prompt, number: 503 if number == 3 else approves(prompt, number))
    assert sum(record.scores[FAILED] for record in run.records().values()) == 1
    with judging(approves) as server:
        judge = Judge(run.folder / "replies", client(server))
        judge_videos(run, cases, tmp_path / "videos", judge, our_wording())
        assert server.requests == []
        judge_videos(run, cases, tmp_path / "videos", judge, our_wording(), retry=True)
        assert len(server.requests) == 1
    assert sum(record.scores[FAILED] for record in run.records().values()) == 0


# --- table and reports -----------------------------------------------------------------------------------------------


def table_2_records(counts: dict[Metric, int], tasks: int) -> dict[str, Record]:
    return {f"t{i:03d}": Record(f"t{i:03d}", "scored", {metric: i < count for metric, count in counts.items()},
                                {"distractor": "curtain", "level": 1 + i % 3}) for i in range(tasks)}  # fmt: skip


def test_the_papers_row_follows_from_its_counts() -> None:
    counts: dict[Metric, int] = {"state_progress": 32, "plausibility": 158, "coherence": 213, "observation_control": 92,
                                 "action_control": 170}  # fmt: skip
    cells = summarise("ReMind", table_2_records(counts, 221))["tables"][0]["rows"][0]["cells"]
    shown = [round(cells[column]["value"], 1) for column in ("State Progress", "Physical Plausibility", "Coherence",
                                                             "Observation Control", "Action Control", "Total")]
    assert shown == [14.5, 71.5, 96.4, 41.6, 76.9, 300.9]
    progress = cells["State Progress"]
    assert (progress["k"], progress["n"]) == (32, 221)
    low, high = stats.binomtest(32, 221).proportion_ci(method="wilson")
    assert (progress["low"], progress["high"]) == pytest.approx((100 * low, 100 * high))
    assert progress["bootstrap_low"] < 14.5 < progress["bootstrap_high"]
    values = np.array([[i < count for count in counts.values()] for i in range(221)], float)
    spread = 1.96 * 100 * values.sum(1).std() / np.sqrt(221)  # of the sum over metrics, by the central limit theorem
    assert cells["Total"]["high"] - cells["Total"]["low"] == pytest.approx(2 * spread, rel=0.08)


def test_denominators_differ_where_a_metric_is_missing() -> None:
    records = table_2_records(dict.fromkeys(METRICS, 2), 4)
    records["t001"] = Record("t001", "scored", {**records["t001"].scores, "coherence": None}, records["t001"].about)
    records["t003"] = Record("t003", "failed", {}, records["t003"].about, "missing")
    cells = summarise("x", records)["tables"][0]["rows"][0]["cells"]
    assert (cells["Coherence"]["k"], cells["Coherence"]["n"]) == (1, 2)
    assert (cells["Action Control"]["k"], cells["Action Control"]["n"]) == (2, 3)
    assert cells["Total"]["value"] == pytest.approx(50 + 4 * 200 / 3)
    assert cells["Missing tasks"] == {"value": 1.0, "low": None, "high": None, "n": 4, "k": 1}


def test_baselines_stand_apart() -> None:
    records = table_2_records(dict.fromkeys(METRICS, 2), 4)
    records["t000"] = Record("t000", "scored", records["t000"].scores, {"distractor": "baseline", "level": 1})
    rows = summarise("x", records)["tables"][0]["rows"]
    assert [row["cells"]["Coherence"]["n"] for row in rows] == [3, 1]
    assert [row["name"] for row in rows] == ["x", "x, baseline tasks"]


def test_our_reports_are_read_back_as_official_ones(tmp_path: Path) -> None:
    def moody(prompt: str, number: int) -> str:
        return approves(prompt, number).replace("false", "true") if number % 3 else "no idea"

    run, cases, _ = judged(tmp_path, moody, camera="push it")
    write_reports(tmp_path / "official", run.records())
    assert sorted(path.name for path in (tmp_path / "official" / "per_task" / "a_curtain").iterdir()) == [
        "artifact_report.json", "coherence_report.json", "control_report.json", "se_report.json"]
    back = EvalRun(tmp_path / "back", {"suite": "stevo", "reports": reports_sha256(tmp_path / "official")},
                   [case.id for case in cases])
    assert import_reports(back, cases, tmp_path / "official") == ()
    for name, record in run.records().items():
        assert [back.records()[name].scores.get(metric) for metric in METRICS] == [
            record.scores.get(metric) for metric in METRICS]


def official(folder: Path, task: str, **fields: dict[str, object]) -> None:
    place = folder / "per_task" / task
    place.mkdir(parents=True, exist_ok=True)
    for kind, report in fields.items():
        whole = {"task_id": task, "wm_video": "v.mp4", "model": "gemini"} | report
        (place / f"{kind}.json").write_text(json.dumps(whole))


def test_official_reports_are_imported_with_their_gaps(tmp_path: Path) -> None:
    cases, reports = cases_in(tmp_path), tmp_path / "runs" / "output_map"
    official(reports, "a_curtain", control_report={"occlusion_done": True, "trigger_applied": True},
             artifact_report={"artifact": True}, se_report={"state_evol": False},
             coherence_report={"coherence": None})  # a stub that was never judged
    official(reports, "b_lightoff", control_report={"occlusion_done": None, "trigger_applied": None})
    official(reports, "stranger", se_report={"state_evol": True})
    run = run_of(tmp_path, cases)
    assert import_reports(run, cases, reports) == ("stranger",)
    records = run.records()
    assert [records["a_curtain"].scores[metric] for metric in METRICS] == [False, False, None, True, True]
    assert {name: record.reason for name, record in records.items() if record.status == "failed"} == {
        "b_lightoff": "not judged", "c_cardboard": "missing"}
    (reports / "per_task" / "a_curtain" / "se_report.json").write_text('{"state_e')
    import_reports(run, cases, reports)
    assert run.records()["a_curtain"].reason == "damaged report"
    with pytest.raises(InputError, match="no official reports"):
        import_reports(run, cases, tmp_path)
    with pytest.raises(InputError, match="no official reports"):
        reports_sha256(tmp_path)


def test_reports_of_several_judges_need_a_name(tmp_path: Path) -> None:
    cases, reports = cases_in(tmp_path), tmp_path / "reports"
    official(reports, "a_curtain", se_report__gemini={"state_evol": True}, se_report__openai={"state_evol": False})
    with pytest.raises(InputError, match="several judges"):
        import_reports(run_of(tmp_path, cases), cases, reports)
    for judge, expected in (("gemini", True), ("openai", False)):
        run = run_of(tmp_path, cases, judge)
        import_reports(run, cases, reports, judge=judge)
        assert run.records()["a_curtain"].scores["state_progress"] is expected
