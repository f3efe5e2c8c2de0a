"""A small run as a process of its own: `python -m tests.training.run_process OUT STEPS [--resume]`."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from remind.errors import RemindError
from remind.training.launch import train

from .make_run import CONFIG


def main() -> None:
    config = replace(CONFIG, steps=int(sys.argv[2]), optimizer="muon")
    try:
        train(config, Path(sys.argv[1]), resume="--resume" in sys.argv, console=Console(stderr=True, width=200))
    except RemindError as error:  # as the command line does
        print(f"remind: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
