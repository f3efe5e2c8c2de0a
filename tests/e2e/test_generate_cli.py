"""`remind generate` as a user types it: one video, the same again, many, and a dry run; a process each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import nullcontext
from pathlib import Path

import pytest

from remind.cli_generate import generate
from remind.data.video_io import decode_all
from remind.errors import RemindError
from tests.generate.make_command import make_files

from .test_cli import remind

FAST = ("--chunks", 3, "--steps", 1, "--device", "cpu")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("generate"))


@pytest.fixture(scope="module")
def made(folder: Path) -> Path:
    """The issue's first line."""
    done = remind("generate", "--checkpoint", "nano", "--image", "start.png", "--prompt", "a tank fills", "--schedule",
                  "lights.txt", "--camera", "right-20, left-20", "--memory", "retrieve:2", "--memory-budget", "500kB",
                  *FAST, "--png-frames", "--out", "a.mp4", cwd=folder)  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("wrote a.mp4 (generated), generated from frame 1 of 33")
    assert "Traceback" not in done.stderr
    return folder / "a.mp4"


def test_a_video_stands_beside_its_manifest_cameras_and_frames(made: Path) -> None:
    request = json.loads((made.parent / "a.mp4.json").read_text())["request"]
    assert request["schedule"][1] == "a tank fills, the lights go off"
    assert request["memory"] == {"policy": "retrieve:2+1", "budget_bytes": 500_000, "storage": "float", "noise": 0.0}
    assert request["cameras"]["said"] == "right-20, left-20"
    assert (made.parent / "a.mp4.cameras.npz").is_file()
    assert len(list((made.parent / "a.mp4.frames").iterdir())) == len(decode_all(made)) == 33


def test_the_same_video_again(folder: Path, made: Path) -> None:
    done = remind("generate", "--from", "a.mp4.json", "--out", "b.mp4", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "the same video, bit for bit" in done.stdout
    assert (folder / "b.mp4").read_bytes() == made.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--from", "a.mp4.json", "--seed", "3"), r"says by itself.*got --seed\. Fix: leave these out"),
        (("--from", "a.mp4.json", "--checkpoint", "nano-base"), "made with other weights"),
        (("--from", "a.mp4.json", "--batch", "requests.jsonl"), "not both"),
        (("--from", "a.mp4.json", "--dry-run"), "got --dry-run"),
        (("--batch", "requests.jsonl", "--dry-run"), "a dry run is of one video"),
        (("--batch", "nowhere.jsonl"), "batch cannot be read"),
    ],
)
def test_what_does_not_go_together(
    folder: Path, made: Path, arguments: tuple[str, ...], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    with pytest.raises(RemindError, match=said):
        generate([*arguments, "--out", "c.mp4"])
    assert not (folder / "c.mp4").exists()


def test_a_picture_of_the_plan(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    generate(["--image", "start.png", "--schedule", "lights.txt", "--camera", "lookaway", "--chunks", "3",
              "--plan-picture", "plan.png", "--out", "never.mp4"])  # fmt: skip
    assert capsys.readouterr().out.strip() == "drew plan.png"
    assert (folder / "plan.png").read_bytes()[:4] == b"\x89PNG"
    assert not (folder / "never.mp4").exists()


def test_a_batch_over_ranks_goes_on_where_it_was(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rank 1 fails at once, while rank 0 has work for some time: it is not stopped."""
    lines = [{"id": "short", "image": "start.png"}, {"id": "bad", "memory": "elephant"}, {"id": "long", "chunks": 30}]
    (folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = ["generate", "--batch", "requests.jsonl", *map(str, FAST), "--out", "videos"]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "remind",
               *arguments]  # fmt: skip
    first = subprocess.run(command, cwd=folder, text=True, capture_output=True, timeout=300,
                           env={**os.environ, "OMP_NUM_THREADS": "1"})  # fmt: skip
    assert first.returncode == 1, first.stderr
    assert "rank 0: 2 videos made, 0 were there already, 0 failed" in first.stdout
    assert "rank 1: 0 videos made, 0 were there already, 1 failed" in first.stdout
    assert json.loads((folder / "videos" / "failed.1-of-2.jsonl").read_text())["id"] == "bad"
    monkeypatch.chdir(folder)
    for last, code in ((3, 1), (1, 0)):
        (folder / "requests.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines[:last]))
        with pytest.raises(SystemExit) if code else nullcontext() as left:
            generate(arguments[1:])
        assert left is None or left.value.code == code
        said = f"0 videos made, {2 if code else 1} were there already, {code} failed"
        assert capsys.readouterr().out.startswith(said)
