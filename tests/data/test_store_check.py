"""Every kind of damage is found, and named by its clip; a good store passes."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from remind.data import store_check
from remind.data.clip_members import encode_members
from remind.data.clip_store_writer import ClipStoreWriter
from remind.data.npz import write_npz
from remind.data.store_check import Problem, verify
from remind.data.video_io import encode_mp4
from remind.errors import StoreError
from tests.data.make_video import moving_square
from tests.data.test_clip_store import fill, full_clip, make_clip


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with ClipStoreWriter(tmp_path / "s", shard_bytes=1) as writer:
        writer.add(replace(full_clip(), clean=replace(full_clip().clean, clip_id="full")))
        writer.add(make_clip("plain"))
    return tmp_path / "s"


def spoil(root: Path, *, facts: dict[str, Any] | None = None, **members: bytes | None) -> tuple[Problem, ...]:
    """Pack a clip with other files or facts than the writer would, and check the store."""
    clip = full_clip()
    files = {**encode_members(clip), **{name.replace("_", "."): data for name, data in members.items()}}
    kept = {name: data for name, data in files.items() if data is not None}
    with ClipStoreWriter(root) as writer:
        writer.add_members("bad", kept, replace(clip.facts, **(facts or {})))
    return verify(root).problems


def test_a_good_store_passes_in_one_process_and_in_two(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_check, "_BLOCK", 1)
    report = verify(root)
    assert (report.ok, report.exit_code, report.problems) == (True, 0, ())
    assert (report.clips, report.shards) == (2, 2)
    assert report.num_bytes == sum(path.stat().st_size for path in (root / "shards").iterdir())
    assert verify(root, workers=2) == report
    console = Console(record=True, width=120, force_terminal=True)
    verify(root, console=console)
    console.print(report)
    shown = console.export_text()
    assert "clips" in shown
    assert "every check passed" in " ".join(shown.split())


def test_damage_in_a_shard_is_named(root: Path) -> None:
    first, second = sorted((root / "shards").iterdir())
    data = bytearray(first.read_bytes())
    data[600] ^= 1
    first.write_bytes(data)
    second.unlink()
    (root / "shards" / "clips-00009-0123456789abcdef.tar").write_bytes(b"old")
    (root / ".building-x").mkdir()
    report = verify(root)
    assert report.exit_code == 1
    found = [(p.where, p.check) for p in report.problems]
    assert found == [
        ("clips-00009-0123456789abcdef.tar", "orphan"), (".building-x", "orphan"), (first.name, "shard"),
        (second.name, "shard"), ("full", "read"), ("plain", "read"),
    ]  # fmt: skip
    assert "rgb.mp4 has another checksum" in report.problems[4].what
    assert "is missing" in report.problems[5].what
    console = Console(record=True, width=200)
    console.print(report)
    assert "6 problems in 6 clips or files" in console.export_text()
    assert json.loads(json.dumps(report.to_dict()))["ok"] is False


def test_a_shard_that_lists_other_files_than_the_index(root: Path) -> None:
    """Whoever streams the tar would read something else than whoever seeks by the index."""
    first, _ = sorted((root / "shards").iterdir())
    data = first.read_bytes()
    first.write_bytes(data.replace(b"full.event.json", b"other.event.jso"))
    whats = [p.what for p in verify(root).problems if p.where == first.name]
    assert any(what.startswith("it cannot be read") or "is not in" in what for what in whats)


@pytest.mark.parametrize(
    ("members", "check", "line"),
    [
        ({"rgb_mp4": encode_mp4(moving_square(80, (32, 32)), 16)}, "read", "not 81 pictures"),
        ({"rgb_mp4": encode_mp4(moving_square(81, (32, 48)), 16)}, "read", "another size"),
        ({"rgb_mp4": encode_mp4(moving_square(81, (32, 32)), 24)}, "frame rate", "at 24 fps, not 16"),
        ({"rgb_mp4": b"\0" * 100}, "read", "not a video"),
        ({"caption_json": b'{"caption": "a ball"}'}, "prompts", "'a square moves'"),
        ({"cameras_npz": None}, "index", "has_cameras is True in the index and False in the clip"),
        ({"depth_npz": None}, "index", "has_depth"),
        ({"state_npz": write_npz({"state": np.full(81, np.nan)})}, "read", "NaN"),
        (
            {"depth_npz": write_npz({"depth": np.full((81, 2, 2), np.nan, np.float16),
                                     "intrinsics_px": np.ones((81, 4), np.float32)})},
            "read", "depth is out of range",
        ),
        (
            {"depth_npz": write_npz({"depth": np.ones((81, 2, 2), np.float16),
                                     "intrinsics_px": np.zeros((81, 4), np.float32)})},
            "depth", "not positive",
        ),
    ],
)  # fmt: skip
def test_a_clip_that_lies_is_named(tmp_path: Path, members: dict[str, bytes], check: str, line: str) -> None:
    problems = spoil(tmp_path / "s", **members)
    assert {(p.where, p.check) for p in problems} == {("bad", check)}
    assert line in problems[0].what


@pytest.mark.parametrize(
    "facts", [{"licence": "CC0-ish"}, {"event_types": ("fall",)}, {"safety_flags": ()}, {"item_id": "b.mp4"}]
)
def test_facts_of_the_index_are_compared_with_the_clip(tmp_path: Path, facts: dict[str, Any]) -> None:
    (problem,) = spoil(tmp_path / "s", facts=facts)
    assert (problem.where, problem.check) == ("bad", "index")
    assert next(iter(facts)) in problem.what


def test_cameras_out_of_convention_are_named(tmp_path: Path) -> None:
    c2w = np.tile(np.eye(4), (81, 1, 1))
    good = {"c2w": c2w, "intrinsics_px": np.full((81, 4), 20, np.float32), "hw": np.array([32, 32]),
            "pose_valid": np.ones(81, bool), "pose_conf": np.ones(81, np.float32),
            "scale_kind": np.array("metric", "U8")}  # fmt: skip
    for changes, line in [
        ({"c2w": c2w + np.pad([[1.0]], ((0, 3), (3, 0)))}, "not anchored"),
        ({"c2w": c2w * np.array([1, 1, -1, 1])}, "not rotations"),
        ({"intrinsics_px": np.zeros((81, 4), np.float32)}, "intrinsics"),
    ]:
        (problem,) = spoil(tmp_path / "s", cameras_npz=write_npz({**good, **changes}))
        assert (problem.where, problem.check) == ("bad", "read")
        assert line in problem.what


def test_another_hash_than_the_index_says(root: Path) -> None:
    table = pq.read_table(root / "index.parquet")
    rows = table.to_pylist()
    rows[1]["sha256"] = "0" * 64
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), root / "index.parquet")
    (problem,) = verify(root).problems
    assert (problem.where, problem.check) == ("plain", "hash")


def die(root: Path, block: range) -> None:
    os._exit(1)


def test_a_process_that_dies_does_not_take_the_report_with_it(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_check, "_check_block", die)
    report = verify(root, workers=2)
    assert [(p.where, p.check) for p in report.problems] == [("full", "read"), ("plain", "read")]
    assert "a process died" in report.problems[0].what


def test_no_store_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="not a clip store"):
        verify(tmp_path)
    empty = fill(tmp_path / "empty", 0)
    assert verify(empty).ok
