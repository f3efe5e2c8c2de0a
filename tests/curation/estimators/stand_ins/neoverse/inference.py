"""Takes NeoVerse's flags and renders the embedded world along the trajectory, or misbehaves as the prompt says.

The prompt is `FAMILY SEED BEHAVIOUR`. Only the first state of the scene is shown, so that a loop must close exactly.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[5] / "src"))
import torch

from remind.clip import Cameras
from remind.data.video_io import decode_all, write_video
from remind.world import sample_scene


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("input_path", "trajectory_file", "output_path", "prompt"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("num_frames", "height", "width", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--low_vram", action="store_true")
    arguments = parser.parse_args()
    family, seed, behaviour = arguments.prompt.split()
    print("Loading model...")
    if behaviour == "crash":
        sys.exit("torch.cuda.OutOfMemoryError")
    trajectory = json.loads(Path(arguments.trajectory_file).read_text())
    assert trajectory["mode"] == "global"
    assert trajectory["trajectory"]["frame_indices"] == list(range(arguments.num_frames))
    c2w = torch.tensor(trajectory["trajectory"]["frame_matrices"], dtype=torch.float64)
    hw = (arguments.height, arguments.width)
    assert decode_all(Path(arguments.input_path)).shape == (arguments.num_frames, *hw, 3)
    scene = sample_scene(int(seed), family=family, num_frames=arguments.num_frames, hw=hw)
    cameras = Cameras(c2w, scene.cameras.intrinsics_px, hw, scene.cameras.valid)
    rgb = scene.render_rgb(scene.states[:1].repeat(len(c2w)), cameras, samples=1)
    write_video(Path(arguments.output_path), rgb, 16)


if __name__ == "__main__":
    main()
