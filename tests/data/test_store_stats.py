"""Counts of a small store, by hand; the report of a builder; a figure that can be opened."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import av
import pytest
from rich.console import Console

from remind.data.clip_records import Event
from remind.data.clip_store_writer import ClipStoreWriter
from remind.data.store_figure import draw_stats
from remind.data.store_stats import collect_stats, reason_kind
from remind.errors import InputError, StoreError
from tests.data.test_clip_store import full_clip, make_clip, provenance

DROPPED = [
    ("a/b.mp4", "read", "b.mp4: the file is empty; got 0 bytes; expected a video. Fix: copy it again"),
    ("c.mp4", "read", "c.mp4: the file is empty; got 0 bytes"),
    ("d.mp4#1.50s", "window", "too short: 80 pictures in 5.00 s, 81 frames at 16 fps need more than 5.00 s"),
    ("e.mp4", "duplicate", "same content as a good one.mp4"),
    ("f.mp4", "duplicate", "same content as another file.mp4"),
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with ClipStoreWriter(tmp_path / "s") as writer:
        writer.add(full_clip())
        event = Event(types=("slide", "fall"), groups=("translational",))
        writer.add(make_clip("a", event=event))
        writer.add(replace(make_clip("b", hw=(32, 48)), provenance=replace_source("openvid")))
    return tmp_path / "s"


def replace_source(source: str):  # type: ignore[no-untyped-def]
    return provenance().model_copy(update={"source": source, "licence": ""})


def test_clips_are_counted_along_every_line(root: Path) -> None:
    stats = collect_stats(root)
    assert stats.clips == 3
    assert stats.groups == {
        "translational": 2, "monotonic_state": 0, "deformation": 0, "lighting_weather": 0, "interaction": 0,
        "periodic": 1, "discrete": 0,
    }  # fmt: skip
    assert stats.without_group == 1
    assert stats.event_types == {"slide": 2, "fall": 1}
    assert stats.kinds == {"occluder": 2, "light_toggle": 1}
    assert stats.sources == {"local": 2, "openvid": 1}
    assert stats.licences == {"CC0": 2, "(unknown)": 1}
    assert stats.judged_by == {"no_vlm": 2, "vlm": 1}
    assert (stats.safety_flags, stats.without_safety) == ({"watermark": 1}, 2)
    assert stats.sizes == {"32x32 at 16 fps": 2, "48x32 at 16 fps": 1}
    assert stats.durations == {"5.06 s": 3}
    assert (stats.num_frames, stats.seconds) == (243, pytest.approx(15.1875))
    assert (stats.with_cameras, stats.with_depth) == (1, 1)
    assert stats.num_bytes.keys() == {
        "rgb.mp4", "graph.json", "event.json", "caption.json", "provenance.json", "cameras.npz", "depth.npz",
        "state.npz",
    }  # fmt: skip
    (shard,) = (root / "shards").iterdir()
    assert 0 < shard.stat().st_size - sum(stats.num_bytes.values()) < 3 * 8 * 1024 + 1024  # headers and padding
    assert stats.dropped is None


def test_reasons_are_counted_without_their_particulars(root: Path) -> None:
    expected = {
        "duplicate": {"same content as another": 2}, "read": {"the file is empty": 2}, "window": {"too short": 1},
    }  # fmt: skip
    assert collect_stats(root, dropped=DROPPED).dropped == expected
    entries = [dict(zip(("item", "stage", "reason"), entry, strict=True)) for entry in DROPPED]
    (root / "report.json").write_text(json.dumps({"kept": 3, "dropped": entries, "options": {}}))
    stats = collect_stats(root)
    assert stats.dropped == expected
    assert json.loads(stats.to_json())["dropped"] == expected
    assert reason_kind("a.mp4", "a dissolve or fade at 4.56 s") == "a dissolve or fade"
    assert reason_kind("a.mp4", "static: 0.1% of the picture moves") == "static"
    assert reason_kind("a.mp4", "12") == "other"


@pytest.mark.parametrize("text", ["", "{", "[]", '{"dropped": 3}', '{"dropped": [{"item": 1}]}'])
def test_a_damaged_report_says_so(root: Path, text: str) -> None:
    (root / "report.json").write_text(text)
    with pytest.raises(StoreError, match="report is damaged"):
        collect_stats(root)


def test_stats_are_shown_in_the_terminal_and_drawn(root: Path, tmp_path: Path) -> None:
    stats = collect_stats(root, dropped=DROPPED)
    console = Console(record=True, width=120)
    console.print(stats)
    shown = console.export_text()
    for line in ("3 clips", "Translational", "(nobody asked)", "read: the file is empty"):
        assert line in shown
    draw_stats(stats, tmp_path / "stats.svg")
    drawn = (tmp_path / "stats.svg").read_text()
    assert drawn.startswith("<?xml")
    draw_stats(stats, tmp_path / "again.svg")
    assert drawn == (tmp_path / "again.svg").read_text()
    draw_stats(stats, tmp_path / "stats.png")
    with av.open(str(tmp_path / "stats.png")) as picture:
        frame = next(picture.decode(video=0))
    assert frame.width > 1000
    assert sorted(path.name for path in tmp_path.glob("*stats*")) == ["stats.png", "stats.svg"]
    for path, line in ((tmp_path / "a.jpg", "ends in .png or .svg"), (tmp_path / "no" / "a.png", "cannot write")):
        with pytest.raises(InputError, match=line):
            draw_stats(stats, path)


def test_an_empty_store_has_statistics_too(tmp_path: Path) -> None:
    with ClipStoreWriter(tmp_path / "s"):
        pass
    stats = collect_stats(tmp_path / "s")
    assert (stats.clips, stats.without_group, stats.event_types) == (0, 0, {})
    Console(record=True).print(stats)
    draw_stats(stats, tmp_path / "stats.png")
