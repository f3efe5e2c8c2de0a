"""A dry run reads, draws and counts; it computes and writes nothing."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from remind.errors import InputError, RemindError
from remind.generate.dry_run import dry_run, roles_of
from remind.generate.prepare import prepare
from remind.generate.run import options_of

from .make_command import command, make_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("given"))


def said(out: Path, **asked: Any) -> str:
    console = Console(record=True, width=140, file=io.StringIO())
    dry_run(command(out, **asked), console)
    return console.export_text()


def test_it_says_what_would_happen_and_writes_nothing(files: Path, tmp_path: Path) -> None:
    told = said(tmp_path / "a.mp4", image=files / "start.png", schedule=files / "lights.txt", camera="right-8")
    for words in ("the lights go off", "3", "passes", "MB"):
        assert words in told
    assert not list(tmp_path.iterdir())


def test_roles_are_planned_or_seen(files: Path, tmp_path: Path) -> None:
    for asked in ({"interrupt": "light_toggle", "chunks": 7}, {"camera": "right-20, left-20", "chunks": 15}, {}):
        one = command(tmp_path / "a.mp4", video=files / "moves.mp4", **asked)
        ready = prepare(one, options_of(one, wan=False), hw=(32, 32), usual_frames=81)
        roles = roles_of(ready)
        assert len(roles) == ready.num_chunks
        assert ("degraded" in roles) == bool(asked)


def test_the_picture_is_drawn(files: Path, tmp_path: Path) -> None:
    dry_run(command(tmp_path / "a.mp4", camera="orbit:30"), Console(quiet=True), picture=tmp_path / "plan.svg")
    assert (tmp_path / "plan.svg").read_text().startswith("<?xml")
    assert [path.name for path in tmp_path.iterdir()] == ["plan.svg"]


@pytest.mark.parametrize(
    "wrong",
    [{"memory": "elephant"}, {"memory_noise": 2.0}, {"memory_budget": "1kB"}, {"camera": "up and away"}, {"steps": 0},
     {"chunks": 2, "schedule": "lights.txt"}, {"checkpoint": "nowhere"}, {"negative_prompt": "x"},],
)  # fmt: skip
def test_it_refuses_what_generating_would(wrong: dict[str, Any], files: Path, tmp_path: Path) -> None:
    if "schedule" in wrong:
        wrong = {**wrong, "schedule": files / wrong["schedule"]}
    with pytest.raises(RemindError):
        said(tmp_path / "a.mp4", **wrong)


def test_full_memory_that_does_not_fit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="policy full is used up"):
        said(tmp_path / "a.mp4", chunks=7, memory_budget="300kB")
