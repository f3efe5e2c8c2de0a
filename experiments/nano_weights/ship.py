"""Put trained runs into the package: averaged weights in fp16 (half the bytes; the loader computes in fp32).

    remind train nano --out runs/nano           # and nano-matched, nano-base
    python experiments/nano_weights/ship.py --runs runs/nano runs/nano-matched runs/nano-base
"""

from __future__ import annotations

from pathlib import Path

import torch
import tyro

from remind.models.checkpoint import load_run, save_checkpoint

PACKAGE = Path(__file__).parents[2] / "src/remind/assets/checkpoints"


def main(runs: tuple[Path, ...]) -> None:
    for run in runs:
        model, config = load_run(run)
        about = {k: v for k, v in config.items() if k not in ("format", "model")}
        about["command"] = " ".join(Path(word).name if "/" in word else word for word in about["command"].split())
        state = {k: v.to(torch.float16) for k, v in model.state_dict().items()}
        save_checkpoint(PACKAGE / run.name, model.config, state, about)
        print(PACKAGE / run.name, sum(f.stat().st_size for f in (PACKAGE / run.name).iterdir()), "bytes")


if __name__ == "__main__":
    tyro.cli(main)
