"""Worker for NeoVerse: render a clip again along another trajectory, by calling its `inference.py` as a subprocess.

    python neoverse_worker.py --serve      with NEOVERSE_ROOT=<checkout> (and NEOVERSE_PYTHON=<interpreter>, else ours)

Written against the public CLI of May 2026 and UNTESTED WITH ITS WEIGHTS, which need a large GPU: the tests run it
against a stand-in `inference.py` that takes the same flags. Each request starts the CLI anew, so that each pays for
loading the weights; NeoVerse offers no other way from outside.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from worker_loop import Result, SetupError, main


def _root() -> Path:
    root = Path(os.environ.get("NEOVERSE_ROOT", ""))
    if not (root / "inference.py").is_file():
        raise SetupError(f"NEOVERSE_ROOT={str(root)!r} is no NeoVerse checkout: it has no inference.py")
    return root


def _commit() -> str:
    """The checkout's commit, read without running git."""
    git = Path(os.environ.get("NEOVERSE_ROOT", ".")) / ".git"
    try:
        head = (git / "HEAD").read_text().strip()
        return (git / head[5:]).read_text().strip()[:12] if head.startswith("ref: ") else head[:12]
    except OSError:
        return "unknown"


def _handle(task: str, parameters: dict[str, Any], folder: Path) -> Result:
    root = _root()
    height, width = parameters["hw"]
    command = [
        os.environ.get("NEOVERSE_PYTHON", sys.executable),
        str(root / "inference.py"),
        "--input_path", str(folder / "frames.mp4"),
        "--trajectory_file", str(folder / "trajectory.json"),
        "--output_path", str(folder / "result.mp4"),
        "--num_frames", str(parameters["num_frames"]),
        "--height", str(height),
        "--width", str(width),
        "--seed", str(parameters["seed"]),
    ]  # fmt: skip
    if parameters["prompt"]:
        command += ["--prompt=" + parameters["prompt"]]  # one argument: a prompt may begin with a dash
    if parameters["low_vram"]:
        command += ["--low_vram"]
    done = subprocess.run(command, cwd=root, stdin=subprocess.DEVNULL, check=False)  # its output goes to our stderr
    if done.returncode or not (folder / "result.mp4").is_file():
        raise RuntimeError(f"inference.py left with exit code {done.returncode} and no video")
    return Result("Yuppie1204/NeoVerse", "unknown", {}, {"commit": _commit()})  # the code is Apache-2.0


if __name__ == "__main__":
    main("neoverse", _commit(), ("render",), _handle)
