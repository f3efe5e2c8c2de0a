"""From what a source says to a file on this machine, whoever the source is: bounded, atomic, safe to repeat."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from remind.curation.archives import member_blocks, pieces_of
from remind.curation.disk import disk_errors
from remind.curation.download import download
from remind.curation.item import FileMedia, ImagesMedia, Media, UrlMedia, WorldMedia, ZipMedia
from remind.curation.picture_sequence import write_picture_sequence
from remind.curation.refused import RefusedMedia
from remind.curation.web import WebRules
from remind.errors import InputError, SourceError


@dataclass(frozen=True)
class FetchLimits:
    """Bounds on what one item may cost.

    Args:
        max_bytes: of the file; the default is that of `video_io.VideoLimits`.
        max_pictures: of a picture sequence.
        max_pixels: of one picture; the default holds 8192 x 4320.
        web: how long a download may take and where it may lead.
    """

    max_bytes: int = 16 * 2**30
    max_pictures: int = 20_000
    max_pixels: int = 8192 * 4320
    web: WebRules = field(default_factory=WebRules)


DEFAULT_FETCH_LIMITS = FetchLimits()


def fetch(media: Media, scratch: Path, limits: FetchLimits = DEFAULT_FETCH_LIMITS) -> Path:
    """The media as a video file: itself if it is one, otherwise a file in `scratch`.

    Repeating is free: names in `scratch` are keys of what they hold, so a file that is there is taken as it is. A web
    address is its own key: empty the folder to ask again.

    Args:
        scratch: made if missing; may be shared by processes, may be deleted when nobody reads from it.

    Raises:
        SourceError: media that is missing, damaged, hostile, refused by its source or beyond the limits; a full disk.
        InputError: a scene of the embedded world, which its own source renders.
    """
    if isinstance(media, RefusedMedia):
        raise SourceError(media.reason)
    if isinstance(media, FileMedia):
        return _checked_file(Path(media.path), limits)
    if isinstance(media, WorldMedia):
        raise InputError(
            "a scene of the embedded world is not fetched", got=f"seed {media.seed}", fix="render it with its source"
        )
    with disk_errors("cannot make the scratch folder", scratch):
        scratch.mkdir(parents=True, exist_ok=True)
    if isinstance(media, ZipMedia):
        return _fetch_member(media, scratch, limits)
    if isinstance(media, UrlMedia):
        target = scratch / (_key("url", media.url) + _suffix(urlsplit(media.url).path))
        if not target.exists():
            download(media.url, target, max_bytes=limits.max_bytes, rules=limits.web)
        return target
    return _fetch_pictures(media, scratch, limits)


def content_sha256(path: Path) -> str:
    """Of a file's bytes, in hex.

    Raises:
        SourceError: a file that cannot be read.
    """
    with disk_errors("cannot read the file", path), path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checked_file(path: Path, limits: FetchLimits) -> Path:
    if "\0" in str(path):
        raise SourceError("not a path", got=repr(str(path)[:200]))
    with disk_errors("cannot read the file", path):
        size = path.stat().st_size
        if not path.is_file():  # a pipe would block its reader for ever
            raise SourceError("not a file", got=path, expected="a video file", fix="leave it out")
        path.open("rb").close()
    if size > limits.max_bytes:
        raise SourceError(
            f"{path.name}: the file is too large",
            got=f"{size} bytes",
            expected=f"at most {limits.max_bytes}",
            fix="cut it or raise the limit",
        )
    return path


def _fetch_member(media: ZipMedia, scratch: Path, limits: FetchLimits) -> Path:
    archive = Path(media.archive)
    target = scratch / (_key("zip", media.member, *map(_state, pieces_of(archive))) + _suffix(media.member))

    def unpack(temporary: Path) -> None:
        with disk_errors("cannot write the video", temporary), temporary.open("wb") as file:
            for block in member_blocks(archive, media.member, max_bytes=limits.max_bytes):
                file.write(block)

    return _appear(target, unpack)


def _fetch_pictures(media: ImagesMedia, scratch: Path, limits: FetchLimits) -> Path:
    folder = Path(media.folder)
    states = [_state(folder / name) for name in media.names[: limits.max_pictures]]
    target = scratch / (_key("images", str(media.fps), *states) + ".avi")

    def encode(temporary: Path) -> None:
        write_picture_sequence(
            folder,
            media.names,
            media.fps,
            temporary,
            max_pictures=limits.max_pictures,
            max_pixels=limits.max_pixels,
            max_bytes=limits.max_bytes,
        )

    return _appear(target, encode)


def _appear(target: Path, write: Callable[[Path], None]) -> Path:
    """Let `write` fill a temporary file and give it its name when it is whole."""
    if target.exists():
        return target
    with disk_errors("cannot write", target):
        handle, name = tempfile.mkstemp(dir=target.parent, prefix=".fetch-", suffix=target.suffix)
        os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        with disk_errors("cannot write", target):
            os.replace(temporary, target)
    finally:
        temporary.unlink(missing_ok=True)
    return target


def _key(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode(errors="surrogateescape")).hexdigest()[:32]


def _state(path: Path) -> str:
    """What changes when a file does; a missing one is found out later."""
    try:
        status = path.stat()
    except (OSError, ValueError):
        return str(path)
    return f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"


def _suffix(name: str) -> str:
    """A harmless file suffix, for tools that look at it."""
    suffix = PurePosixPath(name).suffix.lower()
    return suffix if 1 < len(suffix) <= 6 and suffix[1:].isascii() and suffix[1:].isalnum() else ""
