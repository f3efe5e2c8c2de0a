"""The fixed test set of the exact benchmark, `world-v1`, and its twin for choosing, `world-v1-validation`.

Our choice: a test set is a file of seeds, so that everybody scores the same clips. Two hashes hold it in place: one
over the seeds, one over rendered pixels, since a seed means nothing to another renderer. How the seeds were chosen:
experiments/suite_check/choose_cases.py.

    main              families and interruptions as in training, scenes and looks never seen: family x kind x gap
    unseen_kinds      interruptions that no training draws: cardboard, curtain, flicker, blink
    unseen_families   families that no training draws, under all kinds
    zoom              hides nothing; reported apart

The twin has `main` and `zoom` alone, from the seeds that choose: who chooses by what was held out holds out nothing.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from remind.data.interrupt import InterruptionRecipe, sample_recipe
from remind.data.world_clips import WorldClip, make_world_clip
from remind.errors import InputError
from remind.frame_graph import InterruptionKind

Part = Literal["main", "unseen_kinds", "unseen_families", "zoom"]
TestSetName = Literal["world-v1", "world-v1-validation"]
PARTS: tuple[Part, ...] = get_args(Part)
TEST_SETS: tuple[TestSetName, ...] = get_args(TestSetName)

NUM_FRAMES = 81
PROBED_HW = (32, 32)
NUM_PROBED = 6  # our choice: clips whose pixels are hashed, a second of work


@dataclass(frozen=True)
class SuiteCase:
    """One clip of a test set, by what makes it again.

    Args:
        id: within the test set, also a file name: family, kind and gap, and a number where these repeat.
        part: of the test set.
        seed: of scene and interruption.
        family, kind: of the scene and of what interrupts it.
        gap_frames: fully hidden frames; None for a zoom, which hides none.
    """

    id: str
    part: Part
    seed: int
    family: str
    kind: InterruptionKind
    gap_frames: int | None

    @property
    def recipe(self) -> InterruptionRecipe:
        """Times and looks, drawn from the seed."""
        hidden = None if self.gap_frames is None else (self.gap_frames, self.gap_frames)
        return sample_recipe(self.kind, NUM_FRAMES, np.random.default_rng([self.seed, 0x5E7]), hidden_frames=hidden)

    def render(self, hw: tuple[int, int]) -> WorldClip:
        """The clip at a frame size, px."""
        return make_world_clip(self.seed, hw=hw, num_frames=NUM_FRAMES, family=self.family, recipe=self.recipe)

    def row(self) -> list[str | int | None]:
        """As the file of a test set has it."""
        return [self.id, self.part, self.seed, self.family, self.kind, self.gap_frames]


@dataclass(frozen=True)
class WorldSuite:
    """A test set.

    Args:
        name: with its version; a change of any clip needs another.
        cases: in an order whose every beginning is mixed.
        pixels_sha256: of `probe`, as the file has it.
    """

    name: str
    cases: tuple[SuiteCase, ...]
    pixels_sha256: str

    @cached_property
    def sha256(self) -> str:
        """Over all that defines the clips."""
        return hashlib.sha256(json.dumps([case.row() for case in self.cases]).encode()).hexdigest()

    def first(self, count: int | None) -> WorldSuite:
        """The first `count` clips; None = all.

        Raises:
            InputError: no clip.
        """
        if count is not None and count < 1:
            raise InputError("an evaluation needs examples", got=f"limit {count}", expected="1 or more")
        return self if count is None else WorldSuite(self.name, self.cases[:count], self.pixels_sha256)

    def identity(self) -> dict[str, str | int]:
        """What must agree between runs that are compared."""
        return {"name": self.name, "examples": len(self.cases), "sha256": self.sha256,
                "pixels_sha256": self.pixels_sha256}  # fmt: skip

    def check_pixels(self) -> None:
        """Render a few clips and compare.

        Raises:
            InputError: this code, or this machine, renders something else.
        """
        found = probe(whole_suite(self.name).cases)
        if found != self.pixels_sha256:
            raise InputError(f"{self.name} does not look here as it should", got=f"pixels {found[:12]}",
                             expected=self.pixels_sha256[:12],
                             fix="use the version of remind that the test set belongs to")  # fmt: skip


def probe(cases: Sequence[SuiteCase]) -> str:
    """Hash of some frames before, in and after the interruption of some clips spread over a test set.

    Args:
        cases: of the whole test set, in order.
    """
    digest = hashlib.sha256()
    for i in np.linspace(0, len(cases) - 1, NUM_PROBED).round().astype(int):
        clip = cases[int(i)].render(PROBED_HW)
        event = clip.schedule.interruptions[0]
        frames = [0, event.start - 1, (event.start + event.hidden_start) // 2, event.hidden_start, event.stop]
        digest.update(clip.degraded.rgb[frames].numpy().tobytes())
    return digest.hexdigest()


def whole_suite(name: str) -> WorldSuite:
    """A shipped test set.

    Raises:
        InputError: an unknown name, or a damaged file.
    """
    if name not in TEST_SETS:
        raise InputError("no such test set", got=name, expected=f"one of {', '.join(TEST_SETS)}")
    return read_suite(Path(str(resources.files("remind") / "assets" / f"{name}.json")))


def read_suite(path: Path) -> WorldSuite:
    """A test set from its file.

    Raises:
        InputError: no such file, or one whose clips are not those that its hash names.
    """
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        suite = WorldSuite(data["name"], tuple(SuiteCase(*row) for row in data["cases"]), data["pixels_sha256"])
        expected = data["sha256"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError("this is no test set", got=f"{path}: {error}") from None
    if suite.sha256 != expected:
        raise InputError("the test set was changed", got=f"{path.name}: {suite.sha256[:12]}", expected=expected[:12],
                         fix="give another set of clips another name")  # fmt: skip
    return suite


__all__ = ["NUM_FRAMES", "PARTS", "TEST_SETS", "Part", "SuiteCase", "TestSetName", "WorldSuite", "probe", "read_suite",
           "whole_suite"]  # fmt: skip
