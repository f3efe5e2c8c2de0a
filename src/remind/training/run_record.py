"""What a run is, written before its first step, and what every session of it took, written as it goes on.

    RUN/run.json        the record: config, code, versions, machine, seeds, data, command; never written over
    RUN/sessions.jsonl  one line when a session starts (with all that may differ from the record), one now and then,
                        one after every checkpoint, one at its end; `run_budget.py` adds them up

A line that a kill cut in half spoils itself alone: the next session starts a new one. No environment variable is
recorded but those of `RECORDED_ENVIRONMENT`, and values that look like secrets are left out of the command line.
"""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import torch

from remind.errors import InputError
from remind.training.config import TrainConfig
from remind.training.machine import git_commit, machine_facts
from remind.whole_file import whole_file

RECORD, SESSIONS = "run.json", "sessions.jsonl"
FORMAT = "remind-record-1"
EVERY_S = 30.0
"""A session says at least so often how far it is; what a killed one worked after its last line is not known."""

RECORDED_ENVIRONMENT = (
    "WORLD_SIZE", "LOCAL_WORLD_SIZE", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT",
    "CUDA_VISIBLE_DEVICES", "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG", "SLURM_JOB_ID",
)  # fmt: skip
_PACKAGES = (
    "remind-video", "torch", "numpy", "scipy", "safetensors", "einops", "jaxtyping", "av", "pyarrow", "pydantic",
    "tyro", "rich", "peft", "diffusers", "transformers", "tensorboard", "wandb",
)  # fmt: skip
_SECRET_NAME = re.compile(r"key|token|secret|password|passwd|credential", re.IGNORECASE)

Event = Literal["start", "going", "saved", "end"]


def run_facts(config: TrainConfig, *, command: Sequence[str], data: dict[str, Any], world_size: int) -> dict[str, Any]:
    """All that a result depends on, as plain JSON values.

    Args:
        command: the command line, program first.
        data: facts of what is read, its hash among them.
        world_size: processes.
    """
    return {
        "format": FORMAT,
        "time": _now(),
        "command": " ".join(without_secrets(command)),
        "config": config.to_json(),
        "commit": git_commit(),
        "versions": package_versions(),
        "machine": {**machine_facts(), **accelerator_facts()},
        "environment": {name: os.environ[name] for name in RECORDED_ENVIRONMENT if name in os.environ},
        "seed": config.seed,  # all random streams follow from it: training/batches.py
        "data": data,
        "world_size": world_size,
    }


def write_record(
    out: Path, config: TrainConfig, *, command: Sequence[str], data: dict[str, Any], world_size: int,
    resumed: bool = False,
) -> dict[str, Any]:
    """Write RUN/run.json before step one; a resumed run keeps the one it has. Returns the facts of this session.

    A new run in the folder of one that died before its first checkpoint moves that one's record aside
    (run.1.json, ...).

    Raises:
        InputError: the folder cannot be written.
    """
    facts = run_facts(config, command=command, data=data, world_size=world_size)
    path = out / RECORD
    try:
        if path.exists() and not resumed:
            number = 1
            while (aside := out / f"run.{number}.json").exists():
                number += 1
            path.rename(aside)
        if not path.exists():
            with whole_file(path) as file:
                file.write_text(json.dumps(facts, indent=1, default=str) + "\n")
    except OSError as error:
        raise InputError("the record of the run cannot be written", got=f"{path}: {error.strerror}",
                         fix="make room on the disk, or choose another --out") from None  # fmt: skip
    return facts


def append_session(out: Path, line: dict[str, Any]) -> None:
    """Add a line to RUN/sessions.jsonl: in one write, on a line of its own whatever the file ends with.

    Raises:
        InputError: it cannot be written.
    """
    path = out / SESSIONS
    try:
        with path.open("ab+") as file:
            end = file.seek(0, os.SEEK_END)
            file.seek(max(0, end - 1))
            cut = end > 0 and file.read(1) != b"\n"
            file.write((("\n" if cut else "") + json.dumps(line, default=str) + "\n").encode())
    except OSError as error:
        raise InputError("what a session took cannot be written", got=f"{path}: {error.strerror}",
                         fix="make room on the disk, then --resume") from None  # fmt: skip


class SessionLog:
    """Says in RUN/sessions.jsonl how long a session works and how far it gets. Rank 0 keeps it, for all ranks.

    Args:
        out: run folder.
        facts: of this session, from `write_record`; what differs from the run's record goes into the first line.
        step, tokens: that the run has when the session starts.
        device: kind, as `device_name` says it.
        devices: how many work together.
        seconds_before: that the session has taken already, e.g. to read its data.
        clock: seconds that never go back.
    """

    def __init__(
        self, out: Path, facts: dict[str, Any], *, step: int, tokens: int, device: str, devices: int,
        seconds_before: float = 0.0, clock: Callable[[], float] = time.monotonic,
    ):
        self.out, self.device, self.devices, self.clock = out, device, devices, clock
        self.started = clock() - seconds_before
        self.session = 1 + max((line["session"] for line in read_sessions(out)), default=0)
        self._written = -EVERY_S
        self._write("start", step, tokens, pid=os.getpid(), **_differences(out, facts))

    def step(self, step: int, tokens: int) -> None:
        """After every step: writes a line if the last one is `EVERY_S` old."""
        if self.clock() - self.started - self._written >= EVERY_S:
            self._write("going", step, tokens)

    def saved(self, step: int, tokens: int) -> None:
        """After a checkpoint: what was worked up to here is kept."""
        self._write("saved", step, tokens)

    def end(self, step: int, tokens: int, why: str) -> None:
        """When the session ends by itself: `why` is "done", or what stopped it."""
        self._write("end", step, tokens, why=why)

    def _write(self, event: Event, step: int, tokens: int, **more: Any) -> None:
        self._written = self.clock() - self.started
        append_session(self.out, {
            "session": self.session, "event": event, "time": _now(), "seconds": round(self._written, 3), "step": step,
            "tokens": tokens, "devices": self.devices, "device": self.device, **more,
        })  # fmt: skip


def read_sessions(out: Path) -> list[dict[str, Any]]:
    """The lines of RUN/sessions.jsonl that are whole, in order; none where there is no file."""
    try:
        text = (out / SESSIONS).read_bytes().decode(errors="replace")
    except OSError:
        return []
    lines: list[dict[str, Any]] = []
    for line in text.splitlines():
        try:
            found = json.loads(line)
        except ValueError:  # cut in half by a kill
            continue
        if isinstance(found, dict) and isinstance(found.get("session"), int):
            lines.append(found)
    return lines


def without_secrets(command: Sequence[str]) -> list[str]:
    """A command line without the values of options named like secrets, and without passwords in addresses."""
    words: list[str] = []
    hide_next = False
    for word in command:
        name, equals, _ = word.partition("=")
        option = word.startswith("-")
        if hide_next and not option:
            word = "***"
        elif option and equals and _SECRET_NAME.search(name):
            word = f"{name}=***"
        hide_next = option and not equals and _SECRET_NAME.search(word) is not None
        words.append(re.sub(r"://[^/@\s]*@", "://***@", word))
    return words


def package_versions() -> dict[str, str]:
    """Versions of what is installed of the packages that a result may depend on."""
    found: dict[str, str] = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def accelerator_facts() -> dict[str, Any]:
    """GPUs of this process and the libraries that drive them; empty without."""
    if not torch.cuda.is_available():
        return {}
    return {"gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
            "cuda": torch.version.cuda or "", "hip": torch.version.hip or "",
            "cudnn": torch.backends.cudnn.version()}  # fmt: skip


def device_name(device: torch.device) -> str:
    """The kind of a device, as budgets tell kinds apart."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return device.type


def _differences(out: Path, facts: dict[str, Any]) -> dict[str, Any]:
    """What a session has other than the run's record, by the names of the record; of the config only what differs."""
    try:
        record = json.loads((out / RECORD).read_text())
    except (OSError, ValueError):  # damaged by hand; the session must still be accounted for
        record = {}
    facts = json.loads(json.dumps(facts, default=str))
    differs = {key: value for key, value in facts.items() if key != "time" and record.get(key) != value}
    if "config" in differs and isinstance(record.get("config"), dict):
        differs["config"] = {key: value for key, value in facts["config"].items() if record["config"].get(key) != value}
    return {"differs": differs} if differs else {}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
