"""Takes NeoVerse's flags and turns the input's own pictures along the trajectory, or misbehaves as the prompt says.

It is no generator: each frame is the homography K R K^-1 of the input's frame at that time, for a camera of 60 degrees;
steps are ignored, and what the input never showed is grey. So a turn is exact, and what is in view goes on meanwhile.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import av
import cv2
import numpy as np

GREY = (110, 110, 110)


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("input_path", "trajectory_file", "output_path"):
        parser.add_argument(f"--{name}", required=True)
    for name in ("num_frames", "height", "width", "seed"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--prompt", default="")
    parser.add_argument("--low_vram", action="store_true")
    arguments = parser.parse_args()
    if "crash" in arguments.prompt:
        sys.exit("torch.cuda.OutOfMemoryError")
    trajectory = json.loads(Path(arguments.trajectory_file).read_text())
    rotations = np.array(trajectory["trajectory"]["frame_matrices"])[:, :3, :3]
    if "mirrored" in arguments.prompt:  # w2c where c2w was asked for
        rotations = rotations.transpose(0, 2, 1)
    if "at rest" in arguments.prompt:
        rotations[:] = np.eye(3)
    height, width = arguments.height, arguments.width
    focal = width / (2 * np.tan(np.radians(30)))
    k = np.array([[focal, 0, width / 2], [0, focal, height / 2], [0, 0, 1]])
    k = np.array([[1, 0, -0.5], [0, 1, -0.5], [0, 0, 1]]) @ k  # OpenCV counts from pixel centres
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    with av.open(arguments.input_path) as source, av.open(arguments.output_path, "w") as target:
        stream = target.add_stream("libx264", rate=16, options={"crf": "10", "preset": "ultrafast"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for frame, rotation in zip(source.decode(video=0), rotations, strict=True):
            picture = frame.to_ndarray(format="rgb24")
            if "elsewhere" in arguments.prompt:
                picture = 255 - picture
            seen = cv2.warpPerspective(picture, k @ rotation @ np.linalg.inv(k), (width, height), borderValue=GREY,
                                       flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)  # fmt: skip
            ahead = (rotation @ np.linalg.inv(k))[2]
            seen[ahead[0] * x + ahead[1] * y + ahead[2] <= 0] = GREY
            for packet in stream.encode(av.VideoFrame.from_ndarray(seen, format="rgb24")):
                target.mux(packet)
        for packet in stream.encode():
            target.mux(packet)


if __name__ == "__main__":
    main()
