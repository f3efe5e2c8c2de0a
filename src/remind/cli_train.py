"""`remind train RECIPE ...` and `remind runs ...`.

A recipe gives a whole `TrainConfig`; every field of it is an option (`cli_overrides.py`). What loads torch is imported
inside the functions: `main` sets what torch reads when it loads.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

from remind.errors import InputError

if TYPE_CHECKING:
    from remind.cli_overrides import TrainCommand
    from remind.training.config import TrainConfig


def train(arguments: Sequence[str], *, prog: str = "remind train", speaks: bool = True) -> None:
    """Train a model to remember: what `remind train` with these arguments does.

    Args:
        speaks: whether help and messages about the arguments are printed; not by all processes of a run.

    Raises:
        RemindError: whatever a user can mend.
    """
    from rich.console import Console

    from remind.cli_overrides import read_command
    from remind.recipes import find_recipe

    if not arguments or arguments[0] in ("-h", "--help"):
        print(_overview(prog))
        return
    command = read_command(arguments, prog=prog, speaks=speaks)
    config = command.config
    if command.dry_run:
        _dry_run(command, find_recipe(arguments[0]).world_size)
    elif command.show_plan or command.plan_picture is not None:
        from remind.training.launch import show_plans

        show_plans(config, Console(), picture=command.plan_picture)
    elif command.out is None:
        raise InputError("a run needs a folder", expected="--out RUN")
    else:
        from remind.recipes.validators import make_validator
        from remind.training.launch import train as run

        run(config, command.out, resume=command.resume, validator_factory=make_validator)


def runs(folders: tyro.conf.Positional[tuple[Path, ...]], /, json: bool = False) -> None:
    """Say what runs have cost: device-hours and tokens of each, and their sums.

    Args:
        folders: Run folders, or folders of them.
        json: Print plain JSON instead of a table.
    """
    from rich.console import Console

    from remind.training.run_budget import show

    if not folders:
        raise InputError("there is no run to look at", expected="remind runs RUN ...")
    show(folders, Console(), json)


def _dry_run(command: TrainCommand, world_size: int) -> None:
    from rich.console import Console

    from remind.training.estimate import estimate

    console = Console()
    config = command.config
    console.print(f"{config.recipe}: nothing is read, rendered or written", highlight=False)
    for line in _data_lines(config):
        console.print(f"  {line}", highlight=False, markup=False)
    estimate(config, world_size=command.world_size or world_size, device=command.device).render(console)


def _data_lines(config: TrainConfig) -> list[str]:
    """What a run would read, and whether it is there."""
    def there(path: Path | str) -> str:
        return "" if Path(path).exists() else " (not here yet)"

    lines = []
    if config.init_from is not None:
        lines.append(f"starts from {config.init_from}{there(config.init_from)}")
    if config.bank_size:
        share = config.world_share if config.data else 1.0
        scenes = f" of {len(config.world_families)} families" if config.world_families else ""
        lines.append(f"{share:4.0%} {config.bank_size:,} world clips{scenes}, {', '.join(config.world_kinds)}")
    left = 1 - config.world_share if config.bank_size else 1.0
    for part in config.data:
        share = left * part.weight / sum(other.weight for other in config.data)
        read = "encoded on the fly" if part.latents is None else f"latents {part.latents}{there(part.latents)}"
        lines.append(f"{share:4.0%} {part.store}{there(part.store)}, {read}")
    return lines


def _overview(prog: str) -> str:
    """`remind train --help`: every recipe with one line."""
    from remind.recipes import ABLATED, RECIPES

    plain = {name: recipe for name, recipe in RECIPES.items() if "-table" not in name}
    width = max(len(name) for name in plain)
    tables: dict[str, list[str]] = {}
    for name in RECIPES:
        match = re.fullmatch(rf"{ABLATED[0]}-table(\d)-(\w+)", name)
        if match:
            tables.setdefault(match[1], []).append(match[2])
    what = {"3": "how cameras enter attention", "4": "which loss", "6": "which data"}
    rows = [f"  SIZE-table{number}-{{{','.join(values)}}}: {what[number]}" for number, values in tables.items()]
    return "\n".join([
        f"usage: {prog} RECIPE --out RUN [OPTIONS]", "",
        "Train a model to remember. A recipe is a whole configuration; every value of it can be given another.", "",
        "recipes:", *(f"  {name:{width}}  {recipe.summary}" for name, recipe in plain.items()), "",
        f"ablations (ReMind Tables 3, 4, 6), SIZE one of {', '.join(ABLATED)}:", *rows, "",
        f"  {prog} nano --help                      all options, with the recipe's values",
        f"  {prog} nano --out RUN --model.dim 192 --curriculum all_history:0.2,v2v_frontier:0.8",
        f"  {prog} nano --out RUN --resume          go on from the last checkpoint",
        f"  {prog} nano --show-plan                 what each regime lets a chunk see",
        f"  {prog} wan_v2v --dry-run --world-size 32 --device A100",
    ])  # fmt: skip
