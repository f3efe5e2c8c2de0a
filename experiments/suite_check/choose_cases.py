"""Choose the clips of world-v1 and of its twin, by scene and schedule alone: no model's output is looked at.

    python experiments/suite_check/choose_cases.py --out src/remind/assets

Each cell of a part takes its first seed whose state changes by at least a quarter of its range while hidden (ramps), or
that opens before it is hidden or not at all, as its seed has it (discrete). Short gaps need fast scenes for that.
"""

from __future__ import annotations

import hashlib
import json
from itertools import product
from pathlib import Path

import numpy as np
import tyro

from remind.data.kinds import kinds_of
from remind.data.world_clips import HIDING_KINDS, TEST_SEEDS, VALIDATION_SEEDS
from remind.evaluation.world_benchmark import MIN_HIDDEN_CHANGE
from remind.evaluation.world_suite import NUM_FRAMES, Part, SuiteCase, probe
from remind.whole_file import whole_file
from remind.world import FAMILIES, HELD_OUT_FAMILIES, sample_scene

GAPS = (16, 24, 32)  # 1, 1.5 and 2 s
SEEDS_PER_CELL = 10_000


def cells(*, twin: bool) -> list[tuple[Part, str, str, int | None]]:
    """Part, family, kind and gap of every clip."""
    main = [("main", *cell) for cell in product(FAMILIES, HIDING_KINDS, GAPS)]
    zoom = [("zoom", family, "zoom", None) for family in FAMILIES]
    if twin:
        return main + zoom
    unseen = kinds_of("held_out")
    kinds = [("unseen_kinds", family, kind, GAPS[(i + j) % len(GAPS)])
             for i, family in enumerate(FAMILIES) for j, kind in enumerate(unseen)]
    families = [("unseen_families", family, kind, GAPS[(i + j + k) % len(GAPS)])
                for i, family in enumerate(HELD_OUT_FAMILIES)
                for j, kind in enumerate((*HIDING_KINDS, *unseen)) for k in range(2)]
    return main + kinds + families + zoom


def choose(first_seed: int, *, twin: bool) -> list[SuiteCase]:
    chosen: list[SuiteCase] = []
    for number, (part, family, kind, gap) in enumerate(cells(twin=twin)):
        for seed in range(first_seed + number * SEEDS_PER_CELL, first_seed + (number + 1) * SEEDS_PER_CELL):
            name = f"{family}-{kind}" + ("" if gap is None else f"-{gap}")
            case = SuiteCase(name, part, seed, family, kind, gap)
            scene = sample_scene(seed, family=family, num_frames=NUM_FRAMES, hw=(8, 8))
            times = case.recipe.interruption
            change = abs(float(scene.states[times.stop] - scene.states[times.start - 1]))
            if kind == "zoom" or scene.discrete or change >= MIN_HIDDEN_CHANGE:
                same = sum(other.id.startswith(name) for other in chosen)
                chosen.append(SuiteCase(name + f"-{same + 1}" * bool(same), part, seed, family, kind, gap))
                break
        else:
            raise SystemExit(f"no seed for {family}, {kind}, {gap}")
    order = np.random.default_rng(1).permutation(len(chosen))
    return [chosen[i] for i in order]


def main(out: Path) -> None:
    for name, seeds in (("world-v1", TEST_SEEDS), ("world-v1-validation", VALIDATION_SEEDS)):
        cases = choose(seeds.start + 100_000_000, twin=name.endswith("validation"))
        rows = [case.row() for case in cases]
        sha256 = hashlib.sha256(json.dumps(rows).encode()).hexdigest()
        lines = ",\n  ".join(json.dumps(row) for row in rows)
        text = (f'{{"name": "{name}",\n "columns": ["id", "part", "seed", "family", "kind", "gap_frames"],\n'
                f' "sha256": "{sha256}",\n "pixels_sha256": "{probe(cases)}",\n "cases": [\n  {lines}\n]}}\n')
        with whole_file(out / f"{name}.json") as partial:
            partial.write_text(text)
        print(name, len(cases), sha256)


if __name__ == "__main__":
    tyro.cli(main)
