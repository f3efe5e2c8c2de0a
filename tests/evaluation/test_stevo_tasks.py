from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from remind.camera_io.strings import pose_string_c2w
from remind.errors import CameraError, InputError
from remind.evaluation.stevo_tasks import (
    base_name,
    camera_facts,
    cases_of,
    read_tasks,
    request_of,
    tasks_sha256,
    write_outputs,
)
from remind.inference.camera_path import camera_path


@pytest.fixture(scope="module")
def official() -> Path:
    folder = Path(os.environ.get("REMIND_TEST_DATA", "")) / "stevo"
    if not folder.is_dir():
        pytest.skip("REMIND_TEST_DATA has no folder stevo")
    return folder


def task_file(folder: Path, name: str, *, video: str = "A curtain falls. After a pause, it rises.", camera: str = "",
              path: str | None = "s-3, right-20, left-20", frame: bool = True) -> Path:
    place = folder / name
    place.mkdir(parents=True)
    (place / f"{name}.yaml").write_text(json.dumps({
        "id": name, "level": 1, "category": "scalar_state", "prompts": {"video_WM": video, "camera_WM": camera},
        "camera_control": {"HY-WorldPlay": path}, "evaluation": {"init2final_edit_prompt": "more water"}}))
    if frame:
        Image.new("RGB", (64, 48), (90, 120, 60)).save(place / f"{name}_init_frame.png")
    return place


def test_three_official_tasks_are_read_as_they_are(official: Path) -> None:
    tasks = {task.id: task for task in read_tasks(official)}
    assert sorted(tasks) == ["billiard_break_curtain", "ice_on_burner_lightoff", "tank_filling_up_cardboard"]
    billiard = tasks["billiard_break_curtain"]
    assert (billiard.level, billiard.category, billiard.camera) == (3, "relational_state", "s-3, right-20, left-20")
    assert billiard.camera_prompt.startswith("The robot strikes")
    assert tasks["ice_on_burner_lightoff"].camera_prompt == ""
    assert all(task.init_frame is None for task in tasks.values())


def test_the_text_protocol_asks_in_words_and_knows_what_hides(official: Path) -> None:
    cases = {case.id: case for case in cases_of(read_tasks(official), "text")}
    billiard, ice = cases["billiard_break_curtain"], cases["ice_on_burner_lightoff"]
    assert (billiard.distractor, ice.distractor) == ("curtain", "lightoff")
    assert billiard.hidden_by.startswith("while the cue ball rolls, a heavy curtain drops")
    assert billiard.hidden_by.endswith("for a prolonged duration")
    assert "After a pause" in billiard.prompt
    assert billiard.trigger.startswith("The robot strikes")
    assert (ice.trigger, billiard.camera) == ("", "")


def test_the_camera_protocol_keeps_one_variant_of_a_scene(tmp_path: Path) -> None:
    for name in ("tap_lightoff", "tap_curtain", "tap_cardboard", "ball"):
        task_file(tmp_path, name, camera="push it")
    task_file(tmp_path, "still", path=None)
    cases = cases_of(read_tasks(tmp_path), "camera")
    assert [(case.id, case.task.id) for case in cases] == [("ball", "ball"), ("tap", "tap_cardboard")]
    assert {case.hidden_by for case in cases} == {"camera pan"}
    assert cases[1].prompt == "push it"
    assert base_name("a_curtain_cardboard") == "a_curtain"
    with pytest.raises(InputError, match="no task has a camera path"):
        cases_of(read_tasks(tmp_path / "still"), "camera")


def test_words_without_a_pause_are_a_baseline_or_a_pan(tmp_path: Path) -> None:
    task_file(tmp_path, "a_00", video="A tap runs.")
    task_file(tmp_path, "b", video="A tap runs.")
    task_file(tmp_path, "c", video="A tap runs.", path=None)
    task_file(tmp_path, "d", video="Go; while it goes, smoke rises, then, after a pause, it clears.")
    a, b, c, d = cases_of(read_tasks(tmp_path), "text")
    assert [case.distractor for case in (a, b, c)] == ["baseline", "camera pan", "baseline"]
    assert d.hidden_by == "while it goes, smoke rises"


def test_a_pan_keeps_its_peak_at_81_frames() -> None:
    text = "s-3, right-20, left-20"
    assert camera_facts(text) == {"camera": text, "official_frames": 173, "frames": 81, "peak_deg": 60.0}
    cameras = camera_path(text, num_frames=81, hw=(32, 32), fit="stretch")
    assert torch.equal(cameras.c2w, pose_string_c2w(text, num_frames=81))
    plain = camera_path(text, num_frames=81, hw=(32, 32), fit="hold")  # what not rescaling would have shown
    turn = torch.rad2deg(torch.acos(((plain.c2w[:, :3, :3].diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2).clamp(-1, 1)))
    assert turn.argmax() == 80
    with pytest.raises(CameraError):
        camera_facts("right-20 left-20")


def test_a_request_is_a_line_of_a_batch(tmp_path: Path) -> None:
    task_file(tmp_path, "tap_curtain", camera="push it")
    task_file(tmp_path, "bare", frame=False)
    bare, tap = cases_of(read_tasks(tmp_path), "camera")
    asked = request_of(tap, seed=3)
    assert asked == {"id": "tap", "image": str(tmp_path / "tap_curtain" / "tap_curtain_init_frame.png"),
                     "prompt": "push it", "seed": 3, "camera": tap.camera, "camera_fit": "stretch"}
    with pytest.raises(InputError, match="no first frame"):
        request_of(bare, seed=3)


def test_what_is_no_task_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_tasks(tmp_path / "none")
    with pytest.raises(InputError, match="no tasks"):
        read_tasks(tmp_path)
    task_file(tmp_path, "a")
    shutil.copytree(tmp_path / "a", tmp_path / "split" / "a")
    with pytest.raises(InputError, match="one id"):
        read_tasks(tmp_path)
    (tmp_path / "split" / "a" / "a.yaml").write_text("prompts: [1]")
    with pytest.raises(InputError, match="no task"):
        read_tasks(tmp_path / "split")


def test_a_changed_task_is_another_test_set(tmp_path: Path) -> None:
    place = task_file(tmp_path, "a")
    before = tasks_sha256(cases_of(read_tasks(tmp_path), "text"))
    assert before != tasks_sha256(cases_of(read_tasks(tmp_path), "camera"))
    Image.new("RGB", (64, 48), (91, 120, 60)).save(place / "a_init_frame.png")
    assert before != tasks_sha256(cases_of(read_tasks(tmp_path), "text"))


@pytest.mark.parametrize(("protocol", "word"), [("text", "remind_text"), ("camera", "lingbot")])
def test_the_official_layout_has_one_json_and_nothing_else(tmp_path: Path, protocol: str, word: str) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"first")
    place = write_outputs(tmp_path / "outputs", {"a": video}, protocol)  # type: ignore[arg-type]
    assert word in place.name
    assert sorted(path.name for path in place.iterdir()) == ["a.mp4", "output_map.json"]
    assert json.loads((place / "output_map.json").read_text()) == {"a": "a.mp4"}
    video.unlink()
    video.write_bytes(b"second")
    write_outputs(tmp_path / "outputs", {"a": video}, protocol)  # type: ignore[arg-type]
    assert (place / "a.mp4").read_bytes() == b"second"
