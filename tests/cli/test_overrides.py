"""Every field of a config can be typed; what cannot be is answered in one line that helps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from remind.cli_overrides import (
    TrainCommand,
    option_names,
    parse_curriculum,
    parse_store,
    read_command,
    show_curriculum,
)
from remind.errors import InputError, RemindError
from remind.recipes import recipe
from remind.training.config import DataPart, TrainConfig
from remind.training.curriculum import I2V_ALIGNED, V2V_HEAVY, Curriculum
from remind.training.lora import LoraOptions


def config_of(*words: object, name: str = "nano") -> TrainConfig:
    return read_command([name, *map(str, words)]).config


def field_of(config: TrainConfig, path: str) -> Any:
    found: Any = config
    for name in path.split("."):
        found = getattr(found, name)
    return found


@pytest.mark.parametrize("name", ["nano", "wan_v2v_lora"])
def test_help_shows_every_option_and_the_recipes_own_values(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        read_command([name, "--help"])
    assert end.value.code == 0
    text = capsys.readouterr().out
    shown = recipe(name) if recipe(name).lora else replace(recipe(name), lora=LoraOptions())
    options = set(option_names(TrainCommand(shown)))
    assert {"--model.dim", "--step.sigma-shift", "--execution.micro-batch", "--loss.variant", "--lora.rank", "--seed",
            "--data", "--curriculum", "--out", "--dry-run", "--validation.every"} <= options  # fmt: skip
    assert [option for option in options if f"{option} " not in text and f"{option}," not in text
            and f"{option}\n" not in text] == []  # fmt: skip
    assert f"(default: {recipe(name).steps})" in text
    assert f"(default: {recipe(name).model.dim})" in text


def test_without_options_a_recipe_is_itself() -> None:
    for name in ("nano", "tiny-base", "nano-table6-general", "wan_full", "wan_v2v_lora"):
        assert config_of(name=name) == recipe(name)


@pytest.mark.parametrize(
    ("words", "path", "value"),
    [
        (("--steps", 7), "steps", 7),
        (("--seed", 0), "seed", 0),
        (("--batch-size", 4), "batch_size", 4),
        (("--learning-rate", "1e-4"), "learning_rate", 1e-4),
        (("--bank-size", 100), "bank_size", 100),
        (("--workers", 0), "execution.workers", 0),
        (("--execution.workers", 3), "execution.workers", 3),
        (("--model.dim", 256), "model.dim", 256),
        (("--model.camera-mode", "qk"), "model.camera_mode", "qk"),
        (("--model.patch-hw", 1, 1), "model.patch_hw", (1, 1)),
        (("--hw", 64, 48), "hw", (64, 48)),
        (("--step.sigma-shift", 3), "step.sigma_shift", 3.0),
        (("--step.memory-sigma", 0.1, 0.2), "step.memory_sigma", (0.1, 0.2)),
        (("--execution.micro-batch", 2), "execution.micro_batch", 2),
        (("--execution.recompute",), "execution.recompute", True),
        (("--execution.trackers",), "execution.trackers", ()),
        (("--loss.variant", "flow_only"), "loss.variant", "flow_only"),
        (("--loss.gate-steps", 10), "loss.gate_steps", 10),
        (("--regime.track", "clean"), "regime.track", "clean"),
        (("--validation.every", 5), "validation.every", 5),
        (("--world-families", "filling", "train"), "world_families", ("filling", "train")),
        (("--world-kinds", "occluder"), "world_kinds", ("occluder",)),
        (("--data", "a"), "data", (DataPart(Path("a")),)),
        (("--data", "a:0.25", "b:0.75"), "data", (DataPart(Path("a"), 0.25), DataPart(Path("b"), 0.75))),
        (("--data", "a:2", "b", "--latents", "x", "y"), "data",
         (DataPart(Path("a"), 2.0, Path("x")), DataPart(Path("b"), 1.0, Path("y")))),
        (("--curriculum", "v2v_heavy"), "curriculum", V2V_HEAVY),
        (("--init-from", "base", "--lora.rank", 8), "lora", LoraOptions(rank=8)),
        (("--init-from", "base", "--lora.targets", "q", "v"), "lora", LoraOptions(targets=("q", "v"))),
        (("--init-from", "base"), "lora", None),
    ],
)  # fmt: skip
def test_what_is_typed_is_what_the_config_says(words: tuple[object, ...], path: str, value: object) -> None:
    config = config_of(*words)
    assert field_of(config, path) == value
    top = path.split(".")[0]
    untouched = [name for name in vars(config) if name not in (top, "init_from")]
    assert all(getattr(config, name) == getattr(recipe("nano"), name) for name in untouched)


def test_an_option_reaches_deep_into_a_large_recipe() -> None:
    config = config_of("--latents", *"abcde", "--execution.no-recompute", "--lora.alpha", 8, name="wan_v2v_lora")
    assert [str(part.latents) for part in config.data] == list("abcde")
    assert [part.weight for part in config.data] == [part.weight for part in recipe("wan_v2v").data]
    assert config.lora == LoraOptions(rank=64, alpha=8.0)
    assert not config.execution.recompute


@pytest.mark.parametrize(
    ("words", "knots"),
    [
        (["all_history:0.2,v2v_frontier:0.8"], [(0.0, {"all_history": 0.2, "v2v_frontier": 0.8})]),
        (["i2v_aligned"], I2V_ALIGNED.to_json()),
        (["0=all_history:1", "0.4=all_history:1,node_drop:3"],
         [(0.0, {"all_history": 1.0}), (0.4, {"all_history": 1.0, "node_drop": 3.0})]),
        (["0=all_history:1", "1=v2v_heavy"], [(0.0, {"all_history": 1.0}), (1.0, dict(V2V_HEAVY.knots[0][1]))]),
    ],
)  # fmt: skip
def test_a_curriculum_can_be_typed_and_is_shown_as_it_is_typed(words: list[str], knots: list[Any]) -> None:
    curriculum = parse_curriculum(words)
    assert curriculum == Curriculum(knots=[(at, mixture) for at, mixture in knots])
    assert parse_curriculum(show_curriculum(curriculum)) == curriculum
    assert config_of("--curriculum", *words).curriculum == curriculum


def test_a_stores_path_may_have_colons() -> None:
    assert parse_store("C:/clips") == DataPart(Path("C:/clips"))
    assert parse_store("C:/clips:0.5") == DataPart(Path("C:/clips"), 0.5)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nano", "--modl.dim", "3"), r"there is no option --modl.dim; expected --model.dim"),
        (("nano", "--dim", "3"), r"there is no option --dim; expected --model.dim"),
        (("nano", "--micro_batch=3"), r"there is no option --micro-batch; expected --execution.micro-batch"),
        (("nano", "--sigma_shift", "3"), r"--step.sigma-shift"),
        (("nano", "--learning-rat", "3"), r"expected --learning-rate"),
        (("nano", "runs/1"), r"what is this word for\?; got runs/1"),
        (("nanoo",), r"unknown recipe; got nanoo; expected nano"),
        (("--out", "x", "nano"), r"the recipe comes first; got --out"),
        (("nano", "--steps", "-1"), r"--steps must be positive; got -1"),
        (("nano", "--model.num-heads", "7"), r"dim does not split into heads"),
        (("nano", "--batch-size", "6", "--group-size", "4"), r"must divide"),
        (("nano", "--curriculum", "all_histroy:1"), r"regimes that do not exist"),
        (("nano", "--curriculum", "all_history"), r"no mixture of regimes; got all_history; expected REGIME:WEIGHT"),
        (("nano", "--curriculum", "all_history:x"), r"no number; got x in all_history:x"),
        (("nano", "--curriculum", "0=all_history:1", "v2v_heavy"), r"each needs its progress; got v2v_heavy"),
        (("nano", "--curriculum", "all_history:0"), r"no weight at all"),
        (("nano", "--curriculum", "0.5=all_history:1", "0.2=node_drop:1"), r"must be ordered"),
        (("nano", "--lora.rank", "4"), r"adapters need a base.*--init-from"),
        (("nano", "--init-from", "b", "--lora.rank", "0"), r"an adapter needs a rank"),
        (("nano", "--data", "a", "b", "--latents", "x"), r"every store needs its latents; got 1 --latents; expected 2"),
        (("nano", "--latents", "x"), r"every store needs its latents; got 1 --latents; expected 0"),
        (("nano", "--world-families", "sinking"), r"--world-families knows no such thing; got sinking"),
        (("nano", "--dry-run", "--world-size", "0"), r"--world-size must be positive"),
    ],
)
def test_what_cannot_be_is_one_line_that_helps(words: tuple[str, ...], said: str) -> None:
    with pytest.raises(RemindError, match=said) as raised:
        read_command(words)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("words", [("--steps", "many"), ("--loss.variant", "best"), ("--hw", "32")])
def test_a_word_that_is_no_value_is_said_on_stderr(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        read_command(["nano", *words])
    assert end.value.code == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert words[0] in told.err
    with pytest.raises(SystemExit):
        read_command(["nano", *words], speaks=False)
    assert capsys.readouterr().err == ""


def test_a_help_that_nobody_asked_for_is_not_an_option() -> None:
    with pytest.raises(InputError):
        read_command(["nano", "--no-such"])
