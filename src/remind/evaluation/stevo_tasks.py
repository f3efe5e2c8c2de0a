"""STEVO-Bench's tasks: official folders, what each protocol asks of a model, and the layout of its outputs.

Source: STEVO-Bench (arXiv 2603.13215) and its repository's formats. A task is a folder ID with ID.yaml and perhaps
ID_init_frame.png (.jpg, .jpeg). Two protocols: `text`, where words ask for the distractor, and `camera`, where the
camera turns away, variants of one scene are the same task, and a pose string says how.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from remind.camera_io.strings import pose_string_c2w
from remind.errors import CameraError, InputError
from remind.evaluation.eval_run import write_json
from remind.evaluation.found_videos import sha256_of
from remind.inference.camera_jumps import turns_deg
from remind.whole_file import whole_file
from remind.yaml_file import read_yaml

Protocol = Literal["text", "camera"]
Distractor = Literal["cardboard", "curtain", "lightoff", "camera pan", "other", "baseline"]
DISTRACTORS: tuple[Distractor, ...] = get_args(Distractor)
NUM_FRAMES = 81
"""Of our models' videos; the official pose strings take 173."""
CAMERA_KEY = "HY-WorldPlay"
_SUFFIXES = ("_cardboard", "_curtain", "_lightoff")
_BASELINE = "_00"
_PAN: Literal["camera pan"] = "camera pan"
_PAUSE = re.compile(r"(,?\s*then,?|\.)\s*after\s+a\s+pause\b", re.IGNORECASE)


@dataclass(frozen=True)
class StevoTask:
    """One official task.

    Args:
        id: of the task.
        folder: it was read from.
        level: of difficulty, or None if the file says none.
        category: e.g. scalar_state, or "".
        video_prompt: for models of words.
        camera_prompt: for models with cameras: the trigger alone, "" where the picture implies the process.
        camera: pose string, "" if there is none.
        outcome: in words, an instruction to edit the first frame into the last, or "".
        init_frame: the first frame, None if the file is missing.
        sha256: of the task's file and first frame.
    """

    id: str
    folder: Path
    level: int | None
    category: str
    video_prompt: str
    camera_prompt: str
    camera: str
    outcome: str
    init_frame: Path | None
    sha256: str


@dataclass(frozen=True)
class StevoCase:
    """A task under a protocol: what a model is asked, and what a judge must know.

    Args:
        id: of the output: the task's, or under `camera` without the distractor's suffix.
        prompt: for the model.
        camera: pose string for the model, or "".
        hidden_by: how the view is asked to be lost, in words; `camera pan`; or "" if it is not.
        trigger: action that is asked for, or "".
    """

    id: str
    task: StevoTask
    protocol: Protocol
    prompt: str
    camera: str
    hidden_by: str
    trigger: str

    @property
    def distractor(self) -> Distractor:
        if self.task.id.endswith(_BASELINE) or not self.hidden_by:
            return "baseline"
        if self.hidden_by == _PAN:
            return _PAN
        found = next((suffix[1:] for suffix in _SUFFIXES if self.task.id.endswith(suffix)), "other")
        return found  # type: ignore[return-value]


def read_tasks(folder: Path) -> list[StevoTask]:
    """All tasks below a folder, in the order of their paths.

    Raises:
        InputError: no tasks, two of one name, or a file that is no task.
    """
    if not folder.is_dir():
        raise InputError("no such folder of tasks", got=folder)
    files = [path for path in sorted(folder.rglob("*.yaml")) if path.stem == path.parent.name]
    tasks = [_task(path) for path in files]
    names = [task.id for task in tasks]
    if not tasks:
        raise InputError("no tasks in the folder", got=folder, expected="ID/ID.yaml, as STEVO-Bench has them")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError("two tasks have one id", got=twice[0])
    return tasks


def _task(path: Path) -> StevoTask:
    data = read_yaml(path)

    def part(key: str) -> Mapping[str, Any]:
        value = data.get(key) if isinstance(data, dict) else None
        return value if isinstance(value, dict) else {}

    if not isinstance(data, dict) or not isinstance(part("prompts").get("video_WM"), str):
        raise InputError("the file is no task", got=path, expected="YAML with prompts.video_WM")
    frames = (path.with_name(f"{path.stem}_init_frame{end}") for end in (".png", ".jpg", ".jpeg"))
    init_frame = next((frame for frame in frames if frame.is_file()), None)
    digest = hashlib.sha256(path.read_bytes() + (init_frame.read_bytes() if init_frame else b"")).hexdigest()
    level = data.get("level")
    return StevoTask(
        str(data.get("id") or path.stem), path.parent, level if isinstance(level, int) else None,
        _words(data.get("category")), _words(part("prompts").get("video_WM")), _words(part("prompts").get("camera_WM")),
        _words(part("camera_control").get(CAMERA_KEY)), _words(part("evaluation").get("init2final_edit_prompt")),
        init_frame, digest,
    )  # fmt: skip


def _words(value: object) -> str:
    """Text on one line; a missing value, and null that was written out, are no text."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    return "" if text.lower() in ("null", "none") else text


def cases_of(tasks: Sequence[StevoTask], protocol: Protocol) -> list[StevoCase]:
    """What a protocol asks of each task.

    Source: the official rules. Words that ask for no pause, beside a pose string, count as a camera pan. `camera` keeps
    the first variant of a scene, under the scene's name, and only tasks with a pose string.

    Raises:
        InputError: no task under this protocol.
    """
    if protocol == "text":
        return [StevoCase(t.id, t, protocol, t.video_prompt, "",
                          _clause(t.video_prompt) or (_PAN if t.camera else ""), t.camera_prompt)
                for t in tasks]  # fmt: skip
    found: dict[str, StevoCase] = {}
    for task in tasks:
        if task.camera:
            base = base_name(task.id)
            found.setdefault(base, StevoCase(base, task, protocol, task.camera_prompt, task.camera, _PAN,
                                             task.camera_prompt))  # fmt: skip
    if not found:
        raise InputError("no task has a camera path", expected=f"camera_control.{CAMERA_KEY}", fix="use protocol text")
    return list(found.values())


def base_name(task_id: str) -> str:
    """The scene of a task: its name without the distractor."""
    return next((task_id.removesuffix(suffix) for suffix in _SUFFIXES if task_id.endswith(suffix)), task_id)


def _clause(prompt: str) -> str:
    """The part of a prompt that asks for the view to be lost; "" where no pause is asked for."""
    pause = _PAUSE.search(prompt)
    if pause is None:
        return ""
    asked = prompt[: pause.start()]
    return asked.split(";", 1)[-1].strip()


def camera_facts(camera: str, num_frames: int = NUM_FRAMES) -> dict[str, Any]:
    """How an official pose string is rescaled: its own length, ours, and the peak angle, which stays.

    Raises:
        CameraError: no pose string, or one that loses its peak at this length.
    """
    own, ours = pose_string_c2w(camera), pose_string_c2w(camera, num_frames=num_frames)
    peaks = [float(turns_deg(c2w[:1].expand_as(c2w), c2w).max()) for c2w in (own, ours)]
    if abs(peaks[0] - peaks[1]) > 1e-6:
        raise CameraError("the rescaled path turns less far", got=f"{peaks[1]:.2f} degrees", expected=f"{peaks[0]:.2f}")
    return {"camera": camera, "official_frames": len(own), "frames": num_frames, "peak_deg": round(peaks[1], 6)}


def request_of(case: StevoCase, *, seed: int) -> dict[str, Any]:
    """A line for `remind generate --batch`.

    Raises:
        InputError: the task's first frame is missing.
    """
    if case.task.init_frame is None:
        raise InputError("the task has no first frame", got=case.task.folder,
                         expected=f"{case.task.folder.name}_init_frame.png beside its yaml")  # fmt: skip
    asked = {"id": case.id, "image": str(case.task.init_frame.resolve()), "prompt": case.prompt, "seed": seed}
    return asked | ({"camera": case.camera, "camera_fit": "stretch"} if case.camera else {})


def tasks_sha256(cases: Iterable[StevoCase]) -> str:
    """Of a test set."""
    listed = [[case.id, case.protocol, case.task.sha256] for case in cases]
    return hashlib.sha256(json.dumps(listed).encode()).hexdigest()


def write_outputs(folder: Path, videos: Mapping[str, Path], protocol: Protocol) -> Path:
    """The official layout: ID.mp4 of each output, and exactly one JSON file, from ID to file name.

    Their evaluation tells camera models by the folder's name, so under `camera` it holds the word lingbot, the first
    public model of that protocol. Videos are linked where the file system can, else copied.

    Returns:
        The folder to give to the official evaluation.
    """
    place = folder / ("remind_camera_as_lingbot" if protocol == "camera" else "remind_text")
    place.mkdir(parents=True, exist_ok=True)
    for name, video in videos.items():
        target = place / f"{name}.mp4"
        if target.exists() and sha256_of(target) == sha256_of(video):
            continue
        with whole_file(target, synced=False) as partial:
            try:
                os.link(video, partial)
            except OSError:
                shutil.copyfile(video, partial)
    write_json(place / "output_map.json", {name: f"{name}.mp4" for name in videos})
    return place
