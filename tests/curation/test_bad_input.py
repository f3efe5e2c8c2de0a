"""Everything that strangers' videos are: each bad one is quarantined with its reason, and the run goes on."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from remind.curation.options import BuildOptions
from remind.curation.pipeline import build_store
from remind.curation.source_kinds import SourceSpec
from remind.data.clip_store import ClipStore
from remind.data.store_check import verify
from remind.data.video_io import VideoLimits
from remind.errors import StoreError
from tests.data.make_video import moving_square, write, write_audio_only

SMALL = BuildOptions(hw=(32, 32), limits=VideoLimits(max_pixels=1920 * 1088))


def cameras_npz(path: Path, c2w: np.ndarray, focal: float = 50.0) -> None:
    n = len(c2w)
    intrinsics = np.tile(np.array([focal, focal, 32, 24], np.float32), (n, 1))
    np.savez(path, c2w=c2w, intrinsics_px=intrinsics, hw=np.array([48, 64]), pose_valid=np.ones(n, bool),
             pose_conf=np.ones(n, np.float32), scale_kind=np.array("unknown", dtype="U8"))  # fmt: skip


def bad_videos(folder: Path) -> dict[str, str]:
    """Files that lie, and a word that each reason must hold."""
    whole = write(folder / "good.mp4", moving_square(90)).read_bytes()
    (folder / "truncated.mp4").write_bytes(whole[: len(whole) // 2])
    (folder / "lying.mkv").write_bytes(write(folder / "x.mkv", moving_square(90, seed=8)).read_bytes()[:-3000])
    (folder / "x.mkv").unlink()
    (folder / "empty.mp4").touch()
    (folder / "html.mp4").write_text("<html>404</html>")
    write_audio_only(folder / "sound.m4a")
    write(folder / "dot.mkv", torch.full((90, 1, 1, 3), 200, dtype=torch.uint8), codec="ffv1", pix_fmt="bgra")
    write(folder / "large.mp4", torch.zeros(2, 1100, 1920, 3, dtype=torch.uint8))
    mirrored = np.tile(np.diag([-1.0, 1, 1, 1]), (90, 1, 1))
    write(folder / "mirrored.mp4", moving_square(90, seed=2))
    cameras_npz(folder / "mirrored.mp4.cameras.npz", mirrored)
    write(folder / "nan.mp4", moving_square(90, seed=3))
    cameras_npz(folder / "nan.mp4.cameras.npz", np.full((90, 4, 4), np.nan))
    write(folder / "backwards.mp4", moving_square(90, seed=4))
    cameras_npz(folder / "backwards.mp4.cameras.npz", np.tile(np.eye(4), (90, 1, 1)), focal=-50.0)
    return {"truncated.mp4": "not a video", "lying.mkv": "trunc", "empty.mp4": "empty", "html.mp4": "not a video",
            "sound.m4a": "no video track", "large.mp4": "too large", "mirrored.mp4": "rotation", "nan.mp4": "",
            "backwards.mp4": "focal"}  # fmt: skip


def test_every_bad_file_has_its_reason_and_the_good_ones_go_through(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    words = bad_videos(folder)
    report = build_store(folder, out, SMALL, engine="pool", workers=2)
    reasons = {f.item.split("#")[0]: f.reason for f in report.failed}
    assert reasons.keys() == words.keys(), reasons
    for item, word in words.items():
        assert word in reasons[item], (item, reasons[item])
        assert "\n" not in reasons[item]
    assert {c.provenance.item_id for c in ClipStore.open(out)} == {"good.mp4"}
    assert {d.item.split("#")[0] for d in report.dropped} == {"dot.mkv"}  # one pixel moves nowhere
    assert verify(out).ok


def test_hostile_archives_and_tables_reach_nothing(tmp_path: Path) -> None:
    root, out = tmp_path / "tables", tmp_path / "out"
    root.mkdir()
    secret = write(tmp_path / "secret.mp4", moving_square(90, seed=5))
    video = write(tmp_path / "v.mp4", moving_square(90, seed=6))
    with zipfile.ZipFile(root / "part.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(video, "fine.mp4")
        archive.writestr("bomb.mp4", bytes(200 << 20))
        archive.writestr("../escape.mp4", b"x")
    (root / "link.mp4").symlink_to(secret)
    rows = [
        {"archive": "part.zip", "member": "fine.mp4"}, {"archive": "part.zip", "member": "bomb.mp4"},
        {"archive": "part.zip", "member": "../escape.mp4"}, {"archive": "part.zip", "member": "absent.mp4"},
        {"path": "../secret.mp4"}, {"path": str(secret)}, {"path": "link.mp4"}, {"url": "file:///etc/passwd"},
        {"url": "http://127.0.0.1:9/a.mp4"}, {"path": 7}, {"path": "fine\u0000.mp4"},
    ]  # fmt: skip
    (root / "list.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n{not json\n")
    limits = VideoLimits(max_bytes=50 << 20)
    report = build_store(SourceSpec("manifest", str(root / "list.jsonl")), out, replace(SMALL, limits=limits))
    assert [c.provenance.item_id for c in ClipStore.open(out)] == ["part.zip/fine.mp4"]
    assert len(report.failed) == len(rows)  # all but the first, and the line that is no JSON
    assert all(f.stage == "fetch" for f in report.failed)
    assert not (tmp_path / "escape.mp4").exists()
    assert not list((out / ".work").glob("scratch*"))


def test_a_full_disk_ends_the_run_and_blames_no_video(tmp_path: Path) -> None:
    """Files beyond a few bytes cannot be written: what a full disk does to every worker."""
    import resource

    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    write(folder / "a.mp4", moving_square(90))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limit[1]))
    try:
        with pytest.raises(StoreError, match=r"cannot (be written|write)"):
            build_store(folder, out, SMALL)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert build_store(folder, out, SMALL).kept == 1


def test_a_fault_of_ours_costs_one_video_and_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.mp4", "b.mp4"):
        write(folder / name, moving_square(90, seed=ord(name[0])))
    from remind.curation import item_work

    real = item_work.scan

    def faulty(path: Path, *args: object) -> object:
        if path.name == "a.mp4":
            raise ValueError("a fault\nof ours")
        return real(path, *args)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(item_work, "scan", faulty)
        report = build_store(folder, out, SMALL)
    assert report.kept == 1
    (failed,) = report.failed
    assert failed.stage == "internal"
    assert failed.reason.startswith("unexpected ValueError: a fault of ours at test_bad_input.py:")
    assert build_store(folder, out, SMALL).kept == 2  # a newer version tries again by itself
