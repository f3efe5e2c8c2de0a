"""Drive a tool that lives in an environment of its own: one long-lived worker, one folder per request.

Our choice: a process rather than an import, because these tools pin versions that exclude each other, crash, hang and
hold gigabytes; and one worker for many requests, because loading their weights takes longer than a clip.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import numpy as np

from remind.curation.estimators.contract import (
    CONTRACT,
    MAX_JSON_BYTES,
    EstimatorError,
    EstimatorSetupError,
    Handshake,
    Reply,
    ResultInfo,
    parse,
    read_file,
)
from remind.curation.estimators.process import LineEnd, LineOverflow, LineProcess, LineTimeout
from remind.errors import InputError

# Ours, and wrong for another interpreter: with them it would import our packages.
_NOT_INHERITED = ("PYTHONPATH", "PYTHONHOME", "PYTHONSAFEPATH", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__")
_GRACE_S = 1.0

Value = TypeVar("Value")


@dataclass(frozen=True)
class Request:
    """What a worker is asked.

    Args:
        task: a name that the worker knows.
        parameters: plain JSON values.
        rgb: pictures for `frames.npz`, uint8 [t h w 3], or None.
        mp4: bytes for `frames.mp4`, or None.
        texts: other files of the task, by name.
    """

    task: str
    parameters: Mapping[str, object]
    rgb: np.ndarray | None = None
    mp4: bytes | None = None
    texts: Mapping[str, str] = field(default_factory=dict)


class WorkerTool:
    """A tool behind a worker script; starts when first asked, and again after a crash. Use as a context manager.

    Args:
        command: interpreter of the tool's environment, worker script and its arguments; never a shell line.
        timeout_s: for one request, loading of weights included, > 0; then the whole process group is killed.
        start_timeout_s: until the worker has said what it speaks, > 0.
        env: variables to add to the inherited environment (which loses those that steer a Python).
        work_dir: where request folders are made; None is the system's place for temporary files.

    Raises:
        InputError: an empty command or a time that is not positive.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        timeout_s: float = 900.0,
        start_timeout_s: float = 60.0,
        env: Mapping[str, str] | None = None,
        work_dir: Path | None = None,
    ):
        if isinstance(command, str) or not command:
            raise InputError("a tool's command must be a list", got=repr(command),
                             expected="[interpreter, worker script]")  # fmt: skip
        if not (timeout_s > 0 and start_timeout_s > 0):
            raise InputError("times must be positive", got=(timeout_s, start_timeout_s), expected="seconds > 0")
        self.command, self.timeout_s, self.start_timeout_s = tuple(command), timeout_s, start_timeout_s
        inherited = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
        self._env = {**inherited, **(env or {})}
        self._work_dir = work_dir
        self._process: LineProcess | None = None
        self._handshake: Handshake | None = None
        self._lock = threading.Lock()

    def __enter__(self) -> WorkerTool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the worker; the next request would start another."""
        with self._lock:
            self._stop(grace_s=_GRACE_S)

    def handshake(self) -> Handshake:
        """What the worker speaks; starts it if need be. Loads no weights.

        Raises:
            EstimatorSetupError: missing, of another version, or not a worker.
        """
        with self._lock:
            return self._started()

    def run(self, request: Request, read: Callable[[Path, ResultInfo], Value]) -> Value:
        """Ask for one thing and read the answer; the request's folder is gone afterwards, whatever happens.

        Args:
            read: turns the folder with the answer into a value, checking everything.

        Raises:
            EstimatorSetupError: no request will work.
            EstimatorError: this one did not: refused, crashed, out of time, or answered nonsense.
        """
        with self._lock:
            about = self._started()
            if request.task not in about.tasks:
                raise EstimatorSetupError("the worker does not know this task", got=about.tasks, expected=request.task,
                                          fix="point the command at another worker, or update it")  # fmt: skip
            try:
                with tempfile.TemporaryDirectory(prefix="remind-", dir=self._work_dir) as name:
                    folder = Path(name)
                    _write(folder, request)
                    self._ask(folder)
                    info = parse(ResultInfo, read_file(folder, "result.json", max_bytes=MAX_JSON_BYTES),
                                 what="result.json")  # fmt: skip
                    return read(folder, info)
            except OSError as error:
                raise EstimatorError("a request's folder cannot be written", got=error.strerror,
                                     fix="free some space") from None  # fmt: skip

    def _started(self) -> Handshake:
        if self._process is not None and self._handshake is not None and self._process.alive:
            return self._handshake
        self._stop()
        try:
            self._process = LineProcess([*self.command, "--serve"], env=self._env)
        except OSError as error:
            raise EstimatorSetupError(
                "the tool cannot be started",
                got=f"{self.command[0]}: {error.strerror}",
                expected="[interpreter of the tool's environment, worker script]",
                fix="check both paths",
            ) from None
        try:
            line = self._read_line(self.start_timeout_s, "starting")
            self._handshake = parse(Handshake, line, what="the worker")
        except EstimatorError as error:
            self._stop()
            if isinstance(error, EstimatorSetupError):
                raise
            raise EstimatorSetupError(error.what, got=error.got, expected=error.expected, fix=error.fix,
                                      stderr_tail=error.stderr_tail) from None  # fmt: skip
        return self._handshake

    def _ask(self, folder: Path) -> None:
        assert self._process is not None
        try:
            self._process.write_line(json.dumps({"folder": str(folder)}))
        except LineEnd:
            raise self._failed("the tool is gone", got="it closed its stdin") from None
        line = self._read_line(self.timeout_s, "answering")
        try:
            reply = parse(Reply, line, what="the worker's reply")
        except EstimatorError:
            self._stop()  # out of step: what it says next would be taken for the next answer
            raise
        if reply.folder != str(folder) or self._process.has_more():
            raise self._failed("the worker's replies are out of step", got=line[:120])
        if not reply.ok:
            kind = EstimatorSetupError if reply.kind == "setup" else EstimatorError
            raise kind("the tool could not do it", got=reply.error, stderr_tail=self._process.stderr_tail)

    def _read_line(self, timeout_s: float, doing: str) -> bytes:
        assert self._process is not None
        try:
            return self._process.read_line(timeout_s)
        except LineTimeout:
            raise self._failed(f"the tool was stopped while {doing}", got=f"nothing for {timeout_s:g} s",
                               fix="raise the timeout, or leave this clip out") from None  # fmt: skip
        except LineOverflow:
            raise self._failed("the tool floods its stdout", got="a line without an end") from None
        except LineEnd:
            raise self._failed(f"the tool died while {doing}") from None

    def _failed(self, what: str, *, got: object = None, fix: str | None = None) -> EstimatorError:
        """Stop the worker and say what it said last."""
        assert self._process is not None
        process, code = self._process, self._stop()
        tail = process.stderr_tail
        ends = got if got is not None else f"exit code {code}"
        last = tail.splitlines()[-1][-200:] if tail else "nothing on stderr"
        return EstimatorError(what, got=f"{ends} ({last})", fix=fix, stderr_tail=tail)

    def _stop(self, *, grace_s: float = 0.0) -> int | None:
        process, self._process, self._handshake = self._process, None, None
        return None if process is None else process.stop(grace_s=grace_s)


def _write(folder: Path, request: Request) -> None:
    if request.rgb is not None:
        np.savez(folder / "frames.npz", rgb=request.rgb)
    if request.mp4 is not None:
        (folder / "frames.mp4").write_bytes(request.mp4)
    for name, text in request.texts.items():
        (folder / name).write_text(text)
    content = {"contract": CONTRACT, "task": request.task, "parameters": dict(request.parameters)}
    (folder / "request.json").write_text(json.dumps(content, allow_nan=False))
