"""Recipes: Python functions that return the whole configuration of a run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial

from remind.errors import InputError
from remind.recipes.ablations import ablations
from remind.recipes.nano import nano
from remind.recipes.tiny import tiny
from remind.recipes.wan import on_one_gpu, wan_full, wan_i2v, wan_v2v
from remind.training.config import TrainConfig


@dataclass(frozen=True)
class Recipe:
    """A named configuration.

    Args:
        summary: what it is for, in one line.
        build: makes the whole configuration.
        world_size: processes that it is meant for, each with a device of its own.
    """

    summary: str
    build: Callable[[], TrainConfig]
    world_size: int = 1


_SMALL = "the embedded world, trains on two CPU cores"
_LARGE = "480x832 px, 1.6 B parameters, stores"
RECIPES: dict[str, Recipe] = {
    "nano": Recipe(f"32x32 px, 2 M parameters, {_SMALL} in under 20 minutes", partial(nano, "remind")),
    "nano-base": Recipe("nano that never sees an interruption and has no cameras", partial(nano, "base")),
    "nano-matched": Recipe("nano with a plain curriculum: the fair baseline", partial(nano, "matched")),
    "tiny": Recipe(f"64x64 px, 6 M parameters, {_SMALL} in hours", partial(tiny, "remind")),
    "tiny-base": Recipe("tiny that never sees an interruption and has no cameras", partial(tiny, "base")),
    "tiny-matched": Recipe("tiny with a plain curriculum: the fair baseline", partial(tiny, "matched")),
    "wan_i2v": Recipe(f"{_LARGE}, 32 GPUs: from a first frame", wan_i2v, 32),
    "wan_v2v": Recipe(f"{_LARGE}, 32 GPUs: recovery after a given prefix", wan_v2v, 32),
    "wan_full": Recipe(f"{_LARGE}, 64 GPUs: both in one model", wan_full, 64),
    "wan_i2v_lora": Recipe("wan_i2v with low-rank adapters, one GPU", lambda: on_one_gpu(wan_i2v())),
    "wan_v2v_lora": Recipe("wan_v2v with low-rank adapters, one GPU", lambda: on_one_gpu(wan_v2v())),
    "wan_full_lora": Recipe("wan_full with low-rank adapters, one GPU", lambda: on_one_gpu(wan_full())),
}
ABLATED = ("nano", "tiny", "wan_v2v")
for _base in ABLATED:
    for _row, _make in ablations(RECIPES[_base].build).items():
        _table, _value = _row.removeprefix("table").split("-")
        RECIPES[f"{_base}-{_row}"] = Recipe(f"{_base}, ReMind Table {_table}: {_value}", _make,
                                            RECIPES[_base].world_size)  # fmt: skip


def recipe(name: str) -> TrainConfig:
    """The configuration of a recipe: one of `RECIPES`.

    Raises:
        InputError: an unknown name.
    """
    return find_recipe(name).build()


def find_recipe(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        InputError: an unknown name.
    """
    if name not in RECIPES:
        near = get_close_matches(name, RECIPES, 3) or [known for known in RECIPES if "-" not in known]
        raise InputError("unknown recipe", got=name, expected=" | ".join(near),
                         fix="`remind train --help` lists all of them")  # fmt: skip
    return RECIPES[name]
