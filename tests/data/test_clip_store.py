"""The store gives back what was put in, appears whole or not at all, and trusts nothing that it reads."""

from __future__ import annotations

import io
import json
import os
import signal
import tarfile
import tempfile
import zipfile
import zlib
from dataclasses import replace
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from pydantic import ValidationError

from remind.clip import Cameras, Clip
from remind.data.clip_members import encode_members
from remind.data.clip_records import Event, Provenance
from remind.data.clip_store import ClipStore
from remind.data.clip_store_writer import ClipStoreWriter
from remind.data.interrupt import InterruptionRecipe, sample_recipe
from remind.data.memory_clip import DepthMap, MemoryClip
from remind.data.video_io import encode_mp4
from remind.errors import CameraError, GraphError, InputError, StoreError
from remind.geometry import anchor, intrinsics_from_fov, rigid, rotation_yaw
from remind.prompt_schedule import chunk_prompts
from tests.data.make_video import moving_square


def provenance(item_id: str = "a.mp4") -> Provenance:
    return Provenance(
        source="local", item_id=item_id, sha256="0" * 64, start_pts=0, stop_pts=80, time_base=(1, 16),
        scores={"m": 0.5}, verdicts={"motion": "kept: 12 % of the picture moves"}, facts={"title": "a square"},
        licence="CC0",
    )  # fmt: skip


def cameras(hw: tuple[int, int]) -> Cameras:
    generator = torch.Generator().manual_seed(0)
    translation = torch.randn(81, 3, dtype=torch.float64, generator=generator)
    c2w = anchor(rigid(rotation_yaw(torch.linspace(0, 20, 81)), translation))
    return Cameras(c2w, intrinsics_from_fov(60.0, hw, 81), hw, torch.arange(81) % 7 != 3)


def make_clip(
    name: str = "clip-0", *, hw: tuple[int, int] = (32, 32), recipe: InterruptionRecipe | None = None,
    item_id: str = "a.mp4", num_frames: int = 81, **parts: Any,
) -> MemoryClip:  # fmt: skip
    recipe = recipe or sample_recipe("occluder", 81, np.random.default_rng(0))
    clean = Clip(moving_square(num_frames, hw), 16.0, parts.pop("cameras", None), caption="a square moves",
                 clip_id=name)  # fmt: skip
    prompts = chunk_prompts(clean.caption, recipe.schedule(num_frames))
    return MemoryClip(clean, recipe, prompts, provenance(item_id), **parts)


def full_clip(hw: tuple[int, int] = (32, 32)) -> MemoryClip:
    """A clip of everything that a store can hold."""
    event = Event(types=("slide",), groups=("translational", "periodic"), judged_by="vlm",
                  annotation={"event": "slides", "score": 0.9, "cut": False}, flow={"area": 0.1},
                  safety_flags=("watermark",))  # fmt: skip
    generator = torch.Generator().manual_seed(1)
    depth = DepthMap(torch.rand(81, 20, 24, generator=generator) * 5, intrinsics_from_fov(60.0, (20, 24), 81).float())
    return make_clip(
        hw=hw, recipe=sample_recipe("light_toggle", 81, np.random.default_rng(3)), cameras=cameras(hw), event=event,
        pose_conf=torch.rand(81, generator=generator), scale_kind="relative", depth=depth,
        states=torch.linspace(0, 1, 81, dtype=torch.float64),
    )  # fmt: skip


def fill(root: Path, count: int = 3, **options: Any) -> Path:
    with ClipStoreWriter(root, **options) as writer:
        for i in range(count):
            recipe = sample_recipe("occluder", 81, np.random.default_rng(i))
            writer.add(make_clip(f"clip-{i}", recipe=recipe, item_id=f"{i}.mp4"))
    return root


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("hw", [(32, 32), (33, 47)])
def test_what_goes_in_comes_out(tmp_path: Path, hw: tuple[int, int]) -> None:
    clip = full_clip(hw)
    with ClipStoreWriter(tmp_path / "store") as writer:
        writer.add(clip)
    store = ClipStore.open(tmp_path / "store")
    assert store.clip_ids == ("clip-0",)
    (got,) = list(store)
    assert (got.recipe, got.prompts, got.provenance) == (clip.recipe, clip.prompts, clip.provenance)
    assert (got.event, got.scale_kind, got.facts) == (clip.event, "relative", clip.facts)
    assert (got.clean.caption, got.clean.fps, got.clean.clip_id) == ("a square moves", 16.0, "clip-0")
    assert got.clean.rgb.shape == clip.clean.rgb.shape
    assert (got.clean.rgb.float() - clip.clean.rgb.float()).abs().mean() < 3
    assert got.clean.cameras is not None
    assert clip.clean.cameras is not None
    assert torch.equal(got.clean.cameras.c2w, clip.clean.cameras.c2w)
    torch.testing.assert_close(got.clean.cameras.intrinsics_px, clip.clean.cameras.intrinsics_px, atol=1e-4, rtol=0)
    assert torch.equal(got.clean.cameras.valid, clip.clean.cameras.valid)
    assert got.clean.cameras.hw == hw
    assert got.depth is not None
    assert clip.depth is not None
    torch.testing.assert_close(got.depth.z, clip.depth.z, atol=1e-6, rtol=1e-3)
    torch.testing.assert_close(got.depth.intrinsics_px, clip.depth.intrinsics_px)
    assert got.clean.depth is not None
    assert got.clean.depth.shape == (81, *hw)
    assert set(got.clean.depth.flatten().tolist()) <= set(got.depth.z.flatten().tolist())  # never a blend
    assert torch.equal(got.pose_conf, clip.pose_conf)  # type: ignore[arg-type]
    assert torch.equal(got.states, clip.states)  # type: ignore[arg-type]
    assert got.graph.schedule == got.schedule == clip.recipe.schedule(81)
    hidden = slice(clip.recipe.interruption.hidden_start, clip.recipe.interruption.hidden_stop)
    assert (got.degraded().rgb[hidden] == 0).all()


def test_clips_are_spread_over_shards_and_read_at_random(tmp_path: Path) -> None:
    store = ClipStore.open(fill(tmp_path / "s", 5, shard_bytes=10_000))
    assert len(list((tmp_path / "s" / "shards").iterdir())) > 1
    assert [store[i].clean.clip_id for i in (4, 0, -2)] == ["clip-4", "clip-0", "clip-3"]
    assert store.by_id("clip-2").provenance.item_id == store[2].provenance.item_id == "2.mp4"
    for number in (5, -6):
        with pytest.raises(IndexError):
            store[number]
    with pytest.raises(StoreError, match="no such clip in the store; got 'clip-9'"):
        store.by_id("clip-9")


def test_parts_are_read_alone(tmp_path: Path) -> None:
    with ClipStoreWriter(tmp_path / "s") as writer:
        writer.add(full_clip())
        writer.add(make_clip("plain"))
    store = ClipStore.open(tmp_path / "s")
    whole = store[0]
    without = store.read(0, depth=False)
    assert (without.depth, without.clean.depth) == (None, None)
    assert torch.equal(without.clean.rgb, whole.clean.rgb)
    for start, stop in ((0, 81), (0, 1), (1, 9), (8, 16), (50, 81), (80, 81), (79, None)):
        assert torch.equal(store.frames(0, start, stop), whole.clean.rgb[start:stop])
    records = store.records(0)
    assert (records.caption, records.recipe, records.prompts) == (whole.clean.caption, whole.recipe, whole.prompts)
    assert (records.event, records.provenance) == (whole.event, whole.provenance)
    stored = store.cameras(0)
    assert stored is not None
    assert (stored.cameras.hw, stored.scale_kind) == ((32, 32), "relative")
    assert store.cameras(1) is None
    for start, stop in ((-1, 3), (3, 3), (0, 82)):
        with pytest.raises(StoreError, match="no such frames"):
            store.frames(0, start, stop)


def test_the_index_chooses_clips_without_opening_them(tmp_path: Path) -> None:
    with ClipStoreWriter(tmp_path / "s") as writer:
        writer.add(full_clip())
        writer.add(make_clip("plain"))
    store = ClipStore.open(tmp_path / "s")
    for shard in (tmp_path / "s" / "shards").iterdir():
        shard.unlink()
    rows = store.index.select(["kinds", "event_types", "groups", "judged_by", "safety_flags", "has_cameras",
                               "has_depth", "licence", "height"]).to_pylist()  # fmt: skip
    assert rows[0] == {
        "kinds": ["light_toggle"], "event_types": ["slide"], "groups": ["translational", "periodic"],
        "judged_by": "vlm", "safety_flags": ["watermark"], "has_cameras": True, "has_depth": True, "licence": "CC0",
        "height": 32,
    }  # fmt: skip
    assert (rows[1]["judged_by"], rows[1]["safety_flags"], rows[1]["has_depth"]) == ("no_vlm", None, False)
    assert store.facts(0) == full_clip().facts


def test_encoded_clips_are_packed_as_they_are(tmp_path: Path) -> None:
    """What workers encode, and what is copied from another store, gives the same bytes as adding the clip."""
    with ClipStoreWriter(tmp_path / "added") as writer:
        writer.add(full_clip())
    clip = full_clip()
    members = encode_members(clip)
    with ClipStoreWriter(tmp_path / "packed") as writer:
        writer.add_members("clip-0", dict(reversed(members.items())), clip.facts)
    first = ClipStore.open(tmp_path / "packed")
    with ClipStoreWriter(tmp_path / "copied") as writer:
        writer.add_members(first.clip_ids[0], first.members(0), first.facts(0))
    assert files(tmp_path / "added") == files(tmp_path / "packed") == files(tmp_path / "copied")
    with ClipStoreWriter(tmp_path / "no") as writer:
        for wrong in ({}, {**members, "x.exe": b""}, {k: v for k, v in members.items() if k != "event.json"}):
            with pytest.raises(StoreError, match="other files"):
                writer.add_members("a", wrong, clip.facts)
        assert len(writer) == 0


def test_shards_are_plain_tar_files(tmp_path: Path) -> None:
    (shard,) = (fill(tmp_path / "s", 2) / "shards").iterdir()
    with tarfile.open(shard) as archive:
        names = archive.getnames()
        graph = json.load(archive.extractfile("clip-1.graph.json"))  # type: ignore[arg-type]
        event = json.load(archive.extractfile("clip-1.event.json"))  # type: ignore[arg-type]
    assert names == [
        f"clip-{i}.{kind}"
        for i in (0, 1)
        for kind in ("rgb.mp4", "graph.json", "event.json", "caption.json", "provenance.json")
    ]
    recipe = sample_recipe("occluder", 81, np.random.default_rng(1))
    assert InterruptionRecipe.from_json(json.dumps(graph["recipe"])) == recipe
    assert graph.keys() == {"num_frames", "recipe", "prompts"}
    assert tuple(graph["prompts"]) == chunk_prompts("a square moves", recipe.schedule(81))
    assert event["judged_by"] == "no_vlm"


def test_the_same_clips_give_the_same_bytes(tmp_path: Path) -> None:
    assert files(fill(tmp_path / "a")) == files(fill(tmp_path / "b"))


def test_an_empty_store_is_a_store(tmp_path: Path) -> None:
    assert len(ClipStore.open(fill(tmp_path / "s", 0))) == 0


def fail(root: Path) -> None:
    with ClipStoreWriter(root, shard_bytes=1) as writer:
        writer.add(make_clip("new"))
        raise ZeroDivisionError


def test_a_failed_build_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_a_failed_rebuild_leaves_the_old_store(tmp_path: Path) -> None:
    before = files(fill(tmp_path / "s"))
    with pytest.raises(ZeroDivisionError):
        fail(tmp_path / "s")
    assert files(tmp_path / "s") == before


@pytest.mark.parametrize("survivors", [0, 1, 2])
def test_a_kill_while_committing_leaves_the_old_or_the_new_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, survivors: int
) -> None:
    """A new store of two shards and an index: three renames, and the process dies at one of them."""
    fill(tmp_path / "s", 3)
    done = []

    def replace(source: Path, target: Path) -> None:
        if len(done) == survivors:
            raise KeyboardInterrupt
        done.append(Path(source).rename(target))

    monkeypatch.setattr("os.replace", replace)
    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path / "s", 2, shard_bytes=1)
    monkeypatch.undo()
    store = ClipStore.open(tmp_path / "s")
    assert [c.clean.clip_id for c in store] == ["clip-0", "clip-1", "clip-2"]
    fill(tmp_path / "s", 2, shard_bytes=1)  # and the next build cleans up
    assert files(tmp_path / "s") == files(fill(tmp_path / "fresh", 2, shard_bytes=1))


def test_two_writers_do_not_write_one_store(tmp_path: Path) -> None:
    with ClipStoreWriter(tmp_path / "s") as first:
        first.add(make_clip("a"))
        with pytest.raises(StoreError, match="another process is writing"):
            ClipStoreWriter(tmp_path / "s")
    assert ClipStore.open(tmp_path / "s").clip_ids == ("a",)
    fill(tmp_path / "s", 1)


def write_and_die(root: Path) -> None:
    with ClipStoreWriter(root, shard_bytes=1) as writer:
        writer.add(make_clip("new"))
        os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_writer_leaves_the_old_store_and_no_lock(tmp_path: Path) -> None:
    before = files(fill(tmp_path / "s", 1))
    process = get_context("spawn").Process(target=write_and_die, args=(tmp_path / "s",))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert len(list((tmp_path / "s").glob(".building-*"))) == 1  # it was at work
    assert ClipStore.open(tmp_path / "s").clip_ids == ("clip-0",)
    assert files(fill(tmp_path / "s", 1)) == before


def test_left_overs_of_a_killed_build_are_removed(tmp_path: Path) -> None:
    (tmp_path / "s" / ".building-dead").mkdir(parents=True)
    fill(tmp_path / "s", 1)
    assert not list((tmp_path / "s").glob(".building-*"))


def test_clips_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    with ClipStoreWriter(tmp_path / "s") as writer:
        writer.add(make_clip("a"))
        for name in ("a", "", "../a", "a.b", "x" * 81, "a\n"):
            with pytest.raises(StoreError, match="id of its own"):
                writer.add(make_clip(name))
        assert len(writer) == 1
    with pytest.raises(StoreError, match="parent exists"):
        ClipStoreWriter(tmp_path / "absent" / "s")


def test_parts_that_do_not_fit_are_refused() -> None:
    recipe = sample_recipe("zoom", 81, np.random.default_rng(0))
    with pytest.raises(GraphError):
        make_clip(num_frames=45, recipe=recipe)
    clip = make_clip()
    hw = (32, 32)
    tracks = cameras(hw)
    mirrored, moved = tracks.c2w.clone(), tracks.c2w.clone()
    mirrored[5, :3, 0] *= -1
    moved[:, 0, 3] += 1
    projective = tracks.c2w.clone()
    projective[5, 3, 0] = 1
    intrinsics = tracks.intrinsics_px
    for broken, line in [
        (Cameras(mirrored, intrinsics, hw, tracks.valid), "not rotations"),
        (Cameras(moved, intrinsics, hw, tracks.valid), "not anchored"),
        (Cameras(projective, intrinsics, hw, tracks.valid), "not rigid"),
        (Cameras(tracks.c2w, intrinsics * 0, hw, tracks.valid), "not in pixels"),
    ]:
        with pytest.raises(CameraError, match=line):
            make_clip(cameras=broken)
    nowhere = torch.zeros(81, dtype=torch.bool)
    unknown = make_clip(cameras=Cameras(moved * torch.nan, intrinsics, hw, nowhere))
    assert not unknown.facts.has_cameras  # what is not valid is not held to anything
    for parts, line in [
        ({"states": torch.zeros(80)}, "differ in length"),
        ({"pose_conf": torch.zeros(81)}, "no cameras"),
        ({"prompts": ("one",)}, "one prompt is needed for each chunk"),
        ({"clean": replace(clip.clean, depth=torch.ones(81, *hw))}, "depth needs its intrinsics"),
    ]:
        with pytest.raises(InputError, match=line):
            replace(clip, **parts)
    for bad in (-1.0, float("nan"), float("inf"), 70_000.0):
        with pytest.raises(CameraError, match="depth is out of range"):
            DepthMap(torch.full((81, 2, 2), bad), intrinsics.float())


def test_nobody_claims_to_have_looked_who_has_not() -> None:
    assert "no VLM looked" in Event().statement
    for claim in (
        {"judged_by": "vlm"},
        {"judged_by": "no_vlm", "annotation": {"event": "falls"}},
        {"safety_flags": ()},
        {"groups": ("weather",)},
    ):
        with pytest.raises(ValidationError):
            Event.model_validate(claim)


def test_a_full_disk_is_not_survived_by_half_a_clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even if the error of the one clip is swallowed, the store with its half shard never appears."""
    before = files(fill(tmp_path / "s", 1))

    def swallow() -> None:
        with ClipStoreWriter(tmp_path / "s") as writer:
            writer.add(make_clip("a"))
            with monkeypatch.context() as patch:
                patch.setattr(writer, "_write", full)
                with pytest.raises(StoreError, match="No space left"):
                    writer.add(make_clip("b"))
            with pytest.raises(StoreError, match="No space left"):
                writer.add(make_clip("c"))

    def full(_: bytes) -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="free some space"):
        swallow()
    assert files(tmp_path / "s") == before


# --- damaged and hostile stores ---


@cache
def one_clip() -> dict[str, bytes]:
    with tempfile.TemporaryDirectory() as folder:
        return files(fill(Path(folder) / "s", 1))


def one_clip_store(root: Path) -> Path:
    """A good store to be spoilt, without encoding it anew for every test."""
    for name, data in one_clip().items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(data)
    return root


def edit_index(root: Path, edit: Any) -> ClipStore:
    """Rewrite the index with a change to its first row, and open the store."""
    table = pq.read_table(root / "index.parquet")
    rows = table.to_pylist()
    edit(rows[0])
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), root / "index.parquet")
    return ClipStore.open(root)


def edit_member(root: Path, name: str, data: bytes) -> ClipStore:
    """Replace a file of the first clip, with a right checksum, by appending it to the shard."""
    (shard,) = (root / "shards").iterdir()
    offset = shard.stat().st_size
    with shard.open("ab") as file:
        file.write(data)

    def edit(row: dict[str, Any]) -> None:
        new = {"name": name, "offset": offset, "size": len(data), "crc32": zlib.crc32(data)}
        row["members"] = [m for m in row["members"] if m["name"] != name] + [new]

    return edit_index(root, edit)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "clips-00000-0123456789abcdef.tar/../x", "", "index.parquet"]
)
def test_no_path_from_the_index_leaves_the_store(tmp_path: Path, name: str) -> None:
    with pytest.raises(StoreError, match="outside of the store"):
        edit_index(one_clip_store(tmp_path / "s"), lambda row: row.update(shard=name))


def test_a_shard_that_links_elsewhere_is_not_followed(tmp_path: Path) -> None:
    (shard,) = (one_clip_store(tmp_path / "s") / "shards").iterdir()
    shard.rename(tmp_path / "elsewhere.tar")
    shard.symlink_to(tmp_path / "elsewhere.tar")
    with pytest.raises(StoreError, match="missing"):
        ClipStore.open(tmp_path / "s")[0]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("num_frames", 0),
        ("num_frames", 10**9),
        ("sha256", "0"),
        ("kinds", [None]),
        ("has_depth", None),
        ("height", -1),
        ("width", 10**6),
        ("fps", 0.0),
        ("fps", float("nan")),
        ("clip_id", "../x"),
        ("clip_id", "x\n"),
        ("clip_id", None),
        ("members", None),
    ],
)
def test_rows_that_no_writer_writes_are_refused(tmp_path: Path, field: str, value: object) -> None:
    with pytest.raises(StoreError, match="index is damaged"):
        edit_index(one_clip_store(tmp_path / "s"), lambda row: row.update({field: value}))


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"offset": 10**12}, "ends after its shard"),
        ({"size": 2**62}, "ends after its shard"),
        ({"offset": 0}, "checksum"),
        ({"offset": -1}, "damaged"),
        ({"size": -1}, "damaged"),
    ],
)
def test_offsets_are_bounded(tmp_path: Path, change: dict[str, int], line: str) -> None:
    with pytest.raises(StoreError, match=line):
        edit_index(one_clip_store(tmp_path / "s"), lambda row: row["members"][0].update(change))[0]


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    (shard,) = (one_clip_store(tmp_path / "s") / "shards").iterdir()
    data = bytearray(shard.read_bytes())
    data[2000] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match="another checksum"):
        ClipStore.open(tmp_path / "s")[0]


@pytest.mark.parametrize("name", ["graph.json", "event.json", "caption.json", "provenance.json"])
@pytest.mark.parametrize(
    "data", [b"", b"[]", b"{", b'{"extra": 1}', b'{"caption": 5}', b"[" * (1 << 21), b"\xff"]
)
def test_json_from_outside_is_not_trusted(tmp_path: Path, name: str, data: bytes) -> None:
    with pytest.raises(StoreError, match="clip clip-0 cannot be read"):
        edit_member(one_clip_store(tmp_path / "s"), name, data)[0]


def test_a_graph_with_impossible_times_is_refused(tmp_path: Path) -> None:
    recipe = sample_recipe("occluder", 81, np.random.default_rng(0))
    graph = json.loads(recipe.to_json())
    graph["interruption"]["start"] = 80
    data = json.dumps({"num_frames": 81, "recipe": graph, "prompts": [""] * 7}).encode()
    with pytest.raises(StoreError, match="must be ordered"):
        edit_member(one_clip_store(tmp_path / "s"), "graph.json", data)[0]


def test_pictures_must_be_as_the_index_says(tmp_path: Path) -> None:
    root = one_clip_store(tmp_path / "s")
    for data, line in [
        (b"no video", "not a video"),
        (encode_mp4(moving_square(80, (32, 32)), 16), "not 81 pictures"),
        (encode_mp4(moving_square(300, (32, 32)), 16), "not 81 pictures"),
        (encode_mp4(moving_square(81, (64, 64)), 16), "pictures of another size"),
    ]:
        with pytest.raises(StoreError, match=line):
            edit_member(root, "rgb.mp4", data)[0]


def test_arrays_hold_no_pickles_and_only_what_is_expected(tmp_path: Path) -> None:
    root = one_clip_store(tmp_path / "s")
    good = {
        "c2w": np.tile(np.eye(4), (81, 1, 1)),
        "intrinsics_px": np.ones((81, 4), np.float32),
        "hw": np.array([32, 32]),
        "pose_valid": np.ones(81, bool),
        "pose_conf": np.ones(81, np.float32),
        "scale_kind": np.array("metric", "U8"),
    }

    def npz(**changes: object) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **{k: v for k, v in {**good, **changes}.items() if v is not None})  # type: ignore[arg-type]
        return buffer.getvalue()

    assert edit_member(root, "cameras.npz", npz())[0].clean.cameras is not None
    for data in (
        npz(c2w=np.array([object()], dtype=object)),
        npz(c2w=np.zeros((10**6, 4, 4))),
        npz(c2w=np.full((81, 4, 4), np.nan)),
        npz(pose_valid=None),
        npz(hw=np.array([32.0, 32.0])),
        npz(hw=np.array([0, 32])),
        npz(pose_conf=np.full(81, np.nan, np.float32)),
        npz(scale_kind=np.array("miles", "U8")),
        npz(scale_kind=np.frombuffer(b"\xff" * 32, "U8")[0:1].reshape(())),
        npz(c2w=np.tile(np.diag([1.0, 1, -1, 1]), (81, 1, 1))),
        npz(c2w=np.tile(np.diag([2.0, 2, 2, 1]), (81, 1, 1))),
        npz(intrinsics_px=np.zeros((81, 4), np.float32)),
        b"PK\x03\x04 no archive",
        b"",
    ):
        with pytest.raises(StoreError, match="cannot be read"):
            edit_member(root, "cameras.npz", data)[0]


def test_what_is_no_store_says_so(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="remind data build"):
        ClipStore.open(tmp_path)
    (tmp_path / "index.parquet").write_bytes(b"PAR1 rubbish")
    with pytest.raises(StoreError, match="index is damaged"):
        ClipStore.open(tmp_path)
    pq.write_table(pa.table({"clip_id": ["a"]}), tmp_path / "index.parquet")
    with pytest.raises(StoreError, match="another format; got version none"):
        ClipStore.open(tmp_path)
    old = pa.table({"clip_id": ["a"]}).replace_schema_metadata({"remind.store": "1"})
    pq.write_table(old, tmp_path / "index.parquet")
    with pytest.raises(StoreError, match=r"got version 1; expected 2\. Fix: build it again .* --overwrite"):
        ClipStore.open(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    def drop(row: dict[str, Any]) -> None:
        row["members"] = [m for m in row["members"] if m["name"] != "graph.json"]

    with pytest.raises(StoreError, match=r"no graph\.json"):
        edit_index(one_clip_store(tmp_path / "s"), drop)[0]


def test_an_index_that_disagrees_with_its_clips_is_found(tmp_path: Path) -> None:
    root = one_clip_store(tmp_path / "s")
    with pytest.raises(StoreError, match="graph and the index disagree"):
        edit_index(root, lambda row: row.update(kinds=["zoom"]))[0]
    with pytest.raises(StoreError, match="index is damaged"):
        edit_index(root, lambda row: row.update(height=8192, width=8192))  # gigabytes of pixels
    edit_index(root, lambda row: row.update(height=32, width=32, kinds=["occluder"]))
    with pytest.raises(StoreError, match="the same file twice"):
        edit_index(root, lambda row: row["members"].append(row["members"][0]))[0]
    with pytest.raises(StoreError, match="index is damaged; got members"):
        edit_index(root, lambda row: row["members"][0].update(name="../x"))
    rows = pq.read_table(root / "index.parquet")
    no_text = pa.Array.from_buffers(pa.string(), 1, [None, pa.py_buffer(b"\0\0\0\0\1\0\0\0"), pa.py_buffer(b"\xff")])
    pq.write_table(rows.set_column(1, rows.schema.field(1), no_text), root / "index.parquet")
    with pytest.raises(StoreError, match="index is damaged"):
        ClipStore.open(root)
    pq.write_table(pa.concat_tables([rows, rows]), root / "index.parquet")
    with pytest.raises(StoreError, match="index"):
        ClipStore.open(root)


@pytest.mark.parametrize("name", ["depth.npz", "state.npz"])
def test_depth_and_state_are_not_trusted(tmp_path: Path, name: str) -> None:
    root = one_clip_store(tmp_path / "s")
    ones = np.ones((81, 4), np.float32)

    def npz(**arrays: np.ndarray) -> bytes:
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
        return buffer.getvalue()

    good = {"depth.npz": npz(depth=np.ones((81, 2, 3), np.float16), intrinsics_px=ones),
            "state.npz": npz(state=np.zeros(81))}  # fmt: skip
    edit_member(root, name, good[name])[0]
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<f2", "fortran_order": False, "shape": (81, 8000, 8000)})
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("depth.npy", header.getvalue() + bytes(10**7))
    for data in (
        b"",
        npz(depth=np.ones((80, 2, 3), np.float16), intrinsics_px=ones),
        npz(depth=np.ones((81, 0, 3), np.float16), intrinsics_px=ones),
        npz(depth=np.full((81, 2, 3), np.nan, np.float16), intrinsics_px=ones),
        npz(depth=np.ones((81, 2, 3), np.float16)),
        npz(state=np.full(81, np.inf)),
        npz(state=np.zeros(3)),
        bomb.getvalue(),
    ):
        with pytest.raises(StoreError, match="clip clip-0 cannot be read"):
            edit_member(root, name, data)[0]
