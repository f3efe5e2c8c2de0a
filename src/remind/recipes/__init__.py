"""Recipes: Python functions that return the whole configuration of a run."""

from __future__ import annotations

from collections.abc import Callable

from remind.errors import InputError
from remind.recipes.nano import nano
from remind.recipes.tiny import tiny
from remind.training.config import Arm, TrainConfig

_SIZES: dict[str, Callable[[Arm], TrainConfig]] = {"nano": nano, "tiny": tiny}
_ARMS: dict[str, Arm] = {"": "remind", "-base": "base", "-matched": "matched"}
RECIPES = {size + suffix: (build, arm) for size, build in _SIZES.items() for suffix, arm in _ARMS.items()}


def recipe(name: str) -> TrainConfig:
    """A recipe by name: `nano`, `tiny`, and their twins `-base` and `-matched`.

    Raises:
        InputError: an unknown name.
    """
    if name not in RECIPES:
        raise InputError("unknown recipe", got=name, expected=" | ".join(RECIPES))
    build, arm = RECIPES[name]
    return build(arm)
