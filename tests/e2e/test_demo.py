"""The demo from the weights in the package: a page, a summary that keeps its contract, and memory that shows."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from remind.demo import choose_clips

from .test_cli import remind

MODELS = ("remind", "base", "matched", "remind_anchor_knocked_out",
          "freeze", "reset", "copy_anchor", "linear", "oracle")


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    done = remind("demo", "--out", folder / "out", "--clips", 22, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip().endswith("report.html")
    return folder / "out"


@pytest.fixture(scope="module")
def summary(out: Path) -> dict:
    return json.loads((out / "summary.json").read_text())


def test_the_summary_keeps_its_contract(summary: dict) -> None:
    for model in MODELS:
        entry = summary["world"][model]
        assert {"mean", "low", "high", "median"} <= set(entry["state_progress"])
        assert {"mean", "low", "high"} <= set(entry["within_15"])
        assert math.isfinite(entry["background_psnr"]["mean"])
    assert summary["kv_importance"]["remind"]["mass"]
    assert summary["machine"]["torch"]
    assert summary["commit"]


def test_the_controls_rank_and_memory_shows(summary: dict) -> None:
    world = summary["world"]
    progress = {name: world[name]["state_progress"]["mean"] for name in MODELS}
    assert progress["oracle"] > 0.9
    assert abs(progress["freeze"]) < 0.1
    assert progress["reset"] < -0.2
    assert progress["oracle"] > progress["remind"] > progress["freeze"]
    # What is remembered is lost with the chunks that showed it: the state is read off worse, the room is gone.
    error = {name: world[name]["after_error"]["mean"] for name in MODELS}
    assert error["remind"] < error["remind_anchor_knocked_out"]
    assert error["remind"] < error["base"]
    psnr = {name: world[name]["background_psnr"]["mean"] for name in MODELS}
    assert psnr["remind"] > psnr["remind_anchor_knocked_out"] + 3
    assert psnr["remind"] > psnr["base"] + 3


def test_the_page_is_one_file_that_loads_nothing(out: Path) -> None:
    page = (out / "report.html").read_text()
    assert 1e5 < len(page) < 15e6
    assert "data:video/mp4" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert 'src="http' not in page


def test_clips_walk_through_families_and_interruptions() -> None:
    clips = choose_clips(66, (32, 32))
    pairs = {(clip.family, clip.kind) for clip in clips}
    assert len(pairs) == 66
    assert len({clip.seed for clip in clips}) == 66
