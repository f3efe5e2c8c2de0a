"""The store gives back what was put in, appears whole or not at all, and trusts nothing that it reads."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
import zlib
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from remind.clip import Cameras, Clip
from remind.data.clip_store import ClipStore, ClipStoreWriter, Provenance
from remind.data.interrupt import sample_recipe
from remind.data.video_io import encode_mp4
from remind.errors import GraphError, StoreError
from remind.geometry import intrinsics_from_fov, rigid, rotation_yaw
from tests.data.make_video import moving_square


def provenance(source: str = "a.mp4") -> Provenance:
    return Provenance(
        source=source, sha256="0" * 64, start_pts=0, stop_pts=80, time_base=(1, 16), scores={"m": 0.5}
    )


def make_clip(name: str = "clip-0", *, hw: tuple[int, int] = (32, 32), geometry: bool = False) -> Clip:
    cameras = depth = None
    if geometry:
        c2w = rigid(rotation_yaw(torch.linspace(0, 20, 81)), torch.randn(81, 3, dtype=torch.float64))
        cameras = Cameras(c2w, intrinsics_from_fov(60.0, hw, 81), hw, torch.arange(81) % 7 > 0)
        depth = torch.rand(81, *hw) * 5
    return Clip(moving_square(81, hw), 16.0, cameras, depth, caption="a square moves", clip_id=name)


def fill(root: Path, count: int = 3, **options: Any) -> Path:
    with ClipStoreWriter(root, **options) as writer:
        for i in range(count):
            recipe = sample_recipe("occluder", 81, np.random.default_rng(i))
            writer.add(make_clip(f"clip-{i}"), recipe, provenance(f"{i}.mp4"))
    return root


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


@pytest.mark.parametrize("hw", [(32, 32), (33, 47)])
def test_what_goes_in_comes_out(tmp_path: Path, hw: tuple[int, int]) -> None:
    clip = make_clip(hw=hw, geometry=True)
    recipe = sample_recipe("light_toggle", 81, np.random.default_rng(3))
    with ClipStoreWriter(tmp_path / "store") as writer:
        writer.add(clip, recipe, provenance())
    store = ClipStore.open(tmp_path / "store")
    assert store.clip_ids == ("clip-0",)
    (got,) = list(store)
    assert (got.recipe, got.provenance) == (recipe, provenance())
    assert (got.clean.caption, got.clean.fps, got.clean.clip_id) == ("a square moves", 16.0, "clip-0")
    assert got.clean.rgb.shape == clip.rgb.shape
    assert (got.clean.rgb.float() - clip.rgb.float()).abs().mean() < 3
    assert got.clean.cameras is not None
    assert clip.cameras is not None
    assert torch.equal(got.clean.cameras.c2w, clip.cameras.c2w)
    torch.testing.assert_close(got.clean.cameras.intrinsics_px, clip.cameras.intrinsics_px, atol=1e-4, rtol=0)
    assert torch.equal(got.clean.cameras.valid, clip.cameras.valid)
    assert got.clean.cameras.hw == hw
    torch.testing.assert_close(got.clean.depth, clip.depth, atol=0, rtol=1e-3)
    assert got.graph.schedule == got.schedule == recipe.schedule(81)
    hidden = slice(recipe.interruption.hidden_start, recipe.interruption.hidden_stop)
    assert (got.degraded().rgb[hidden] == 0).all()


def test_clips_are_spread_over_shards_and_read_at_random(tmp_path: Path) -> None:
    store = ClipStore.open(fill(tmp_path / "s", 5, shard_bytes=10_000))
    assert len(list((tmp_path / "s" / "shards").iterdir())) > 1
    assert [store[i].clean.clip_id for i in (4, 0, -2)] == ["clip-4", "clip-0", "clip-3"]
    assert store[2].provenance.source == "2.mp4"
    with pytest.raises(IndexError):
        store[5]


def test_shards_are_plain_tar_files(tmp_path: Path) -> None:
    (shard,) = (fill(tmp_path / "s", 2) / "shards").iterdir()
    with tarfile.open(shard) as archive:
        names = archive.getnames()
        graph = json.load(archive.extractfile("clip-1.graph.json"))  # type: ignore[arg-type]
    assert names == [
        f"clip-{i}.{kind}"
        for i in (0, 1)
        for kind in ("rgb.mp4", "graph.json", "caption.json", "provenance.json")
    ]
    assert graph["recipe"]["interruption"]["kind"] == "occluder"


def test_the_same_clips_give_the_same_bytes(tmp_path: Path) -> None:
    assert files(fill(tmp_path / "a")) == files(fill(tmp_path / "b"))


def test_an_empty_store_is_a_store(tmp_path: Path) -> None:
    assert len(ClipStore.open(fill(tmp_path / "s", 0))) == 0


def fail(root: Path) -> None:
    with ClipStoreWriter(root, shard_bytes=1) as writer:
        writer.add(make_clip("new"), sample_recipe("zoom", 81, np.random.default_rng(0)), provenance())
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


def test_left_overs_of_a_killed_build_are_removed(tmp_path: Path) -> None:
    (tmp_path / "s" / ".building-dead").mkdir(parents=True)
    fill(tmp_path / "s", 1)
    assert not list((tmp_path / "s").glob(".building-*"))


def test_clips_that_cannot_be_stored_are_refused(tmp_path: Path) -> None:
    recipe = sample_recipe("zoom", 81, np.random.default_rng(0))
    with ClipStoreWriter(tmp_path / "s") as writer:
        writer.add(make_clip("a"), recipe, provenance())
        for name in ("a", "", "../a", "a.b", "x" * 81):
            with pytest.raises(StoreError, match="id of its own"):
                writer.add(make_clip(name), recipe, provenance())
        with pytest.raises(GraphError):
            writer.add(Clip(moving_square(45), 16.0, clip_id="short"), recipe, provenance())
        assert len(writer) == 1
    with pytest.raises(StoreError, match="parent exists"):
        ClipStoreWriter(tmp_path / "absent" / "s")


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
        ("height", -1),
        ("width", 10**6),
        ("fps", 0.0),
        ("fps", float("nan")),
        ("clip_id", "../x"),
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


@pytest.mark.parametrize("name", ["graph.json", "caption.json", "provenance.json"])
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
    data = json.dumps({"num_frames": 81, "recipe": graph}).encode()
    with pytest.raises(StoreError, match="must be ordered"):
        edit_member(one_clip_store(tmp_path / "s"), "graph.json", data)[0]


def test_pictures_must_be_as_the_index_says(tmp_path: Path) -> None:
    root = one_clip_store(tmp_path / "s")
    for data, line in [
        (b"no video", "not a video"),
        (encode_mp4(moving_square(80, (32, 32)), 16), "not 81 pictures"),
        (encode_mp4(moving_square(300, (32, 32)), 16), "not 81 pictures"),
        (encode_mp4(moving_square(81, (64, 64)), 16), "pictures of"),
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
    with pytest.raises(StoreError, match="another format"):
        ClipStore.open(tmp_path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    def drop(row: dict[str, Any]) -> None:
        row["members"] = [m for m in row["members"] if m["name"] != "graph.json"]

    with pytest.raises(StoreError, match=r"no graph\.json"):
        edit_index(one_clip_store(tmp_path / "s"), drop)[0]
