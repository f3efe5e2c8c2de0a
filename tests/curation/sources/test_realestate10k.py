"""RealEstate10K on disk: cut clips, whole videos, videos that nobody downloaded, damaged texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from remind.curation.given_cameras import load_cameras
from remind.curation.item import FileMedia
from remind.curation.sources.realestate10k import RealEstate10kSource
from remind.errors import InputError
from tests.data.make_video import moving_square, write

VIDEO_ID = "aB3-_dEfGhI"
URL = f"https://www.youtube.com/watch?v={VIDEO_ID}"
POSE = "{time} 0.5 0.9 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0"


def make_text(path: Path, *, url: str = URL, times: tuple[int, ...] = (2_000_000, 2_033_000, 2_500_000)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join([url, *(POSE.format(time=time) for time in times), ""]))


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    (tmp_path / "videos").mkdir()
    make_text(tmp_path / "cameras" / "train" / "0f3a.txt")
    return tmp_path / "cameras", tmp_path / "videos"


def test_a_whole_video_is_found_by_its_youtube_id(folders: tuple[Path, Path]) -> None:
    write(folders[1] / f"{VIDEO_ID}.mp4", moving_square(4), fps=4)
    (item,) = RealEstate10kSource(*folders).items()
    assert item.item_id == "train/0f3a"
    assert item.media == FileMedia(str(folders[1] / f"{VIDEO_ID}.mp4"))
    assert item.facts == {"start_s": 2.0, "end_s": 2.5, "camera_origin_s": 0.0}
    assert item.url == URL


def test_a_video_cut_to_the_poses_is_preferred_and_begins_with_the_first(folders: tuple[Path, Path]) -> None:
    for stem in (VIDEO_ID, "0f3a"):
        write(folders[1] / f"{stem}.mp4", moving_square(4), fps=4)
    (item,) = RealEstate10kSource(*folders).items()
    assert item.media == FileMedia(str(folders[1] / "0f3a.mp4"))
    assert item.facts == {"start_s": 0.0, "end_s": 0.5, "camera_origin_s": 2.0}
    assert item.cameras is not None
    track = load_cameras(item.cameras, hw=(48, 64), fps=4, origin_s=float(item.facts["camera_origin_s"]))
    assert track.times_s.tolist() == pytest.approx([0, 0.033, 0.5])


def test_what_is_missing_or_damaged_is_listed_and_said(folders: tuple[Path, Path]) -> None:
    (folders[0] / "train" / "ffff.txt").write_text("<html>\n<body>")
    source = RealEstate10kSource(*folders)
    absent, damaged = source.items()
    assert not Path(absent.media.path).exists()  # type: ignore[union-attr]
    assert source.missing()[0] == f"train/0f3a: no video 0f3a or {VIDEO_ID} in the folder"
    assert "line 2 is no pose" in source.missing()[1]
    assert damaged.url == ""


@pytest.mark.parametrize("url", ["https://youtu.be/aB3-_dEfGhI", "http://www.youtube.com/watch?t=3&v=aB3-_dEfGhI&x=1"])
def test_other_forms_of_the_address_name_the_same_video(folders: tuple[Path, Path], url: str) -> None:
    make_text(folders[0] / "train" / "0f3a.txt", url=url)
    write(folders[1] / f"{VIDEO_ID}.mp4", moving_square(4), fps=4)
    assert RealEstate10kSource(*folders).missing() == ()


def test_an_address_that_is_no_video_leads_nowhere(folders: tuple[Path, Path]) -> None:
    make_text(folders[0] / "train" / "0f3a.txt", url="file:///etc/passwd")
    (item,) = RealEstate10kSource(*folders).items()
    assert item.url == ""
    assert item.media == FileMedia(str(folders[1] / "0f3a.mp4"))


def test_folders_that_are_not_there_are_refused(tmp_path: Path, folders: tuple[Path, Path]) -> None:
    with pytest.raises(InputError, match="no such folder"):
        list(RealEstate10kSource(folders[0], tmp_path / "none").items())
    with pytest.raises(InputError, match="no cameras"):
        list(RealEstate10kSource(folders[1], folders[1]).items())
