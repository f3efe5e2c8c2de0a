"""The command line. Every command is one function; what it does is in its own room."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import tyro

from remind.cli_data import DATA_COMMANDS
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


def generate(
    out: Path,
    checkpoint: str = "nano",
    video: Path | None = None,
    image: Path | None = None,
    interrupt: Literal["light_toggle", "occluder", "zoom"] = "light_toggle",
    prompt: str = "",
    start_s: float = 0.0,
    steps: int = 4,
    seed: int = 0,
    compare: bool = False,
) -> None:
    """Continue a video through an interruption (V2V), or start from an image (I2V).

    Writes an mp4 and, beside it, OUT.json with everything needed to make it again.

    Args:
        out: The mp4 to write.
        checkpoint: A run folder, or nano, nano-base, nano-matched from the package.
        video: Any video; 81 frames at 16 fps are taken from it and resized to the model's size.
        image: A picture to start from instead.
        interrupt: What happens to the view.
        prompt: What is going on, e.g. "the tank fills with blue water slowly".
        start_s: Where in the video to start, in seconds.
        steps: Denoising steps per chunk.
        seed: Of the interruption and of the noise.
        compare: Put what was seen, and the real continuation of a video, beside the result.
    """
    from remind.generate import GenerateRequest
    from remind.generate import generate as run

    made = run(GenerateRequest(out=out, checkpoint=checkpoint, video=video, image=image, interrupt=interrupt,
                               prompt=prompt, start_s=start_s, steps=steps, seed=seed, compare=compare))
    print(f"wrote {out} ({' | '.join(made['columns'])}), generated from frame {made['first_generated_frame']}; "
          f"chunks {made['graph']} (A anchor, x degraded, R recovery); how to make it again: {out}.json")


def doctor() -> None:
    """Say what is installed, which device is there, and what is missing for which job."""
    from remind.doctor import main as diagnose

    sys.exit(diagnose())


def data() -> None:
    """Build memory data from videos: see `remind data build --help`."""


def train() -> None:
    """Train a model to remember, by a recipe: see `remind train --help`."""


COMMANDS: dict[str, Callable[..., Any]] = {
    "demo": demo, "data": data, "train": train, "runs": runs, "generate": generate, "doctor": doctor,
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
