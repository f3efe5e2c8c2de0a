"""Every command of the training guide is one that the real command line reads, and its tables name what is there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import tyro

from remind.cli import COMMANDS
from remind.cli_data import DATA_COMMANDS
from remind.cli_overrides import option_names, read_command
from remind.generate.arguments import GenerateArguments
from remind.recipes import RECIPES, recipe

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs" / "guides" / "training.md").read_text()
LINES = [line for block in re.findall(r"```bash\n(.*?)```", GUIDE, flags=re.S) for line in block.splitlines()]


def test_the_guide_shows_commands() -> None:
    assert sum(line.startswith("remind train ") for line in LINES) >= 15
    assert all(line.startswith(("remind ", "RECIPE=")) for line in LINES)


@pytest.mark.parametrize("line", [line for line in LINES if line.startswith("remind train ")])
def test_a_training_command_is_read(line: str) -> None:
    command = read_command(shlex.split(line)[2:])
    assert command.out is not None or command.dry_run or command.show_plan or command.plan_picture


@pytest.mark.parametrize("line", [line for line in LINES if not line.startswith(("remind train ", "RECIPE="))])
def test_other_commands_have_the_options_that_are_shown(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(line)[1:]
    commands = DATA_COMMANDS if words[0] == "data" else COMMANDS | {"generate": GenerateArguments}
    name = words[1] if words[0] == "data" else words[0]
    with pytest.raises(SystemExit):
        tyro.cli(commands[name], args=["--help"])
    text = capsys.readouterr().out
    assert [word for word in words if word.startswith("--") and word not in text] == []


def test_options_recipes_and_files_in_the_text_exist() -> None:
    command = read_command(["nano", "--init-from", "x", "--lora.rank", "1"])
    known = {*option_names(command), "--help", "--text"}
    typed = {option for option in re.findall(r"`(--[a-z][\w.-]*)", GUIDE) if not option.endswith(".")}
    assert typed - known == set()
    sizes = "|".join(sorted(RECIPES, key=len, reverse=True))
    names = re.findall(r"`((?:nano|tiny|wan_)[\w-]*)`", GUIDE)
    assert names
    assert [name for name in names if not re.fullmatch(sizes, name)] == []
    for target in re.findall(r"\]\(\.\./\.\./([\w./-]+)\)", GUIDE):
        assert (ROOT / target).is_file(), target


def test_rows_of_the_ablations_are_all_named() -> None:
    for number, rows in re.findall(r"`SIZE-table(\d)-\.\.\.` \| ([^:]+):", GUIDE):
        named = re.findall(r"`(\w+)`", rows)
        assert [f"nano-table{number}-{row}" for row in named] == [
            name for name in RECIPES if name.startswith(f"nano-table{number}-")
        ]
        assert recipe(f"nano-table{number}-{named[0]}").recipe == f"nano-table{number}-{named[0]}"
