"""Videos on this machine: one file, all files of a folder, or those that a glob names.

Beside a video `a.mp4`, `a.mp4.json` may say what is known of it (see `Sidecar`), and `a.mp4.cameras.npz` may hold its
cameras in the form of the clip store.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remind.curation.disk import disk_errors
from remind.curation.item import CameraRef, FileMedia, SourceItem
from remind.curation.refused import refuse
from remind.errors import InputError, SourceError

_MAX_SIDECAR_BYTES = 1 << 20
_JSON, _CAMERAS = ".json", ".cameras.npz"

Line = Annotated[str, Field(max_length=10_000)]


class Sidecar(BaseModel):
    """What `<video>.json` may say; every field may be left out.

    Args:
        caption: of the content.
        url, author, licence, permission: where it was found, by whom, on what terms.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    caption: Line = ""
    url: Line = ""
    author: Line = ""
    licence: Line = ""
    permission: Line = ""


class LocalSource:
    """Files in order of their names; every file that is not hidden and no sidecar, whatever its suffix says.

    A dangling link or a folder that may not be entered is listed and fails when it is fetched. Links to folders are
    followed, each real folder once; in a glob, `**` follows none.

    Args:
        root_or_glob: a file, a folder (searched through) or a glob, where `**` stands for any folders. What exists
            under exactly this name is no glob.
        exclude: folders to leave out, such as that of the output.

    Raises:
        InputError: nothing under this name.
    """

    name = "local"

    def __init__(self, root_or_glob: str | Path, *, exclude: Sequence[Path] = ()):
        self._pattern = str(root_or_glob)
        self._exclude = frozenset(os.path.realpath(path) for path in exclude)
        if not os.path.lexists(self._pattern) and not (glob.has_magic(self._pattern) and next(self._found(), None)):
            raise InputError(
                "no such file or folder",
                got=self._pattern,
                expected="videos: a file, a folder or a glob",
                fix="check it",
            )

    def items(self) -> Iterator[SourceItem]:
        """All videos, as they are on the disk now."""
        for item_id, path in self._found():
            yield _item(item_id, path)

    def _found(self) -> Iterator[tuple[str, Path]]:
        """Relative posix path and path of each file that is no sidecar of another one."""
        root = Path(self._pattern)
        if not os.path.lexists(root):
            base, pattern = _split_glob(self._pattern)
            for path in sorted(base.glob(pattern)):
                inside = path.relative_to(base)
                hidden = any(part.startswith(".") for part in inside.parts)
                if not (hidden or path.is_dir() or self._excluded(path) or _is_sidecar(path)):
                    yield inside.as_posix(), path
        elif root.is_dir():
            yield from self._walk(root, "", set())
        else:
            yield root.name, root

    def _walk(self, folder: Path, prefix: str, seen: set[str]) -> Iterator[tuple[str, Path]]:
        real = os.path.realpath(folder)
        if real in seen or real in self._exclude:
            return
        seen.add(real)
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            yield prefix.rstrip("/") or ".", folder
            return
        for name in names:
            path = folder / name
            if name.startswith("."):
                continue
            if path.is_dir():
                yield from self._walk(path, f"{prefix}{name}/", seen)
            elif not _is_sidecar(path):
                yield prefix + name, path

    def _excluded(self, path: Path) -> bool:
        return any(os.path.realpath(parent) in self._exclude for parent in path.parents)


def _item(item_id: str, path: Path) -> SourceItem:
    cameras = path.with_name(path.name + _CAMERAS)
    try:
        known = _read_sidecar(path.with_name(path.name + _JSON))
    except SourceError as error:
        return refuse(item_id, LocalSource.name, str(error))
    return SourceItem(
        item_id,
        LocalSource.name,
        FileMedia(str(path)),
        caption=known.caption,
        cameras=CameraRef("store_npz", str(cameras)) if os.path.lexists(cameras) else None,
        url=known.url,
        author=known.author,
        licence=known.licence,
        permission=known.permission,
    )


def _read_sidecar(path: Path) -> Sidecar:
    if not os.path.lexists(path):
        return Sidecar()
    with disk_errors("cannot read the sidecar", path):
        if not path.is_file() or path.stat().st_size > _MAX_SIDECAR_BYTES:
            raise SourceError("not a sidecar", got=path.name, expected=f"a file of at most {_MAX_SIDECAR_BYTES} bytes")
        text = path.read_bytes()
    try:
        return Sidecar.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        raise SourceError(f"{path.name}: not a sidecar: {where}", got=first["msg"]) from None


def _is_sidecar(path: Path) -> bool:
    """Whether it is named after another file beside it; without that one it is listed as any file."""
    for suffix in (_CAMERAS, _JSON):
        if path.name.endswith(suffix) and os.path.lexists(path.with_name(path.name.removesuffix(suffix))):
            return True
    return False


def _split_glob(pattern: str) -> tuple[Path, str]:
    """The folders before the first magic part, and the rest."""
    parts = Path(pattern).parts
    first = next(i for i, part in enumerate(parts) if glob.has_magic(part))
    rest = parts[first:] if parts[-1] != "**" else (*parts[first:], "*")  # a bare ** gives only folders before 3.13
    return Path(*parts[:first]), "/".join(rest)
