"""The options of `remind train`: every field of a recipe's config, nested ones with dots, with its values as defaults.

The command line is read twice: its first word for the recipe, the rest with what the recipe says. tyro makes the
options; here is what it cannot know: forms that can be typed for curricula and stores, adapters that are off until one
of their options is given, and what to say about an option that does not exist.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field, fields, is_dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, TypeVar

import tyro
from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from remind.errors import InputError
from remind.recipes import find_recipe
from remind.training.config import DataPart, TrainConfig
from remind.training.curriculum import CURRICULA, Curriculum
from remind.training.lora import LoraOptions

T = TypeVar("T")

_FORMS = ConstructorRegistry()


@dataclass(frozen=True)
class TrainCommand:
    """What `remind train` can be asked for.

    Args:
        config: All that decides the run.
        out: Run folder: checkpoints/, metrics.jsonl, run.json and, at the end, model.safetensors and config.json.
        resume: Go on from the last checkpoint in OUT.
        workers: As --execution.workers.
        latents: Caches of the stores' latents, in the order of --data.
        show_plan: Draw one sequence plan of each regime that the curriculum has, and stop.
        plan_picture: Draw them into this PNG too.
        dry_run: Say what would be read and what it would take, and stop; nothing is written or rendered.
        world_size: Processes to reckon with in a dry run; the recipe's own number if not given.
        device: GPU to reckon with in a dry run, e.g. H100, or cpu.
    """

    config: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(metadata={"flat": True})
    out: Path | None = None
    resume: tyro.conf.FlagCreatePairsOff[bool] = False
    workers: int | None = None
    latents: tuple[Path, ...] = ()
    show_plan: tyro.conf.FlagCreatePairsOff[bool] = False
    plan_picture: Path | None = None
    dry_run: tyro.conf.FlagCreatePairsOff[bool] = False
    world_size: int | None = None
    device: str | None = None


def read_command(arguments: Sequence[str], *, prog: str = "remind train", speaks: bool = True) -> TrainCommand:
    """The command that these arguments are; its config is complete and was checked.

    Args:
        speaks: as in `parse`.

    Raises:
        InputError: no or an unknown recipe, an option that does not exist, or a value that cannot be.
        SystemExit: after `--help`, or after tyro's message about a word that is no value.
    """
    name, rest = arguments[0], list(arguments[1:])
    if name.startswith("-"):
        raise InputError("the recipe comes first", got=name, expected=f"e.g. {prog} nano {name} ...")
    recipe = find_recipe(name)
    config = recipe.build()
    # Adapters are off in most recipes: their options are shown, and the first that is given turns them on.
    adapted = config.lora is not None or any(word.startswith("--lora.") for word in rest)
    shown = TrainCommand(config if config.lora is not None else replace(config, lora=LoraOptions()))
    summary = f"{recipe.summary[0].upper()}{recipe.summary[1:]}."
    command = parse(shown, rest, prog=f"{prog} {name}", description=summary, speaks=speaks)
    config = command.config if adapted else replace(command.config, lora=None)
    if config.lora is not None and config.init_from is None:
        raise InputError("adapters need a base to adapt", got="no weights to start from",
                         fix="name a checkpoint with --init-from")  # fmt: skip
    if command.workers is not None:
        config = replace(config, execution=replace(config.execution, workers=command.workers))
    if command.latents:
        if len(command.latents) != len(config.data):
            raise InputError("every store needs its latents", got=f"{len(command.latents)} --latents",
                             expected=f"{len(config.data)}, in the order of --data")  # fmt: skip
        config = replace(config, data=tuple(replace(part, latents=path) for part, path in
                                            zip(config.data, command.latents, strict=True)))  # fmt: skip
    if command.world_size is not None and command.world_size < 1:
        raise InputError("--world-size must be positive", got=command.world_size)
    return replace(command, config=config)


def parse(default: T, arguments: Sequence[str], *, prog: str, description: str, speaks: bool = True) -> T:
    """A copy of `default` with the fields that the arguments name; `--help` shows its values and ends the program.

    Args:
        speaks: whether help and messages are printed; not by all processes of a run.

    Raises:
        InputError: an option that does not exist, with the nearest that do, or a value that a field refuses.
        SystemExit: with code 2 after a message, where a word is no number or no choice of its option.
    """
    with _FORMS, open(os.devnull, "w") as nowhere, ExitStack() as streams:
        if not speaks:
            streams.enter_context(redirect_stdout(nowhere))
            streams.enter_context(redirect_stderr(nowhere))
        made, unknown = tyro.cli(type(default), default=default, args=list(arguments), prog=prog,
                                 description=description, return_unknown_args=True,
                                 config=(tyro.conf.AvoidSubcommands,))  # fmt: skip
    if unknown:
        raise _unknown(unknown, sorted(set(option_names(default))))
    return made


def option_names(instance: Any, prefix: str = "") -> Iterator[str]:
    """Every option of a dataclass instance, as it is typed: `--model.dim`."""
    for known in fields(instance):
        value = getattr(instance, known.name)
        flat = known.metadata.get("flat", False)
        name = prefix if flat else f"{prefix}{known.name.replace('_', '-')}"
        if is_dataclass(value) and not isinstance(value, Curriculum):
            yield from option_names(value, name if flat else f"{name}.")
        else:
            yield f"--{name}"


def parse_curriculum(words: Sequence[str]) -> Curriculum:
    """`v2v_heavy`; `all_history:1,node_drop:2`; or several with their progress, `0=all_history:1 0.4=v2v_heavy`.

    Raises:
        InputError: anything else.
    """
    if len(words) == 1 and "=" not in words[0]:
        return CURRICULA.get(words[0]) or Curriculum(_weights(words[0]))
    knots = []
    for word in words:
        at, equals, mixture = word.partition("=")
        if not equals:
            raise InputError("of several mixtures each needs its progress", got=word,
                             expected="e.g. 0=all_history:1 0.4=v2v_heavy")  # fmt: skip
        named = CURRICULA.get(mixture)
        knots.append((_number(at, word), _weights(mixture) if named is None else named.knots[0][1]))
    return Curriculum(knots=knots)


def _weights(text: str) -> list[tuple[str, float]]:
    pairs = [part.partition(":") for part in text.split(",")]
    if not all(colon for _, colon, _ in pairs):
        raise InputError("this is no mixture of regimes", got=text,
                         expected=f"REGIME:WEIGHT,... or {' | '.join(CURRICULA)}")  # fmt: skip
    return [(name.strip(), _number(weight, text)) for name, _, weight in pairs]


def _number(text: str, where: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError("this is no number", got=f"{text or 'nothing'} in {where}", expected="e.g. 0.4") from None


def show_curriculum(curriculum: Curriculum) -> list[str]:
    """The words that `parse_curriculum` reads back."""
    def mixture(weights: Sequence[tuple[str, float]]) -> str:
        return ",".join(f"{name}:{weight:g}" for name, weight in weights)

    if len(curriculum.knots) == 1:
        return [mixture(curriculum.knots[0][1])]
    return [f"{at:g}={mixture(weights)}" for at, weights in curriculum.knots]


def parse_store(word: str) -> DataPart:
    """`STORE` or `STORE:WEIGHT`."""
    path, colon, weight = word.rpartition(":")
    try:
        return DataPart(Path(path), float(weight)) if colon else DataPart(Path(word))
    except ValueError:  # a colon of the path's own
        return DataPart(Path(word))


@_FORMS.primitive_rule
def _curriculum_form(kind: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Curriculum] | None:
    if kind.type is not Curriculum:
        return None
    return PrimitiveConstructorSpec(
        nargs="*", metavar=f"REGIME:WEIGHT,...|{'|'.join(CURRICULA)}", instance_from_str=parse_curriculum,
        is_instance=lambda value: isinstance(value, Curriculum), str_from_instance=show_curriculum,
    )  # fmt: skip


@_FORMS.primitive_rule
def _store_form(kind: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[DataPart] | None:
    if kind.type is not DataPart:
        return None
    return PrimitiveConstructorSpec(
        nargs=1, metavar="STORE[:WEIGHT]", instance_from_str=lambda words: parse_store(words[0]),
        is_instance=lambda value: isinstance(value, DataPart),
        str_from_instance=lambda part: [f"{part.store}:{part.weight:g}"],
    )  # fmt: skip


def _unknown(words: Sequence[str], known: Sequence[str]) -> InputError:
    option = next((word for word in words if word.startswith("-")), "")
    if not option:
        return InputError("what is this word for?", got=" ".join(words), fix="name the option that it belongs to")
    option = option.split("=")[0].replace("_", "-")
    last = option.lstrip("-").split(".")[-1]
    near = [name for name in known if name.lstrip("-").split(".")[-1] == last]  # the right name in another place
    near += get_close_matches(option, known, 4, 0.6)
    near += [name for name in known if name.lstrip("-").split(".")[-1] in get_close_matches(
        last, [other.lstrip("-").split(".")[-1] for other in known], 2, 0.7)]  # fmt: skip
    return InputError(f"there is no option {option}", expected=", ".join(dict.fromkeys(near[:4])) or None,
                      fix="`--help` after the recipe lists all options")  # fmt: skip
