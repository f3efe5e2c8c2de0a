"""Every kind of media becomes a local video, or an error of ours."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from PIL import Image

from remind.curation.item import FileMedia, ImagesMedia, UrlMedia, WorldMedia, ZipMedia
from remind.curation.media import FetchLimits, content_sha256, fetch
from remind.curation.refused import refuse
from remind.curation.web import WebRules
from remind.data.video_io import decode_all, probe, read_clip
from remind.errors import InputError, SourceError
from tests.curation.serve import reply, serve
from tests.data.make_video import moving_square, write

LOCAL = FetchLimits(web=WebRules(private_hosts=True))


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write(tmp_path_factory.mktemp("video") / "a.mp4", moving_square(20))


def write_pictures(folder: Path, count: int, hw: tuple[int, int] = (31, 45)) -> tuple[str, ...]:
    names = tuple(f"{i:04}.png" for i in range(count))
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, 256, (*hw, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return names


def test_a_file_is_itself(video: Path, tmp_path: Path) -> None:
    assert fetch(FileMedia(str(video)), tmp_path / "scratch") == video
    assert not (tmp_path / "scratch").exists()


def test_zip_and_web_give_the_same_bytes_once(video: Path, tmp_path: Path) -> None:
    archive, scratch = tmp_path / "a.zip", tmp_path / "deep" / "scratch"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(video, "part/a.mp4")
    with serve(lambda h: reply(h, video.read_bytes())) as server:
        media = [ZipMedia(str(archive), "part/a.mp4"), UrlMedia(server.url + "/v/a.MP4?token=1")]
        fetched = [fetch(m, scratch, LOCAL) for m in media]
        before = {path: path.stat().st_mtime_ns for path in fetched}
        assert [fetch(m, scratch, LOCAL) for m in media] == fetched
        assert len(server.requests) == 1
    assert {content_sha256(path) for path in fetched} == {content_sha256(video)}
    assert {path: path.stat().st_mtime_ns for path in fetched} == before
    assert sorted(path.suffix for path in scratch.iterdir()) == [".mp4", ".mp4"]
    assert probe(fetched[0]).hw == (48, 64)


def test_a_changed_archive_is_another_file(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    contents = []
    for data in (b"one", b"three"):
        with zipfile.ZipFile(archive, "w") as file:
            file.writestr("a.mp4", data)
        contents.append(fetch(ZipMedia(str(archive), "a.mp4"), tmp_path / "scratch").read_bytes())
    assert contents == [b"one", b"three"]


def test_a_failed_member_leaves_nothing(tmp_path: Path) -> None:
    archive = tmp_path / "a.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("a.mp4", b"x" * 5_000_000)
    data = bytearray(archive.read_bytes())
    data[4_000_000] ^= 1
    archive.write_bytes(data)
    with pytest.raises(SourceError, match="CRC"):
        fetch(ZipMedia(str(archive), "a.mp4"), tmp_path / "scratch")
    assert list((tmp_path / "scratch").iterdir()) == []


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "too large", "device", "nul"])
def test_what_is_no_plain_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "too large":
        path.write_bytes(b"x" * 101)
    elif kind == "device":
        path.symlink_to("/dev/zero")
    name = str(path) + ("\0" if kind == "nul" else "")
    with pytest.raises(SourceError):
        fetch(FileMedia(name), tmp_path, FetchLimits(max_bytes=100))


def test_a_refused_item_says_why(tmp_path: Path) -> None:
    item = refuse("a", "local", "the row is damaged")
    assert "the row is damaged" in item.describe()
    with pytest.raises(SourceError, match=r"^the row is damaged$"):
        fetch(item.media, tmp_path)


def test_world_scenes_are_not_fetched(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="embedded world"):
        fetch(WorldMedia(0, "periodic", (64, 64), 81), tmp_path)


def test_pictures_become_a_video_without_loss_on_exact_times(tmp_path: Path) -> None:
    names = write_pictures(tmp_path, 20)
    path = fetch(ImagesMedia(str(tmp_path), names, 16.0), tmp_path / "scratch")
    expected = torch.from_numpy(np.stack([np.asarray(Image.open(tmp_path / name)) for name in names]))
    assert torch.equal(decode_all(path), expected)
    sampled = read_clip(path, num_frames=20, fps=16)
    assert torch.equal(sampled.rgb, expected)
    assert probe(path).fps == 16


def test_pictures_in_another_order_are_another_video_and_the_same_give_the_same_bytes(tmp_path: Path) -> None:
    names = write_pictures(tmp_path, 4)
    media = [ImagesMedia(str(tmp_path), order, 29.97) for order in (names, names[::-1])]
    paths = [fetch(m, tmp_path / "scratch") for m in media]
    again = fetch(media[0], tmp_path / "other")
    assert paths[0] != paths[1]
    assert torch.equal(decode_all(paths[0]), decode_all(paths[1]).flip(0))
    assert content_sha256(again) == content_sha256(paths[0])


def test_pictures_stand_upright(tmp_path: Path) -> None:
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:, :4] = 255  # at the left
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise to stand upright
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    rgb = decode_all(fetch(ImagesMedia(str(tmp_path), ("a.png",), 16.0), tmp_path / "s"))
    assert rgb.shape == (1, 32, 16, 3)
    assert rgb[0, :4].float().mean() > 250
    assert rgb[0, 4:].float().mean() < 5


def test_modes_of_pictures(tmp_path: Path) -> None:
    grey16 = np.linspace(0, 65535, 32 * 32).reshape(32, 32).astype(np.uint16)
    Image.fromarray(grey16).save(tmp_path / "grey16.png")
    Image.fromarray((grey16 >> 8).astype(np.uint8)).save(tmp_path / "grey.png")
    Image.new("RGBA", (32, 32), (10, 20, 30, 128)).save(tmp_path / "alpha.png")
    Image.new("1", (32, 32), 1).save(tmp_path / "bit.png")
    Image.new("CMYK", (32, 32)).save(tmp_path / "cmyk.jpg")
    names = ("grey16.png", "grey.png", "alpha.png", "bit.png", "cmyk.jpg")
    rgb = decode_all(fetch(ImagesMedia(str(tmp_path), names, 16.0), tmp_path / "s"))
    assert torch.equal(rgb[0], rgb[1])
    assert rgb[2, 0, 0].tolist() == [10, 20, 30]
    assert rgb[3].min() == 255


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("size", "differ in size"),
        ("truncated", "0001.png: the picture cannot be read"),
        ("text", "cannot be read"),
        ("missing", "no such picture"),
        ("outside", "leads out"),
        ("link", "leads out"),
        ("none", "0 names"),
        ("many", "4 names"),
        ("large", "more than 1500 pixels"),
        ("bytes", "pictures are too large"),
        ("fps", "frame rate"),
        ("nan", "frame rate"),
    ],
)
def test_bad_pictures_are_refused_and_leave_nothing(tmp_path: Path, change: str, message: str) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    names = write_pictures(folder, 3)
    fps = {"fps": 0.0, "nan": float("nan")}.get(change, 16.0)
    bad = folder / names[1]
    limits = FetchLimits(max_pictures=3, max_pixels=1500)
    if change == "size":
        Image.new("RGB", (44, 31)).save(bad)
    elif change == "truncated":
        bad.write_bytes(bad.read_bytes()[:1000])
    elif change == "text":
        bad.write_text("no picture")
    elif change == "missing":
        bad.unlink()
    elif change == "outside":
        (tmp_path / "out.png").write_bytes(bad.read_bytes())
        names = (names[0], "../out.png")
    elif change == "link":
        (tmp_path / "out.png").write_bytes(bad.read_bytes())
        bad.unlink()
        bad.symlink_to(tmp_path / "out.png")
    elif change == "none":
        names = ()
    elif change == "many":
        names = (*names, names[0])
    elif change == "large":
        Image.new("RGB", (1501, 1)).save(bad)
    elif change == "bytes":
        limits = FetchLimits(max_bytes=1000)
    with pytest.raises(SourceError, match=message):
        fetch(ImagesMedia(str(folder), names, fps), tmp_path / "s", limits)
    assert list((tmp_path / "s").iterdir()) == []


def test_a_picture_bomb_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    Image.new("1", (14_000, 14_000)).save(tmp_path / "a.png")  # 196 million pixels in a few kilobytes
    assert (tmp_path / "a.png").stat().st_size < 200_000
    with pytest.raises(SourceError, match="cannot be read"):
        fetch(ImagesMedia(str(tmp_path), ("a.png",), 16.0), tmp_path / "s")


def test_scratch_that_cannot_be_made_says_so(video: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SourceError, match="scratch folder"):
        fetch(UrlMedia("http://localhost/"), tmp_path / "file" / "scratch")


@pytest.mark.parametrize("kind", ["zip", "images"])
def test_a_disk_that_takes_no_more_says_so(tmp_path: Path, kind: str) -> None:
    """A real limit of the operating system, in a process of its own."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a.mp4", os.urandom(300_000))
    names = write_pictures(tmp_path, 40, (64, 64))
    code = f"""
import resource
from pathlib import Path
from remind.curation.item import ImagesMedia, ZipMedia
from remind.curation.media import fetch
from remind.errors import SourceError
here = Path({str(tmp_path)!r})
media = ZipMedia(str(here / "a.zip"), "a.mp4") if {kind!r} == "zip" else ImagesMedia(str(here), {names!r}, 16.0)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    fetch(media, here / "s")
except SourceError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "cannot write the video" in done.stdout, done.stderr
    assert "ulimit" in done.stdout
    assert list((tmp_path / "s").iterdir()) == []


def test_a_real_video_packed_and_fetched_is_the_same(real_videos: Path, tmp_path: Path) -> None:
    path = real_videos / "mammoth_81.mp4"
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as file:
        file.write(path, path.name)
    fetched = fetch(ZipMedia(str(tmp_path / "a.zip"), path.name), tmp_path / "s")
    assert content_sha256(fetched) == content_sha256(path)
    assert av.open(str(fetched)).streams.video
