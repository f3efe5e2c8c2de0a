from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from remind.errors import InputError
from remind.evaluation.eval_run import EvalRun
from remind.evaluation.vbench_package import VBenchPackage, find_package, measure
from remind.evaluation.vbench_results import read_results
from remind.evaluation.vbench_scores import GROUPS, I2V, QUALITY, summarise, write_records
from remind.evaluation.vbench_tasks import DIMENSIONS, VBenchVideo, ratio_of, read_prompts, request_of, videos_of


@pytest.fixture(scope="module")
def official() -> Path:
    path = Path(os.environ.get("REMIND_TEST_DATA", "")) / "vbench" / "vbench2_i2v_full_info.json"
    if not path.is_file():
        pytest.skip("REMIND_TEST_DATA has no task list of VBench")
    return path


SUBJECT = ["i2v_subject", "subject_consistency", "motion_smoothness", "dynamic_degree", "aesthetic_quality",
           "imaging_quality", "temporal_flickering"]
BACKGROUND = ["i2v_background", "background_consistency", "aesthetic_quality", "imaging_quality", "temporal_flickering"]


def task_list(folder: Path) -> Path:
    lines = [("a cat, asleep", SUBJECT, "a cat.jpg"), ("a dog/cat".replace("/", " or "), SUBJECT, "a dog.jpg"),
             ("a beach", BACKGROUND, "a beach.jpg"), ("a beach, camera pans left", ["camera_motion"], "a beach.jpg")]
    path = folder / "tasks.json"
    path.write_text(json.dumps([{"prompt_en": prompt, "dimension": dimensions, "image_type": "x", "image_name": image}
                                for prompt, dimensions, image in lines]))
    return path


def value_of(video: VBenchVideo, dimension: str) -> float:
    spread = (video.asked.number + 2 * video.sample + 3 * DIMENSIONS.index(dimension)) % 7 / 7
    return float(spread > 0.5) if dimension in ("dynamic_degree", "camera_motion") else 0.4 + 0.5 * spread


def write_results(folder: Path, videos: list[VBenchVideo], dimensions: tuple[str, ...] = DIMENSIONS) -> Path:
    """As VBench writes them: per cent for imaging quality, three parts for camera motion, yes and no for motion."""
    folder.mkdir(parents=True, exist_ok=True)
    for dimension in dimensions:
        values = [(video, value_of(video, dimension)) for video in videos if dimension in video.asked.dimensions]
        scale = 100 if dimension == "imaging_quality" else 1
        shown = [{"video_path": f"/else/where/{video.file}",
                  "video_results": bool(value) if dimension == "dynamic_degree" else scale * value}
                 for video, value in values]
        mean = float(np.mean([value for _, value in values]))
        whole = [mean, {"pan_left": mean}, shown] if dimension == "camera_motion" else [mean, shown]
        (folder / f"{dimension}_eval_results.json").write_text(json.dumps({dimension: whole}))
    return folder


def scored(tmp_path: Path, results: Path, videos: list[VBenchVideo]) -> dict[str, object]:
    run = EvalRun(tmp_path / f"run-{len(list(tmp_path.iterdir()))}", {"suite": "vbench"}, [v.id for v in videos])
    read = read_results(results)
    extra = write_records(run, videos, read)
    summary = summarise("model", run.records(), videos, read, extra=extra)
    run.finish(summary)
    return summary


def test_the_official_list_expects_what_its_readme_says(official: Path) -> None:
    prompts = read_prompts(official)
    counts = {name: sum(name in prompt.dimensions for prompt in prompts) for name in DIMENSIONS}
    assert len(prompts) == 1118
    assert counts == {"i2v_subject": 246, "i2v_background": 109, "camera_motion": 763, "subject_consistency": 246,
                      "background_consistency": 109, "motion_smoothness": 246, "dynamic_degree": 246,
                      "aesthetic_quality": 355, "imaging_quality": 355}  # fmt: skip
    videos = videos_of(prompts)
    assert len(videos) == 5590 == len({video.id for video in videos}) == len({video.file for video in videos})
    assert len({prompt.image for prompt in prompts}) == 355
    assert videos[7].file == "a close up of a blue and orange liquid, camera pans left-2.mp4"


def test_names_and_requests(tmp_path: Path) -> None:
    videos = videos_of(read_prompts(task_list(tmp_path)))
    assert [video.file for video in videos[:2]] == ["a cat, asleep-0.mp4", "a cat, asleep-1.mp4"]
    assert videos[1].id == "0000-a-cat-asleep-1"
    with pytest.raises(InputError, match="picture is missing"):
        request_of(videos[1], tmp_path, seed=42)
    Image.new("RGB", (8, 8)).save(tmp_path / "a cat.jpg")
    assert request_of(videos[1], tmp_path, seed=42) == {
        "id": "0000-a-cat-asleep-1", "out": "a cat, asleep-1.mp4", "image": str(tmp_path / "a cat.jpg"),
        "prompt": "a cat, asleep", "seed": 43}
    assert [ratio_of(hw) for hw in ((480, 832), (64, 64), (720, 1280), (500, 800))] == ["7-4", "1-1", "16-9", "8-5"]


@pytest.mark.parametrize("text", [
    "{}", "[]", "[1]", '[{"prompt_en": "a"}]', '[{"prompt_en": "../a", "image_name": "a.jpg", "dimension": []}]',
    '[{"prompt_en": "a", "image_name": "/etc/a", "dimension": []}]', "[", "[[[[",
    '[{"prompt_en": "a", "image_name": "a", "dimension": []}, {"prompt_en": "a", "image_name": "a", "dimension": []}]',
])
def test_what_is_no_task_list_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tasks.json"
    path.write_text(text)
    with pytest.raises(InputError):
        read_prompts(path)


def test_official_normalisation_and_weights(tmp_path: Path) -> None:
    """Worked by hand from the official constants."""
    videos = videos_of(read_prompts(task_list(tmp_path)))
    summary = scored(tmp_path, write_results(tmp_path / "results", videos), videos)
    means = {name: np.mean([value_of(v, name) for v in videos if name in v.asked.dimensions]) for name in DIMENSIONS}
    subject = (means["i2v_subject"] - 0.1462) / (1 - 0.1462)
    background = (means["i2v_background"] - 0.2615) / (1 - 0.2615)
    i2v = (subject + background + 0.1 * means["camera_motion"]) / 2.1
    quality = ((means["subject_consistency"] - 0.1462) / 0.8538 + (means["background_consistency"] - 0.2615) / 0.7385
               + (means["motion_smoothness"] - 0.706) / 0.2915 + 0.5 * means["dynamic_degree"]
               + means["aesthetic_quality"] + means["imaging_quality"]) / 5.5
    cells = summary["tables"][0]["rows"][0]["cells"]  # type: ignore[index]
    assert cells["I2V"]["value"] == pytest.approx(100 * i2v)
    assert cells["Quality"]["value"] == pytest.approx(100 * quality)
    assert cells["Total"]["value"] == pytest.approx(100 * (i2v + quality) / 2)
    assert cells["Total"]["low"] < cells["Total"]["value"] < cells["Total"]["high"]
    groups = summary["tables"][1]["rows"][0]["cells"]  # type: ignore[index]
    assert groups["Semantic Accuracy"]["value"] == pytest.approx(100 * i2v)
    assert groups["Visual Quality"]["value"] == pytest.approx(
        50 * (means["aesthetic_quality"] + means["imaging_quality"]))
    rows = {row["name"]: row["cells"] for row in summary["tables"][2]["rows"]}  # type: ignore[index]
    assert rows["imaging_quality"]["raw"]["value"] == pytest.approx(means["imaging_quality"])
    assert (rows["camera_motion"]["videos"]["k"], rows["aesthetic_quality"]["videos"]["k"]) == (5, 15)
    assert summary["stated_means_disagree"] == summary["not_measured"] == summary["extra_videos"] == []


def test_the_three_groups_hold_each_dimension_once() -> None:
    assert sorted(name for held in GROUPS.values() for name in held) == sorted(DIMENSIONS) == sorted(I2V + QUALITY)


def test_a_dimension_that_is_missing_is_no_zero(tmp_path: Path) -> None:
    videos = videos_of(read_prompts(task_list(tmp_path)))
    there = tuple(name for name in DIMENSIONS if name != "aesthetic_quality")
    summary = scored(tmp_path, write_results(tmp_path / "results", videos, there), videos)
    cells = summary["tables"][0]["rows"][0]["cells"]  # type: ignore[index]
    assert cells["Quality"]["value"] is cells["Total"]["value"] is None
    assert cells["I2V"]["value"] is not None
    assert summary["not_measured"] == ["aesthetic_quality"]
    assert "aesthetic_quality" in summary["tables"][0]["note"]  # type: ignore[index]


def test_missing_and_extra_videos_are_named(tmp_path: Path) -> None:
    videos = videos_of(read_prompts(task_list(tmp_path)))
    results = write_results(tmp_path / "results", videos[1:])
    run = EvalRun(tmp_path / "run", {"suite": "vbench"}, [video.id for video in videos])
    read = read_results(results)
    assert write_records(run, videos, read) == ()
    assert write_records(run, videos[:-1], read) == (videos[-1].file,)
    records = run.records()
    assert (records[videos[0].id].status, records[videos[0].id].reason) == ("failed", "missing in the results")
    summary = summarise("x", records, videos, read)
    assert summary["missing_videos"]["i2v_subject"] == 1
    assert summary["missing_videos"]["i2v_background"] == 0


def test_a_mean_without_its_videos_has_no_interval(tmp_path: Path) -> None:
    videos = videos_of(read_prompts(task_list(tmp_path)))
    results = write_results(tmp_path / "results", videos)
    (results / "aesthetic_quality_eval_results.json").write_text('{"aesthetic_quality": [0.5, []]}')
    summary = scored(tmp_path, results, videos)
    assert summary["means_without_videos"] == ["aesthetic_quality"]
    cell = summary["tables"][0]["rows"][0]["cells"]["Quality"]  # type: ignore[index]
    assert cell["value"] is not None
    assert cell["low"] is cell["high"] is None


def test_a_stated_mean_of_other_videos_is_noticed(tmp_path: Path) -> None:
    videos = videos_of(read_prompts(task_list(tmp_path)))
    results = write_results(tmp_path / "results", videos)
    file = results / "i2v_subject_eval_results.json"
    data = json.loads(file.read_text())
    data["i2v_subject"][0] += 0.01
    file.write_text(json.dumps(data))
    summary = scored(tmp_path, results, videos)
    assert summary["stated_means_disagree"] == ["i2v_subject"]
    rows = {row["name"]: row["cells"] for row in summary["tables"][2]["rows"]}  # type: ignore[index]
    assert rows["i2v_subject"]["raw"]["value"] == pytest.approx(data["i2v_subject"][0] - 0.01)


@pytest.mark.parametrize("text", [
    '{"i2v_subject": [0.5', '{"i2v_subject": 0.5}', '{"i2v_subject": [0.5, [{"video_path": "a"}]]}',
    '{"i2v_subject": [NaN, []]}', '{"i2v_subject": [0.5, [{"video_path": "a", "video_results": Infinity}]]}',
    '{"i2v_subject": [0.5, [{"video_path": "a/x", "video_results": 1}, {"video_path": "b/x", "video_results": 0}]]}',
    '{"scene": [0.5, []]}',
])
def test_damaged_results_are_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "x_eval_results.json").write_text(text)
    with pytest.raises(InputError):
        read_results(tmp_path)


def test_two_results_of_one_dimension_are_not_mixed(tmp_path: Path) -> None:
    for name in ("old", "new"):
        (tmp_path / f"{name}_eval_results.json").write_text('{"i2v_subject": [0.5, []]}')
    with pytest.raises(InputError, match="two results"):
        read_results(tmp_path)
    with pytest.raises(InputError, match="no results"):
        read_results(tmp_path / "nowhere")
    assert read_results(tmp_path / "old_eval_results.json").stated == {"i2v_subject": 0.5}


PACKAGE = '''
import json, os
class VBenchI2V:
    """Takes what the official class takes and writes what it writes; scores are file sizes."""
    def __init__(self, device, full_info_dir, output_path):
        self.tasks, self.out = json.load(open(full_info_dir)), output_path
    def evaluate(self, videos_path, name, dimension_list=None, resolution="1-1", **kwargs):
        [dimension] = dimension_list
        if dimension == "camera_motion":
            raise RuntimeError("no weights for " + dimension)
        assert os.path.isdir("vbench2_beta_i2v/data/crop/" + resolution)
        prompts = [task["prompt_en"] for task in self.tasks if dimension in task["dimension"]]
        videos = [f"{prompt}-{i}.mp4" for prompt in prompts for i in range(5)]
        there = [v for v in videos if os.path.exists(os.path.join(videos_path, v))]
        found = [{"video_path": v, "video_results": 50.0} for v in there]
        mean = 0.5 if dimension == "imaging_quality" else 50.0
        json.dump({dimension: [mean, found]}, open(os.path.join(self.out, name + "_eval_results.json"), "w"))
'''


def test_the_package_is_run_as_its_own_script_does(tmp_path: Path) -> None:
    """Against a stand-in with the official class's interface: the real one needs a GPU and its weights."""
    root = tmp_path / "checkout"
    (root / "vbench2_beta_i2v" / "data" / "crop" / "7-4").mkdir(parents=True)
    (root / "vbench2_beta_i2v" / "__init__.py").write_text(PACKAGE)
    (root / "torch.py").write_text("device = str\n")  # importing the real one takes seconds
    tasks = task_list(tmp_path)
    videos = videos_of(read_prompts(tasks))
    folder = tmp_path / "videos"
    folder.mkdir()
    for video in videos:
        (folder / video.file).write_bytes(b"v")
    assert find_package() is None  # VBench is not installed here
    with pytest.raises(InputError, match="no checkout"):
        find_package(root=tmp_path)
    wrapper = tmp_path / "python"
    wrapper.write_text(f"#!/bin/sh\nPYTHONPATH={root} exec {sys.executable} \"$@\"\n")
    wrapper.chmod(0o755)
    package = find_package(str(wrapper), root, device="cpu")
    assert package == VBenchPackage(str(wrapper), root, "cpu")
    out, done = tmp_path / "out", []
    failed = measure(package, ("imaging_quality", "camera_motion"), tasks, folder, out, "7-4", progress=done.append)
    assert done == ["imaging_quality", "camera_motion"]
    assert list(failed) == ["camera_motion"]
    assert "no weights for camera_motion" in failed["camera_motion"]
    read = read_results(out)
    assert read.disagree == ()
    assert set(read.videos["imaging_quality"].values()) == {0.5}
    assert len(read.videos["imaging_quality"]) == 15
    written = (out / "imaging_quality_eval_results.json").stat().st_mtime_ns
    measure(package, ("imaging_quality",), tasks, folder, out, "7-4")
    assert (out / "imaging_quality_eval_results.json").stat().st_mtime_ns == written
