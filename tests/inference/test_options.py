"""Options of generating: what is usual for a checkpoint, and what contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest

from remind.errors import InputError
from remind.inference.memory_policy import Retrieve, Window
from remind.inference.options import GenerationOptions, generation_options
from remind.inference.samplers import Sampler


@pytest.mark.parametrize(
    ("how", "wan", "expected"),
    [
        ({}, False, Sampler(4, 4.0, "euler")),
        ({}, True, Sampler(50, 5.0, "unipc")),
        ({"steps": 8}, False, Sampler(8, 4.0, "euler")),
        ({"steps": 8}, True, Sampler(8, 5.0, "unipc")),
        ({"sampler": "few_step"}, True, Sampler(4, 5.0, "few_step")),
        ({"sampler": "few_step", "steps": 2, "shift": 3.0}, True, Sampler(2, 3.0, "few_step")),
        ({"sampler": "unipc"}, False, Sampler(4, 4.0, "unipc")),
        ({"sampler": "euler"}, True, Sampler(50, 5.0, "euler")),
        ({"sampler": Sampler(levels=(1.0, 0.5))}, True, Sampler(levels=(1.0, 0.5))),
    ],
)
def test_what_is_not_said_is_the_usual_of_the_checkpoint(how: Any, wan: bool, expected: Sampler) -> None:
    assert generation_options(how, wan=wan).sampler == expected


def test_policies_come_as_words_or_as_they_are() -> None:
    assert GenerationOptions(memory="window:4").policy == Window(4)
    assert GenerationOptions(memory=Retrieve(2)).policy == Retrieve(2)


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ({"seed": -1}, r"0 to 2\^63 - 1; got -1"),
        ({"seed": 2**63}, "seed"),
        ({"guidance": float("nan")}, "strength from 0 on; got nan"),
        ({"guidance": float("inf")}, "strength"),
        ({"guidance": -0.5}, r"got -0\.5; expected e\.g\. 5; 1 = none"),
        ({"negative_prompt": "blurred"}, "does nothing without guidance; got guidance 1"),
        ({"memory": "elephant"}, "elephant"),
        ({"memory": "window:0"}, "window"),
        ({"memory_budget": -1}, r"budget.*got -1"),
        ({"memory_noise": 1.0}, r"noise.*got 1"),
        ({"memory_noise": float("nan")}, "noise"),
        ({"chunks_per_pass": 0}, "at least one chunk"),
        ({"sampler": Sampler(), "shift": 3.0}, "says its own steps and shift"),
    ],
)
def test_values_out_of_range_are_refused(how: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        generation_options(how, wan=False)
