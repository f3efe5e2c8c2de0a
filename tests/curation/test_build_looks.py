"""What a build learns by looking: a VLM's annotation, estimated cameras, a camera that loops by itself."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from remind.camera_io import write_cameras_npz
from remind.clip import Cameras
from remind.curation.annotation import FLAGS
from remind.curation.estimators.contract import EstimatorSetupError
from remind.curation.estimators.estimate import trajectory_error
from remind.curation.motion_policy import MotionPolicy
from remind.curation.options import BuildOptions, VlmChoice
from remind.curation.pipeline import build_store
from remind.data.clip_store import ClipStore
from remind.data.store_check import verify
from remind.data.video_io import write_video
from remind.errors import InputError, StoreError
from remind.geometry import anchor, intrinsics_from_fov, lookaway_trajectory, orbit_trajectory
from remind.vlm import RequestLimits
from remind.world import sample_scene
from remind.world.clutter import add_clutter
from tests.curation.test_pipeline import work_done
from tests.curation.textured_stage import FOV_DEG, HW, render_stage
from tests.data.make_video import moving_square, write
from tests.vlm.chat_server import say, serving
from tests.vlm.make_tiny_qwen import save_tiny_qwen

ANSWER = {
    "has_cut": False, "cut_time_s": None, "events": ["ball_rolling"], "occupancy": 0.25, "visible_share": 1,
    "caption": {"text": "A square slides to the right.", "object": "square", "state_variable": "position",
                "direction": "rising", "trigger": None, "before": None, "after": None},
    "flags": {**dict.fromkeys(FLAGS, "no"), "watermark": "yes"},
}  # fmt: skip


def videos(folder: Path, count: int = 2) -> Path:
    folder.mkdir()
    for seed in range(count):
        write(folder / f"{seed}.mp4", moving_square(90, (96, 128), seed=seed))
    return folder


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remind.curation.window_annotation.RequestLimits", lambda **_: RequestLimits(max_attempts=1))


def options(url: str) -> BuildOptions:
    return BuildOptions(hw=(32, 32), vlm=VlmChoice(url, "qwen"))


def test_what_a_vlm_says_goes_with_the_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMIND_VLM_API_KEY", "secret-key-of-mine")
    source, out = videos(tmp_path / "in"), tmp_path / "out"
    small = json.dumps({**ANSWER, "occupancy": 0.01})
    with serving(say(json.dumps(ANSWER)), say(small)) as server:
        report = build_store(source, out, options(server.url))
        assert report.kept == 1
        assert [(d.stage, d.reason[:30]) for d in report.dropped] == [("annotate", "small: 1.0% of the picture cha")]
        (path, headers, body), _ = server.requests
        assert path == "/v1/chat/completions"
        assert headers["authorization"] == "Bearer secret-key-of-mine"
        assert json.dumps(body).count("data:video/mp4;base64,") == 1
        assert build_store(source, out, options(server.url)) == report  # asks nothing twice
        assert len(server.requests) == 2
        strict = replace(options(server.url), keep=replace(options(server.url).keep, max_flags=0))
        with pytest.raises(StoreError, match="no clip was kept"):  # another policy asks nothing either
            build_store(source, out, strict)
        assert len(server.requests) == 2
    for place in out.rglob("*"):
        assert place.is_dir() or b"secret-key" not in place.read_bytes()


def test_an_annotated_clip_has_the_models_words(tmp_path: Path) -> None:
    source, out = videos(tmp_path / "in", 1), tmp_path / "out"
    with serving(say(json.dumps(ANSWER))) as server:
        build_store(source, out, options(server.url))
    (clip,) = ClipStore.open(out)
    assert clip.clean.caption == "A square slides to the right."
    assert clip.prompts[0] == "A square slides to the right"
    assert clip.event.judged_by == "vlm"
    assert clip.event.types == ("ball_rolling",)
    assert clip.event.groups == ("translational",)
    assert clip.event.safety_flags == ("watermark",)
    assert clip.event.annotation["question"]["model"] == "served-model"
    assert "chatcmpl-1" in clip.event.annotation["raw"]
    assert verify(out).ok


@pytest.mark.usefixtures("impatient")
def test_nonsense_is_quarantined_and_silence_is_asked_again(tmp_path: Path) -> None:
    source, out = videos(tmp_path / "in"), tmp_path / "out"
    with serving(say("I like it."), say(json.dumps(ANSWER))) as server:
        report = build_store(source, out, options(server.url))
        assert report.kept == 1
        assert [(f.stage, "JSON object" in f.reason) for f in report.failed] == [("annotate", True)]
        assert build_store(source, out, options(server.url)) == report
        assert len(server.requests) == 2
    lonely, other = videos(tmp_path / "in2", 1), tmp_path / "out2"
    nobody = "http://127.0.0.1:9/v1"
    with pytest.raises(StoreError, match="no clip was kept; got annotate 1"):
        build_store(lonely, other, options(nobody))
    assert "annotate" not in work_done(other)[1]


@pytest.mark.usefixtures("impatient")
def test_a_vlm_that_never_answers_does_not_cost_the_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remind.curation.pipeline._MAX_SILENCE", 2)
    with pytest.raises(InputError, match="the VLM has answered nothing so far"):
        build_store(videos(tmp_path / "in", 3), tmp_path / "out", options("http://127.0.0.1:9/v1"))


def film(path: Path, c2w: torch.Tensor) -> tuple[Path, torch.Tensor]:
    rgb, cameras = render_stage(c2w)
    write_video(path, rgb, 16, crf=10)
    return path, cameras.c2w


# Its checks change so much under a fast turn that the detector would see cuts.
STAGE = BuildOptions(hw=HW, num_frames=57, motion=MotionPolicy(0.0, 0.0, 0.0, 0.0), cut_threshold=120.0)


def test_poses_are_estimated_where_none_are_given(tmp_path: Path) -> None:
    pytest.importorskip("pycolmap", reason="the extra `camera` is not installed")
    folder, hw = tmp_path / "in", (160, 240)
    folder.mkdir()
    c2w = orbit_trajectory(45, angle_deg=40.0, distance=3.3)
    true = Cameras(c2w, intrinsics_from_fov(FOV_DEG, hw, 45), hw, torch.ones(45, dtype=torch.bool))
    scene = add_clutter(sample_scene(1, family="clock", num_frames=45, hw=hw), count=80)
    write_video(folder / "orbit.mp4", scene.render_rgb(cameras=true), 16, crf=10)
    out = tmp_path / "out"
    build_store(folder, out, replace(STAGE, hw=(80, 120), num_frames=45, cameras="colmap"))
    (clip,) = ClipStore.open(out)
    assert clip.provenance.verdicts["cameras"].startswith("estimated by colmap")
    assert clip.scale_kind == "relative"
    found = clip.clean.cameras
    assert found is not None
    assert found.hw == (80, 120)
    assert abs(found.intrinsics_px[0, 0] / (true.intrinsics_px[0, 0] / 2) - 1) < 0.1
    error = trajectory_error(found, replace(true, c2w=anchor(true.c2w)))
    assert error.num_frames > 40
    assert error.ate_ratio < 0.03
    assert error.rotation_deg < 2
    assert verify(out).ok


def test_a_missing_estimator_is_one_error_and_not_one_for_every_window(tmp_path: Path) -> None:
    tool = replace(BuildOptions(hw=(32, 32)), cameras="depth_anything", camera_command=("/no/such/python", "worker.py"))
    with pytest.raises(EstimatorSetupError, match="cannot be started"):
        build_store(videos(tmp_path / "in"), tmp_path / "out", tool)


def test_a_camera_that_looks_away_and_back_is_the_interruption(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    c2w = lookaway_trajectory(81, start=12, hidden_start=30, hidden_stop=45, stop=60, yaw_deg=70.0)
    film(folder / "away.mp4", c2w)
    cameras = Cameras(c2w, intrinsics_from_fov(FOV_DEG, HW, 81), HW, torch.ones(81, dtype=torch.bool))
    write_cameras_npz(folder / "away.mp4.cameras.npz", cameras)
    out = tmp_path / "out"
    build_store(folder, out, replace(STAGE, num_frames=81))
    (clip,) = ClipStore.open(out)
    assert clip.recipe.kind == "camera_loop"
    assert clip.recipe.style.kind == "given"
    assert clip.graph.anchors
    assert torch.equal(clip.degraded().rgb, clip.clean.rgb)
    event = clip.recipe.interruption
    assert event.start >= 12
    assert event.stop <= 60
    assert event.hidden_start < 40 < event.hidden_stop
    assert "given as store_npz" in clip.provenance.verdicts["cameras"]


def test_a_checkpoint_in_this_process_annotates_too(tmp_path: Path) -> None:
    """A Qwen3-VL of the real class, tiny, whose weights were made to say one thing."""
    folder = save_tiny_qwen(tmp_path / "tiny-qwen", answer=json.dumps(ANSWER))
    out = tmp_path / "out"
    build_store(videos(tmp_path / "in", 1), out, BuildOptions(hw=(32, 32), vlm=VlmChoice("", str(folder), side_px=64)))
    (clip,) = ClipStore.open(out)
    assert clip.clean.caption == "A square slides to the right."
    assert clip.event.annotation["question"]["model"] == "tiny-qwen"
