"""The ablations of ReMind Tables 3, 4 and 6: one change each to a base recipe, everything else equal.

The paper does not say which of its runs the tables start from. Ours start from the V2V recipes, for what the tables
score is the recovered part after a given prefix. `none` (Table 3) and `dynamic` (Table 4) are rows of ours: without
them nothing says what cameras, or the adaptive weight alone, are worth.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from remind.frame_graph import InterruptionKind
from remind.models.config import CameraMode
from remind.training.config import TrainConfig
from remind.training.losses import LossVariant
from remind.world import FAMILIES

TABLE_3: tuple[CameraMode, ...] = ("none", "qk", "vo", "full", "dual")
TABLE_4: tuple[LossVariant, ...] = ("flow_only", "dynamic", "dynamic_adaptive")
TABLE_6 = ("general", "dynamics", "full")
"""Base (general videos); + real dynamics and loops; + synthetic hard dynamics."""


@dataclass(frozen=True)
class DataRow:
    """What a row of Table 6 trains on: stores at the large scale, parts of the world at the small one.

    Args:
        stores: their names.
        groups: families of world scenes, by the tag groups of ReMind Table 7.
        kinds: interruptions of the world clips.
    """

    stores: tuple[str, ...]
    groups: tuple[str, ...]
    kinds: tuple[InterruptionKind, ...]


_GENERAL = DataRow(("openvid", "dl3dv"), ("translational", "deformation", "periodic"), ("light_toggle", "occluder"))
_DYNAMICS = DataRow(("pexels", "loops"), ("monotonic_state", "interaction"), ("camera_loop",))
_HARD = DataRow(("generated",), ("lighting_weather", "discrete"), ())
_ADDED = {"general": _GENERAL, "dynamics": _DYNAMICS, "full": _HARD}
"""What each row adds. At the small scale, our choice: things that move and come to no end are general; what fills,
melts or is pushed, and turning away from it, is memory data; what changes the whole picture, or at once, is hard."""


def table3(base: TrainConfig, mode: CameraMode) -> TrainConfig:
    """How cameras enter attention."""
    return replace(base, recipe=f"{base.recipe}-table3-{mode}", model=replace(base.model, camera_mode=mode))


def table4(base: TrainConfig, variant: LossVariant) -> TrainConfig:
    """Which loss."""
    return replace(base, recipe=f"{base.recipe}-table4-{variant}", loss=replace(base.loss, variant=variant))


def table6(base: TrainConfig, row: str) -> TrainConfig:
    """Which data; the number of world clips, of steps, and the proportions among the stores that remain are the base's.

    What is measured and validated on stays the same for all rows; the last row is the base.
    """
    parts = [_ADDED[name] for name in TABLE_6[: TABLE_6.index(row) + 1]]
    stores = {store for part in parts for store in part.stores}
    groups = {group for part in parts for group in part.groups}
    families = tuple(name for name, family in FAMILIES.items() if family.group in groups)
    return replace(
        base,
        recipe=f"{base.recipe}-table6-{row}",
        data=tuple(part for part in base.data if part.store.name in stores),
        world_families=() if len(families) == len(FAMILIES) else families,
        world_kinds=tuple(kind for part in parts for kind in part.kinds),
    )


def ablations(base: Callable[[], TrainConfig]) -> dict[str, Callable[[], TrainConfig]]:
    """Every row of the three tables over a base recipe, by the end of its name: `table3-qk`."""
    rows: dict[str, Callable[[], TrainConfig]] = {}
    for mode in TABLE_3:
        rows[f"table3-{mode}"] = lambda mode=mode: table3(base(), mode)  # type: ignore[misc]
    for variant in TABLE_4:
        rows[f"table4-{variant}"] = lambda variant=variant: table4(base(), variant)  # type: ignore[misc]
    for row in TABLE_6:
        rows[f"table6-{row}"] = lambda row=row: table6(base(), row)  # type: ignore[misc]
    return rows
