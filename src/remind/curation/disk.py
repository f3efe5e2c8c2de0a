"""Care with the file system: paths that stay inside their root, full disks that say so, one writer at a time."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from remind.errors import SourceError

_MENDS = {
    errno.ENOSPC: "free some space or choose another folder",
    errno.EDQUOT: "free some space or ask for a larger quota",
    errno.EFBIG: "raise the limit on file sizes (ulimit -f) or choose another file system",
    errno.EACCES: "change its permissions or choose another folder",
    errno.EPERM: "change its permissions or choose another folder",
    errno.EROFS: "choose a folder that can be written",
    errno.ENOENT: "check the path",
    errno.ENAMETOOLONG: "shorten the name",
}


def resolve_inside(root: Path, name: str) -> Path:
    """The path that `name` means below `root`, with links followed; it need not exist.

    Source: our choice: what counts is where a path ends, so a link or an absolute path that ends inside is fine.

    Args:
        root: a folder.
        name: untrusted text.

    Raises:
        SourceError: a path that ends outside of `root`, or that no file system could hold.
    """
    shown = f"{name[:200]!r}"
    if not name or "\0" in name:
        raise SourceError("not a path", got=shown, expected=f"a path inside {root}")
    try:
        inside = root.resolve()
        path = (inside / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # loops of links, names too long, lone surrogates
        raise SourceError("not a path", got=f"{shown}: {error}", expected=f"a path inside {root}") from None
    if not path.is_relative_to(inside):
        raise SourceError(
            "a path leads out of its folder",
            got=shown,
            expected=f"a path inside {root}",
            fix="move the file there, or allow the folder it is in",
        )
    return path


@contextmanager
def disk_errors(doing: str, path: Path) -> Iterator[None]:
    """Turn what the operating system refuses into a SourceError that says what to do.

    Args:
        doing: e.g. "cannot write the video".
        path: that it is done to, for the message.
    """
    try:
        yield
    except OSError as error:
        code = error.errno or 0
        raise SourceError(doing, got=f"{path}: {error.strerror or error}", fix=_MENDS.get(code)) from None


@contextmanager
def locked(path: Path, *, wait: bool) -> Iterator[IO[bytes]]:
    """Open `path` for reading and appending while no other process holds it; a killed holder lets go.

    Args:
        path: created if missing.
        wait: until the other one is done; otherwise fail at once.

    Raises:
        SourceError: held by another process, or not writable.
    """
    while True:
        with disk_errors("cannot write", path):
            file = path.open("a+b")
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            except BlockingIOError:
                raise SourceError(
                    "another run is writing this file", got=path, fix="wait for it, or choose another file"
                ) from None
            try:
                same = path.stat().st_ino == os.fstat(file.fileno()).st_ino
            except FileNotFoundError:  # its last holder renamed it while this one waited
                same = False
            if same:
                yield file
                return
