"""OpenVid-1M from packed parts: what is here is listed, what is not is counted, and parts are read once."""

from __future__ import annotations

import csv
import json
import os
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from remind.curation.item import SourceItem, ZipMedia
from remind.curation.media import content_sha256, fetch
from remind.curation.refused import RefusedMedia
from remind.curation.sources import openvid_parts
from remind.curation.sources.openvid import HOME, OpenVidOptions, OpenVidSource
from remind.curation.sources.openvid_parts import CACHE_NAME, read_part_map
from remind.errors import InputError, SourceError
from tests.curation.test_archives import cut
from tests.data.make_video import moving_square, write

COLUMNS = [
    "video", "caption", "aesthetic score", "motion score", "temporal consistency score", "camera motion", "frame",
    "fps", "seconds",
]  # fmt: skip


def row(
    video: str, aesthetic: object = 5.0, motion: object = 4.0, camera: str = "static", seconds: object = 4.0
) -> list[object]:
    return [video, f"a caption, of {video}", aesthetic, motion, 0.99, camera, 96, 24.0, seconds]


def write_csv(path: Path, rows: list[list[object]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *rows])
    return path


def write_part(folder: Path, number: int, members: dict[str, bytes]) -> Path:
    path = folder / f"OpenVid_part{number}.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


@pytest.fixture
def parts(tmp_path: Path) -> Path:
    """Two parts as published, one of them in pieces; a folder in one, junk in the other."""
    folder = tmp_path / "parts"
    folder.mkdir()
    write_part(folder, 0, {"a.mp4": b"A" * 100, "b.mp4": b"B" * 50_000, "__MACOSX/._a.mp4": b"", "notes.txt": b""})
    second = write_part(folder, 1, {"video/": b"", "video/c.mp4": b"C" * 50_000, "video/d.mp4": b"D" * 100})
    cut(second, folder, 20_000)
    second.unlink()
    return folder


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "OpenVid-1M.csv", [row("c.mp4"), row("absent.mp4"), row("a.mp4"), row("b.mp4")])


def ids(source: OpenVidSource) -> list[str]:
    return [item.item_id for item in source.items()]


def test_rows_with_a_video_are_listed_and_fetched(parts: Path, table: Path, tmp_path: Path) -> None:
    items = list(OpenVidSource(table, parts).items())
    assert [item.item_id for item in items] == ["c.mp4", "a.mp4", "b.mp4"]
    assert items[0] == SourceItem(
        "c.mp4",
        "openvid",
        ZipMedia(str(parts / "OpenVid_part1_partaa"), "video/c.mp4"),
        caption="a caption, of c.mp4",
        url=HOME,
        facts={
            "aesthetic_score": 5.0, "motion_score": 4.0, "temporal_consistency_score": 0.99,
            "camera_motion": "static", "num_frames": 96.0, "fps": 24.0, "seconds": 4.0,
        },
    )  # fmt: skip
    fetched = [fetch(item.media, tmp_path / "scratch").read_bytes() for item in items]
    assert fetched == [b"C" * 50_000, b"A" * 100, b"B" * 50_000]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (OpenVidOptions(min_aesthetic=5.0), ["high.mp4"]),
        (OpenVidOptions(max_motion=3.0), ["slow.mp4"]),
        (OpenVidOptions(min_motion=3.0, min_seconds=4.0), ["high.mp4"]),
        (OpenVidOptions(max_seconds=3.0), ["short.mp4"]),
        (OpenVidOptions(camera_motions=("pan_left", "zoom_in")), ["short.mp4"]),
        (OpenVidOptions(min_temporal_consistency=0.999), []),
        (OpenVidOptions(min_fps=25.0), []),
    ],
)
def test_filters(tmp_path: Path, options: OpenVidOptions, expected: list[str]) -> None:
    rows = [
        row("high.mp4", 5.0), row("slow.mp4", 4.9, 2.0), row("short.mp4", 4.0, camera="pan_left", seconds=2.0),
        row("no.mp4", "", "", "", ""),
    ]  # fmt: skip
    table = write_csv(tmp_path / "t.csv", rows)
    write_part(tmp_path, 0, {str(r[0]): b"x" for r in rows})
    assert len(ids(OpenVidSource(table, tmp_path))) == 4
    assert ids(OpenVidSource(table, tmp_path, options)) == expected
    report = OpenVidSource(table, tmp_path, options).completeness()
    assert report.listed == len(expected)
    assert sum(report.filtered.values()) == 4 - len(expected)


def test_bounds_must_be_numbers() -> None:
    with pytest.raises(InputError, match="min_aesthetic"):
        OpenVidOptions(min_aesthetic=float("nan"))


def test_the_report_says_what_is_missing(parts: Path, tmp_path: Path) -> None:
    write_part(parts, 2, {"a.mp4": b"again", "unnamed.mp4": b""})
    (parts / "OpenVid_part3.zip").write_bytes(b"half a download")
    rows = [row("a.mp4"), row("gone.mp4"), row("b.mp4", "good"), row("c.mp4"), row("a.mp4"), row("d.mp4", float("inf"))]
    table = write_csv(tmp_path / "t.csv", rows)
    source = OpenVidSource(table, parts, OpenVidOptions(min_motion=1.0))
    report = source.completeness()
    assert (report.rows, report.videos, report.listed) == (6, 5, 2)
    assert report.rows_without_video.examples == ("gone.mp4",)
    assert report.duplicate_rows.examples == ("a.mp4",)
    assert report.videos_without_row.examples == ("b.mp4", "d.mp4", "unnamed.mp4")
    assert report.duplicate_videos.examples == ("a.mp4",)
    assert [example[:8] for example in report.damaged_rows.examples] == ["t.csv:4:", "t.csv:7:"]
    assert list(report.unreadable_parts) == ["OpenVid_part3.zip"]
    assert json.loads(report.to_json())["rows"] == 6
    refused = {item.item_id: item.media.reason for item in source.items() if isinstance(item.media, RefusedMedia)}
    assert list(refused) == ["t.csv:4", "t.csv:6", "t.csv:7"]
    assert "line 2" in refused["t.csv:6"]


def test_parts_are_read_once(parts: Path, table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    really = openvid_parts.open_archive
    monkeypatch.setattr(openvid_parts, "open_archive", lambda part: opened.append(part.name) or really(part))
    first = read_part_map(parts)
    assert opened == ["OpenVid_part0.zip", "OpenVid_part1_partaa"]
    assert read_part_map(parts).videos.equals(first.videos)
    assert len(opened) == 2
    os.utime(parts / "OpenVid_part1_partab", (1, 1))  # not even a later piece may change
    read_part_map(parts)
    assert len(opened) == 4
    write_part(parts, 5, {"e.mp4": b""})
    assert read_part_map(parts).find("e.mp4") is not None
    assert len(opened) == 7


def test_a_damaged_or_foreign_cache_is_made_again(parts: Path, tmp_path: Path) -> None:
    cache = tmp_path / "deep" / "cache"
    good = read_part_map(parts, cache)
    assert not (parts / CACHE_NAME).exists()
    whole = (cache / CACHE_NAME).read_bytes()
    other = pq.read_table(cache / CACHE_NAME).drop_columns(["member"])
    for damage in (b"", whole[:-30], b"text"):
        (cache / CACHE_NAME).write_bytes(damage)
        assert read_part_map(parts, cache).videos.equals(good.videos)
    pq.write_table(other, cache / CACHE_NAME)
    assert read_part_map(parts, cache).videos.equals(good.videos)
    assert sorted(p.name for p in cache.iterdir()) == [CACHE_NAME]


def test_nothing_is_cached_while_a_part_cannot_be_read(parts: Path) -> None:
    (parts / "OpenVid_part9.zip").write_bytes(b"")
    assert list(read_part_map(parts).unreadable) == ["OpenVid_part9.zip"]
    assert not (parts / CACHE_NAME).exists()


def test_joined_pieces_are_not_read_twice(parts: Path) -> None:
    pieces = sorted(parts.glob("OpenVid_part1_part*"))
    (parts / "OpenVid_part1.zip").write_bytes(b"".join(piece.read_bytes() for piece in pieces))
    assert [part.name for part in openvid_parts.find_parts(parts)] == ["OpenVid_part0.zip", "OpenVid_part1.zip"]


def test_every_video_is_found_and_no_other(tmp_path: Path) -> None:
    names = [f"{'ab' * (i % 3)}é{i * 7919 % 1000}.mp4" for i in range(1000)]
    write_part(tmp_path, 0, dict.fromkeys(names, b""))
    parts = read_part_map(tmp_path)
    assert len(parts) == 1000
    assert all(parts.row(found)[0] == name for name in names if (found := parts.find(name)) is not None)
    assert all(parts.find(name) is not None for name in names)
    assert [parts.find(name) for name in ("", "zzz", "a", "é1000.mp4")] == [None] * 4


def test_no_parts_and_other_tables_are_errors(tmp_path: Path, parts: Path) -> None:
    (tmp_path / "empty").mkdir()
    table = write_csv(tmp_path / "t.csv", [])
    with pytest.raises(SourceError, match="no part"):
        list(OpenVidSource(table, tmp_path / "empty").items())
    with pytest.raises(SourceError, match="cannot read the folder"):
        list(OpenVidSource(table, tmp_path / "none").items())
    (tmp_path / "other.csv").write_text("path,caption\na,b\n")
    with pytest.raises(SourceError, match="another table"):
        list(OpenVidSource(tmp_path / "other.csv", parts).items())
    assert ids(OpenVidSource(table, parts)) == []


def test_parts_without_videos(tmp_path: Path) -> None:
    write_part(tmp_path, 0, {"notes.txt": b""})
    table = write_csv(tmp_path / "t.csv", [row("a.mp4")])
    report = OpenVidSource(table, tmp_path).completeness()
    assert (report.videos, report.listed, report.rows_without_video.count) == (0, 0, 1)


@pytest.mark.parametrize("video", ["../a.mp4", "/etc/passwd", "", "x" * 500])
def test_hostile_names_fail_alone(parts: Path, tmp_path: Path, video: str) -> None:
    table = write_csv(tmp_path / "t.csv", [row(video), row("a.mp4")])
    items = list(OpenVidSource(table, parts).items())
    assert [item.item_id for item in items] == ["t.csv:2", "a.mp4"]
    with pytest.raises(SourceError, match="no file name"):
        fetch(items[0].media, tmp_path / "s")


def test_a_hostile_member_is_refused_when_it_is_fetched(tmp_path: Path) -> None:
    write_part(tmp_path, 0, {"../../a.mp4": b"x"})
    item = next(iter(OpenVidSource(write_csv(tmp_path / "t.csv", [row("a.mp4")]), tmp_path).items()))
    with pytest.raises(SourceError, match="leads out"):
        fetch(item.media, tmp_path / "s")


def test_a_cache_that_cannot_be_written_says_so(parts: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SourceError, match="map of parts"):
        read_part_map(parts, tmp_path / "file" / "cache")


def test_a_real_encoded_video_goes_through(tmp_path: Path) -> None:
    video = write(tmp_path / "v.mp4", moving_square(10))
    write_part(tmp_path, 0, {"v.mp4": video.read_bytes()})
    item = next(iter(OpenVidSource(write_csv(tmp_path / "t.csv", [row("v.mp4")]), tmp_path).items()))
    assert content_sha256(fetch(item.media, tmp_path / "s")) == content_sha256(video)
