"""What a run was made on, and from which code."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path

import torch

from remind import __version__


def machine_facts() -> dict[str, object]:
    """What a run was made on: processor, cores, python, torch."""
    processor = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        names = [line.split(":", 1)[1].strip() for line in cpuinfo.read_text().splitlines()
                 if line.startswith("model name")]
        processor = names[0] if names else processor
    return {"processor": processor, "threads": torch.get_num_threads(), "system": platform.system(),
            "python": platform.python_version(), "torch": torch.__version__, "remind": __version__}


def git_commit() -> str:
    """Commit of the checkout that this package runs from, "+dirty" if it was changed, or the version."""
    folder = Path(__file__).parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", *arguments], cwd=folder, capture_output=True, text=True, check=True,
                              timeout=10).stdout.strip()

    try:
        return git("rev-parse", "--short=12", "HEAD") + ("+dirty" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return f"version {__version__}"
