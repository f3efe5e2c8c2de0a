"""The files around a manifest: paths that stay inside, hashes that are compared, cameras beside the video."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path
from typing import Protocol, runtime_checkable

from remind.camera_io import load_cameras_npz, write_cameras_npz
from remind.clip import Cameras
from remind.errors import InputError
from remind.generate.inputs import file_sha256
from remind.whole_file import whole_file


@runtime_checkable
class NamedFile(Protocol):
    """A file as a manifest names it: where, relative to the manifest's folder, and the SHA-256 of its bytes."""

    @property
    def path(self) -> str: ...
    @property
    def sha256(self) -> str: ...


def resolve_inside(folder: Path, name: str, *, allow: Iterable[Path] = ()) -> Path:
    """The path that `name` means in `folder`, links followed; it need not exist.

    Raises:
        InputError: a path that ends outside of `folder` and of all folders in `allow`, or that no file can have.
    """
    try:
        roots = [root.resolve() for root in (folder, *allow)]
        path = (roots[0] / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # loops of links, names too long, null bytes
        raise InputError("not a path", got=f"{name[:200]!r}: {error}", expected=f"a path inside {folder}") from None
    if not any(path.is_relative_to(root) for root in roots):
        raise InputError("a path leads out of its folder", got=repr(name[:200]),
                         expected=" or ".join(f"a path inside {root}" for root in roots),
                         fix="move the file there, or allow the folder that it is in")  # fmt: skip
    return path


def relative_to(folder: Path, path: Path) -> str:
    """How a manifest in `folder` names a file, wherever it lies; links are followed, as a reader will."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def kept_input(folder: Path, path: Path, digest: str) -> str:
    """The name by which a manifest in `folder` names an input: a file elsewhere is copied to FOLDER/inputs first, once
    for all videos there, so that a video, its manifest and what it was made from can be moved and checked together.

    Args:
        digest: SHA-256 of the file.

    Raises:
        InputError: a place that cannot be written.
    """
    inside = path.resolve()
    if inside.is_relative_to(folder.resolve()):
        return relative_to(folder, path)
    kept = folder / "inputs" / f"{digest[:16]}-{path.name}"
    if not kept.is_file():
        try:
            kept.parent.mkdir(exist_ok=True)
            with whole_file(kept) as partial:
                shutil.copyfile(path, partial)
        except OSError as error:
            raise InputError("the input cannot be kept beside the video", got=f"{kept}: {error.strerror}",
                             fix="free some space, or leave it where it is: --no-keep-inputs") from None  # fmt: skip
    return relative_to(folder, kept)


def checked_file(manifest: Path, item: NamedFile, *, allow: Iterable[Path] = ()) -> Path:
    """Where a file that the manifest names is, once it is found to be the same.

    Args:
        manifest: the manifest's own path.

    Raises:
        InputError: outside of its folder, missing, or other bytes than then.
    """
    path = resolve_inside(manifest.parent, item.path, allow=allow)
    if not path.is_file():
        raise InputError(f"{manifest.name}: a file that it names is missing", got=path,
                         fix="put it back, or move the manifest beside it")  # fmt: skip
    now = file_sha256(path)
    if now != item.sha256:
        raise InputError(f"{manifest.name}: {item.path} has changed since", got=f"sha256 {now[:12]}...",
                         expected=f"sha256 {item.sha256[:12]}...", fix="restore the file")  # fmt: skip
    return path


def write_cameras(out: Path, cameras: Cameras) -> tuple[str, str]:
    """Write the cameras of a video beside it, as OUT.cameras.npz; returns its name and SHA-256.

    Raises:
        CameraError: a place that cannot be written.
    """
    path = out.with_name(f"{out.name}.cameras.npz")
    write_cameras_npz(path, cameras, exact=True)
    return path.name, file_sha256(path)


def read_cameras(manifest: Path, item: NamedFile, *, allow: Iterable[Path] = ()) -> Cameras:
    """The cameras that a manifest names, as `write_cameras` wrote them.

    Raises:
        InputError: as `checked_file`.
        CameraError: no cameras in it.
    """
    return load_cameras_npz(checked_file(manifest, item, allow=allow))


def canonical_sha256(value: object) -> str:
    """Of a JSON value, in hex, whatever the order of its keys."""
    return sha256(json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()).hexdigest()


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """A file's bytes. Raises InputError: missing, unreadable, or more than `max_bytes`."""
    try:
        if not path.is_file():
            raise InputError("no such file", got=path, expected="a file that `remind generate` wrote",
                             fix="check the path")  # fmt: skip
        with path.open("rb") as file:
            data = file.read(max_bytes + 1)
    except (OSError, ValueError) as error:
        raise InputError("the file cannot be read", got=f"{path}: {getattr(error, 'strerror', None) or error}",
                         fix="check the path and its permissions") from None  # fmt: skip
    if len(data) > max_bytes:
        raise InputError(f"{path.name}: the file is too large", got=f"more than {max_bytes} bytes",
                         expected=f"at most {max_bytes}")  # fmt: skip
    return data


def write_bytes(path: Path, data: bytes) -> None:
    """A file that appears whole or not at all. Raises InputError: a place that cannot be written."""
    try:
        with whole_file(path) as partial:
            partial.write_bytes(data)
    except OSError as error:
        raise InputError("the file cannot be written", got=f"{path}: {error.strerror}",
                         fix="free some space, or choose another --out") from None  # fmt: skip
