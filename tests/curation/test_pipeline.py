"""From good and bad videos to a store: the good go through, the bad are listed, reruns are clean."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from remind.curation.build_report import BuildReport
from remind.curation.engines import Engine
from remind.curation.explain import explain
from remind.curation.ledger import LEDGER, Ledger
from remind.curation.motion_policy import MotionPolicy
from remind.curation.options import BuildOptions
from remind.curation.pipeline import build_store, retry
from remind.curation.source_kinds import SourceSpec
from remind.data.clip_store import ClipStore
from remind.data.interrupt import RecipeDistribution
from remind.data.store_check import verify
from remind.data.video_io import decode
from remind.errors import GraphError, InputError, RemindError, StoreError
from tests.data.make_video import moving_square, write, write_audio_only

SMALL = BuildOptions(hw=(32, 32))


@pytest.fixture(scope="module")
def mixed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of two usable shots, one in a subfolder and another container, a bad file of every kind."""
    folder = tmp_path_factory.mktemp("videos")
    shots = [moving_square(170, seed=1), 255 - moving_square(100, seed=2), moving_square(20, seed=3)]
    write(folder / "a good one.mp4", torch.cat(shots), audio=True)
    (folder / "deep" / "er").mkdir(parents=True)
    write(folder / "deep" / "er" / "good.avi", moving_square(150, seed=4), codec="mpeg4", fps=25)
    (folder / "b_copy.mp4").write_bytes((folder / "a good one.mp4").read_bytes())
    (folder / "c_empty.mp4").write_bytes(b"")
    (folder / "d_text.mp4").write_text("not a video")
    (folder / "e_cut.mp4").write_bytes((folder / "a good one.mp4").read_bytes()[:5000])
    write_audio_only(folder / "f_audio.m4a")
    write(folder / "g_one_picture.mp4", moving_square(1))
    write(folder / "h_short.mp4", moving_square(80))
    share = torch.linspace(0, 1.2, 90).clamp(0, 1)[:, None, None, None]
    faded = torch.lerp(moving_square(90).float(), torch.full((1,), 255.0), share)
    write(folder / "k_fades_out.mp4", faded.to(torch.uint8))
    write(folder / "i_still.mp4", moving_square(1).expand(90, -1, -1, -1))
    (folder / "j_dangling.mp4").symlink_to(folder / "nowhere.mp4")
    (folder / ".hidden.mp4").write_text("left out")
    (folder / "notes.txt").write_text("a document")
    return folder


@pytest.fixture(scope="module")
def built(mixed_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildReport]:
    out = tmp_path_factory.mktemp("out") / "store"
    return out, build_store(mixed_folder, out, SMALL)


def files(root: Path) -> dict[str, bytes]:
    """The store itself, without what only the next build reads."""
    found = (p for p in sorted(root.rglob("*")) if p.is_file())
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in found if ".work" not in p.parts}


def work_done(store: Path) -> dict[int, list[str]]:
    """Stages that ran, by run."""
    rows = sqlite3.connect(store / LEDGER).execute("SELECT run, stage FROM result ORDER BY run, stage").fetchall()
    return {run: [stage for r, stage in rows if r == run] for run, _ in rows}


def test_good_videos_become_clips_and_the_others_are_listed(built: tuple[Path, BuildReport]) -> None:
    out, report = built
    assert report.kept == 4
    assert [(d.item, d.stage) for d in report.dropped] == [
        ("a good one.mp4#16.88s", "window"),
        ("b_copy.mp4", "duplicate"),
        ("g_one_picture.mp4", "window"),
        ("h_short.mp4", "window"),
        ("i_still.mp4#0.00s", "motion"),
        ("k_fades_out.mp4#0.00s", "cut"),
        ("notes.txt", "fetch"),
    ]
    assert [(f.item, f.stage) for f in report.failed] == [
        ("c_empty.mp4", "scan"),
        ("d_text.mp4", "scan"),
        ("e_cut.mp4", "scan"),
        ("f_audio.m4a", "scan"),
        ("j_dangling.mp4", "fetch"),
    ]
    reasons = {d.item: d.reason for d in (*report.dropped, *report.failed)}
    for item, line in [
        ("b_copy.mp4", "same content as a good one.mp4"),
        ("c_empty.mp4", "the file is empty"),
        ("d_text.mp4", "not a video"),
        ("e_cut.mp4", "cut short"),
        ("f_audio.m4a", "no video track"),
        ("g_one_picture.mp4", "one picture"),
        ("h_short.mp4", "too short: 80 pictures in 5.00 s, 81 frames at 16 fps"),
        ("i_still.mp4#0.00s", "static"),
        ("j_dangling.mp4", "No such file"),
        ("k_fades_out.mp4#0.00s", "a dissolve or fade at 4."),
    ]:
        assert line in reasons[item]
        assert "\n" not in reasons[item]
    written = json.loads((out / "report.json").read_text())
    assert written["kept"] == 4
    assert written["dropped"][0].keys() == written["failed"][0].keys() == {"item", "stage", "reason"}
    assert sorted(p.name for p in out.iterdir()) == [".work", "index.parquet", "report.json", "shards"]
    left = sorted(p.name for p in (out / ".work").iterdir())
    assert left == ["ledger.lock", "ledger.sqlite"]
    assert verify(out).ok


def test_clips_are_windows_within_one_shot(built: tuple[Path, BuildReport], mixed_folder: Path) -> None:
    clips = list(ClipStore.open(built[0]))
    assert [(c.provenance.item_id, c.provenance.shot) for c in clips] == [
        ("a good one.mp4", 0),
        ("a good one.mp4", 0),
        ("a good one.mp4", 1),
        ("deep/er/good.avi", 0),
    ]
    pts = [p.pts for p in decode(mixed_folder / "a good one.mp4")]
    spans = [(c.provenance.start_pts, c.provenance.stop_pts) for c in clips[:3]]
    assert spans == [(pts[0], pts[80]), (pts[81], pts[161]), (pts[170], pts[250])]
    for clip in clips:
        assert clip.clean.rgb.shape == (81, 32, 32, 3)
        assert clip.clean.fps == 16
        assert clip.graph.roles[0] == "anchor"
        assert clip.provenance.scores.keys() >= {"mean_change", "moving_share", "object_area", "camera_motion"}
        assert clip.provenance.verdicts["cameras"].startswith("none")
        assert clip.event.judged_by == "no_vlm"
        assert "av" in clip.provenance.tool_versions
        changed = (clip.degraded().rgb != clip.clean.rgb).flatten(1).any(1)
        assert set(changed.nonzero().flatten().tolist()) <= clip.schedule.degraded_frames()
        assert changed[sorted(clip.schedule.hidden_frames())].all()
    steps = [(c.clean.rgb[1:].float() - c.clean.rgb[:-1].float()).abs().mean((1, 2, 3)) for c in clips]
    assert max(s.max().item() for s in steps) < 30  # no cut inside


@pytest.mark.parametrize(("engine", "workers"), [("serial", 1), ("pool", 2), ("ray", 2)])
def test_the_same_input_gives_the_same_store_whoever_does_the_work(
    built: tuple[Path, BuildReport], mixed_folder: Path, tmp_path: Path, engine: Engine, workers: int
) -> None:
    again = build_store(mixed_folder, tmp_path / "store", SMALL, engine=engine, workers=workers)
    assert again == built[1]
    assert files(tmp_path / "store") == files(built[0])


def test_a_rerun_does_no_work(mixed_folder: Path, built: tuple[Path, BuildReport], tmp_path: Path) -> None:
    out = tmp_path / "store"
    shutil.copytree(built[0], out)
    before = {p: p.stat().st_mtime_ns for p in (out / "shards").iterdir()}
    assert build_store(mixed_folder, out, SMALL) == built[1]
    assert list(work_done(out)) == [1]
    assert {p: p.stat().st_mtime_ns for p in (out / "shards").iterdir()} == before


def test_a_changed_option_redoes_what_it_touches_and_no_more(
    mixed_folder: Path, built: tuple[Path, BuildReport], tmp_path: Path
) -> None:
    out = tmp_path / "store"
    shutil.copytree(built[0], out)
    dark = RecipeDistribution(kinds=(("light_toggle", 1.0),), several_share=0.0, together_share=0.0)
    build_store(mixed_folder, out, replace(SMALL, seed=1, interruptions=dark))
    assert work_done(out)[2] == ["interrupt"] * 4 + ["pack"] * 4  # no decoding, and nothing for the copy
    first, second = ClipStore.open(built[0]), ClipStore.open(out)
    assert first.clip_ids == second.clip_ids
    assert {c.recipe.kind for c in second} == {"light_toggle"}
    for a, b in zip(first, second, strict=True):
        assert torch.equal(a.clean.rgb, b.clean.rgb)

    loose = replace(SMALL, motion=MotionPolicy(0.0, 0.0, 0.0, 0.0))  # the still clip is kept now: one more window
    report = build_store(mixed_folder, out, loose)
    assert report.kept == 5
    assert work_done(out)[3] == ["cameras", "encode", "interrupt"] + ["pack"] * 5  # the copy finds its files
    fresh = build_store(mixed_folder, tmp_path / "fresh", loose)
    assert fresh == report
    assert files(tmp_path / "fresh") == files(out)  # what was read again by seeking is what one pass saw


def test_a_changed_video_is_done_again_and_a_removed_one_leaves(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write(source / "a.mp4", moving_square(90))
    write(source / "b.mp4", moving_square(90, seed=5))
    build_store(source, out, SMALL)
    write(source / "b.mp4", moving_square(90, seed=6))
    build_store(source, out, SMALL)
    assert work_done(out)[2] == ["cameras", "encode", "fetch", "interrupt", "pack", "scan"]
    (source / "a.mp4").unlink()
    assert build_store(source, out, SMALL).kept == 1
    assert [c.provenance.item_id for c in ClipStore.open(out)] == ["b.mp4"]
    assert len(list((out / "shards").iterdir())) == 1
    for path in source.iterdir():
        path.unlink()
    write(source / "c.mp4", moving_square(90, seed=7))
    with pytest.raises(StoreError, match=r"another store is in the way.*--overwrite"):
        build_store(source, out, SMALL)
    assert build_store(source, out, SMALL, overwrite=True).kept == 1


def test_kill_minus_nine_loses_and_duplicates_nothing(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    for seed in range(6):
        write(source / f"{seed}.mp4", moving_square(90, seed=seed))
    code = ("import sys; from pathlib import Path; from remind.curation.pipeline import build_store; "
            "from remind.curation.options import BuildOptions; "
            "build_store(Path(sys.argv[1]), Path(sys.argv[2]), BuildOptions(hw=(32, 32)))")  # fmt: skip
    for wanted in (1, 3):  # killed twice, at different places
        process = subprocess.Popen([sys.executable, "-c", code, str(source), str(out)])
        while process.poll() is None and _items_done(out) < wanted:
            time.sleep(0.02)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert 3 <= _items_done(out) < 6
    assert not (out / "index.parquet").exists()
    build_store(source, out, SMALL)
    whole = build_store(source, tmp_path / "whole", SMALL)
    assert whole.kept == 6
    assert files(out) == files(tmp_path / "whole")
    assert sorted(len(stages) for stages in work_done(out).values())[-1] < 6 * 6  # no run did everything


def _items_done(out: Path) -> int:
    if not (out / LEDGER).exists():
        return 0
    try:
        rows = sqlite3.connect(out / LEDGER).execute("SELECT COUNT(*) FROM result WHERE stage = 'pack'").fetchone()
    except sqlite3.OperationalError:  # it is being made
        return 0
    return int(rows[0])


def test_failures_are_remembered_until_a_retry(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    good, link = write(tmp_path / "later.mp4", moving_square(90, seed=1)), source / "b.mp4"
    write(source / "a.mp4", moving_square(90))
    link.symlink_to(good)
    hidden = good.rename(tmp_path / "away.mp4")
    first = build_store(SourceSpec("local", str(source)), out, SMALL)
    assert [f.item for f in first.failed] == ["b.mp4"]
    explained = explain(out, "b.mp4")
    assert any("failed by fetch" in line and "No such file" in line for line in explained.lines)
    assert any("scan" in line and "1 windows" in line for line in explain(out, "a.mp4").lines)
    hidden.rename(good)
    again = retry(out)
    assert again.kept == 2
    assert not again.failed
    with pytest.raises(InputError, match="no item has this name"):
        explain(out, "zzz")
    with pytest.raises(InputError, match="several items"):
        explain(out, ".mp4")


def test_two_builds_of_one_store_do_not_mix(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving_square(90))
    out = tmp_path / "out"
    build_store(path, out, SMALL)
    with Ledger.open(out / LEDGER), pytest.raises(StoreError, match="another build"):
        build_store(path, out, SMALL)
    (out / LEDGER).write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match="ledger is damaged"):
        build_store(path, out, SMALL)


def test_nothing_kept_is_an_error_with_a_report(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    with pytest.raises(StoreError, match=r"no clip was kept; got no videos"):
        build_store(source, out, SMALL)
    write(source / "short.mp4", moving_square(20))
    (source / "text.mp4").write_text("no")
    for _ in range(2):  # a rerun says the same
        with pytest.raises(StoreError, match=r"no clip was kept; got window 1; scan 1"):
            build_store(source, out, SMALL)
    report = json.loads((out / "report.json").read_text())
    assert report["kept"] == 0
    assert [d["item"] for d in report["dropped"]] == ["short.mp4"]
    assert [d["item"] for d in report["failed"]] == ["text.mp4"]
    write(source / "good.mp4", moving_square(90))  # an empty store is in nobody's way
    assert build_store(source, out, SMALL).kept == 1


def test_one_file_is_a_source_too(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mkv", moving_square(90), codec="ffv1", pix_fmt="bgra")
    assert build_store(path, tmp_path / "out", SMALL).kept == 1


def test_a_store_inside_its_source_is_not_read(tmp_path: Path) -> None:
    write(tmp_path / "a.mp4", moving_square(90))
    assert build_store(tmp_path, tmp_path / "store", SMALL).kept == 1
    assert list(build_store(tmp_path, tmp_path / "store", SMALL).sources) == ["a.mp4"]


def test_outputs_in_the_way_are_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving_square(90))
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "todo.txt").write_text("mine")
    for out, line in [
        (tmp_path / "notes", "other files are in the way"),
        (path, "a file is in the way"),
        (tmp_path / "absent" / "store", "parent exists"),
    ]:
        for overwrite in (False, True):
            with pytest.raises(StoreError, match=line):
                build_store(path, out, SMALL, overwrite=overwrite)
    assert [p.name for p in (tmp_path / "notes").iterdir()] == ["todo.txt"]


def test_an_absent_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        build_store(tmp_path / "absent", tmp_path / "out", SMALL)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"hw": (8, 64)}, "16..2048"),
        ({"fps": 0}, "frame rate"),
        ({"seed": -1}, "seed"),
        ({"crf": 99}, "crf 99"),
        ({"cameras": "depth_anything"}, "camera command"),
        ({"num_frames": 21}, "room|fits"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(options: dict, line: str) -> None:
    with pytest.raises(RemindError, match=line):
        BuildOptions(**options)


def test_frames_must_fill_chunks() -> None:
    with pytest.raises(GraphError, match="whole chunks"):
        BuildOptions(num_frames=77)


def test_the_bar_can_be_shown(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving_square(90))
    console = Console(file=io.StringIO(), force_terminal=True, width=120)
    build_store(path, tmp_path / "out", SMALL, console=console)
    shown = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", console.file.getvalue())  # type: ignore[attr-defined]
    assert "1/1 videos, 1 clips" in shown


def test_world_scenes_come_with_all_that_is_known(tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = build_store(SourceSpec("world", "0:3"), out, SMALL)
    assert report.kept == 3
    for clip in ClipStore.open(out):
        assert clip.clean.cameras is not None
        assert clip.clean.cameras.valid.all()
        assert clip.states is not None
        assert clip.depth is not None
        assert clip.depth.hw == (32, 32)
        assert clip.event.judged_by == "world"
        assert clip.provenance.licence == "Apache-2.0"
    assert verify(out).ok
    assert build_store(SourceSpec("world", "0:3"), out, SMALL) == report
    assert list(work_done(out)) == [1]


def test_odd_but_honest_videos_go_through(tmp_path: Path) -> None:
    """Variable rate, rotation, ten bits, alpha, wide pixels, one pixel of height more than even."""
    source = tmp_path / "in"
    source.mkdir()
    rgb = moving_square(100)
    pts = [i * 2 + (i % 3 == 0) for i in range(100)]
    write(source / "vfr.mkv", rgb, pts=pts, time_base=__import__("fractions").Fraction(1, 32))
    write(source / "turned.mp4", rgb, rotation_deg=90)
    write(source / "ten.mp4", moving_square(100, seed=2), pix_fmt="yuv420p10le")
    write(source / "alpha.mkv", moving_square(100, seed=3), codec="ffv1", pix_fmt="bgra")
    report = build_store(source, tmp_path / "out", SMALL)
    assert report.kept == 4, (report.dropped, report.failed)
    assert verify(tmp_path / "out").ok


# --- real files ---


@pytest.fixture(scope="module")
def real_build(real_videos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildReport]:
    source, out = tmp_path_factory.mktemp("real"), tmp_path_factory.mktemp("real_out") / "store"
    for path in real_videos.glob("*.mp4"):
        os.symlink(path, source / path.name)
    return out, build_store(source, out, SMALL)


def test_real_videos_become_memory_clips(real_build: tuple[Path, BuildReport]) -> None:
    out, report = real_build
    clips = list(ClipStore.open(out))
    assert report.kept == len(clips) >= 1
    assert "crush_027.mp4" in {c.provenance.item_id for c in clips}
    dropped = {d.item: d for d in report.dropped}
    assert dropped["mammoth_81.mp4"].reason.startswith("too short: 81 pictures in 3.38 s")
    for clip in clips:
        assert clip.graph.anchors
        hidden = sorted(clip.schedule.hidden_frames())
        if clip.recipe.kind == "light_toggle":
            assert (clip.degraded().rgb[hidden] == 0).all()


def test_real_given_cameras_are_held_against_the_pictures(real_videos: Path, tmp_path: Path) -> None:
    """The direction of these poses is disputed; the pictures decide it."""
    folder = real_videos / "spatialvid"
    row = {"path": "clip.mp4", "cameras": "poses.npy", "cameras_format": "quaternion_npy",
           "cameras_intrinsics": "intrinsics.npy", "cameras_stride": 5}  # fmt: skip
    for name in ("clip.mp4", "poses.npy", "intrinsics.npy"):
        shutil.copy(folder / name, tmp_path / name)
    (tmp_path / "list.jsonl").write_text(json.dumps(row))
    out = tmp_path / "out"
    loose = replace(SMALL, motion=MotionPolicy(0.0, 0.0, 0.0, 0.0))
    report = build_store(SourceSpec("manifest", str(tmp_path / "list.jsonl")), out, loose)
    assert report.kept >= 1
    for clip in ClipStore.open(out):
        assert "given as quaternion_npy, decided" in clip.provenance.verdicts["cameras"]
        assert clip.clean.cameras is not None
        assert clip.clean.cameras.valid.any()
