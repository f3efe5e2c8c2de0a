"""A release says what there is, is read by Croissant's own library, and gives pictures only where licences allow."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from remind.curation.release import CLIPS_SCHEMA, release
from remind.curation.takedown import Takedown
from remind.data.clip_store import ClipStore
from remind.data.clip_store_writer import ClipStoreWriter
from remind.data.interrupt import InterruptionRecipe
from remind.data.video_io import decode
from remind.errors import InputError, StoreError
from tests.data.make_store import FRAMES, HW, clip_of, make_store, memory_of, provenance_of, recipe_of

SOURCES: list[dict[str, str]] = [
    {"licence": "CC BY 4.0", "author": "Jane", "url": "https://a.example/1"},
    {"licence": "CC BY-NC 4.0", "author": "Jane", "url": "https://a.example/2"},
    {"licence": "CC0", "url": "https://b.example/3"},
    {"licence": "CC BY-SA 3.0"},  # nobody to attribute it to
    {},
]


@pytest.fixture
def store(tmp_path: Path) -> ClipStore:
    with ClipStoreWriter(tmp_path / "store") as writer:
        for i, source in enumerate(SOURCES):
            writer.add(memory_of(clip_of(i), recipe_of(i), provenance_of(i, **source)))
    return ClipStore.open(tmp_path / "store")


def rows(out: Path) -> list[dict[str, Any]]:
    return pq.read_table(out / "clips.parquet").to_pylist()


def files(out: Path) -> dict[str, bytes]:
    return {p.relative_to(out).as_posix(): p.read_bytes() for p in sorted(out.rglob("*")) if p.is_file()}


def test_a_release_without_media_holds_everything_but_pictures(store: ClipStore, tmp_path: Path) -> None:
    report = release(store, tmp_path / "out")
    assert (report.clips, report.media, report.taken_down, report.unmatched) == (5, 0, (), ())
    assert sorted(files(tmp_path / "out")) == ["README.md", "cameras.parquet", "clips.parquet", "croissant.json"]
    table = rows(tmp_path / "out")
    assert [row["clip_id"] for row in table] == list(store.clip_ids)
    first = table[0]
    assert (first["url"], first["author"], first["licence"], first["licence_id"]) == (
        "https://a.example/1", "Jane", "CC BY 4.0", "CC-BY-4.0")  # fmt: skip
    assert (first["sha256"], first["start_pts"], first["stop_pts"]) == ("0" * 64, 0, FRAMES - 1)
    assert InterruptionRecipe.from_json(first["recipe"]) == recipe_of(0)
    assert table[1]["licence_id"] == ""
    assert [row["has_cameras"] for row in table] == [True, False, True, False, True]
    poses = pq.read_table(tmp_path / "out" / "cameras.parquet").to_pylist()
    assert [row["clip_id"] for row in poses] == ["clip-0", "clip-2", "clip-4"]
    cameras = store[2].clean.cameras
    assert cameras is not None
    assert poses[1]["c2w"] == cameras.c2w.flatten().tolist()


def test_media_are_released_only_where_the_licence_allows(store: ClipStore, tmp_path: Path) -> None:
    report = release(store, tmp_path / "out", include_media=True)
    assert sorted(p.name for p in (tmp_path / "out" / "media").iterdir()) == ["clip-0.mp4", "clip-2.mp4"]
    assert report.media == 2
    assert report.without_media == {
        "CC-BY-SA-3.0 asks to name the author, who is unknown": 1,
        "licence: CC BY-NC 4.0": 1,
        "licence: unknown": 1,
    }
    for row in rows(tmp_path / "out"):
        assert bool(row["media"]) == (row["clip_id"] in ("clip-0", "clip-2"))
        if row["media"]:
            data = (tmp_path / "out" / row["media"]).read_bytes()
            assert hashlib.sha256(data).hexdigest() == row["video_sha256"]
            assert sum(1 for _ in decode(data)) == FRAMES


def test_taken_down_clips_are_nowhere_in_it(store: ClipStore, tmp_path: Path) -> None:
    takedown = Takedown(("https://b.example/3", f"{4:064x}", "mistyped"))
    report = release(store, tmp_path / "out", takedown=takedown, include_media=True)
    assert report.taken_down == ("clip-2", "clip-4")
    assert report.unmatched == ("mistyped",)
    everything = b"".join(files(tmp_path / "out").values())
    assert b"clip-2" not in everything
    assert b"b.example" not in everything
    assert b"2 clips were left out on request" in everything
    with pytest.raises(StoreError, match="all of them taken down"):
        release(store, tmp_path / "none", takedown=Takedown(store.clip_ids))
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("include_media", [False, True])
def test_the_croissant_library_accepts_it_and_reads_the_records(
    store: ClipStore, tmp_path: Path, include_media: bool, caplog: pytest.LogCaptureFixture
) -> None:
    mlc = pytest.importorskip("mlcroissant")
    release(store, tmp_path / "out", include_media=include_media)
    dataset = mlc.Dataset(jsonld=str(tmp_path / "out" / "croissant.json"))
    issues = dataset.metadata.ctx.issues
    assert not issues.errors
    # A citation and a date are the releaser's to add: a date would make each release another.
    assert {text for text in issues.warnings if "citeAs" not in text and "datePublished" not in text} == set()
    assert "not standard" not in caplog.text
    assert {node.name for node in dataset.metadata.distribution} >= {"clips.parquet", "cameras.parquet"}
    for node in dataset.metadata.file_objects:
        assert node.sha256 == hashlib.sha256((tmp_path / "out" / node.content_url).read_bytes()).hexdigest()
    records = list(dataset.records("clips"))
    assert len(records) == 5
    for record, row in zip(records, rows(tmp_path / "out"), strict=True):
        assert len(record) == len(CLIPS_SCHEMA)
        for name, value in row.items():
            got = record[f"clips/{name}"]
            assert (got.decode() if isinstance(got, bytes) else got) == value


def test_the_croissant_library_would_notice_a_reference_to_nothing(store: ClipStore, tmp_path: Path) -> None:
    """The test above could fail."""
    mlc = pytest.importorskip("mlcroissant")
    release(store, tmp_path / "out")
    metadata = json.loads((tmp_path / "out" / "croissant.json").read_text())
    metadata["recordSet"][0]["field"][0]["source"]["fileObject"]["@id"] = "no-such-file.parquet"
    (tmp_path / "out" / "croissant.json").write_text(json.dumps(metadata))
    with pytest.raises(mlc.ValidationError):
        mlc.Dataset(jsonld=str(tmp_path / "out" / "croissant.json"))


def test_the_card_counts_and_shows_strangers_text_as_text(tmp_path: Path) -> None:
    hostile = "x | y\n# Title <script>alert(1)</script> [a](javascript:b)"
    with ClipStoreWriter(tmp_path / "s") as writer:
        writer.add(memory_of(clip_of(0), recipe_of(0), provenance_of(0, licence=hostile, url="https://a.example/1")))
        writer.add(memory_of(clip_of(1, caption=""), recipe_of(1), provenance_of(0, url="http://[bad")))
    release(ClipStore.open(tmp_path / "s"), tmp_path / "out", include_media=True)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "2 clips, 0.1 minutes, cut from 1 source files. 1 have a caption, 1 have camera poses, 0 come" in card
    assert f"| {FRAMES} frames, {HW[0]}x{HW[1]} px, 16 fps | 2 |" in card
    assert "| a.example | 1 |" in card
    assert "| no url | 1 |" in card
    assert "<script>" not in card
    assert "\n# Title" not in card
    assert r"\[a\](javascript:b)" in card
    assert all(line.count("|") - line.count("\\|") in (0, 3) for line in card.splitlines())
    for section in ("Sources", "Licences", "How it was made", "Limits"):
        assert f"\n## {section}\n" in card


def test_the_same_store_gives_the_same_bytes(store: ClipStore, tmp_path: Path) -> None:
    for name in ("a", "b"):
        release(store, tmp_path / name, include_media=True)
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_a_release_appears_whole_or_not_at_all(store: ClipStore, tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="in the way"):
        release(store, tmp_path / "full")
    with pytest.raises(StoreError, match="cannot write the release"):
        release(store, tmp_path / "no" / "parent")
    with pytest.raises(StoreError, match="an empty store"):
        release(ClipStore.open(make_store(tmp_path / "empty", 0)), tmp_path / "out")
    shard = next((store.root / "shards").iterdir())
    shard.write_bytes(shard.read_bytes()[:-5000])
    with pytest.raises(StoreError, match="clip-"):
        release(store, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert [p for p in tmp_path.iterdir() if p.name.startswith(".out")] == []
