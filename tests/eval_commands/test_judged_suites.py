"""The commands of the judged suites, from files to scores.json, with a shipped model and a judge on a server."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from remind.data.video_io import decode_all, write_video
from remind.errors import InputError
from remind.eval_commands.judge import judge
from remind.eval_commands.stevo import stevo
from remind.eval_commands.vbench import vbench
from remind.evaluation.vbench_tasks import read_prompts
from remind.generate.manifest import Manifest
from tests.data.make_video import moving_square
from tests.evaluation.make_judge import approves, judging
from tests.evaluation.test_judge import folders_in, rates
from tests.evaluation.test_stevo_tasks import task_file
from tests.evaluation.test_vbench import task_list, videos_of, write_results
from tests.vlm.make_tiny_qwen import save_tiny_qwen


def scores(out: Path) -> dict[str, object]:
    return json.loads((out / "scores.json").read_text())


def test_stevo_from_tasks_to_table_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tasks, made = tmp_path / "tasks", tmp_path / "made"
    task_file(tasks, "tap_lightoff", camera="open it")
    task_file(tasks, "bare_curtain", frame=False)
    stevo(tasks, made, checkpoint="nano", device="cpu", protocol="camera")
    outputs = made / "outputs" / "remind_camera_as_lingbot"
    assert json.loads((outputs / "output_map.json").read_text()) == {"tap": "tap.mp4"}
    assert len(decode_all(outputs / "tap.mp4")) == 81
    manifest = Manifest.read(made / "videos" / "tap.mp4.json")
    assert (manifest.request.seed, manifest.request.checkpoint.name) == (42, "nano")
    assert "wrote 1 of 2 videos" in capsys.readouterr().out
    assert not (made / "scores.json").exists()
    first = (made / "videos" / "tap.mp4").stat().st_mtime_ns
    stevo(tasks, made, checkpoint="nano", device="cpu", protocol="camera")  # again: nothing is left to do
    assert (made / "videos" / "tap.mp4").stat().st_mtime_ns == first

    out, again = tmp_path / "judged", tmp_path / "replayed"
    with judging(approves) as server:
        stevo(tasks, out, videos=made / "videos", protocol="camera", judge=server.url, judge_model="j", name="nano")
    said = scores(out)
    [row] = said["summary"]["tables"][0]["rows"]  # type: ignore[index]
    assert (row["name"], row["cells"]["Coherence"]["k"], row["cells"]["Coherence"]["n"]) == ("nano", 1, 1)
    assert said["summary"]["missing"] == {"bare": "missing"}  # type: ignore[index]
    about = json.loads((out / "examples" / "tap.json").read_text())["about"]
    assert (about["official_frames"], about["frames"], about["peak_deg"]) == (173, 81, 60.0)
    assert about["manifest"] == str(made / "videos" / "tap.mp4.json")
    assert "1 of 2 tasks are missing: bare" in capsys.readouterr().out

    stevo(tasks, again, videos=made / "videos", protocol="camera", replay=out, name="nano")
    assert scores(again)["summary"] == said["summary"]
    imported = tmp_path / "imported"
    stevo(tasks, imported, reports=out / "official_reports", protocol="camera", name="nano")
    assert scores(imported)["summary"]["tables"][0]["rows"][0]["cells"]["Total"] == row["cells"]["Total"]  # type: ignore[index]


def test_the_three_official_tasks_with_anyones_videos(tmp_path: Path) -> None:
    tasks = Path(os.environ.get("REMIND_TEST_DATA", "")) / "stevo"
    if not tasks.is_dir():
        pytest.skip("REMIND_TEST_DATA has no folder stevo")
    videos = tmp_path / "videos"
    videos.mkdir()
    for name in ("billiard_break_curtain", "ice_on_burner_lightoff"):
        write_video(videos / f"{name}.mp4", moving_square(33), 16)
    with judging(approves) as server:
        stevo(tasks, tmp_path / "out", videos=videos, judge=server.url, judge_model="j")
    said = scores(tmp_path / "out")
    assert said["counts"] == {"examples": 3, "scored": 2, "failed": 1, "reasons": {"missing": 1}}
    distractors = [row["name"] for row in said["summary"]["tables"][1]["rows"]]  # type: ignore[index]
    assert distractors == ["cardboard", "curtain", "lightoff"]


def test_what_stevo_cannot_be_asked(tmp_path: Path) -> None:
    task_file(tmp_path / "tasks", "a_curtain")
    tasks, out, videos = tmp_path / "tasks", tmp_path / "out", tmp_path / "videos"
    videos.mkdir()
    for wrong in ({}, {"videos": videos}, {"checkpoint": "nano", "videos": videos},
                  {"videos": videos, "judge": "http://x/v1", "judge_model": "j", "limit": 0},
                  {"videos": videos, "judge": "http://x/v1", "replay": out}, {"videos": videos, "replay": out}):
        with pytest.raises(InputError):
            stevo(tasks, out, **wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="several models"):
        stevo(tasks, out, videos=videos, judge="http://localhost:9/v1")


def test_vbench_makes_names_and_sums(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("remind.evaluation.vbench_tasks.NUM_SAMPLES", 2)  # five videos take as many seconds
    tasks, images, made = task_list(tmp_path), tmp_path / "crops", tmp_path / "made"
    images.mkdir()
    Image.new("RGB", (64, 48), (90, 120, 60)).save(images / "a cat.jpg")
    vbench(tasks, made, checkpoint="nano", images=images, limit=1, device="cpu")
    assert sorted(path.name for path in (made / "videos").glob("*.mp4")) == [f"a cat, asleep-{i}.mp4" for i in range(2)]
    seeds = {Manifest.read(made / "videos" / f"a cat, asleep-{i}.mp4.json").request.seed for i in range(2)}
    assert seeds == {42, 43}
    assert "not installed here" in capsys.readouterr().out
    results, out = write_results(tmp_path / "results", videos_of(read_prompts(tasks))), tmp_path / "out"
    vbench(tasks, out, results=results, name="some model")
    said = scores(out)
    assert [table["rows"][0]["name"] for table in said["summary"]["tables"][:2]] == ["some model"] * 2  # type: ignore[index]
    assert said["counts"]["scored"] == 8  # type: ignore[index]
    (results / "i2v_subject_eval_results.json").unlink()
    with pytest.raises(InputError, match="another evaluation"):  # other results are another run
        vbench(tasks, out, results=results)
    for wrong in ({}, {"checkpoint": "nano"}, {"results": results, "videos": results},
                  {"results": results, "ratio": "2"}):
        with pytest.raises(InputError):
            vbench(tasks, tmp_path / "wrong", **wrong)  # type: ignore[arg-type]


def test_the_judge_rates_two_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folders = [f"{name}={folder}" for name, folder in folders_in(tmp_path, 3).items()]
    out, again = tmp_path / "out", tmp_path / "again"
    with judging(lambda prompt, number: rates(4, 3, 2, 1)) as server:
        judge(tuple(folders), out, judge=server.url, judge_model="j", clips=2)
    said = scores(out)
    assert said["counts"]["scored"] == 4  # type: ignore[index]
    assert len(said["identity"]["clips"]) == 2  # type: ignore[index]
    assert "3 clips in common, 2 drawn" in capsys.readouterr().out
    judge(tuple(folders), again, replay=out, clips=2)
    assert scores(again)["summary"] == said["summary"]
    for wrong in (("a",), (folders[0], folders[0])):
        with pytest.raises(InputError, match="named once"):
            judge(wrong, tmp_path / "x", replay=out)
    with pytest.raises(InputError, match="somebody must judge"):
        judge(tuple(folders), tmp_path / "x")


def test_a_judge_in_this_process(tmp_path: Path) -> None:
    pytest.importorskip("transformers", minversion="5.0")
    model = save_tiny_qwen(tmp_path / "qwen", answer=rates(4, 3, 2, 1))
    folders = tuple(f"{name}={folder}" for name, folder in folders_in(tmp_path, 1).items())
    judge(folders, tmp_path / "out", judge=str(model), trials=2, device="cpu")
    rows = scores(tmp_path / "out")["summary"]["tables"][0]["rows"]  # type: ignore[index]
    assert [row["cells"]["Artifact Suppression"]["value"] for row in rows] == [1.0, 1.0]
    assert [(row["cells"]["Judge failures"]["k"], row["cells"]["Judge failures"]["n"]) for row in rows] == [(0, 2)] * 2
