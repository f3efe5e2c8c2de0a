"""The recovery suite on a real store with the shipped model: what is compared, what ranks, what fails and why."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from remind.clip import Cameras, Clip
from remind.data.clip_store import ClipStore
from remind.data.clip_store_writer import ClipStoreWriter
from remind.data.interrupt import Event, GivenStyle, InterruptionRecipe, View, clean_view
from remind.data.video_io import write_video
from remind.errors import InputError
from remind.eval_commands.recovery import recovery
from remind.evaluation.eval_run import open_run
from remind.evaluation.lpips import Lpips
from remind.evaluation.recovery_cases import NO_ROOM, CaseSpec, NoCase, RecoveryCase, case_specs, make_case
from remind.evaluation.recovery_scores import measures_for, score_recovery
from remind.evaluation.recovery_suite import RecoverySuite
from remind.evaluation.revisits import revisits
from remind.frame_graph import Interruption
from remind.geometry import intrinsics_from_fov, rigid, rotation_yaw
from tests.data.make_store import damage, memory_of
from tests.data.make_video import moving_square
from tests.data.test_clip_store import provenance
from tests.evaluation.test_lpips import formula_weights

SEEN, STORED, FRAMES = (32, 32), (48, 128), 57
LOOP = Interruption("camera_loop", 22, 25, 33, 36)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clip that is stored wide, one that is not, one whose own camera looks away, and a damaged one."""
    root = tmp_path_factory.mktemp("recovery") / "store"
    wide = InterruptionRecipe(events=(), view=View(hw=SEEN, assumed_fov_deg=60.0))
    with ClipStoreWriter(root) as writer:
        clip = Clip(moving_square(FRAMES, STORED, seed=1), 16.0, caption="a square moves", clip_id="wide")
        writer.add(memory_of(clip, wide, provenance()))
        clip = Clip(moving_square(FRAMES, SEEN, seed=2), 16.0, caption="a square moves", clip_id="narrow")
        writer.add(memory_of(clip, InterruptionRecipe(events=()), provenance()))
        own = InterruptionRecipe(events=(Event(interruption=LOOP, style=GivenStyle()),))
        writer.add(memory_of(looping("loop"), own, provenance()))
        clip = Clip(moving_square(FRAMES, SEEN, seed=3), 16.0, caption="a square moves", clip_id="broken")
        writer.add(memory_of(clip, InterruptionRecipe(events=()), provenance()))
    damage(root, 3)
    return root


def looping(name: str) -> Clip:
    """A clip whose camera turns away and back."""
    frames = torch.arange(FRAMES, dtype=torch.float64)
    away = torch.minimum((frames - 21) / 4, (36 - frames) / 4).clamp(0, 1)
    cameras = Cameras(rigid(rotation_yaw(90 * away), torch.zeros(FRAMES, 3).double()),
                      intrinsics_from_fov(60, SEEN, FRAMES), SEEN, torch.ones(FRAMES, dtype=torch.bool))  # fmt: skip
    return Clip(moving_square(FRAMES, SEEN, seed=5), 16.0, cameras, caption="a square moves", clip_id=name)


def case_of(root: Path, clip: int, kind: Any, seed: int = 0) -> RecoveryCase:
    store = ClipStore.open(root)
    return make_case(store, CaseSpec(f"{store.clip_ids[clip]}.{kind}", clip, kind), seed)


def scores_of(out: Path) -> dict[str, Any]:
    return json.loads((out / "scores.json").read_text())


def cell(out: Path, title: str, row: str, column: str) -> dict[str, Any]:
    table = next(t for t in scores_of(out)["summary"]["tables"] if title in t["title"])
    return next(r["cells"][column] for r in table["rows"] if r["name"] == row)


# --- cases -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["light", "occluder", "lookaway", "zoom"])
def test_a_case_is_interrupted_and_comes_back_to_the_clean_clip(root: Path, kind: str) -> None:
    store = ClipStore.open(root)
    case, again = case_of(root, 0, kind), case_of(root, 0, kind)
    assert case.recipe == again.recipe
    assert torch.equal(case.degraded.rgb, again.degraded.rgb)
    assert case.recipe != case_of(root, 0, kind, seed=1).recipe
    assert case.degraded.hw == SEEN
    clean = clean_view(store.read(0).clean, case.recipe).rgb  # a look away may rest aside of the middle
    outside = [*case.phases["before"], *case.phases["after"]]
    assert torch.equal(case.degraded.rgb[outside], clean[outside])
    assert not torch.equal(case.degraded.rgb[case.first_generated - 1], clean[case.first_generated - 1])
    assert case.phases["before"].stop > 0 < len(case.phases["after"])
    assert case.first_generated in case.phases["during"]


def test_a_look_away_takes_room_or_a_camera_that_looks_away(root: Path) -> None:
    with pytest.raises(NoCase, match=NO_ROOM):
        case_of(root, 1, "lookaway")
    with pytest.raises(NoCase, match="damaged clip"):
        case_of(root, 3, "light")
    loop = case_of(root, 2, "lookaway")
    assert loop.recipe.kind == "camera_loop"
    assert loop.phases["during"] == range(LOOP.start, LOOP.stop)


def test_frames_of_one_pose_are_paired_across_a_look_away(root: Path) -> None:
    for case in (case_of(root, 0, "lookaway"), case_of(root, 2, "lookaway")):
        event, pairs = case.schedule.interruptions[0], revisits(case)
        after = [pair for pair in pairs if pair.last >= event.stop]
        assert [pair.last for pair in after] == list(case.phases["after"])
        assert {pair.first for pair in after} == {event.start - 1}  # at rest: the last frame before
        assert all(pair.first < event.hidden_start <= event.hidden_stop <= pair.last for pair in pairs)
        assert all(pair.turn_deg <= 1 for pair in pairs)
    assert revisits(case_of(root, 0, "light")) == ()


# --- scores ----------------------------------------------------------------------------------------------------------


def test_only_made_frames_are_scored_and_a_wrong_frame_costs_its_phase_alone(root: Path) -> None:
    case = case_of(root, 0, "lookaway")
    measures = measures_for(SEEN, Lpips(formula_weights()))
    assert set(measures) == {"psnr_db", "ssim", "lpips"}
    assert set(measures_for((30, 30), Lpips(formula_weights()))) == {"psnr_db", "ssim"}
    assert set(measures_for(SEEN, None)) == {"psnr_db", "ssim"}
    truth = case.degraded.rgb
    perfect, _ = score_recovery(case, truth, measures, first_made=case.first_generated)
    assert perfect["before_psnr_db"] is None
    assert perfect["after_psnr_db"] == 60
    assert perfect["after_ssim"] == pytest.approx(1)
    assert perfect["after_lpips"] == 0
    assert perfect["revisit_psnr_db"] == perfect["truth_revisit_psnr_db"] < 60  # the square has moved
    wrong = truth.clone()
    wrong[case.phases["after"].start :] = 255 - wrong[case.phases["after"].start :]
    wrong[: case.first_generated] = 0  # given: not looked at, but where a view is met again
    scores, facts = score_recovery(case, wrong, measures, first_made=case.first_generated)
    assert scores["during_psnr_db"] == 60 > 20 > scores["after_psnr_db"]
    assert scores["after_lpips"] > 0 < 1 - scores["after_ssim"]
    assert scores["revisit_psnr_db"] < perfect["revisit_psnr_db"]
    assert len(facts["per_frame"]["psnr_db"]) == FRAMES - case.first_generated


# --- the command -----------------------------------------------------------------------------------------------------


def test_the_truth_beats_its_codec_beats_the_model_and_what_fails_is_counted(root: Path, tmp_path: Path) -> None:
    kinds: Any = ("light", "lookaway")
    recovery(root, tmp_path / "oracle", control="oracle", kinds=kinds)
    recovery(root, tmp_path / "codec", control="codec", checkpoint="nano", kinds=kinds)
    recovery(root, tmp_path / "nano", checkpoint="nano", kinds=kinds, steps=1)
    found = scores_of(tmp_path / "nano")
    assert found["counts"] == {
        "examples": 8, "scored": 5, "failed": 3, "reasons": {"damaged clip": 2, NO_ROOM: 1},
    }  # fmt: skip
    psnr = [cell(tmp_path / run, "after", "all", "PSNR (dB)") for run in ("oracle", "codec", "nano")]
    assert [c["n"] for c in psnr] == [5, 5, 5]
    assert psnr[0]["value"] == 60 > psnr[1]["value"] > psnr[2]["value"] > psnr[2]["low"]
    assert cell(tmp_path / "nano", "Loop closure", "made - truth", "SSIM")["n"] == 2
    assert cell(tmp_path / "oracle", "Loop closure", "made - truth", "SSIM")["value"] == 0
    identity, records = open_run(tmp_path / "nano")
    assert identity["checkpoint"] == "nano"
    record = records["wide.lookaway"]
    assert (tmp_path / "nano" / record.about["video"]["path"]).is_file()
    assert {"prompt", "seed", "recipe", "frames_sha256"} <= record.about.keys()


def test_without_weights_nothing_is_called_lpips(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("REMIND_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    recovery(root, tmp_path / "out", control="copy_anchor", limit=1)
    assert "LPIPS was not measured" in capsys.readouterr().err.replace("\n", " ")
    found = scores_of(tmp_path / "out")
    columns = {column for t in found["summary"]["tables"] for row in t["rows"] for column in row["cells"]}
    assert columns == {"PSNR (dB)", "SSIM"}
    assert found["identity"]["metrics"]["lpips"] is None
    _, records = open_run(tmp_path / "out")
    assert all(record.scores["after_lpips"] is None for record in records.values())


def test_a_run_goes_on_where_it_was(root: Path, tmp_path: Path) -> None:
    recovery(root, tmp_path / "whole", checkpoint="nano", limit=1, batch=1, steps=1)
    shutil.copytree(tmp_path / "whole", tmp_path / "half")
    (tmp_path / "half" / "scores.json").unlink()
    (tmp_path / "half" / "examples" / "wide.zoom.json").unlink()
    (tmp_path / "half" / "examples" / "wide.light.json").write_text("{ half")
    kept = (tmp_path / "half" / "examples" / "wide.occluder.json").stat().st_mtime_ns
    recovery(root, tmp_path / "half", checkpoint="nano", limit=1, steps=1)
    assert (tmp_path / "half" / "examples" / "wide.occluder.json").stat().st_mtime_ns == kept
    psnr = [cell(tmp_path / run, "after", "all", "PSNR (dB)")["value"] for run in ("whole", "half")]
    assert psnr[0] == pytest.approx(psnr[1], abs=0.05)  # another batch rounds otherwise
    with pytest.raises(InputError, match="another evaluation"):
        recovery(root, tmp_path / "half", checkpoint="nano", limit=1, seed=1, steps=1)


def test_anyones_videos_are_scored_and_bad_ones_named(
    root: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recovery(root, tmp_path / "inputs", write_inputs=True, limit=2)
    inputs = json.loads((tmp_path / "inputs" / "inputs.json").read_text())["inputs"]
    assert len(inputs) == 7
    assert not (tmp_path / "inputs" / "narrow.lookaway.mp4").exists()
    suite = RecoverySuite(ClipStore.open(root), ("light", "occluder", "lookaway", "zoom"), 2, 0, None)
    folder = tmp_path / "videos"
    folder.mkdir()
    for spec in suite.specs[:4]:
        case = make_case(suite.store, spec, 0)
        given = next(row for row in inputs if row["name"] == spec.name)
        assert given["given_frames"] == case.first_generated
        write_video(folder / f"{spec.name}.mp4", case.degraded.rgb, 16, crf=0)
    write_video(folder / "wide.light.mp4", case.degraded.rgb[:-3], 16)
    (folder / "wide.zoom.mp4").write_bytes((folder / "wide.zoom.mp4").read_bytes()[:900])
    (folder / "wide.occluder.mp4").rename(folder / "wide.ocluder.mp4")
    recovery(root, tmp_path / "out", videos=folder, limit=2)
    said = capsys.readouterr().err.replace("\n", " ")
    assert "wide.occluder.mp4 (is it wide.ocluder.mp4?)" in said
    reasons = scores_of(tmp_path / "out")["counts"]["reasons"]
    assert reasons == {"missing": 4, "wrong length": 1, "truncated or damaged": 1, NO_ROOM: 1}
    assert cell(tmp_path / "out", "after", "lookaway", "PSNR (dB)")["value"] > 25  # chroma is stored at half size


def test_what_cannot_be_scored_is_refused_at_once(root: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a model, a folder of videos or a control"):
        recovery(root, tmp_path / "out")
    with pytest.raises(InputError, match="a model, a folder of videos or a control"):
        recovery(root, tmp_path / "out", control="codec")
    with pytest.raises(InputError, match="limit"):
        recovery(root, tmp_path / "out", control="oracle", limit=0)
    with ClipStoreWriter(tmp_path / "large") as writer:
        clip = Clip(moving_square(FRAMES, (48, 48)), 16.0, caption="a square moves", clip_id="large")
        writer.add(memory_of(clip, InterruptionRecipe(events=()), provenance()))
    with pytest.raises(InputError, match="another size than the model"):
        recovery(tmp_path / "large", tmp_path / "out", checkpoint="nano")
    assert not (tmp_path / "out").exists()
    assert len(case_specs(ClipStore.open(root), ("light",), None)) == 4
