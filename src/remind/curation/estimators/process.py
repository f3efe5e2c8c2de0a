"""A child process that speaks lines of text, in a process group of its own that can always be killed."""

from __future__ import annotations

import contextlib
import os
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence

_MAX_LINE_BYTES = 1 << 16
_TAIL_BYTES = 1 << 14
_READER_JOIN_S = 2.0


class LineTimeout(Exception):
    """No whole line in time."""


class LineEnd(Exception):
    """The child closed its stdout: it is gone or going."""


class LineOverflow(Exception):
    """A line without an end."""


class LineProcess:
    """One child with pipes on all three streams; stderr is drained in a thread and only its tail is kept.

    Args:
        command: program and arguments, never a shell line.
        env: the child's whole environment.
        cwd: its working directory, or None for ours.

    Raises:
        OSError: a program that is not there or cannot be run.
    """

    def __init__(self, command: Sequence[str], *, env: Mapping[str, str], cwd: str | None = None):
        self._child = subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=dict(env),
            cwd=cwd,
            start_new_session=True,
        )
        self._line = bytearray()
        self._tail = bytearray()
        self._drain = threading.Thread(target=self._drain_stderr, daemon=True)
        self._drain.start()

    def _drain_stderr(self) -> None:
        assert self._child.stderr is not None
        with contextlib.suppress(OSError, ValueError):
            while chunk := os.read(self._child.stderr.fileno(), 1 << 12):
                self._tail = (self._tail + chunk)[-_TAIL_BYTES:]

    @property
    def alive(self) -> bool:
        return self._child.poll() is None

    @property
    def stderr_tail(self) -> str:
        return bytes(self._tail).decode(errors="replace").strip()

    def write_line(self, text: str) -> None:
        """Send one line.

        Raises:
            LineEnd: nobody reads any more.
        """
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(text.encode() + b"\n")
            self._child.stdin.flush()
        except OSError:
            raise LineEnd from None

    def read_line(self, timeout_s: float) -> bytes:
        """The next line of stdout, without its end.

        Raises:
            LineTimeout, LineEnd, LineOverflow: as they say.
        """
        assert self._child.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)
            while (end := self._line.find(b"\n")) < 0:
                if len(self._line) > _MAX_LINE_BYTES:
                    raise LineOverflow
                left = deadline - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise LineTimeout
                chunk = os.read(self._child.stdout.fileno(), 1 << 12)
                if not chunk:
                    raise LineEnd
                self._line += chunk
        line = bytes(self._line[:end])
        del self._line[: end + 1]
        return line

    def has_more(self) -> bool:
        """Whether something was said that nobody asked for."""
        return bool(self._line)

    def stop(self, *, grace_s: float = 0.0) -> int | None:
        """End the child and everything that it started; returns its exit code.

        Args:
            grace_s: how long it may take to leave by itself once its stdin is closed.
        """
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._child.wait(grace_s)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._child.pid, signal.SIGKILL)  # grandchildren too, even if the child has left
        code = self._child.wait()
        self._drain.join(_READER_JOIN_S)  # a daemon that left the group may hold the pipe: do not wait for it
        for stream in (self._child.stdout, self._child.stderr):
            if stream is not None and not self._drain.is_alive():
                stream.close()
        return code
