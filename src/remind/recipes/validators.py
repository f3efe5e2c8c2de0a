"""What a run is watched by: its options, made into a validator. Training may not import what measures generation."""

from __future__ import annotations

from remind.data.memory_sample import MemorySample
from remind.data.mixture import Mixture
from remind.errors import InputError
from remind.evaluation.world_validator import WorldValidator
from remind.training.config import TrainConfig
from remind.training.validation import LossValidator
from remind.validation import Validator


def make_validator(config: TrainConfig, held_out: Mixture | None) -> Validator | None:
    """The validator that `config.validation` asks for; None if it asks for none.

    Args:
        config: the whole run.
        held_out: clips that the run never trains on; read here for a validation by loss, unused for one by the world.

    Raises:
        InputError: a look at the world by a model that was not trained on it, or nothing to look at.
    """
    options = config.validation
    if not options.every:
        return None
    if options.by == "world":
        if not config.bank_size:
            raise InputError("only a model that trains on world clips can be validated on the world",
                             got="bank_size 0", fix="set validation.by to loss, or --bank-size")
        return WorldValidator(config.hw, config.num_frames, num_clips=options.clips)
    if held_out is None:
        raise InputError("there is nothing to validate on", got="no held-out clips",
                         fix="add clips, mix in world clips, or set validation.every to 0")
    return LossValidator(
        held_out_clips(held_out, options.clips), config.curriculum.regimes,
        regime_options=config.regime, step_options=config.step, seed=config.seed,
        micro_batch=config.execution.micro_batch or config.group_size or config.batch_size,
    )  # fmt: skip


def held_out_clips(mixture: Mixture, num_clips: int) -> list[MemorySample]:
    """The first clips of a mixture, each once; fewer if it does not have so many.

    Raises:
        InputError: a number that is none.
    """
    if num_clips < 1:
        raise InputError("validation needs clips", got=num_clips, expected="1 or more")
    all_clips = sum(len(bank) for bank in mixture.banks)
    places: dict[tuple[int, int], int] = {}
    for index in range(8 * all_clips):  # by then a clip was left out by chance alone
        places.setdefault(mixture.locate(index), index)
        if len(places) == min(num_clips, all_clips):
            break
    return [mixture[index] for index in places.values()]
