"""Memory clips on disk: uncompressed tar shards and a Parquet index of byte offsets.

    STORE/index.parquet                  one row per clip, with offset, size and CRC of each of its files
    STORE/shards/clips-00000-<hash>.tar  <clip_id>.rgb.mp4, .graph.json, .caption.json, .provenance.json, and
                                         .cameras.npz, .depth.npz where there is geometry

A clip is stored clean. `graph.json` holds the interruption recipe; the degraded clip, the schedule and the
frame graph are all derived from it on load and so cannot disagree. Shards are named by their content and the
index is replaced last: whoever opens a store after a kill finds the old one or the new one, whole.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remind.clip import Cameras, Clip
from remind.data.interrupt import InterruptionRecipe, apply_interruption
from remind.data.video_io import decode, encode_mp4
from remind.errors import RemindError, StoreError, VideoError
from remind.frame_graph import FrameGraph, Schedule

STORE_VERSION = "1"
_SHARD_NAME = re.compile(r"clips-\d{5}-[0-9a-f]{16}\.tar")
_CLIP_ID = re.compile(r"[A-Za-z0-9_-]{1,80}")
_WORK_PREFIX = ".building-"
_TAR_BLOCK = 512
_MAX_JSON_BYTES = 1 << 20
_MAX_FRAMES, _MAX_SIDE_PX = 100_000, 8192

_MEMBER = pa.struct(
    [("name", pa.string()), ("offset", pa.int64()), ("size", pa.int64()), ("crc32", pa.int64())]
)
_SCHEMA = pa.schema(
    [
        ("clip_id", pa.string()),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("num_frames", pa.int32()),
        ("height", pa.int32()),
        ("width", pa.int32()),
        ("fps", pa.float64()),
        ("shard", pa.string()),
        ("members", pa.list_(_MEMBER)),
    ],
    metadata={"remind.store": STORE_VERSION},
)

Text = Annotated[str, Field(max_length=10_000)]


class _FromOutside(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class Provenance(_FromOutside):
    """Where a clip comes from.

    Args:
        source: the file's name within its source folder.
        sha256: of the file, in hex.
        start_pts: of the first frame, in `time_base`.
        stop_pts: of the last frame.
        time_base: seconds per pts, as numerator and denominator.
        shot: number of the shot within the file, from 0.
        scores: every number by which the clip was kept.
        tool_versions: of what made it.
        url, author, licence, permission: where it was found, by whom, on what terms; empty if unknown.
    """

    source: Text
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    start_pts: int
    stop_pts: int
    time_base: tuple[int, int]
    shot: int = Field(0, ge=0)
    scores: dict[str, float] = {}
    tool_versions: dict[str, str] = {}
    url: Text = ""
    author: Text = ""
    licence: Text = ""
    permission: Text = ""


class _Caption(_FromOutside):
    caption: Text


class _Graph(_FromOutside):
    num_frames: int = Field(ge=1, le=_MAX_FRAMES)
    recipe: InterruptionRecipe


@dataclass(frozen=True)
class MemoryClip:
    """A clean clip, how it is interrupted, and where it comes from."""

    clean: Clip
    recipe: InterruptionRecipe
    provenance: Provenance

    @property
    def schedule(self) -> Schedule:
        return self.recipe.schedule(len(self.clean))

    @property
    def graph(self) -> FrameGraph:
        return FrameGraph(self.schedule)

    def degraded(self) -> Clip:
        return apply_interruption(self.clean, self.recipe)


class ClipStoreWriter:
    """Pack clips; the store appears, or replaces the one before, when the `with` block ends without an error.

    Args:
        root: folder of the store; made if missing. Its parent must exist.
        shard_bytes: a new shard begins once this is passed.
        crf: H.264 quality of the stored pictures, 0..51; 18 is visually transparent.

    Raises:
        StoreError: a folder that cannot be written, or a full disk.
    """

    def __init__(self, root: Path, *, shard_bytes: int = 512 * 2**20, crf: int = 18):
        self.root, self.shard_bytes, self.crf = root, shard_bytes, crf
        self._rows: list[dict[str, Any]] = []
        self._ids: set[str] = set()
        self._done: list[tuple[Path, str]] = []  # closed shards and the names they will get
        self._shard: io.BufferedWriter | None = None
        self._digest = hashlib.sha256()
        self._made_root = not root.exists()
        try:
            root.mkdir(exist_ok=True)
            for left_over in root.glob(f"{_WORK_PREFIX}*"):  # of a build that was killed
                shutil.rmtree(left_over, ignore_errors=True)
            self._work = Path(tempfile.mkdtemp(dir=root, prefix=_WORK_PREFIX))
        except OSError as error:
            raise StoreError(
                "cannot write the store",
                got=f"{root}: {error.strerror}",
                expected="a writable folder whose parent exists",
                fix="create it or choose another",
            ) from None

    def __len__(self) -> int:
        return len(self._rows)

    def __enter__(self) -> ClipStoreWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                self._commit()
        except OSError as failure:
            raise StoreError(
                "cannot write the store", got=failure, fix="free some space and run again"
            ) from None
        finally:
            if self._shard is not None:
                self._shard.close()
            shutil.rmtree(self._work, ignore_errors=True)
            if kind is not None and self._made_root and not any(self.root.iterdir()):
                self.root.rmdir()

    def add(self, clip: Clip, recipe: InterruptionRecipe, provenance: Provenance) -> None:
        """Append one clean clip; it must have a `clip_id` of its own.

        Raises:
            StoreError: an id that is empty, odd or taken, or a disk that is full.
            GraphError: a recipe from which no frame graph follows for this clip.
        """
        if not _CLIP_ID.fullmatch(clip.clip_id) or clip.clip_id in self._ids:
            raise StoreError("a clip needs an id of its own", got=repr(clip.clip_id),
                             expected="1 to 80 letters, digits, - or _, not used before")  # fmt: skip
        FrameGraph(recipe.schedule(len(clip)))
        try:
            members = [
                self._append(f"{clip.clip_id}.{name}", data)
                for name, data in self._files(clip, recipe, provenance)
            ]
        except OSError as error:
            raise StoreError("cannot write the store", got=error.strerror, fix="free some space") from None
        self._ids.add(clip.clip_id)
        self._rows.append(
            {
                "clip_id": clip.clip_id,
                "source": provenance.source,
                "kind": recipe.kind,
                "num_frames": len(clip),
                "height": clip.hw[0],
                "width": clip.hw[1],
                "fps": float(clip.fps),
                "shard": len(self._done),  # a number until the shard has its name
                "members": members,
            }
        )
        if self._shard is not None and self._shard.tell() >= self.shard_bytes:
            self._close_shard()

    def _files(
        self, clip: Clip, recipe: InterruptionRecipe, provenance: Provenance
    ) -> Iterator[tuple[str, bytes]]:
        yield "rgb.mp4", encode_mp4(clip.rgb, Fraction(clip.fps).limit_denominator(1001), crf=self.crf)
        yield "graph.json", _Graph(num_frames=len(clip), recipe=recipe).model_dump_json().encode()
        yield "caption.json", _Caption(caption=clip.caption).model_dump_json().encode()
        yield "provenance.json", provenance.model_dump_json().encode()
        if clip.cameras is not None:
            cameras = clip.cameras
            yield (
                "cameras.npz",
                _npz(
                    c2w=cameras.c2w.double().numpy(),
                    intrinsics_px=cameras.intrinsics_px.float().numpy(),
                    hw=np.array(cameras.hw, dtype=np.int64),
                    pose_valid=cameras.valid.numpy(),
                ),
            )
        if clip.depth is not None:
            yield "depth.npz", _npz(depth=clip.depth.half().numpy())

    def _append(self, name: str, data: bytes) -> dict[str, Any]:
        if self._shard is None:
            self._shard = (self._work / f"{len(self._done):05d}.tar").open("wb")
            self._digest = hashlib.sha256()
        info = tarfile.TarInfo(name)  # no time, no owner: the same clips give the same bytes
        info.size = len(data)
        header = info.tobuf(tarfile.USTAR_FORMAT)
        offset = self._shard.tell() + len(header)
        self._write(header + data + bytes(-len(data) % _TAR_BLOCK))
        return {"name": name.split(".", 1)[1], "offset": offset, "size": len(data), "crc32": zlib.crc32(data)}

    def _write(self, data: bytes) -> None:
        assert self._shard is not None
        self._shard.write(data)
        self._digest.update(data)

    def _close_shard(self) -> None:
        assert self._shard is not None
        self._write(bytes(2 * _TAR_BLOCK))
        self._shard.flush()
        os.fsync(self._shard.fileno())
        self._shard.close()
        name = f"clips-{len(self._done):05d}-{self._digest.hexdigest()[:16]}.tar"
        self._done.append((Path(self._shard.name), name))
        self._shard = None

    def _commit(self) -> None:
        if self._shard is not None:
            self._close_shard()
        rows = [{**row, "shard": self._done[row["shard"]][1]} for row in self._rows]
        index = self._work / "index.parquet"
        pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), index)
        shards = self.root / "shards"
        shards.mkdir(exist_ok=True)
        for path, name in self._done:
            os.replace(path, shards / name)
        os.replace(index, self.root / "index.parquet")  # from here on, the store is the new one
        kept = {name for _, name in self._done}
        for old in shards.iterdir():
            if _SHARD_NAME.fullmatch(old.name) and old.name not in kept:
                old.unlink(missing_ok=True)


class ClipStore:
    """Read clips by number. Safe against a hostile store, and to share between processes: no file stays open.

    Build one with `ClipStore.open`.
    """

    def __init__(self, root: Path, rows: list[dict[str, Any]]):
        self.root, self._rows = root, rows

    @classmethod
    def open(cls, root: Path) -> ClipStore:
        """Read and check the index.

        Raises:
            StoreError: no store, another version, a damaged index, or a path that leaves the store's folder.
        """
        path = root / "index.parquet"
        if not path.is_file():
            raise StoreError("not a clip store", got=root, expected="a folder with index.parquet",
                             fix="make one with `remind data build`")  # fmt: skip
        try:
            table = pq.read_table(path)
        except (pa.ArrowException, OSError) as error:
            raise StoreError("the store's index is damaged", got=f"{path}: {str(error)[:120]}",
                             fix="build the store again") from None  # fmt: skip
        version = (table.schema.metadata or {}).get(b"remind.store", b"none").decode(errors="replace")
        if version != STORE_VERSION or not table.schema.equals(_SCHEMA):
            raise StoreError("the store has another format", got=f"version {version}", expected=STORE_VERSION,
                             fix="build the store again")  # fmt: skip
        rows = table.to_pylist()
        for row in rows:
            _check_row(row)
        return cls(root, rows)

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def clip_ids(self) -> tuple[str, ...]:
        return tuple(row["clip_id"] for row in self._rows)

    def __iter__(self) -> Iterator[MemoryClip]:
        return (self[i] for i in range(len(self)))

    def __getitem__(self, index: int) -> MemoryClip:
        """Read one clip.

        Raises:
            IndexError: no such clip.
            StoreError: a damaged or hostile file.
        """
        row = self._rows[index]
        members = {m["name"]: self._read(row, m) for m in row["members"]}
        missing = {"rgb.mp4", "graph.json", "caption.json", "provenance.json"} - members.keys()
        if missing:
            raise _damaged(row, f"no {', '.join(sorted(missing))}")
        graph = _parse(_Graph, row, members["graph.json"])
        if graph.num_frames != row["num_frames"] or graph.recipe.kind != row["kind"]:
            raise _damaged(row, "its graph and the index disagree")
        t, h, w = row["num_frames"], row["height"], row["width"]
        cameras = depth = None
        if "cameras.npz" in members:
            cameras = _cameras(row, members["cameras.npz"])
        if "depth.npz" in members:
            (values,) = _read_npz(row, members["depth.npz"], {"depth": (np.float16, (t, h, w))})
            depth = torch.from_numpy(values.astype(np.float32))
        clip = Clip(
            rgb=_frames(row, members["rgb.mp4"]),
            fps=row["fps"],
            cameras=cameras,
            depth=depth,
            caption=_parse(_Caption, row, members["caption.json"]).caption,
            clip_id=row["clip_id"],
        )
        return MemoryClip(clip, graph.recipe, _parse(Provenance, row, members["provenance.json"]))

    def _read(self, row: dict[str, Any], member: dict[str, Any]) -> bytes:
        path = self.root / "shards" / row["shard"]
        offset, size = member["offset"], member["size"]
        try:
            if path.is_symlink() or not path.is_file():
                raise _damaged(row, f"its shard {row['shard']} is missing")
            if offset + size > path.stat().st_size:
                raise _damaged(row, f"{member['name']} ends after its shard")
            with path.open("rb") as file:
                file.seek(offset)
                data = file.read(size)
        except OSError as error:
            raise _damaged(row, f"{row['shard']}: {error.strerror}") from None
        if zlib.crc32(data) != member["crc32"]:
            raise _damaged(row, f"{member['name']} has another checksum")
        return data


def _damaged(row: dict[str, Any], got: str) -> StoreError:
    return StoreError(f"clip {row['clip_id']} cannot be read", got=got, fix="build the store again")


def _check_row(row: dict[str, Any]) -> None:
    """Refuse what a writer never writes: above all, names that lead out of the store."""
    good = (
        all(row[name] is not None for name in _SCHEMA.names)
        and _CLIP_ID.fullmatch(row["clip_id"])
        and 0 < row["num_frames"] <= _MAX_FRAMES
        and 0 < row["height"] <= _MAX_SIDE_PX
        and 0 < row["width"] <= _MAX_SIDE_PX
        and 0 < row["fps"] < 1000
        and all(
            m is not None and None not in m.values() and m["offset"] >= 0 and m["size"] >= 0
            for m in row["members"]
        )
    )
    if not good:
        raise StoreError("the store's index is damaged", got=str(row)[:160], fix="build the store again")
    if not _SHARD_NAME.fullmatch(row["shard"]):
        raise StoreError("the store's index names a file outside of the store", got=repr(row["shard"])[:120],
                         expected="clips-<number>-<hash>.tar", fix="do not use this store")  # fmt: skip


Model = TypeVar("Model", bound=BaseModel)


def _parse(model: type[Model], row: dict[str, Any], data: bytes) -> Model:
    if len(data) > _MAX_JSON_BYTES:
        raise _damaged(row, f"{len(data)} bytes of JSON")
    try:
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise _damaged(row, f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except RemindError as error:
        raise _damaged(row, str(error)) from None


def _frames(row: dict[str, Any], data: bytes) -> torch.Tensor:
    t, h, w = row["num_frames"], row["height"], row["width"]
    try:
        # One more than promised is enough to notice; even sizes are an H.264 need, see `encode_mp4`.
        images = []
        for picture in islice(decode(data), t + 1):
            if picture.display_hw() != (h + h % 2, w + w % 2):
                raise _damaged(row, f"pictures of {picture.display_hw()}, not {(h, w)}")
            images.append(picture.rgb()[:h, :w])
    except VideoError as error:
        raise _damaged(row, str(error)) from None
    if len(images) != t:
        raise _damaged(row, f"not {t} pictures")
    return torch.from_numpy(np.stack(images))


def _cameras(row: dict[str, Any], data: bytes) -> Cameras:
    t = row["num_frames"]
    c2w, intrinsics_px, hw, valid = _read_npz(
        row,
        data,
        {
            "c2w": (np.float64, (t, 4, 4)),
            "intrinsics_px": (np.float32, (t, 4)),
            "hw": (np.int64, (2,)),
            "pose_valid": (np.bool_, (t,)),
        },
    )
    try:
        return Cameras(
            torch.from_numpy(c2w),
            torch.from_numpy(intrinsics_px).double(),
            (int(hw[0]), int(hw[1])),
            torch.from_numpy(valid),
        )
    except RemindError as error:
        raise _damaged(row, str(error)) from None


def _npz(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]  # the stub takes a name for a flag
    return buffer.getvalue()


def _read_npz(
    row: dict[str, Any], data: bytes, expected: dict[str, tuple[type, tuple[int, ...]]]
) -> list[np.ndarray]:
    """The arrays of an npz, each checked for type and shape before anything is allocated; no pickles."""
    arrays: list[np.ndarray] = []
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for name, (dtype, shape) in expected.items():
                with archive.open(f"{name}.npy") as file:
                    np.lib.format.read_magic(file)
                    got_shape, fortran, got_dtype = np.lib.format.read_array_header_1_0(file)
                    if got_shape != shape or fortran or got_dtype != np.dtype(dtype):
                        raise _damaged(row, f"{name} is {got_dtype}{got_shape}, not {np.dtype(dtype)}{shape}")
                    count = int(np.prod(shape))
                    raw = file.read(count * np.dtype(dtype).itemsize)
                    arrays.append(np.frombuffer(raw, dtype, count).reshape(shape).copy())
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, NotImplementedError, zlib.error) as error:
        raise _damaged(row, f"arrays: {str(error)[:120]}") from None
    return arrays
