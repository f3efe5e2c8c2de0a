"""Draw the picture of the guide on watching a run: what validation shows of the shipped nano.

    python experiments/watching_a_run/draw.py --out docs/assets/watching.png
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tyro
from PIL import Image

from remind.evaluation.world_validator import WorldValidator
from remind.inference.pipeline import RemindPipeline


def main(out: Path, checkpoint: str = "nano", clip: int = 2) -> None:
    """Draw.

    Args:
        out: PNG to write.
        checkpoint: shipped name or run folder.
        clip: number of the strip, 0..3.
    """
    pipeline = RemindPipeline.from_pretrained(checkpoint)
    found = WorldValidator(pipeline.hw)(pipeline.model)
    parts = [found.pictures[f"clip/{clip}"], found.pictures["kv_importance"]]
    width = max(part.shape[1] for part in parts)
    rows = [np.pad(part, ((0, 16), (0, width - part.shape[1]), (0, 0)), constant_values=255) for part in parts]
    Image.fromarray(np.concatenate(rows)).save(out, optimize=True)
    print(found.scalars)


if __name__ == "__main__":
    tyro.cli(main)
