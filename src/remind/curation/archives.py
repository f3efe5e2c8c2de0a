"""Reading one member of a zip archive that nobody vouches for, also of an archive cut into pieces by `split`.

An archive `X_partaa` goes on in `X_partab`, `X_partac`, ...: that is how large parts of OpenVid-1M are published.
"""

from __future__ import annotations

import io
import re
import stat
import struct
import zipfile
import zlib
from bisect import bisect_right
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from remind.curation.disk import disk_errors
from remind.errors import SourceError

FIRST_PIECE = re.compile(r".+_part(a+)")
_MAX_DIRECTORY_BYTES = 32 * 2**20  # a quarter of a million members
_BLOCK = 1 << 20
# Videos hardly shrink; deflate makes at most 1032:1, of zeros. Small members may be what they like.
_MAX_RATIO, _RATIO_FROM_BYTES = 100, 1 << 20
# bz2 and lzma can turn one block into gigabytes before anybody may look.
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DAMAGE = (
    zipfile.BadZipFile,
    NotImplementedError,
    ValueError,
    EOFError,
    OverflowError,
    IndexError,
    RuntimeError,
    struct.error,
    zlib.error,
)


def pieces_of(archive: Path) -> list[Path]:
    """The files that make up an archive, in order: itself, or all its pieces if it is a first piece."""
    named = FIRST_PIECE.fullmatch(archive.name)
    if named is None:
        return [archive]
    stem, width = archive.name[: named.start(1)], len(named[1])
    pieces = [archive]
    while (following := archive.with_name(stem + _letters(len(pieces), width))).exists():
        pieces.append(following)
    return pieces


@contextmanager
def open_archive(archive: Path) -> Iterator[zipfile.ZipFile]:
    """Open a zip by its central directory alone.

    Raises:
        SourceError: missing, unreadable, not a zip, cut short, or with an absurd directory.
    """
    with ExitStack() as stack:
        files = []
        for piece in pieces_of(archive):
            with disk_errors("cannot read the archive", piece):
                if not piece.is_file():
                    raise SourceError("no such archive", got=piece, expected="a zip file", fix="download it")
                files.append(stack.enter_context(piece.open("rb")))
        try:
            with disk_errors("cannot read the archive", archive):
                opened = stack.enter_context(zipfile.ZipFile(_Joined(files)))  # type: ignore[call-overload]
        except _DAMAGE as error:
            raise _damaged(archive, error) from None
        yield opened


def member_blocks(archive: Path, member: str, *, max_bytes: int) -> Iterator[bytes]:
    """The content of one member, block by block, checked before and while it is read.

    Args:
        max_bytes: of the unpacked member.

    Raises:
        SourceError: as `open_archive`; no such member, or one that is no plain file of honest size (encrypted, a link,
            ambiguous or outward name, overlapping another, too large, a zip bomb, damaged).
    """
    with open_archive(archive) as opened:
        info = _find(opened, archive, member)
        reason = _why_not(opened, info, max_bytes)
        if reason:
            raise SourceError(f"{archive.name}: the member is refused", got=f"{member[:200]!r}: {reason}")
        try:
            left = info.file_size
            with disk_errors("cannot read the archive", archive), opened.open(info) as file:
                while block := file.read(_BLOCK):
                    left -= len(block)
                    yield block
        except _DAMAGE as error:
            raise _damaged(archive, error, member) from None
        if left != 0:
            raise _damaged(archive, ValueError(f"{left} bytes are missing"), member)


def _find(opened: zipfile.ZipFile, archive: Path, member: str) -> zipfile.ZipInfo:
    found = [info for info in opened.filelist if info.filename == member]
    if len(found) == 1:
        return found[0]
    raise SourceError(
        f"{archive.name}: {'no such member' if not found else 'several members of the same name'}",
        got=repr(member[:200]),
        fix="check the name" if not found else "pack the archive again",
    )


def _why_not(opened: zipfile.ZipFile, info: zipfile.ZipInfo, max_bytes: int) -> str:
    """Why a member must not be read; empty if it may."""
    raw = info.orig_filename
    mode = info.external_attr >> 16
    end = info.header_offset + 30 + len(raw.encode(errors="surrogateescape")) + info.compress_size
    following = [i.header_offset for i in opened.filelist if i is not info and i.header_offset >= info.header_offset]
    if info.is_dir():
        return "a folder"
    if "\0" in raw or "\\" in raw or raw.startswith("/") or re.match(r"[A-Za-z]:", raw) or ".." in raw.split("/"):
        return "its name leads out of the archive"
    if stat.S_IFMT(mode) not in (0, stat.S_IFREG):
        return "a link or a device, not a plain file"
    if info.flag_bits & 0x41:
        return "encrypted"
    if info.compress_type not in _METHODS:
        return f"compression method {info.compress_type}; only stored and deflated are read"
    if info.file_size > max_bytes:
        return f"{info.file_size} bytes, more than the limit of {max_bytes}"
    if info.file_size > max(_RATIO_FROM_BYTES, _MAX_RATIO * info.compress_size):
        return f"a zip bomb: {info.compress_size} bytes that unpack to {info.file_size}"
    if end > min(following, default=opened.start_dir):
        return "it overlaps another member"
    return ""


def _damaged(archive: Path, error: Exception, member: str = "") -> SourceError:
    where = f"{archive.name}: {member[:200]!r}" if member else archive.name
    return SourceError(
        f"{where}: not a zip archive, damaged, or cut short",
        got=str(error) or type(error).__name__,
        fix="download it again; of an archive in pieces, all of them",
    )


def _letters(number: int, width: int) -> str:
    """As `split` counts: aa, ab, ..., az, ba."""
    letters = ""
    for _ in range(width):
        number, letter = divmod(number, 26)
        letters = chr(ord("a") + letter) + letters
    return letters


class _Joined:
    """Files read as if they were one, as far as `zipfile` needs it."""

    def __init__(self, files: list[io.BufferedReader]):
        self._files = files
        self._starts = [0]
        for file in files:
            self._starts.append(self._starts[-1] + file.seek(0, io.SEEK_END))
        self._at = 0

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._starts[-1]}[whence]
        if base + offset < 0:
            raise ValueError("an offset before the start of the archive")
        self._at = base + offset
        return self._at

    def read(self, size: int = -1) -> bytes:
        size = max(0, self._starts[-1] - self._at) if size < 0 else size
        if size > _MAX_DIRECTORY_BYTES:  # only a central directory is read at one go
            raise ValueError(f"a directory of {size} bytes")
        parts = []
        while size > 0 and self._at < self._starts[-1]:
            index = bisect_right(self._starts, self._at) - 1
            file = self._files[index]
            file.seek(self._at - self._starts[index])
            part = file.read(min(size, self._starts[index + 1] - self._at))
            if not part:
                raise EOFError("the file became shorter while it was read")
            parts.append(part)
            self._at += len(part)
            size -= len(part)
        return b"".join(parts)
