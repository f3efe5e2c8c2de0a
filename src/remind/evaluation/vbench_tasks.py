"""VBench I2V's task list, the videos that it expects, and the requests that make them.

Source: VBench++ I2V (Vchitect/VBench, `vbench2_i2v_full_info.json`): 1,118 prompts about 355 pictures; five videos of
each, named PROMPT-0.mp4 to PROMPT-4.mp4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remind.errors import InputError

NUM_SAMPLES = 5
DIMENSIONS = ("i2v_subject", "i2v_background", "camera_motion", "subject_consistency", "background_consistency",
              "motion_smoothness", "dynamic_degree", "aesthetic_quality", "imaging_quality")  # fmt: skip
"""Those that count. The list names temporal_flickering too, which the official score leaves out."""
RATIOS = {"1-1": 1.0, "8-5": 8 / 5, "7-4": 7 / 4, "16-9": 16 / 9}
"""Width over height of the crops that the pictures come in."""
_MAX_BYTES = 64 * 2**20


@dataclass(frozen=True)
class VBenchPrompt:
    """A line of the list.

    Args:
        number: in the list, from 0.
        prompt: also the beginning of its videos' names.
        dimensions: that are measured on its videos, of `DIMENSIONS`.
        image: file name of the first frame.
    """

    number: int
    prompt: str
    dimensions: tuple[str, ...]
    image: str


@dataclass(frozen=True)
class VBenchVideo:
    """One of a prompt's videos.

    Args:
        sample: 0..4.
    """

    asked: VBenchPrompt
    sample: int

    @property
    def file(self) -> str:
        return f"{self.asked.prompt}-{self.sample}.mp4"

    @property
    def id(self) -> str:
        words = re.sub(r"[^a-z0-9]+", "-", self.asked.prompt.lower()).strip("-")
        return f"{self.asked.number:04d}-{words[:120]}-{self.sample}"


def read_prompts(path: Path) -> list[VBenchPrompt]:
    """The official list.

    Raises:
        InputError: it cannot be read, or is no such list.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
        lines = json.loads(data) if len(data) <= _MAX_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError("the task list cannot be read", got=f"{path}: {str(error)[:200]}") from None
    if not isinstance(lines, list) or not lines:
        raise InputError("this is no task list", got=path, expected="vbench2_i2v_full_info.json: a list of objects")
    prompts = [_prompt(path, number, line) for number, line in enumerate(lines)]
    names = [asked.prompt for asked in prompts]
    if len(set(names)) < len(names):
        raise InputError("a prompt stands twice in the task list", got=path)
    return prompts


def _prompt(path: Path, number: int, line: object) -> VBenchPrompt:
    told: dict[str, Any] = line if isinstance(line, dict) else {}
    prompt, image, dimensions = told.get("prompt_en"), told.get("image_name"), told.get("dimension")
    if not (isinstance(dimensions, list) and _is_name(prompt) and _is_name(image)):
        raise InputError("this is no task list", got=f"{path}: entry {number}: {str(line)[:80]}",
                         expected="prompt_en, image_name and dimension, names without folders")  # fmt: skip
    return VBenchPrompt(number, str(prompt), tuple(name for name in DIMENSIONS if name in dimensions), str(image))


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value) and Path(value).name == value


def videos_of(prompts: Sequence[VBenchPrompt]) -> list[VBenchVideo]:
    """All videos that the list expects."""
    return [VBenchVideo(asked, sample) for asked in prompts for sample in range(NUM_SAMPLES)]


def request_of(video: VBenchVideo, images: Path, *, seed: int) -> dict[str, Any]:
    """A line for `remind generate --batch`; sample i has seed + i.

    Raises:
        InputError: the picture is missing.
    """
    image = images / video.asked.image
    if not image.is_file():
        raise InputError("the task's picture is missing", got=image, fix="give the folder of one crop as --images")
    return {"id": video.id, "out": video.file, "image": str(image.resolve()), "prompt": video.asked.prompt,
            "seed": seed + video.sample}  # fmt: skip


def ratio_of(hw: tuple[int, int]) -> str:
    """The crop whose shape is nearest to a video's."""
    return min(RATIOS, key=lambda name: abs(RATIOS[name] - hw[1] / hw[0]))
