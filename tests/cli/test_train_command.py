"""`remind train` and `remind runs` on a small store, in this process: what they say, and what lies on disk then."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from remind import cli, cli_train
from remind.errors import InputError
from remind.recipes import ABLATED, RECIPES
from tests.data.make_store import FRAMES, HW, make_store

SMALL = ("--hw", *map(str, HW), "--num-frames", str(FRAMES), "--bank-size", "0", "--model.dim", "32", "--model.ffn-dim",
         "32", "--model.num-layers", "1", "--batch-size", "2", "--workers", "0", "--execution.device", "cpu",
         "--execution.trackers")  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_store(tmp_path_factory.mktemp("data") / "store", 4)


def train(*words: object) -> None:
    cli_train.train([str(word) for word in words])


def test_help_lists_every_recipe(capsys: pytest.CaptureFixture[str]) -> None:
    cli_train.train(["--help"])
    text = capsys.readouterr().out
    for name in RECIPES:
        size, row = name.split("-table", 1) if "-table" in name else (name, "")
        number, _, value = row.partition("-")
        assert f"  {size} " in text or size in ABLATED
        assert not row or any(f"-table{number}-{{" in line and value in line for line in text.splitlines())
    assert max(len(line) for line in text.splitlines()) <= 110
    cli_train.train([])
    assert capsys.readouterr().out == text


def test_a_run_is_made_goes_on_and_is_accounted_for(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    words = ("nano", "--out", out, *SMALL, "--data", f"{store}:1", "--curriculum", "0=all_history:1",
             "1=v2v_frontier:1", "--loss.variant", "flow_only", "--steps", "2")  # fmt: skip
    train(*words)
    config = json.loads((out / "config.json").read_text())
    assert config["train"]["curriculum"] == [[0.0, {"all_history": 1.0}], [1.0, {"v2v_frontier": 1.0}]]
    assert config["train"]["loss"]["variant"] == "flow_only"
    assert config["train"]["data"] == [{"store": str(store), "weight": 1.0, "latents": None}]
    assert [json.loads(line)["step"] for line in (out / "metrics.jsonl").read_text().splitlines()] == [1, 2]
    with pytest.raises(InputError, match="already holds a run"):
        train(*words)
    train(*words, "--resume")
    with pytest.raises(InputError, match=r"holds another run"):
        train(*words, "--resume", "--seed", "5")
    capsys.readouterr()
    cli_train.runs((tmp_path,), json=True)
    (counted,) = json.loads(capsys.readouterr().out)["runs"]
    assert (counted["recipe"], counted["steps_planned"], counted["spent"]["steps"]) == ("nano", 2, 2)
    assert len(counted["sessions"]) == 2


def test_plans_are_drawn_in_the_terminal_and_as_a_picture(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    picture = tmp_path / "plans.png"
    train("nano", *SMALL, "--data", store, "--curriculum", "all_history:1,node_drop:1", "--plan-picture", picture)
    text = capsys.readouterr().out
    assert "all_history: " in text
    assert "node_drop: " in text
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert list(tmp_path.iterdir()) == [picture]


def test_a_run_needs_a_folder(store: Path) -> None:
    with pytest.raises(InputError, match=r"a run needs a folder; expected --out RUN"):
        train("nano", *SMALL, "--data", store)


def test_a_dry_run_says_what_it_takes_and_touches_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("remind.training.estimate")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "160")
    train("wan_v2v", "--dry-run", "--world-size", "32", "--device", "A100", "--out", "run")
    text = capsys.readouterr().out
    assert "starts from checkpoints/ar_diffusion.pt (not here yet)" in text
    assert "25% stores/openvid (not here yet), latents latents/openvid (not here yet)" in text
    assert "32 x A100" in text
    assert list(tmp_path.iterdir()) == []
    train("nano", "--dry-run", "--device", "H100", "--data", "store:2", "--world-share", "0.25")
    text = capsys.readouterr().out
    assert "25% 4,096 world clips, light_toggle, occluder, camera_loop" in text
    assert "75% store (not here yet), encoded on the fly" in text
    assert "1 x H100" in text


def test_runs_without_a_run_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no run to look at"):
        cli_train.runs(())
    with pytest.raises(InputError, match="no run in this folder"):
        cli_train.runs((tmp_path,))


@pytest.mark.parametrize(("rank", "lines"), [("0", 1), ("1", 0)])
def test_of_many_processes_one_speaks_and_leaves_first(
    rank: str, lines: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    waited: list[float] = []
    monkeypatch.setattr(sys, "argv", ["remind", "train", "nano", "--modl.dim", "3"])
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setattr(cli.time, "sleep", waited.append)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2
    assert len(capsys.readouterr().err.splitlines()) == lines
    assert bool(waited) == (rank != "0")


def test_the_package_runs_as_a_module_and_help_needs_no_torch(tmp_path: Path) -> None:
    """torchrun starts `-m remind`; and what torch reads when it loads must be set before."""
    code = "import sys, runpy; sys.argv[1:] = ['--help']\ntry: runpy.run_module('remind', run_name='__main__')\n" \
           "finally: print('torch' in sys.modules)"  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert "train" in done.stdout
    assert "runs" in done.stdout
    assert done.stdout.rstrip().endswith("False"), done.stderr
