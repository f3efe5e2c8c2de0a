"""From good and bad videos to a store: the good go through, the bad are listed, reruns are clean."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from remind.curation import pipeline
from remind.curation.pipeline import BuildOptions, BuildReport, build_store
from remind.data.clip_store import ClipStore
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
    return folder


@pytest.fixture(scope="module")
def built(mixed_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildReport]:
    out = tmp_path_factory.mktemp("out") / "store"
    return out, build_store(mixed_folder, out, SMALL)


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def test_good_videos_become_clips_and_bad_ones_are_listed(built: tuple[Path, BuildReport]) -> None:
    out, report = built
    assert report.kept == 4
    assert [(d.item, d.stage) for d in report.dropped] == [
        ("a good one.mp4#16.88s", "window"),
        ("b_copy.mp4", "duplicate"),
        ("c_empty.mp4", "read"),
        ("d_text.mp4", "read"),
        ("e_cut.mp4", "read"),
        ("f_audio.m4a", "read"),
        ("g_one_picture.mp4", "window"),
        ("h_short.mp4", "window"),
        ("i_still.mp4#0.00s", "motion"),
        ("j_dangling.mp4", "read"),
        ("k_fades_out.mp4#0.00s", "cut"),
    ]
    reasons = {d.item: d.reason for d in report.dropped}
    for item, line in [
        ("b_copy.mp4", "same content as a good one.mp4"),
        ("c_empty.mp4", "the file is empty"),
        ("d_text.mp4", "not a video"),
        ("e_cut.mp4", "cut short"),
        ("f_audio.m4a", "no video track"),
        ("g_one_picture.mp4", "one picture"),
        ("h_short.mp4", "too short: 80 pictures in 5.00 s, 81 frames at 16 fps"),
        ("i_still.mp4#0.00s", "static"),
        ("j_dangling.mp4", "no such file"),
        ("k_fades_out.mp4#0.00s", "a dissolve or fade at 4."),
    ]:
        assert line in reasons[item]
        assert "\n" not in reasons[item]
    written = json.loads((out / "report.json").read_text())
    assert written["kept"] == 4
    assert written["dropped"][0].keys() == {"item", "stage", "reason"}
    assert len(written["dropped"]) == len(report.dropped)
    assert sorted(p.name for p in out.iterdir()) == ["index.parquet", "report.json", "shards"]


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
        assert clip.provenance.scores.keys() == {"mean_change", "moving_share"}
        assert "av" in clip.provenance.tool_versions
        changed = (clip.degraded().rgb != clip.clean.rgb).flatten(1).any(1)
        assert changed.nonzero().flatten().tolist() == sorted(clip.schedule.degraded_frames())
    steps = [(c.clean.rgb[1:].float() - c.clean.rgb[:-1].float()).abs().mean((1, 2, 3)) for c in clips]
    assert max(s.max().item() for s in steps) < 30  # no cut inside


def test_the_same_input_gives_the_same_store(
    built: tuple[Path, BuildReport], mixed_folder: Path, tmp_path: Path
) -> None:
    again = build_store(mixed_folder, tmp_path / "store", SMALL)
    assert again == built[1]
    assert files(tmp_path / "store") == files(built[0])


def test_another_seed_gives_other_interruptions_of_the_same_clips(
    built: tuple[Path, BuildReport], mixed_folder: Path, tmp_path: Path
) -> None:
    build_store(mixed_folder, tmp_path / "store", BuildOptions(hw=(32, 32), seed=1, kinds=("light_toggle",)))
    first, second = ClipStore.open(built[0]), ClipStore.open(tmp_path / "store")
    assert first.clip_ids == second.clip_ids
    assert {c.recipe.kind for c in second} == {"light_toggle"}
    assert len({c.recipe.kind for c in first}) > 1


def test_a_rerun_does_no_work_and_another_store_is_not_overwritten_unasked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    write(source / "a.mp4", moving_square(90))
    first = build_store(source, out, SMALL)
    before = files(out)
    with monkeypatch.context() as patch:
        patch.setattr(pipeline, "_build_file", lambda *args: pytest.fail("did work"))
        assert build_store(source, out, SMALL) == first
    write(source / "b.mp4", moving_square(90, seed=5))
    with pytest.raises(StoreError, match=r"another store is in the way.*--overwrite"):
        build_store(source, out, SMALL)
    assert files(out) == before
    assert build_store(source, out, SMALL, overwrite=True).kept == 2
    assert len(ClipStore.open(out)) == 2
    assert len(list((out / "shards").iterdir())) == 1


def test_nothing_kept_is_an_error_with_a_report(tmp_path: Path) -> None:
    source, out = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    with pytest.raises(StoreError, match=r"no clip was kept; got no files"):
        build_store(source, out, SMALL)
    write(source / "short.mp4", moving_square(20))
    (source / "text.mp4").write_text("no")
    for _ in range(2):  # a rerun says the same
        with pytest.raises(StoreError, match=r"no clip was kept; got 2 files; dropped at: window 1, read 1"):
            build_store(source, out, SMALL)
    report = json.loads((out / "report.json").read_text())
    assert report["kept"] == 0
    assert [d["item"] for d in report["dropped"]] == ["short.mp4", "text.mp4"]
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
        (tmp_path / "notes", "is no store"),
        (path, "a file is in the way"),
        (tmp_path / "absent" / "store", "parent exists"),
    ]:
        for overwrite in (False, True):
            with pytest.raises(StoreError, match=line):
                build_store(path, out, SMALL, overwrite=overwrite)
    assert (tmp_path / "notes" / "todo.txt").read_text() == "mine"


def test_a_crash_leaves_nothing_half_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4", moving_square(90))

    def crash(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "_build_file", crash)
    with pytest.raises(KeyboardInterrupt):
        build_store(path, tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


def test_an_absent_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        build_store(tmp_path / "absent", tmp_path / "out", SMALL)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"hw": (8, 64)}, "16..2048"),
        ({"fps": 0}, "frame rate"),
        ({"seed": -1}, "seed"),
        ({"crf": 99}, "crf 99"),
        ({"kinds": ()}, "none at all"),
        ({"kinds": ("camera_loop",)}, "plain videos"),
        ({"num_frames": 45, "kinds": ("occluder",)}, "fits"),
    ],
)
def test_options_that_cannot_work_are_refused_at_once(options: dict, line: str) -> None:
    with pytest.raises(RemindError, match=line):
        BuildOptions(**options)


def test_frames_must_fill_chunks() -> None:
    with pytest.raises(GraphError, match="whole chunks"):
        BuildOptions(num_frames=77)


def test_the_bar_can_be_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.mp4", moving_square(90))
    build_store(path, tmp_path / "out", SMALL, progress=True)
    assert "a.mp4" in capsys.readouterr().out


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
