"""A config says what cannot be when it is made, in the words of the command line; what it is, it says as plain JSON."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from remind.errors import InputError, RemindError
from remind.recipes.arms import arm_settings
from remind.training.config import DataPart, Execution, TrainConfig, ValidationOptions
from remind.training.lora import LoraOptions
from remind.training.step import StepOptions

from ..make_memory import TINY

CONFIG = TrainConfig(recipe="by_hand", arm="remind", model=TINY, hw=(16, 16), num_frames=57, batch_size=6,
                     **arm_settings("remind"))  # fmt: skip
STORE = Path("a")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"steps": 0}, r"--steps must be positive; got 0"),
        ({"batch_size": -1}, r"--batch-size must be positive"),
        ({"group_size": 4}, r"--group-size must divide --batch-size; got groups of 4 in a batch of 6"),
        ({"group_size": -1}, r"--group-size must be zero or positive"),
        ({"hw": (16, 24)}, r"--hw does not split.*expected multiples of 16 px"),
        ({"hw": (0, 16)}, r"--hw does not split"),
        ({"num_frames": 56}, r"--num-frames must fill"),
        ({"num_frames": 9}, r"--num-frames must fill two whole chunks"),
        ({"learning_rate": 0.0}, r"--learning-rate must be positive"),
        ({"learning_rate": float("nan")}, r"--learning-rate must be positive"),
        ({"muon_learning_rate": float("inf")}, r"--muon-learning-rate must be positive"),
        ({"warmup_steps": -1}, r"--warmup-steps must be zero or positive"),
        ({"weight_decay": -0.1}, r"--weight-decay must be zero or positive"),
        ({"grad_clip": 0.0}, r"--grad-clip must be positive"),
        ({"ema_decay": 1.0}, r"--ema-decay 1 would keep the first weights"),
        ({"ema_decay": 1.5}, r"--ema-decay is a share; got 1.5; expected 0..1"),
        ({"seed": -1}, r"--seed must be zero or positive"),
        ({"bank_size": -1}, r"--bank-size must be zero or positive"),
        ({"world_share": 1.2}, r"--world-share is a share"),
        ({"world_families": ("filling", "sinking")}, r"--world-families knows no such thing; got sinking.*filling"),
        ({"world_kinds": ("curtain",)}, r"--world-kinds knows no such thing; got curtain; expected light_toggle"),
        ({"world_kinds": ()}, r"--world-kinds must name an interruption"),
        ({"data": (DataPart(STORE, 0.0),)}, r"weight of a store must be positive; got 0 for a"),
        ({"data": (DataPart(STORE), DataPart(Path("b")), DataPart(STORE))}, r"a store is named twice; got a"),
        ({"step": StepOptions(sigma_shift=0.0)}, r"--step.sigma-shift must be positive"),
        ({"step": StepOptions(memory_sigma=(0.9, 0.4))}, r"--step.memory-sigma must be a range"),
        ({"step": StepOptions(kernel="flash")}, r"--step.kernel knows no such thing"),
        ({"execution": Execution(micro_batch=7)}, r"--execution.micro-batch is larger than a group.*expected 1..6"),
        ({"group_size": 2, "execution": Execution(micro_batch=3)}, r"larger than a group of clips.*expected 1..2"),
        ({"execution": Execution(micro_batch=-1)}, r"--execution.micro-batch must be zero or positive"),
        ({"execution": Execution(replicate=0)}, r"--execution.replicate must be positive"),
        ({"execution": Execution(checkpoint_every=0)}, r"--execution.checkpoint-every must be positive"),
        ({"execution": Execution(keep=0)}, r"--execution.keep must be positive"),
        ({"execution": Execution(workers=-1)}, r"--execution.workers must be zero or positive"),
        ({"validation": ValidationOptions(clips=0)}, r"--validation.clips must be positive"),
        ({"validation": ValidationOptions(every=-5)}, r"--validation.every must be zero or positive"),
    ],
)
def test_a_value_that_cannot_be_is_refused(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(RemindError, match=said):
        replace(CONFIG, **changes)


def test_values_at_the_edge_are_taken() -> None:
    replace(CONFIG, group_size=6, warmup_steps=0, weight_decay=0.0, ema_decay=0.0, seed=0, world_share=1.0)
    replace(CONFIG, num_frames=21, hw=(16, 32), execution=Execution(micro_batch=6, workers=0))
    replace(CONFIG, bank_size=0)  # what it reads may be named later


def test_a_config_is_plain_json_that_tells_any_two_apart() -> None:
    data = (DataPart(Path("stores/a"), 2.0), DataPart(Path("b"), latents=Path("latents/b")))
    config = replace(CONFIG, data=data, lora=LoraOptions(rank=4), init_from="base.pt")
    text = json.dumps(config.to_json())
    assert json.loads(text)["data"] == [{"store": "stores/a", "weight": 2.0, "latents": None},
                                        {"store": "b", "weight": 1.0, "latents": "latents/b"}]  # fmt: skip
    assert json.loads(text)["lora"]["rank"] == 4
    others = [replace(config, data=data[:1]), replace(config, lora=None), replace(config, world_kinds=("occluder",))]
    assert len({text, *(json.dumps(other.to_json()) for other in others)}) == 4


def test_a_broken_pair_of_options_is_an_input_error() -> None:
    with pytest.raises(InputError):
        replace(CONFIG, batch_size=5, group_size=2)
