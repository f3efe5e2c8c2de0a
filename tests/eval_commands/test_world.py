"""`remind eval world` and `report`, as a user calls them."""

from __future__ import annotations

import json

import pytest
import tyro

from remind.errors import InputError
from remind.eval_commands.report import report
from remind.eval_commands.world import world


def test_a_control_a_rerun_and_a_report(tmp_path, capsys):
    for control in ("copy-anchor", "oracle"):
        tyro.cli(world, args=["--control", control, "--limit", "1", "--out", str(tmp_path / control)])
    scores = json.loads((tmp_path / "oracle" / "scores.json").read_text())
    assert scores["counts"] == {"examples": 1, "scored": 1, "failed": 0, "reasons": {}}
    assert scores["identity"]["test_set"]["name"] == "world-v1"
    assert (tmp_path / "oracle" / "report.html").is_file()
    before = (tmp_path / "oracle" / "scores.json").read_bytes()
    tyro.cli(world, args=["--control", "oracle", "--limit", "1", "--out", str(tmp_path / "oracle")])
    assert (tmp_path / "oracle" / "scores.json").read_bytes() == before
    capsys.readouterr()
    tyro.cli(report, args=[str(tmp_path / "oracle"), str(tmp_path / "copy-anchor"), "--out", str(tmp_path / "both")])
    assert capsys.readouterr().out.split()[0] == str(tmp_path / "both" / "report.html")
    page = (tmp_path / "both" / "report.html").read_text()
    assert page.count("data:video/mp4") == 1
    assert "oracle minus copy-anchor" in page
    with pytest.raises(InputError, match="another evaluation"):
        world(tmp_path / "oracle", control="freeze", limit=1)


@pytest.mark.parametrize(
    ("asked", "named"),
    [({}, "one thing"), ({"control": "oracle", "checkpoint": "nano"}, "one thing"),
     ({"control": "oracle", "memory_noise": 0.2}, "only a checkpoint"),
     ({"checkpoint": "nano", "mode": "i2v", "knock_out": "rebuild"}, "knocked out"),
     ({"checkpoint": "nano", "memory_noise": 1.0}, "noise level"),
     ({"control": "oracle", "size": (479, 832)}, "measured"), ({"control": "oracle", "limit": 0}, "examples")],
)  # fmt: skip
def test_bad_options_are_refused_before_anything_is_written(asked, named, tmp_path):
    with pytest.raises(InputError, match=named):
        world(tmp_path / "out", **asked)
    assert not (tmp_path / "out").exists()


def test_a_folder_without_the_videos_is_refused_before_anything_is_written(tmp_path):
    (tmp_path / "theirs").mkdir()
    with pytest.raises(InputError, match="none of the expected videos"):
        world(tmp_path / "run", videos=tmp_path / "theirs", size=(16, 16), limit=2)
    assert not (tmp_path / "run").exists()
