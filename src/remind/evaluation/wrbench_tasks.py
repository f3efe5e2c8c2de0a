"""WRBench's official inputs: Natural-25 prompt variants, camera scopes and first frames, as tasks of 81 frames.

Source: WRBench (arXiv 2606.20545; JinPLu/WRBench), `variants.jsonl` and its camera scopes: 25 scenes with four events,
each in four wordings, without a camera and with the words of three. Presets turn 60 degrees (or what a scope says) or
shift by 0.5, 40 frames out and 41 back.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from remind.errors import InputError
from remind.evaluation.camera_match import Motion
from remind.evaluation.eval_run import read_json

NUM_FRAMES, FPS = 81, 16
YAW_DEG, PAN = 60.0, 0.5
FOV_DEG = 60.0
"""Of the lens that WRBench's own trajectories have; nothing is known of the pictures' real one."""
Cameras = Literal["named", "all"]
PRESETS: dict[str, Motion] = {"static": "static", "yaw_LR": "yaw", "pan_LR": "pan", "yaw_RL": "yaw", "pan_RL": "pan"}
PROMPT_PROFILE = "ti2v_active"
_FAMILY: dict[Motion, str] = {"yaw": "rotation", "pan": "translation", "static": "static"}
_MAX_LINE, _MAX_LINES = 2**17, 100_000
_TEXTS = ("variant_id", "family_id", "reasoning_tier", "oov_gap", "event_delta", "world_state_prompt", "expected_state",
          "ti2v_prompt")  # fmt: skip


@dataclass(frozen=True)
class Camera:
    """A camera of a scope.

    Args:
        label: ends the video's name.
        preset: one of `PRESETS`.
        yaw_deg: of a turn, its peak; None for the others.
        stress_axis: as the manifest has it.
    """

    label: str
    preset: str
    yaw_deg: float | None = None
    stress_axis: str = "legacy"

    @property
    def motion(self) -> Motion:
        return PRESETS[self.preset]

    @property
    def peak_deg(self) -> float:
        """Largest turn, without its sign; 0 for what does not turn."""
        return (YAW_DEG if self.yaw_deg is None else self.yaw_deg) if self.motion == "yaw" else 0.0

    @property
    def script(self) -> str:
        """In WRBench's camera grammar, 81 frames."""
        if self.motion == "static":
            return f"static@{NUM_FRAMES}"
        out, back = ("left", "right") if self.preset.endswith("LR") else ("right", "left")
        amount = self.peak_deg if self.motion == "yaw" else PAN
        half = NUM_FRAMES // 2
        return f"{self.motion}:{out}:{amount:g}@{half},{self.motion}:{back}:{amount:g}@{NUM_FRAMES - half}"

    @property
    def control(self) -> tuple[str, str]:
        """Family and profile in WRBench's sidecars."""
        if self.motion == "yaw":
            return "rotation", "canonical_60deg" if self.peak_deg == YAW_DEG else f"diagnostic_{self.peak_deg:g}deg"
        return _FAMILY[self.motion], {"pan": "canonical_pan", "static": "canonical_static"}[self.motion]


@dataclass(frozen=True)
class Variant:
    """A line of the official file, its fields by their own names."""

    variant_id: str
    family_id: str
    reasoning_tier: str
    oov_gap: str
    event_delta: str
    divergence_id: str | None
    world_state_prompt: str
    expected_state: str
    ti2v_prompt: str


@dataclass(frozen=True)
class WRTask:
    """One video of the benchmark."""

    variant: Variant
    camera: Camera
    scope: str

    @property
    def id(self) -> str:
        return f"{self.variant.variant_id}__{self.camera.label}"

    def frame(self, folder: Path) -> Path:
        """Its first frame in the official folder."""
        return folder / f"{self.variant.family_id}.png"


def read_variants(path: Path) -> list[Variant]:
    """The official file of variants.

    Raises:
        InputError: it cannot be read, a line that is no variant, or one twice.
    """
    variants: list[Variant] = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(iter(lambda: file.readline(_MAX_LINE + 1), b""), 1):
                if len(line) > _MAX_LINE or number > _MAX_LINES:
                    raise InputError("this is no file of variants", got=f"{path}: line {number}: too long or too many")
                if line.strip():
                    variants.append(_variant(path, number, line))
    except OSError as error:
        raise InputError("the variants cannot be read", got=f"{path}: {error.strerror}") from None
    names = [variant.variant_id for variant in variants]
    if not names or len(set(names)) < len(names):
        raise InputError("the file has no variants" if not names else "a variant stands twice in the file", got=path)
    return variants


def _variant(path: Path, number: int, line: bytes) -> Variant:
    try:
        told: Any = json.loads(line)
    except (ValueError, RecursionError):
        told = None
    told = told if isinstance(told, dict) else {}
    wrong = [name for name in _TEXTS if not isinstance(told.get(name), str) or not told[name].strip()]
    divergence = told.get("divergence_id")
    if wrong or not (divergence is None or isinstance(divergence, str)):
        raise InputError("this is no variant of WRBench", got=f"{path.name}: line {number}: {line[:60]!r}",
                         expected=f"texts under {', '.join(wrong or ['divergence_id'])}")  # fmt: skip
    if Path(told["family_id"]).name != told["family_id"]:
        raise InputError("a family is no file name", got=f"{path.name}: line {number}: {told['family_id'][:60]!r}")
    return Variant(divergence_id=divergence, **{name: told[name] for name in _TEXTS})


def tasks_of(variants: Iterable[Variant], cameras: Cameras) -> list[WRTask]:
    """Tasks without a scope file.

    Args:
        cameras: `named`: every variant whose words name a camera, under that camera (300 of the official 400); only
            these can be scored on what comes back into view. `all`: the variants whose words name none, under each of
            the five (500), as the toolkit's own generation script has it.

    Raises:
        InputError: no task.
    """
    if cameras == "named":
        tasks = [WRTask(variant, Camera(variant.oov_gap, variant.oov_gap), "natural25_named_cameras")
                 for variant in variants if variant.oov_gap in PRESETS]  # fmt: skip
    else:
        tasks = [WRTask(variant, Camera(preset, preset), "natural25_legacy_camera_combos")
                 for variant in variants if variant.oov_gap == "none" for preset in PRESETS]  # fmt: skip
    if not tasks:
        raise InputError("the variants give no task", got=f"cameras {cameras}")
    return tasks


def tasks_of_scope(variants: Iterable[Variant], path: Path) -> list[WRTask]:
    """Tasks of an official camera scope.

    Raises:
        InputError: no such file, no scope, or another number of tasks than it expects.
    """
    told = read_json(path)
    rows, wanted = told.get("cameras"), told.get("variant_filter")
    gap = wanted.get("oov_gap") if isinstance(wanted, dict) else None
    if told.get("schema_version") != 1 or not isinstance(gap, str) or not isinstance(rows, list) or not rows:
        raise InputError("this is no camera scope of WRBench", got=path,
                         expected="schema_version 1, variant_filter.oov_gap and cameras")  # fmt: skip
    cameras = [_camera(path, row) for row in rows]
    if len({camera.label for camera in cameras}) < len(cameras):
        raise InputError("a camera stands twice in the scope", got=path)
    scope = str(told.get("scope_id"))
    tasks = [WRTask(variant, camera, scope) for variant in variants if variant.oov_gap == gap for camera in cameras]
    if len(tasks) != told.get("expected_task_count"):
        raise InputError("the scope expects other variants", got=f"{len(tasks)} tasks",
                         expected=told.get("expected_task_count"),
                         fix="give the variants that it belongs to")  # fmt: skip
    return tasks


def _camera(path: Path, row: object) -> Camera:
    told: dict[str, Any] = row if isinstance(row, dict) else {}
    label, preset, axis, yaw = (told.get(name) for name in ("label", "preset", "stress_axis", "stress_yaw_deg"))
    turns = PRESETS.get(str(preset)) == "yaw"
    fits = isinstance(yaw, int | float) and 0 < yaw <= 360 if turns else yaw is None
    if not (isinstance(label, str) and label and preset in PRESETS and told.get("camera_type") == preset and fits):
        raise InputError("a camera of the scope is none", got=f"{path.name}: {str(row)[:100]}",
                         expected=f"a label, and one of {', '.join(PRESETS)} as preset and as camera_type")  # fmt: skip
    return Camera(label, str(preset), None if yaw is None else float(yaw), str(axis))


def hash_of_tasks(tasks: Iterable[WRTask]) -> str:
    """Of all that is asked, pictures apart."""
    return hashlib.sha256(json.dumps([asdict(task) for task in tasks], sort_keys=True).encode()).hexdigest()


def request_of(task: WRTask, frames: Path, *, seed: int) -> dict[str, Any]:
    """A line for `remind generate --batch`."""
    return {"id": task.id, "image": str(task.frame(frames).resolve()), "prompt": task.variant.ti2v_prompt,
            "camera": task.camera.script, "fov_deg": FOV_DEG, "seed": seed}  # fmt: skip
