"""Paths stay inside their root, full disks say so, and one file has one writer."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from remind.curation.disk import disk_errors, locked, resolve_inside
from remind.errors import SourceError


def test_names_inside_are_resolved(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    assert resolve_inside(tmp_path, "deep/../a.mp4") == tmp_path.resolve() / "a.mp4"
    assert resolve_inside(tmp_path, str(tmp_path / "a.mp4")) == tmp_path.resolve() / "a.mp4"


@pytest.mark.parametrize(
    "name", ["/etc/passwd", "../out.mp4", "deep/../../out.mp4", "link/passwd", "file", "a\0b", "", "\udcff/../.."]
)
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / "link").symlink_to("/etc")
    (root / "file").symlink_to("/etc/passwd")
    with pytest.raises(SourceError):
        resolve_inside(root, name)


def test_a_loop_of_links_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(SourceError, match="not a path"):
        resolve_inside(tmp_path, "a")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_full_disk_says_so() -> None:
    with (
        pytest.raises(SourceError, match=r"No space left on device.*Fix: free some space"),
        disk_errors("cannot write", Path("/dev/full")),
        open("/dev/full", "wb") as file,
    ):
        file.write(b"x")


def test_a_lock_keeps_other_processes_out_and_ends_with_its_holder(tmp_path: Path) -> None:
    path = tmp_path / "log"
    code = f"""
from pathlib import Path
from remind.curation.disk import locked
with locked(Path({str(path)!r}), wait=False):
    print("held", flush=True)
    input()
"""
    child = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline() == b"held\n"
    with pytest.raises(SourceError, match="another run"), locked(path, wait=False):
        pass
    child.kill()
    child.wait()
    with locked(path, wait=False) as file:
        file.write(b"ours")
    assert path.read_bytes() == b"ours"
