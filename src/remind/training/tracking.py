"""Where the numbers and pictures of a run go while it runs: TensorBoard, W&B, both or neither.

A tracker only watches. If it fails (a full disk, a server that does not answer) it says so once and stays silent from
then on; the training goes on. `RUN/metrics.jsonl` is the record, not these.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from remind.errors import InputError
from remind.whole_file import whole_file

log = logging.getLogger("remind")

FLUSH_S = 5  # TensorBoard waits two minutes otherwise, and what waits is lost when a run is killed
FINISH_S = 60  # W&B would wait for ever for a server that has gone; its folder can be synced later
WANDB_PROJECT = "remind"  # unless $WANDB_PROJECT says otherwise


@runtime_checkable
class Tracker(Protocol):
    """What a run tells while it runs. Steps never fall; a step may be told in several calls."""

    def scalars(self, step: int, values: dict[str, float]) -> None:
        """Numbers after `step` finished steps, by name."""

    def picture(self, step: int, name: str, rgb: UInt8[np.ndarray, "h w 3"]) -> None:
        """A picture after `step` finished steps."""

    def close(self) -> None:
        """Write what is still waiting. Nothing may be told afterwards."""


def make_tracker(out: Path, names: Sequence[str], *, step: int = 0) -> Tracker:
    """The trackers of a run. Only one process of a run may make them: the first rank.

    Args:
        out: run folder. TensorBoard writes to OUT/tensorboard, W&B to OUT/wandb and OUT/wandb-run.json.
        names: some of `tensorboard`, `wandb`; may be empty.
        step: finished steps of the checkpoint that the run continues from; what was told of later steps will not show
            twice. 0 = a new run.

    Raises:
        InputError: an unknown name, a package that is not installed, or W&B without a login.
    """
    unknown = sorted(set(names) - set(_TRACKERS))
    if unknown:
        raise InputError("unknown tracker", got=", ".join(unknown), expected=" or ".join(_TRACKERS))
    missing = [name for name in names if not _installed(name)]
    if missing:
        raise InputError(f"{missing[0]} is not installed", fix=f"pip install {missing[0]}, or track without it")
    return _Several([_Careful(name, out, step) for name in dict.fromkeys(names)])


def _installed(package: str) -> bool:
    """Whether it is a package: a folder of that name, such as W&B's own ./wandb, can be imported too."""
    spec = find_spec(package)
    return spec is not None and spec.origin is not None


class _TensorBoard:
    """Event files in OUT/tensorboard, one more with each session of the run."""

    def __init__(self, out: Path, step: int):
        from torch.utils.tensorboard import SummaryWriter  # a second to import

        # What a reader has seen of this step and later ones, it drops.
        self._writer = SummaryWriter(str(out / "tensorboard"), purge_step=step + 1 if step else 0, flush_secs=FLUSH_S)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def picture(self, step: int, name: str, rgb: UInt8[np.ndarray, "h w 3"]) -> None:
        self._writer.add_image(name, rgb, step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()


class _Wandb:
    """A W&B run that a resumed training continues: its id is kept in the run folder.

    W&B takes each step once and drops what comes back to an earlier one. A resumed run computes the same numbers
    again, so nothing is lost. Of this process it is told nothing but the folder's name and what is tracked.
    """

    def __init__(self, out: Path, step: int):
        import wandb

        record = out / "wandb-run.json"
        run_id = json.loads(record.read_text())["id"] if step and record.is_file() else secrets.token_hex(4)
        with whole_file(record) as partial:
            partial.write_text(json.dumps({"id": run_id}) + "\n")
        self._image = wandb.Image
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", WANDB_PROJECT), name=out.resolve().name, id=run_id,
                resume="allow" if step else None, dir=str(out),
                # Neither the terminal's text, nor code, nor the command line and checkout, nor the machine's load.
                settings=wandb.Settings(console="off", save_code=False, disable_git=True, x_disable_meta=True,
                                        x_disable_stats=True, silent=True, finish_timeout=FINISH_S),
            )
        except wandb.errors.UsageError as error:
            raise InputError("W&B cannot start", got=str(error).splitlines()[0],
                             fix="wandb login, or WANDB_MODE=offline, or track without it") from None

    def scalars(self, step: int, values: dict[str, float]) -> None:
        if step >= self._run.step:
            self._run.log(dict(values), step=step)

    def picture(self, step: int, name: str, rgb: UInt8[np.ndarray, "h w 3"]) -> None:
        if step >= self._run.step:
            self._run.log({name: self._image(rgb)}, step=step)

    def close(self) -> None:
        self._run.finish()


_TRACKERS: dict[str, Callable[[Path, int], Tracker]] = {"tensorboard": _TensorBoard, "wandb": _Wandb}


class _Careful:
    """A tracker that is given up at its first failure, with one warning."""

    def __init__(self, name: str, out: Path, step: int):
        self._name = name
        self._tracker: Tracker | None = None
        self._try(lambda: self._start(out, step))

    def _start(self, out: Path, step: int) -> None:
        self._tracker = _TRACKERS[self._name](out, step)

    def scalars(self, step: int, values: dict[str, float]) -> None:
        if (tracker := self._tracker) is not None:
            self._try(lambda: tracker.scalars(step, values))

    def picture(self, step: int, name: str, rgb: UInt8[np.ndarray, "h w 3"]) -> None:
        if (tracker := self._tracker) is not None:
            self._try(lambda: tracker.picture(step, name, rgb))

    def close(self) -> None:
        if (tracker := self._tracker) is not None:
            self._try(tracker.close)
        self._tracker = None

    def _try(self, tell: Callable[[], Any]) -> None:
        try:
            tell()
        except InputError:
            raise
        except Exception as error:  # whatever a library, a disk or a server comes up with: it must not end a training
            self._tracker = None
            reason = " ".join(str(error).split()) or "no reason given"
            log.warning("%s is given up, training goes on: %s: %s", self._name, type(error).__name__, reason[:300])


class _Several:
    """All trackers of a run as one."""

    def __init__(self, trackers: Sequence[Tracker]):
        self._trackers = trackers

    def scalars(self, step: int, values: dict[str, float]) -> None:
        for tracker in self._trackers:
            tracker.scalars(step, values)

    def picture(self, step: int, name: str, rgb: UInt8[np.ndarray, "h w 3"]) -> None:
        for tracker in self._trackers:
            tracker.picture(step, name, rgb)

    def close(self) -> None:
        for tracker in self._trackers:
            tracker.close()
