"""`remind eval SUITE ...`: one suite is one function of `eval_commands`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import tyro

from remind.eval_commands.judge import judge
from remind.eval_commands.kv import kv
from remind.eval_commands.recovery import recovery
from remind.eval_commands.report import report
from remind.eval_commands.stevo import stevo
from remind.eval_commands.stress import stress
from remind.eval_commands.vbench import vbench
from remind.eval_commands.world import world

EVAL_COMMANDS: dict[str, Callable[..., Any]] = {
    "world": world,
    "recovery": recovery,
    "stevo": stevo,
    "vbench": vbench,
    "kv": kv,
    "stress": stress,
    "judge": judge,
    "report": report,
}


def evaluate(arguments: Sequence[str]) -> None:
    """What `remind eval` with these arguments does.

    Raises:
        RemindError: whatever a user can mend.
    """
    tyro.extras.subcommand_cli_from_dict(EVAL_COMMANDS, prog="remind eval", args=list(arguments) or ["--help"],
                                         description="Measure a model, or anyone's videos.")
