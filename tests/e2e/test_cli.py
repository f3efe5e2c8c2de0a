"""The commands as a user types them: a process each, its exit code, its last line, and what lies on disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from remind.data.video_io import decode_all, write_video


def remind(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "REMIND_CACHE": str(cwd / "cache"), "OMP_NUM_THREADS": "1", "COLUMNS": "120"}
    return subprocess.run([sys.executable, "-m", "remind.cli", *map(str, arguments)], cwd=cwd, text=True,
                          capture_output=True, env=environment, timeout=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cli")


@pytest.fixture(scope="module")
def moving_video(folder: Path) -> Path:
    """Six seconds of a bright square that slides over a dark floor, 96x64 px, 24 fps."""
    rgb = np.full((144, 64, 96, 3), 40, dtype=np.uint8)
    for t in range(144):
        rgb[t, 20:44, t // 2 : t // 2 + 20] = (230, 180, 60)
    source = folder / "videos"
    source.mkdir()
    write_video(source / "square.mp4", torch.from_numpy(rgb), 24)
    return source / "square.mp4"


@pytest.fixture(scope="module")
def store(folder: Path, moving_video: Path) -> Path:
    (moving_video.parent / "empty.mp4").touch()
    (moving_video.parent / "words.mp4").write_text("not a video")
    done = remind("data", "build", "--source", moving_video.parent, "--out", folder / "store",
                  "--hw", 32, 32, cwd=folder)
    assert done.returncode == 3, done.stderr  # the store is there; two files could not be read
    assert "failed 2 (scan 2)" in done.stdout
    assert "remind data retry" in done.stderr
    return folder / "store"


@pytest.fixture(scope="module")
def run(folder: Path, store: Path) -> Path:
    done = remind("train", "nano", "--out", folder / "run", "--steps", 3, "--batch-size", 4, "--bank-size", 6,
                  "--workers", 1, "--data", store, cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "run"


def test_a_folder_with_bad_files_becomes_a_store(store: Path) -> None:
    report = json.loads((store / "report.json").read_text())
    assert report["kept"] >= 1
    assert {f["item"] for f in report["failed"]} == {"empty.mp4", "words.mp4"}
    assert all(f["stage"] and f["reason"] for f in report["failed"])
    assert (store / "index.parquet").is_file()


def test_a_store_can_be_looked_at_checked_and_passed_on(folder: Path, store: Path) -> None:
    said = remind("data", "explain", store, "words", cwd=folder)
    assert "failed by scan: words.mp4" in said.stdout
    assert "not a video" in said.stdout
    shown = remind("data", "inspect", store, 0, "--out", "clip.png", cwd=folder)
    assert shown.returncode == 0, shown.stderr
    assert (folder / "clip.png").read_bytes()[:4] == b"\x89PNG"
    assert "recovery" in shown.stdout
    counted = remind("data", "stats", store, "--json", "stats.json", "--figure", "stats.svg", cwd=folder)
    assert counted.returncode == 0, counted.stderr
    assert json.loads((folder / "stats.json").read_text())
    assert "Monotonic state" in counted.stdout
    checked = remind("data", "verify", store, "--workers", 1, cwd=folder)
    assert checked.returncode == 0, checked.stdout
    latents = remind("data", "latents", store, "--out", "latents", "--variants", 2, cwd=folder)
    assert latents.returncode == 0, latents.stderr
    assert "encoded 3, kept 0" in latents.stdout
    released = remind("data", "release", store, "--out", "release", cwd=folder)
    assert released.returncode == 0, released.stderr
    assert {"README.md", "clips.parquet", "croissant.json"} <= {p.name for p in (folder / "release").iterdir()}


def test_the_taxonomy_can_be_searched_and_gives_prompts(folder: Path) -> None:
    found = remind("data", "taxonomy", "pouring tea", cwd=folder)
    assert "hot_drink_pouring" in found.stdout
    one = remind("data", "taxonomy", "--id", "door_opening", cwd=folder)
    assert "discrete" in one.stdout
    made = remind("data", "prompts", "--out", "prompts.jsonl", "--types", "door_opening", "--per-type", 3, cwd=folder)
    assert "wrote 3 prompts" in made.stdout, made.stderr
    assert len((folder / "prompts.jsonl").read_text().splitlines()) == 3


def test_a_build_can_be_asked_what_it_would_read(folder: Path, store: Path) -> None:
    dry = remind("data", "build", "--source", folder / "videos", "--out", folder / "never", "--dry-run", cwd=folder)
    assert "3 items from local" in dry.stdout, dry.stderr
    assert not (folder / "never").exists()
    unknown = remind("data", "build", "--kind", "world", "--source", "x", "--out", folder / "never", cwd=folder)
    assert unknown.returncode == 2
    assert "FIRST_SEED:COUNT" in unknown.stderr
    assert not (folder / "never").exists()


def test_training_writes_a_checkpoint_that_says_where_it_comes_from(run: Path) -> None:
    config = json.loads((run / "config.json").read_text())
    assert config["steps_done"] == 3
    assert config["command"].startswith("remind train nano")
    assert [store["clips"] for store in config["data"]["stores"]] == [1]
    assert config["licence"] == "Apache-2.0; trained on the embedded world and on clips under: unknown (1)"
    assert (run / "model.safetensors").stat().st_size > 1e6
    assert [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()] == [1, 2, 3]


def test_a_run_is_not_overwritten_and_resumes(folder: Path, run: Path, store: Path) -> None:
    again = remind("train", "nano", "--out", run, cwd=folder)
    assert again.returncode == 2
    assert "--resume" in again.stderr
    options = ("--steps", 3, "--batch-size", 4, "--bank-size", 6, "--workers", 1, "--data", store)
    assert remind("train", "nano", "--out", run, *options, "--resume", cwd=folder).returncode == 0


def test_a_reader_that_stops_early_gets_no_traceback(folder: Path) -> None:
    command = f'"{sys.executable}" -c "from remind.cli import main; main()" --help | head -1'
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, cwd=folder, timeout=60)
    assert done.stdout.startswith("usage: ")
    assert done.stderr == ""


def test_a_video_goes_on_through_darkness(folder: Path, run: Path, moving_video: Path) -> None:
    def make(name: str) -> bytes:
        done = remind("generate", "--checkpoint", run, "--video", moving_video, "--interrupt", "light_toggle",
                      "--out", folder / name, "--seed", 5, cwd=folder)
        assert done.returncode == 0, done.stderr
        assert f"wrote {folder / name} (generated), generated from frame" in " ".join(done.stdout.split())
        return (folder / name).read_bytes()

    assert make("a.mp4") == make("b.mp4")
    frames = decode_all(folder / "a.mp4")
    assert frames.shape == (81, 256, 256, 3)
    manifest = json.loads((folder / "a.mp4.json").read_text())
    event = manifest["request"]["recipe"]["interruption"]
    middle = (event["hidden_start"] + event["hidden_stop"]) // 2
    assert frames[middle].float().mean() < 8
    assert frames[0].float().mean() > 30
    assert manifest["output"]["first_generated_frame"] >= event["hidden_stop"]


def test_help_teaches(folder: Path) -> None:
    top = remind("--help", cwd=folder)
    assert top.returncode == 0
    for command in ("demo", "train", "runs", "generate", "doctor", "data"):
        assert command in top.stdout
    assert "--resume" in remind("train", "--help", cwd=folder).stdout
    assert "--source" in remind("data", "build", "--help", cwd=folder).stdout
    said = remind("generate", "--help", cwd=folder).stdout
    for option in ("--checkpoint", "--image", "--video", "--prompt", "--schedule", "--camera", "--memory",
                   "--memory-budget", "--chunks", "--out", "--from", "--batch", "--dry-run"):  # fmt: skip
        assert option in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("train", "nanoo", "--out", "x"), "unknown recipe"),
        (("train", "nano", "--out", "x", "--steps", "-1"), "positive"),
        (("train", "nano", "--out", "/proc/x"), "cannot be written"),
        (("train", "nano", "--out", "x", "--data", "nowhere", "--bank-size", "2", "--workers", "1"), "nowhere"),
        (("train", "nano", "--out", "x2", "--bank-size", "2", "--workers", "1", "--resume"), "nothing to resume"),
        (("generate", "--out", "o.mp4", "--checkpoint", "nowhere", "--video", "v.mp4"), "no such checkpoint"),
        (("generate", "--out", "o.mp4", "--image", "a.png", "--video", "v.mp4"), "not both"),
        (("generate", "--out", "o.avi"), "ends in .mp4"),
        (("generate", "--out", "/proc/o.mp4", "--video", "v.mp4"), "/proc"),
        (("data", "build", "--source", "nowhere", "--out", "s"), "nowhere"),
        (("demo", "--out", "/proc/demo"), "cannot be written"),
        (("demo", "--out", "d", "--clips", "1"), "2 or more"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(folder: Path, arguments: tuple[str, ...], said: str) -> None:
    done = remind(*arguments, cwd=folder)
    assert done.returncode == 2, done.stderr
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("remind: ")
    assert not (folder / "o.mp4").exists()


@pytest.mark.parametrize("content", [b"", b"words, not a video", b"\x00\x00\x00\x20ftypisom" + bytes(40)])
def test_a_damaged_video_is_named(folder: Path, run: Path, content: bytes) -> None:
    (folder / "bad.mp4").write_bytes(content)
    done = remind("generate", "--checkpoint", run, "--video", folder / "bad.mp4", "--out", folder / "o.mp4", cwd=folder)
    assert done.returncode == 2
    assert "bad.mp4" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "o.mp4").exists()


def test_a_checkpoint_of_another_size_is_named(folder: Path, run: Path, moving_video: Path) -> None:
    import shutil

    other = folder / "other"
    shutil.copytree(run, other)
    config = json.loads((other / "config.json").read_text())
    config["model"]["dim"] = 64
    (other / "config.json").write_text(json.dumps(config))
    done = remind("generate", "--checkpoint", other, "--video", moving_video, "--out", folder / "o.mp4", cwd=folder)
    assert done.returncode == 2
    assert "do not fit" in done.stderr
