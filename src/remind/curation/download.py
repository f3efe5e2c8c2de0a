"""A file from the web: streamed to a `.partial`, taken up again where it broke off, there whole or not at all."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import IO

from remind.curation.disk import disk_errors, locked
from remind.curation.web import LostConnection, Reply, WebRules, get, shown
from remind.errors import SourceError

_ATTEMPTS = 4
_PAUSE_S = 0.5  # doubled after each attempt
_BUSY = (408, 425, 429, 500, 502, 503, 504)


def download(url: str, target: Path, *, max_bytes: int, rules: WebRules) -> None:
    """Make `target` the content of `url`; a target that is there already is left as it is.

    A broken transfer goes on with a range request if the server named the content (a strong ETag or a date), so that
    two versions are never joined; otherwise it starts anew. What arrived stays as `<target>.partial` for the next run.

    Args:
        target: its folder must exist; two processes that want the same one wait for each other.
        max_bytes: of the file.
        rules: `total_s` counts for each attempt.

    Raises:
        SourceError: an address, status or redirect that is refused, too much content, or a disk that cannot take it.
    """
    partial = target.with_name(target.name + ".partial")
    with locked(partial, wait=True) as file:
        if target.exists():  # another process was faster
            partial.unlink(missing_ok=True)
            return
        try:
            _persist(url, file, partial, max_bytes, rules)
        except SourceError as error:
            if not (isinstance(error, LostConnection) and partial.stat().st_size):  # nothing worth going on with
                partial.unlink()
                _stamp(partial).unlink(missing_ok=True)
            raise
        with disk_errors("cannot write the download", target):
            file.flush()
            os.fsync(file.fileno())
            os.replace(partial, target)
            _stamp(partial).unlink(missing_ok=True)


def _persist(url: str, file: IO[bytes], partial: Path, max_bytes: int, rules: WebRules) -> None:
    for attempt in range(_ATTEMPTS):
        try:
            return _attempt(url, file, partial, max_bytes, rules)
        except LostConnection:
            if attempt == _ATTEMPTS - 1:
                raise
            time.sleep(_PAUSE_S * 2**attempt)


def _attempt(url: str, file: IO[bytes], partial: Path, max_bytes: int, rules: WebRules) -> None:
    """Ask once for what is missing and append it."""
    with disk_errors("cannot read the download", partial):
        have = file.seek(0, os.SEEK_END)
        stamp = _stamp(partial).read_text() if have and _stamp(partial).is_file() else ""
    headers = {"Range": f"bytes={have}-", "If-Range": stamp} if have and stamp else {}
    with get(url, rules, headers) as reply:
        if reply.status in _BUSY:
            raise LostConnection("the server is busy", got=f"{reply.status} for {shown(url)}", fix="try again later")
        if reply.status == 206 and headers:
            whole = _continues(reply, have)
        elif reply.status == 200:
            have, whole = 0, None
        elif reply.status == 416:  # the file is no longer as long as what is here
            _start_anew(file, partial, "")
            raise LostConnection("the file changed while it was fetched", got=shown(url), fix="try again")
        else:
            raise SourceError("the server refuses", got=f"status {reply.status} for {shown(url)}", expected="200")
        if have == 0:
            _start_anew(file, partial, _validator(reply))
        for block in reply.blocks(max_bytes - have):
            with disk_errors("cannot write the download", partial):
                file.write(block)
        with disk_errors("cannot write the download", partial):
            file.flush()
            length = file.seek(0, os.SEEK_END)
    if whole is not None and length != whole:
        _start_anew(file, partial, "")
        raise LostConnection("the parts do not fit", got=f"{length} of {whole} bytes of {shown(url)}", fix="try again")


def _continues(reply: Reply, have: int) -> int | None:
    """The whole length that a partial answer declares, if it begins where it should."""
    said = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", reply.headers.get("content-range", ""))
    if said is None or int(said[1]) != have:
        raise SourceError(
            "the server sends another range than it was asked for",
            got=reply.headers.get("content-range", "no Content-Range")[:100],
            expected=f"bytes {have}-",
            fix="delete the .partial file and try again",
        )
    return None if said[3] == "*" else int(said[3])


def _validator(reply: Reply) -> str:
    """What names this version of the content in If-Range; a weak ETag does not."""
    tag = reply.headers.get("etag", "")
    named = tag if tag and not tag.startswith("W/") else reply.headers.get("last-modified", "")
    return named if named.isascii() and named.isprintable() and len(named) < 1000 else ""


def _start_anew(file: IO[bytes], partial: Path, stamp: str) -> None:
    with disk_errors("cannot write the download", partial):
        file.truncate(0)
        file.flush()
        _stamp(partial).write_text(stamp)


def _stamp(partial: Path) -> Path:
    return partial.with_name(partial.name + ".version")
