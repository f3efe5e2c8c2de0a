"""What a build does not work on: contents that an earlier item has, and what a takedown list names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remind.curation.build_report import BuildReport, Quarantined
from remind.curation.claims import CLAIMS, Claims
from remind.curation.ledger import LEDGER, WORK, Ledger
from remind.curation.options import BuildOptions
from remind.curation.outcome import Outcome
from remind.curation.pipeline import _gather, build_store
from remind.curation.takedown import TAKEDOWN_NAME, Takedown, take_down
from remind.data.clip_store import ClipStore
from remind.errors import InputError, StoreError
from tests.data.make_video import moving_square, write

SMALL = BuildOptions(hw=(32, 32))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos, each of them twice; the second has two windows."""
    folder = tmp_path / "videos"
    folder.mkdir()
    for name, frames in (("b.mp4", 90), ("c.mp4", 170)):
        write(folder / name, moving_square(frames, seed=frames))
    (folder / "a.mp4").write_bytes((folder / "c.mp4").read_bytes())
    (folder / "d.mp4").write_bytes((folder / "b.mp4").read_bytes())
    about = {"url": "https://films.example/watch?v=1", "author": "Jane Doe", "licence": "CC BY 4.0"}
    (folder / "b.mp4.json").write_text(json.dumps(about))
    return folder


def stages(out: Path, item: str) -> set[str]:
    with Ledger.read(out / LEDGER) as ledger:
        return {result.stage for result in ledger.of_item(item)}


def dropped(report: BuildReport, stage: str) -> dict[str, str]:
    return {d.item: d.reason for d in report.dropped if d.stage == stage}


# --- duplicates ----------------------------------------------------------------------------------------------------


def test_a_content_is_worked_on_once_for_its_first_item(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    report = build_store(folder, out, SMALL)
    assert dropped(report, "duplicate") == {"c.mp4": "same content as a.mp4", "d.mp4": "same content as b.mp4"}
    assert {row["item_id"] for row in ClipStore.open(out).index.to_pylist()} == {"a.mp4", "b.mp4"}
    for name in ("c.mp4", "d.mp4"):
        assert stages(out, name) == {"fetch"}
    assert not (out / WORK / "scratch").exists()
    (folder / "a.mp4").unlink()  # now c.mp4 is the first
    report = build_store(folder, out, SMALL)
    assert dropped(report, "duplicate") == {"d.mp4": "same content as b.mp4"}
    assert {row["item_id"] for row in ClipStore.open(out).index.to_pylist()} == {"b.mp4", "c.mp4"}


def test_which_item_counts_does_not_depend_on_who_came_first(tmp_path: Path) -> None:
    claims = Claims(tmp_path / CLAIMS)
    assert claims.claim("aa", 7, "late") is None
    assert claims.claim("aa", 9, "later") == "late"
    assert claims.claim("aa", 3, "early") is None  # takes it over
    assert claims.claim("aa", 7, "late") == "early"
    assert claims.claim("bb", 9, "other") is None
    assert claims.claim("bb", 9, "other") is None  # the same item again, after its worker died
    assert len(list((tmp_path / CLAIMS).iterdir())) == 2


def test_two_at_work_at_once_give_the_store_of_one(folder: Path, tmp_path: Path) -> None:
    reports = [build_store(folder, tmp_path / engine, SMALL, engine=engine, workers=2) for engine in ("serial", "pool")]
    assert reports[0].to_json() == reports[1].to_json()
    indices = [ClipStore.open(tmp_path / engine).index for engine in ("serial", "pool")]
    assert indices[0].equals(indices[1])


def test_a_duplicate_of_an_item_that_died_is_still_accounted_for() -> None:
    died = Quarantined("a", "worker", "died")
    _, report = _gather([Outcome(0, "a", "", (), (), (), (died,)), Outcome(1, "b", "cc", (), (), (), (), (), "a")])
    assert dropped(report, "duplicate") == {"b": "same content as a"}
    assert report.failed == (died,)


# --- takedown lists ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("line", ["b.mp4", "https://www.films.example/watch?v=1", "jane doe", "sha256 of b"])
def test_what_is_listed_never_enters(folder: Path, tmp_path: Path, line: str) -> None:
    out = tmp_path / "store"
    (folder / "d.mp4").unlink()
    if line == "sha256 of b":
        line = build_store(folder, tmp_path / "before", SMALL).sources["b.mp4"]
    report = build_store(folder, out, SMALL, takedown=Takedown((line, "a spelling mistake")))
    assert dropped(report, "takedown") == {"b.mp4": "on the takedown list"}
    assert {row["item_id"] for row in ClipStore.open(out).index.to_pylist()} == {"a.mp4"}
    assert report.unmatched == ("a spelling mistake",)
    assert stages(out, "b.mp4") <= {"fetch"}  # its pictures were never decoded
    written = (out / TAKEDOWN_NAME).read_text() + (out / "report.json").read_text()
    assert "jane" not in written.casefold()
    assert "films.example" not in written
    again = build_store(folder, out, SMALL)  # without the list: the store remembers
    assert dropped(again, "takedown") == {"b.mp4": "on the takedown list"}
    assert again.kept == report.kept


def test_one_clip_of_a_video_may_be_listed(folder: Path, tmp_path: Path) -> None:
    first = build_store(folder, tmp_path / "before", SMALL)
    assert first.kept == 3
    clip_id = f"{first.sources['a.mp4'][:16]}-00001"
    report = build_store(folder, tmp_path / "store", SMALL, takedown=Takedown((clip_id,)))
    (item,) = dropped(report, "takedown")
    assert item.startswith("a.mp4#")
    assert set(ClipStore.open(tmp_path / "before").clip_ids) - set(ClipStore.open(tmp_path / "store").clip_ids) == {
        clip_id
    }


def test_what_was_taken_out_of_a_store_does_not_come_back(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    kept = build_store(folder, out, SMALL).kept
    assert len(take_down(out, Takedown(("Jane Doe",))).removed) == 1
    report = build_store(folder, out, SMALL)
    assert report.kept == kept - 1 == len(ClipStore.open(out))
    assert dropped(report, "takedown") == {"b.mp4": "on the takedown list", "d.mp4": "on the takedown list"}


def test_a_listed_content_does_not_come_in_under_another_name(folder: Path, tmp_path: Path) -> None:
    """d.mp4 is b.mp4's twin; nothing beside it says whose it is."""
    out = tmp_path / "store"
    (folder / "b.mp4").rename(folder / "z.mp4")  # the twin is worked on first
    (folder / "b.mp4.json").rename(folder / "z.mp4.json")
    for reason in ("same content as z.mp4, which is on the takedown list", "on the takedown list"):  # then it is known
        report = build_store(folder, out, SMALL, takedown=Takedown(("Jane Doe",)))
        assert dropped(report, "takedown") == {"z.mp4": "on the takedown list", "d.mp4": reason}
        assert {row["item_id"] for row in ClipStore.open(out).index.to_pylist()} == {"a.mp4"}
    assert not (out / WORK / "blobs").exists()


def test_a_list_of_the_store_that_cannot_be_read_stops_the_build(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    build_store(folder, out, SMALL)
    (out / TAKEDOWN_NAME).write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not text"):
        build_store(folder, out, SMALL)


def test_all_may_be_listed(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="no clip was kept; got takedown 4"):
        build_store(folder, tmp_path / "store", SMALL, takedown=Takedown(("a.mp4", "b.mp4", "c.mp4", "d.mp4")))
