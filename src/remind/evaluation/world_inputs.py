"""What anyone needs to take the world benchmark with a model of their own: the inputs of each clip as plain files.

    DIR/README.txt            what to make, and how to have it scored
    DIR/ID/first_frame.png    image to video: given
    DIR/ID/prefix.mp4         video to video: given, up to where the view returns
    DIR/ID/cameras.npz        c2w f64 [81 4 4], intrinsics_px f64 [81 4], hw: cameras of the whole clip (OpenCV)
    DIR/ID/task.json          prompts, one per chunk; times of the interruption; names of both
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from remind.errors import InputError
from remind.evaluation.eval_run import write_json
from remind.evaluation.world_files import write_case_video
from remind.evaluation.world_makers import PreparedCase
from remind.evaluation.world_suite import NUM_FRAMES, WorldSuite
from remind.frame_graph import frames_of_chunk, num_chunks
from remind.prompt_schedule import FPS, chunk_prompts
from remind.whole_file import whole_file

_README = """{name}: inputs for a video model
{line}
Make one video of each folder here, all {frames} frames at {fps} per second, as ID.mp4 in one folder.
Image to video: begin with first_frame.png. Video to video: begin with the frames of prefix.mp4, unchanged, and go on.
The prompt changes with time: task.json has one for every chunk of frames. cameras.npz may be used or not.
Height and width must be a whole multiple of {height}x{width} px. prefix.mp4 may be enlarged by whole pixels.

    remind eval world --videos FOLDER --mode v2v --size {height} {width} --out RUN
"""


def write_inputs(
    suite: WorldSuite, folder: Path, hw: tuple[int, int], *, advance: Callable[[int], None] = lambda done: None
) -> None:
    """Write the inputs of a test set.

    Raises:
        InputError: a folder that holds something, or that cannot be written.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InputError("the folder holds something", got=folder, fix="choose an empty one")
    for number, case in enumerate(suite.cases):
        one = PreparedCase(number, case, hw)
        clip, place = one.given, folder / case.id
        write_case_video(place / "prefix.mp4", clip.degraded.rgb[: one.meter.first_generated_v2v])
        with whole_file(place / "first_frame.png") as partial:
            Image.fromarray(clip.degraded.rgb[0].numpy()).save(partial, "PNG")
        cameras = clip.degraded.cameras
        assert cameras is not None  # world clips always have them
        with whole_file(place / "cameras.npz") as partial, partial.open("wb") as file:
            np.savez(file, c2w=cameras.c2w.numpy(), intrinsics_px=cameras.intrinsics_px.numpy(), hw=np.array(hw))
        event = case.recipe.interruption
        chunks = [frames_of_chunk(k) for k in range(num_chunks(NUM_FRAMES))]
        prompts = chunk_prompts(clip.clean.caption, clip.schedule)
        write_json(place / "task.json", {
            "id": case.id, "video": f"{case.id}.mp4", "frames": NUM_FRAMES, "fps": FPS,
            "given_frames": {"v2v": one.meter.first_generated_v2v, "i2v": 1}, "caption": clip.clean.caption,
            "prompts": [{"frames": [c.start, c.stop], "prompt": p} for c, p in zip(chunks, prompts, strict=True)],
            "interruption": {"kind": case.kind, "start": event.start, "hidden_start": event.hidden_start,
                             "hidden_stop": event.hidden_stop, "stop": event.stop},
        })  # fmt: skip
        advance(1)
    title = suite.name
    text = _README.format(name=title, line="=" * (len(title) + 26), frames=NUM_FRAMES, fps=FPS, height=hw[0],
                          width=hw[1])  # fmt: skip
    with whole_file(folder / "README.txt") as partial:
        partial.write_text(text)
