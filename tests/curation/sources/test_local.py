"""Folders and globs are listed in order, with what lies beside a video, and nothing is passed over in silence."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from remind.curation.item import CameraRef, FileMedia, SourceItem
from remind.curation.media import fetch
from remind.curation.sources.local import LocalSource
from remind.errors import InputError, SourceError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "videos [1]"
    for name in ("b.mp4", "a b.webm", "deep/er/c.mp4", ".hidden.mp4", ".cache/d.mp4", "out/clip.mp4", "readme.txt"):
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(name.encode())
    return root


def ids(source: LocalSource) -> list[str]:
    return [item.item_id for item in source.items()]


def test_a_folder_is_listed_in_order_without_hidden_files_and_the_output(folder: Path) -> None:
    source = LocalSource(folder, exclude=[folder / "out"])
    assert ids(source) == ["a b.webm", "b.mp4", "deep/er/c.mp4", "readme.txt"]
    items = list(source.items())
    assert items == list(source.items())
    assert items[2] == SourceItem("deep/er/c.mp4", "local", FileMedia(str(folder / "deep/er/c.mp4")))


def test_a_file_and_a_glob(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ids(LocalSource(folder / "b.mp4")) == ["b.mp4"]
    plain = folder.rename(folder.parent / "plain")
    (plain / "deep" / "loop").symlink_to(plain)
    for pattern in ("**/*.mp4", "**/*.[mM]p4"):
        assert ids(LocalSource(f"{plain}/{pattern}", exclude=[plain / "out"])) == ["b.mp4", "deep/er/c.mp4"]
    assert ids(LocalSource(f"{plain}/deep/**")) == ["er/c.mp4"]
    monkeypatch.chdir(plain)
    assert ids(LocalSource("*.mp4")) == ["b.mp4"]
    assert ids(LocalSource("deep/e*/*")) == ["er/c.mp4"]


@pytest.mark.parametrize("name", ["nothing", "*.nothing", "nothing/**"])
def test_nothing_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        LocalSource(tmp_path / name)


def test_links_are_followed_once_and_dangling_ones_listed(folder: Path) -> None:
    (folder / "deep" / "loop").symlink_to(folder)
    (folder / "gone.mp4").symlink_to(folder / "nowhere")
    (folder / "linked.mp4").symlink_to(folder / "b.mp4")
    (folder / "z").symlink_to(folder / "out")
    source = LocalSource(folder)
    assert ids(source) == [
        "a b.webm", "b.mp4", "deep/er/c.mp4", "gone.mp4", "linked.mp4", "out/clip.mp4", "readme.txt",
    ]  # fmt: skip
    with pytest.raises(SourceError, match="No such file"):
        fetch(next(item for item in source.items() if item.item_id == "gone.mp4").media, folder)


def test_what_lies_beside_a_video_is_known(folder: Path) -> None:
    known = {"caption": "a candle", "url": "https://x/1", "author": "A", "licence": "CC0", "permission": "mail"}
    (folder / "b.mp4.json").write_text(json.dumps(known))
    (folder / "b.mp4.cameras.npz").write_bytes(b"read later")
    (folder / "alone.json").write_text("{}")
    items = {item.item_id: item for item in LocalSource(folder).items()}
    item = items["b.mp4"]
    assert (item.caption, item.url, item.author, item.licence, item.permission) == tuple(known.values())
    assert item.cameras == CameraRef("store_npz", str(folder / "b.mp4.cameras.npz"))
    assert "b.mp4.json" not in items
    assert "b.mp4.cameras.npz" not in items
    assert "alone.json" in items


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"not json", "Invalid JSON"),
        (b'{"caption": 5}', "caption"),
        (b'{"captoin": "x"}', "captoin"),
        (b"[]", "all of it"),
        (json.dumps({"caption": "x" * 10_001}).encode(), "caption"),
        (b'{"caption": "' + b"x" * (1 << 20) + b'"}', "at most 1048576 bytes"),
        (b"\xff\xfe", "Invalid JSON"),
        (b"[" * 100_000, "Invalid JSON"),
    ],
)
def test_a_bad_sidecar_fails_its_video_only(folder: Path, text: bytes, message: str) -> None:
    (folder / "b.mp4.json").write_bytes(text)
    items = {item.item_id: item for item in LocalSource(folder).items()}
    with pytest.raises(SourceError, match=message):
        fetch(items["b.mp4"].media, folder)
    assert fetch(items["a b.webm"].media, folder) == folder / "a b.webm"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may enter any folder")
def test_a_folder_that_may_not_be_entered_is_listed(folder: Path) -> None:
    (folder / "deep").chmod(0)
    try:
        assert "deep" in ids(LocalSource(folder))
    finally:
        (folder / "deep").chmod(0o755)


def test_names_that_are_no_text_are_listed_safely(folder: Path) -> None:
    (Path(os.fsdecode(os.fsencode(folder) + b"/\xff.mp4"))).write_bytes(b"x")
    for item in LocalSource(folder).items():
        item.describe().encode()


def test_real_videos(real_videos: Path) -> None:
    items = {item.item_id: item for item in LocalSource(real_videos).items()}
    assert {"mammoth_81.mp4", "spatialvid/clip.mp4"} <= set(items)
