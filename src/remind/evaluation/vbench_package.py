"""Measuring with the official `vbench` package where it is installed: each dimension in a process of its own."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from remind.errors import InputError

PACKAGE = "vbench2_beta_i2v"


@dataclass(frozen=True)
class VBenchPackage:
    """Where it is.

    Args:
        python: interpreter that can import it.
        root: its checkout, with the pictures in vbench2_beta_i2v/data/crop.
        device: it computes on.
        timeout_h: for one dimension, hours.
    """

    python: str
    root: Path
    device: str = "cuda"
    timeout_h: float = 24.0


def find_package(python: str = "", root: Path | None = None, *, device: str = "cuda") -> VBenchPackage | None:
    """The package by what a user says, or the one of this environment; None if there is none.

    Raises:
        InputError: a checkout that is none.
    """
    if root is not None:
        if not (root / PACKAGE).is_dir():
            raise InputError("no checkout of VBench", got=root, expected=f"a folder with {PACKAGE} in it")
        return VBenchPackage(python or sys.executable, root, device)
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        return None
    return VBenchPackage(python or sys.executable, Path(found.origin).parents[1], device)


def measure(
    package: VBenchPackage, dimensions: Sequence[str], tasks: Path, videos: Path, out: Path, ratio: str, *,
    progress: Callable[[str], None] | None = None,
) -> dict[str, str]:  # fmt: skip
    """Measure what is not measured yet; a dimension that fails does not stop the others.

    Args:
        dimensions: to measure.
        tasks: the official list.
        videos: folder of PROMPT-0.mp4 ...
        out: where DIMENSION_eval_results.json go.
        ratio: of the crops.
        progress: called with each dimension that is done.

    Returns:
        Dimensions that failed, and the end of what was said.
    """
    failed: dict[str, str] = {}
    out.mkdir(parents=True, exist_ok=True)
    worker = Path(__file__).with_name("vbench_worker.py")
    for dimension in dimensions:
        if not (out / f"{dimension}_eval_results.json").exists():
            command = [package.python, str(worker.resolve()), dimension, str(tasks.resolve()), str(videos.resolve()),
                       str(out.resolve()), ratio, package.device]  # fmt: skip
            problem = _run(command, package)
            if problem:
                failed[dimension] = problem
            elif not (out / f"{dimension}_eval_results.json").exists():
                failed[dimension] = "it wrote no result"
        if progress is not None:
            progress(dimension)
    return failed


def _run(command: Sequence[str], package: VBenchPackage) -> str:
    try:
        done = subprocess.run(command, cwd=package.root, capture_output=True, text=True, errors="replace",
                              timeout=3600 * package.timeout_h)  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)[:500]
    return "" if done.returncode == 0 else " ".join((done.stderr or done.stdout).split())[-500:] or "no words"
