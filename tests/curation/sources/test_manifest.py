"""Tables in three formats give the same items; a bad row fails alone, with its line."""

from __future__ import annotations

import csv
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from remind.curation.item import CameraRef, FileMedia, SourceItem, UrlMedia, ZipMedia
from remind.curation.media import fetch
from remind.curation.refused import RefusedMedia
from remind.curation.sources.manifest import ManifestSource
from remind.errors import SourceError

ROWS: list[dict[str, Any]] = [
    {"path": "a.mp4", "id": "one", "caption": "a candle,\n\"lit\" ü", "tags": ["fire", "wax"], "url": "https://x/1"},
    {"url": "https://x/2.mp4", "author": "B", "licence": "CC0", "permission": "mail", "score": 0.5},
    {"archive": "deep/z.zip", "member": "m/c.mp4", "cameras": "c.npy", "cameras_format": "w2c_npy",
     "cameras_stride": 3},
]  # fmt: skip


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    names = list(dict.fromkeys(name for row in rows for name in row))
    if path.suffix == ".csv":
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            for row in rows:
                writer.writerow({k: ";".join(v) if isinstance(v, list) else v for k, v in row.items()})
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        pq.write_table(pa.table({name: [row.get(name) for row in rows] for name in names}), path)
    return path


def reasons(path: Path, **options: Any) -> dict[str, str]:
    items = ManifestSource(path, **options).items()
    return {item.item_id: item.media.reason for item in items if isinstance(item.media, RefusedMedia)}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_the_formats_give_the_same_items(tmp_path: Path, suffix: str) -> None:
    root = tmp_path.resolve()
    source = ManifestSource(write(tmp_path / f"table{suffix}", ROWS))
    assert list(source.items()) == [
        SourceItem(
            "one", "manifest", FileMedia(str(root / "a.mp4")), caption=ROWS[0]["caption"], tags=("fire", "wax"),
            url="https://x/1",
        ),
        SourceItem(
            "https://x/2.mp4", "manifest", UrlMedia("https://x/2.mp4"), url="https://x/2.mp4", author="B",
            licence="CC0", permission="mail", facts={"score": 0.5},
        ),
        SourceItem(
            "deep/z.zip/m/c.mp4", "manifest", ZipMedia(str(root / "deep/z.zip"), "m/c.mp4"),
            cameras=CameraRef("w2c_npy", str(root / "c.npy"), stride=3),
        ),
    ]  # fmt: skip


def test_facts_are_numbers_where_they_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("path,a,b,c,d,e,license\nx.mp4,-1.5e2,007,nan,1_000,12,MIT\n")
    item = next(iter(ManifestSource(path).items()))
    assert item.facts == {"a": -150.0, "b": "007", "c": "nan", "d": "1_000", "e": 12.0}
    assert item.licence == "MIT"
    write(tmp_path / "t.jsonl", [{"path": "x.mp4", "n": 3, "deep": {"a": [1]}, "yes": True, "none": None}])
    item = next(iter(ManifestSource(tmp_path / "t.jsonl").items()))
    assert item.facts == {"n": 3.0, "deep": '{"a": [1]}', "yes": "true"}


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("name", ["/etc/passwd", "../../../../../../etc/passwd", "link/passwd", "straight"])
def test_no_path_leaves_the_folder(tmp_path: Path, suffix: str, name: str) -> None:
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "straight").symlink_to("/etc/passwd")
    rows = [
        {"id": "p", "path": name},
        {"id": "z", "archive": name, "member": "a"},
        {"id": "c", "path": "ok.mp4", "cameras": name, "cameras_format": "c2w_npy"},
        {"id": "fine", "path": "ok.mp4"},
    ]
    path = write(tmp_path / f"t{suffix}", rows)
    items = list(ManifestSource(path).items())
    assert [isinstance(item.media, RefusedMedia) for item in items] == [True, True, True, False]
    for item in items[:3]:
        assert item.media == RefusedMedia("", item.media.reason)  # type: ignore[union-attr]
        with pytest.raises(SourceError, match=r"line \d: a path leads out of its folder"):
            fetch(item.media, tmp_path / "scratch")


def test_a_root_may_be_allowed(tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    path = write(tmp_path / "tables" / "t.jsonl", [{"path": "../videos/a.mp4"}, {"path": "../../a.mp4"}])
    items = list(ManifestSource(path, allow_root=tmp_path).items())
    assert items[0].media == FileMedia(str(tmp_path.resolve() / "videos/a.mp4"))
    assert isinstance(items[1].media, RefusedMedia)
    assert len(reasons(path)) == 2


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://x/a", "javascript:1", "http://user:pw@x/"])
def test_addresses_are_of_the_web(tmp_path: Path, url: str) -> None:
    path = write(tmp_path / "t.jsonl", [{"url": url}])
    assert "not a web address" in reasons(path)["t.jsonl:1"]


def test_rows_of_one_id_are_named_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('path,caption\na.mp4,"two\nlines"\nb.mp4,\na.mp4,again\n')
    assert reasons(path) == {"t.csv:5": "t.csv, line 5: two rows of the same id; got 'a.mp4', first in line 2"}


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"path": 5}, "column path"),
        ({"path": ["a.mp4"]}, "column path"),
        ({"path": "a.mp4", "caption": 5}, "column caption"),
        ({"path": "a.mp4", "tags": 5}, "column tags"),
        ({"path": "a.mp4", "tags": [1]}, "column tags.0"),
        ({"path": "a.mp4", "tags": {"a": 1}}, "column tags"),
        ({"path": "a.mp4", "cameras": "c", "cameras_format": "blender"}, "column cameras_format"),
        ({"path": "a.mp4", "cameras": "c"}, "cameras of no format"),
        ({"path": "a.mp4", "cameras_format": "c2w_npy"}, "without cameras"),
        ({"path": "a.mp4", "cameras_stride": 0}, "column cameras_stride"),
        ({"path": "a.mp4", "cameras_stride": True}, "column cameras_stride"),
        ({"path": "a.mp4", "score": 10**400}, "not a finite number"),
        ({"path": "a.mp4", "licence": "x", "license": "y"}, None),
        ({"path": "a.mp4", "archive": "z.zip", "member": "m"}, "a row names"),
        ({"archive": "z.zip"}, "a row names"),
        ({"caption": "no place"}, "says nowhere"),
        ({}, "says nowhere"),
        ({"path": "x" * 5000}, "column path"),
        ({"path": "a\0.mp4"}, "NUL"),
        ({"path": "\ud800.mp4"}, "not UTF-8"),
        ({"path": "a.mp4", "x" * 300: 1, "y": "z" * 20_000}, "characters"),
    ],
)
def test_wrong_rows_fail_alone(tmp_path: Path, row: dict[str, Any], message: str | None) -> None:
    path = write(tmp_path / "t.jsonl", [{"path": "fine.mp4"}, row, {"path": "fine too.mp4"}])
    found = reasons(path)
    assert len(list(ManifestSource(path).items())) == 3
    if message is None:
        assert found == {}
    else:
        assert list(found) == ["t.jsonl:2"]
        assert message in found["t.jsonl:2"]
        assert "line 2" in found["t.jsonl:2"]


@pytest.mark.parametrize(
    "line",
    ["[1]", "5", "{", '{"path": NaN}', "[" * 5000, '{"a":' * 5000, "\udcff", '{"path": 1' + "0" * 6000 + "}", "\0"],
)
def test_lines_that_are_no_json_objects_fail_alone(tmp_path: Path, line: str) -> None:
    path = tmp_path / "t.jsonl"
    path.write_text(f'{{"path": "a.mp4"}}\n{line}\n\n{{"path": "b.mp4"}}\n', errors="surrogateescape")
    assert list(reasons(path)) == ["t.jsonl:2"]
    assert [item.item_id for item in ManifestSource(path).items()] == ["a.mp4", "t.jsonl:2", "b.mp4"]


def test_hostile_csv_fails_row_by_row(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    lines = [
        b"path,caption",
        b"a.mp4,fine",
        b"b\0.mp4,nul",
        b"c.mp4," + b"x" * (10 << 20),
        b"d.mp4,too,many",
        b"e.mp4",
        b"\xff.mp4,latin",
        b"f.mp4," + b"y" * 200_000,
        b'g.mp4,"quoted" badly',
        b"h.mp4,fine",
    ]
    path.write_bytes(b"\xef\xbb\xbf" + b"\r\n".join(lines))
    found = reasons(path)
    assert list(found) == [f"t.csv:{line}" for line in (3, 4, 5, 6, 7, 8, 9)]
    for line, said in [(3, "NUL"), (4, "characters"), (5, "3 cells"), (6, "1 cells"), (7, "UTF-8"), (8, "limit")]:
        assert said in found[f"t.csv:{line}"]
    good = [item.item_id for item in ManifestSource(path).items() if not isinstance(item.media, RefusedMedia)]
    assert good == ["a.mp4", "h.mp4"]


def test_an_open_quote_does_not_swallow_the_rest_unseen(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text('path,caption\na.mp4,"open\nb.mp4,x\nc.mp4,y\n')
    found = reasons(path)
    assert list(found) == ["t.csv:2"]
    assert "up to line 4" in found["t.csv:2"]


@pytest.mark.parametrize("text", ["", "\n", "path,path\na,b\n", ",".join(f"c{i}" for i in range(300)), "x" * 200_000])
def test_what_is_no_table_is_an_error(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(SourceError, match="header"):
        list(ManifestSource(tmp_path / "t.csv").items())


def test_missing_and_damaged_tables_are_errors(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table({"path": ["a.mp4"] * 1000}), buffer)
    (tmp_path / "cut.parquet").write_bytes(buffer.getvalue()[:-20])
    (tmp_path / "text.parquet").write_text("no parquet")
    (tmp_path / "t.xlsx").write_text("")
    for name in ("none.csv", "none.parquet", "cut.parquet", "text.parquet", "t.xlsx"):
        with pytest.raises(SourceError):
            list(ManifestSource(tmp_path / name).items())


def test_a_long_table_is_streamed(tmp_path: Path) -> None:
    """A line of 50 MB and thousands of rows take little memory."""
    path = tmp_path / "t.csv"
    with path.open("w") as file:
        file.write("path,caption\n")
        for _ in range(50):
            file.write("x" * (1 << 20))
        file.write("\n")
        file.writelines(f"{i}.mp4,{'word ' * 40}\n" for i in range(3000))
    tracemalloc.start()
    count = sum(1 for _ in ManifestSource(path).items())
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert count == 3001
    assert peak < 8 << 20
