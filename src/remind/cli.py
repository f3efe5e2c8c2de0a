"""The command line. Every command is one function; what it does is in its own room."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from remind.cli_data import DATA_COMMANDS
from remind.cli_eval import evaluate
from remind.cli_generate import generate as run_generation
from remind.cli_train import runs
from remind.cli_train import train as run_training
from remind.errors import RemindError


def demo(out: Path = Path("demo"), from_scratch: bool = False, clips: int = 66, seed: int = 0) -> None:
    """Show a model remembering: generate, measure, and write one page to look at.

    Takes a few minutes on two cores. Ends with the path of OUT/report.html; every number is in OUT/summary.json.

    Args:
        out: Folder for report.html and summary.json.
        from_scratch: Train nano first (about 20 minutes more) instead of using the weights in the package.
        clips: How many held-out world clips to measure on.
        seed: Seed of the generated noise.
    """
    from remind.demo import run_demo

    run_demo(out, from_scratch=from_scratch, num_clips=clips, seed=seed)


def generate() -> None:
    """Make a video that remembers, from words, a picture or a video: see `remind generate --help`."""


def doctor() -> None:
    """Say what is installed, which device is there, and what is missing for which job."""
    from remind.doctor import main as diagnose

    sys.exit(diagnose())


def data() -> None:
    """Build memory data from videos: see `remind data build --help`."""


def evaluation() -> None:
    """Measure a model, or anyone's videos: see `remind eval --help`."""


def train() -> None:
    """Train a model to remember, by a recipe: see `remind train --help`."""


COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": demo, "data": data, "train": train, "runs": runs, "generate": generate, "eval": evaluation,
    "doctor": doctor,
}  # fmt: skip


def is_first_rank() -> bool:
    """Whether this process speaks for its run: torchrun starts many, and what all of them find is said once."""
    return os.environ.get("RANK", "0") == "0"


def _leave_after_the_first() -> None:
    """torchrun ends all ranks with the first one that leaves: let that be the one that speaks."""
    if not is_first_rank():
        time.sleep(10)


def main() -> None:
    """Entry point: one line and exit code 2 for every error that a user can mend."""
    # Spinning threads starve whatever else runs (a step of nano took ten times as long), and threads that sleep at once
    # wake too slowly for small matrices (1.6 times): spin for some microseconds, then sleep. Read when torch loads.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    logging.basicConfig(format="remind: %(message)s")  # to stderr
    logging.getLogger("remind").setLevel(logging.INFO)  # a checkpoint's licence and what was new in it
    arguments = sys.argv[1:]
    try:
        if arguments[:1] == ["data"]:
            tyro.extras.subcommand_cli_from_dict(DATA_COMMANDS, prog="remind data", args=arguments[1:] or ["--help"],
                                                 description="Build memory data from videos.")
        elif arguments[:1] == ["generate"]:
            run_generation(arguments[1:])
        elif arguments[:1] == ["eval"]:
            evaluate(arguments[1:])
        elif arguments[:1] == ["train"]:
            run_training(arguments[1:], speaks=is_first_rank())
        else:
            tyro.extras.subcommand_cli_from_dict(
                COMMANDS, prog="remind", args=arguments or ["--help"],
                description="ReMind teaches video generators to remember: build data, train, generate, measure.",
            )
    except RemindError as error:
        if is_first_rank():
            print(f"remind: {error}", file=sys.stderr)
        else:
            _leave_after_the_first()
        sys.exit(2)
    except SystemExit as end:
        if end.code == 2:
            _leave_after_the_first()
        raise
    except BrokenPipeError:  # `remind --help | head`: the reader has enough; nothing may be flushed to it at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except KeyboardInterrupt:
        print("remind: interrupted; nothing half-written is left, --resume continues a training run", file=sys.stderr)
        sys.exit(130)


if __name__ == "__main__":
    main()
