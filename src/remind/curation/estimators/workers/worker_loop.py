"""The worker's half of the contract: announce, then serve requests until the input ends. Standard library and numpy.

    python WORKER.py --contract   print what the worker speaks, as one line of JSON, and leave
    python WORKER.py --serve      print the same line, then answer each line `{"folder": PATH}` with one line

A request's folder holds `request.json` and what it names; `result.npz` (or `result.mp4`) and `result.json` are added,
`result.json` last. Whatever the tool prints goes to stderr, since stdout carries the protocol. Runs on Python 3.9.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

CONTRACT = 1


class SetupError(Exception):
    """The tool itself is missing or broken, so that no request will ever work."""


@dataclass
class Result:
    """What a worker answers.

    Args:
        weights: which ones were used; empty if none.
        weights_licence: as their publisher names it; "unknown" if the worker cannot tell.
        arrays: for `result.npz`; none are written if empty.
        facts: numbers and words worth keeping.
    """

    weights: str = ""
    weights_licence: str = ""
    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    facts: dict[str, Any] = field(default_factory=dict)


Handle = Callable[[str, dict[str, Any], Path], Result]  # task, parameters, folder


def main(tool: str, tool_version: str, tasks: tuple[str, ...], handle: Handle) -> None:
    """Be a worker.

    Args:
        tool: name of the tool, e.g. `colmap`.
        tool_version: for the record.
        tasks: names of the tasks that `handle` knows.
        handle: does one request; it may write `result.mp4` into the folder by itself.
    """
    parser = argparse.ArgumentParser(description=f"ReMind worker for {tool}")
    mode = parser.add_mutually_exclusive_group(required=True)
    mode.add_argument("--contract", action="store_true", help="print what this worker speaks and leave")
    mode.add_argument("--serve", action="store_true", help="answer requests, one line of JSON each")
    arguments = parser.parse_args()
    about = {"contract": CONTRACT, "tool": tool, "tool_version": tool_version, "tasks": list(tasks)}
    if arguments.contract:
        print(json.dumps(about))
        return
    out = os.fdopen(os.dup(1), "w")  # ours alone: from here on, fd 1 is stderr, for native code too
    os.dup2(2, 1)
    _say(out, about)
    for line in sys.stdin:
        folder = Path(json.loads(line)["folder"])
        try:
            _serve(folder, about, handle)
        except BaseException as error:
            traceback.print_exc()
            reason = f"{type(error).__name__}: {error}"[:500]
            kind = "setup" if isinstance(error, SetupError) else "input"
            with contextlib.suppress(OSError):
                _say(out, {"folder": str(folder), "ok": False, "kind": kind, "error": reason})
            if not isinstance(error, Exception):
                raise
        else:
            _say(out, {"folder": str(folder), "ok": True})


def _say(out: TextIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message) + "\n")
    out.flush()


def _serve(folder: Path, about: dict[str, Any], handle: Handle) -> None:
    request = json.loads((folder / "request.json").read_text())
    if request["contract"] != CONTRACT:
        raise SetupError(f"the request speaks contract {request['contract']}, this worker {CONTRACT}")
    if request["task"] not in about["tasks"]:
        raise SetupError(f"unknown task {request['task']!r}, this worker knows {about['tasks']}")
    result = handle(request["task"], request["parameters"], folder)
    if result.arrays:
        with open(folder / "result.npz.part", "wb") as file:
            np.savez(file, **result.arrays)  # type: ignore[arg-type]  # the stub takes a name for a flag
        os.replace(folder / "result.npz.part", folder / "result.npz")
    record = {
        "contract": CONTRACT,
        "tool": about["tool"],
        "tool_version": about["tool_version"],
        "weights": result.weights,
        "weights_licence": result.weights_licence,
        "facts": result.facts,
    }
    (folder / "result.json.part").write_text(json.dumps(record))
    os.replace(folder / "result.json.part", folder / "result.json")


def read_frames(folder: Path) -> np.ndarray:
    """The request's pictures, uint8 [t, h, w, 3]."""
    with np.load(folder / "frames.npz", allow_pickle=False) as archive:
        return archive["rgb"]
