"""From what was said to tensors: lengths, prompts over time, cameras and references."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from remind.data.video_io import write_video
from remind.errors import CameraError, InputError, RemindError
from remind.frame_graph import frames_of_chunk
from remind.generate.prepare import Prepared, prepare
from remind.generate.run import options_of
from tests.data.make_video import moving_square
from tests.inference.make_session import clean

from .make_command import command, make_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("given"))


def ready(**asked: Any) -> Prepared:
    said = command(Path("a.mp4"), **asked)
    return prepare(said, options_of(said, wan=False), hw=(32, 32), usual_frames=81)


def test_the_usual_length_is_that_of_training(files: Path) -> None:
    assert ready(chunks=None).num_chunks == 7
    assert ready(chunks=None, image=files / "start.png").num_frames == 81
    continued = ready(chunks=None, video=files / "moves.mp4")
    assert (len(continued.video if continued.video is not None else ()), continued.num_chunks) == (81, 14)
    assert ready(chunks=None, video=files / "moves.mp4", interrupt="light_toggle").num_chunks == 7


def test_a_video_leaves_room_for_what_is_generated(files: Path) -> None:
    short = ready(chunks=3, video=files / "moves.mp4")
    assert short.video is not None
    assert len(short.video) == 21
    assert (short.video.float() - clean(21).float()).abs().mean() < 4
    assert any("goes on after them" in notice for notice in short.notices)
    with pytest.raises(InputError, match=r"nothing is left to generate; got 1 chunk in all, and a video"):
        ready(chunks=1, video=files / "moves.mp4")


def test_an_interrupted_video_is_given_up_to_where_the_view_returns(files: Path) -> None:
    dark = ready(chunks=7, video=files / "moves.mp4", interrupt="light_toggle")
    assert dark.video is not None
    assert dark.truth is not None
    assert dark.degraded is not None
    assert dark.recipe is not None
    assert len(dark.truth) == len(dark.degraded) == 81
    hidden = dark.recipe.interruption.hidden_start
    assert dark.video[hidden].float().mean() < 5 < dark.truth[hidden].float().mean()
    assert torch.equal(dark.video, dark.degraded[: len(dark.video)])
    assert len(dark.video) < 81
    assert "lights" in " ".join(dark.told.per_chunk(7))
    other = ready(chunks=7, video=files / "moves.mp4", interrupt="light_toggle", seed=6)
    assert other.recipe != dark.recipe


def test_a_video_too_short_to_be_interrupted(tmp_path: Path) -> None:
    write_video(tmp_path / "short.mp4", moving_square(40, (32, 32)), 16)
    with pytest.raises(InputError, match=r"too short to be interrupted; got 33 frames at 16 fps; expected 81"):
        ready(chunks=7, video=tmp_path / "short.mp4", interrupt="light_toggle")
    write_video(tmp_path / "tiny.mp4", moving_square(5, (32, 32)), 16)
    with pytest.raises(InputError, match=r"tiny\.mp4: shorter than one chunk.*--hold"):
        ready(video=tmp_path / "tiny.mp4")
    held = ready(video=tmp_path / "tiny.mp4", hold=True)
    assert held.video is not None
    assert torch.equal(held.video[4:], held.video[4].expand(5, 32, 32, 3))


def test_prompts_and_cameras_go_over_the_whole_video(files: Path) -> None:
    said = ready(chunks=3, image=files / "start.png", schedule=files / "lights.txt", camera="right-4, left-4")
    assert said.told.per_chunk(3)[1].endswith("the lights go off")
    assert said.cameras is not None
    assert len(said.cameras) == said.num_frames == 33
    assert said.camera_said == "right-4, left-4"
    with pytest.raises(InputError, match=r"longer than the rollout; got a prompt for chunk 2.*chunks 0\.\.1"):
        ready(chunks=2, schedule=files / "lights.txt")
    torch.save({}, files / "path.npy")
    for camera in ("up and away", str(files / "path.npy"), "yaw:left:9000@3", str(files / "nowhere.json")):
        with pytest.raises((CameraError, InputError)):
            ready(camera=camera)


def test_a_reference_is_a_picture_or_the_first_chunk_of_a_video(files: Path) -> None:
    both = ready(reference=(files / "start.png", files / "moves.mp4"))
    assert [len(rgb) for rgb in both.references] == [1, 9]
    assert [file.kind for file in both.files] == ["reference", "reference"]
    for wrong in ("lights.txt", "nowhere.png", "nowhere.mp4"):
        with pytest.raises(RemindError, match=wrong):
            ready(reference=(files / wrong,))


def test_an_image_that_is_a_video_says_so(files: Path) -> None:
    with pytest.raises(RemindError, match=r"moves\.mp4.*--video"):
        ready(image=files / "moves.mp4")
    with pytest.raises(RemindError, match=r"start\.png.*--image"):
        ready(video=files / "start.png")


def test_a_long_video_is_read_as_far_as_it_can_be_remembered(tmp_path: Path) -> None:
    path = tmp_path / "long.mp4"
    write_video(path, torch.zeros(frames_of_chunk(29).stop, 16, 16, 3, dtype=torch.uint8), 16)
    continued = ready(chunks=None, video=path)
    assert continued.video is not None
    assert len(continued.video) == frames_of_chunk(26).stop == 321
    assert continued.num_chunks == 27 + 7
    assert any("goes on after them" in notice for notice in continued.notices)
