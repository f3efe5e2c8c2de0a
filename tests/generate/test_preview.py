"""A dry run's table and picture: what is asked for is in it, and only that changes it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb
from PIL import Image
from rich.console import Console

from remind.data.figure_style import BLUE, GREEN, ROLE_COLORS, VERMILION
from remind.errors import InputError
from remind.frame_graph import FrameGraph, Interruption, Role, Schedule, frames_of_chunk
from remind.generate.preview import Preview, angles_deg, preview_table, save_preview
from remind.inference.camera_path import camera_path
from remind.prompt_schedule import PromptSchedule, chunk_prompts

GRAPH = FrameGraph(Schedule(81, (Interruption("light_toggle", 24, 27, 57, 60),)))
LOOKAWAY = camera_path("lookaway:60", num_frames=81, hw=(48, 64))
ASKED = Preview(chunk_prompts("a cup fills", GRAPH.schedule), GRAPH.roles, LOOKAWAY, given_frames=9)


def shown(preview: Preview, width: int = 140) -> list[str]:
    console = Console(width=width, record=True, color_system=None)
    with console.capture() as capture:
        console.print(preview_table(preview))
    return [line.rstrip() for line in capture.get().splitlines()]


def share_of(path: Path, color: str) -> float:
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return float((pixels == np.round(255 * np.array(to_rgb(color))).astype(np.uint8)).all(-1).mean())


def test_the_table_has_a_row_a_chunk_with_role_time_pose_and_prompt() -> None:
    head, *rows = shown(ASKED)
    assert head.split() == ["chunk", "s", "role", "yaw°", "pitch°", "right", "down", "forward", "prompt"]
    cells = [row.split(maxsplit=9) for row in rows]
    assert [row[2] for row in cells] == list(GRAPH.draw())
    assert [row[1] for row in cells] == ["0.00", "0.56", "1.31", "2.06", "2.81", "3.56", "4.31"]
    assert cells[2][4:] == ["60.0", "0.0", "0.00", "0.00", "0.00", "a cup fills, the lights go off"]
    assert cells[1][-1] == cells[4][-1] == "″"  # said already
    assert cells[6][-1] == "a cup fills, the view is clear"


def test_the_table_of_what_moves_and_of_what_is_not_known() -> None:
    path = camera_path("yaw:left:30+crane:up:2@81", num_frames=81, hw=(48, 64))
    path.valid[-1] = False
    rows = shown(replace(ASKED, cameras=path))
    assert rows[3].split()[4:9] == ["-12.0", "0.0", "0.00", "-0.80", "0.00"]
    assert rows[-1].split()[4:9] == ["?"] * 5
    assert "yaw" not in shown(replace(ASKED, cameras=None))[0]


def test_words_from_outside_command_no_terminal() -> None:
    told = replace(ASKED, prompts=("\x1b[31mred [bold]x[/bold]\nnext",) * 7)
    text = "\n".join(shown(told))
    assert "\x1b" not in text
    assert "[bold]x[/bold] next" in text


def test_angles_are_unwrapped_and_have_the_signs_of_the_conventions() -> None:
    yaw, _ = angles_deg(camera_path("yaw:right:300", num_frames=81, hw=(48, 64)).c2w)
    assert yaw[-1].item() == pytest.approx(300)
    _, pitch = angles_deg(camera_path("pitch:up:20", num_frames=81, hw=(48, 64)).c2w)
    assert pitch[-1].item() == pytest.approx(20)


def test_the_picture_shows_roles_angles_and_what_is_given(tmp_path: Path) -> None:
    save_preview(ASKED, tmp_path / "a.png")
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]
    for color in (ROLE_COLORS["anchor"], ROLE_COLORS["degraded"], ROLE_COLORS["recovery"], BLUE, VERMILION, GREEN):
        assert share_of(tmp_path / "a.png", color) > 1e-4
    still = replace(ASKED, cameras=None, given_frames=0)
    save_preview(still, tmp_path / "still.png")
    assert share_of(tmp_path / "still.png", VERMILION) == 0
    assert share_of(tmp_path / "still.png", GREEN) == 0
    assert Image.open(tmp_path / "still.png").size[1] < 0.3 * Image.open(tmp_path / "a.png").size[1]


def test_the_same_asks_give_the_same_bytes_and_others_do_not(tmp_path: Path) -> None:
    other = replace(ASKED, cameras=camera_path("lookaway:50", num_frames=81, hw=(48, 64)))
    said = replace(ASKED, prompts=("a cup fills",) * 7)
    for name, preview in (("a", ASKED), ("b", ASKED), ("c", other), ("d", said)):
        save_preview(preview, tmp_path / f"{name}.png")
    a, b, c, d = ((tmp_path / f"{name}.png").read_bytes() for name in "abcd")
    assert a == b
    assert len({a, c, d}) == 3


def test_hundreds_of_chunks_and_many_prompts_have_a_picture_of_bounded_size(tmp_path: Path) -> None:
    told = PromptSchedule.of({str(k): f"thing {k} comes in" * 8 for k in range(300)}, base="水が growing $x^2$")
    roles: tuple[Role, ...] = ("clean",) * 300
    path = camera_path("orbit:90", num_frames=frames_of_chunk(299).stop, hw=(48, 64))
    path.valid[100:200] = False
    save_preview(Preview(told.per_chunk(300), roles, path), tmp_path / "long.png")
    width, height = Image.open(tmp_path / "long.png").size
    assert width == 1400
    assert height < 2400
    unknown = replace(LOOKAWAY, valid=torch.zeros(81, dtype=torch.bool))
    save_preview(replace(ASKED, cameras=unknown), tmp_path / "unknown.svg")


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="each chunk"):
        Preview(("x",), ("clean", "clean"))
    with pytest.raises(InputError, match="each chunk"):
        Preview((), ())
    with pytest.raises(InputError, match="got 81; expected 9"):
        Preview(("x",), ("clean",), LOOKAWAY)
    with pytest.raises(InputError, match=r"\.png"):
        save_preview(ASKED, tmp_path / "a.gif")
    assert list(tmp_path.iterdir()) == []
