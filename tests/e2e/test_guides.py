"""The guides' code runs, at tiny size, on the real classes."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from remind.cli_generate import generate
from remind.data.video_io import probe
from remind.generate.arguments import GenerateArguments
from remind.inference import components
from remind.inference.generation_plan import generation_plan
from remind.inference.placement import Placement
from remind.models import CausalVideoDiT, DiTConfig
from remind.models.amounts import size_text

from ..models.make_wan import TEXT_DIM, make_text_encoder, make_tokenizer, make_vae

GUIDES = Path(__file__).parents[2] / "docs" / "guides"


def _make_wan(pipeline: Path, weights: Path) -> None:
    make_vae(pipeline / "vae")
    make_text_encoder(pipeline / "text_encoder")
    make_tokenizer(pipeline / "tokenizer")
    torch.manual_seed(0)
    config = DiTConfig(dim=128, ffn_dim=64, num_heads=1, num_layers=2, freq_dim=16, text_dim=TEXT_DIM)
    torch.save({"generator_ema": {f"model.{k}": v for k, v in CausalVideoDiT(config).state_dict().items()}}, weights)


def test_the_wan_guide_runs_as_it_is_written(tmp_path: Path) -> None:
    pipeline, weights = tmp_path / "pipeline", tmp_path / "model.pt"
    _make_wan(pipeline, weights)
    (code,) = re.findall(r"```python\n(.*?)```", (GUIDES / "wan_checkpoints.md").read_text(), flags=re.S)
    for big, small in (
        ('"Wan2.1-T2V-1.3B-Diffusers"', repr(str(pipeline))), ('"ar_diffusion.pt"', repr(str(weights))),
        ('"cuda", torch.bfloat16', '"cpu", torch.float32'), ("(60, 104), 7, 50, 5.0", "(4, 6), 3, 2, 5.0"),
    ):  # fmt: skip
        assert code.count(big) == 1, big
        code = code.replace(big, small)
    names: dict[str, Any] = {}
    exec(compile(code, "wan_checkpoints.md", "exec"), names)
    assert names["video"].shape == (1, 33, 32, 48, 3)
    assert names["video"].dtype == torch.uint8
    assert [entry.position for entry in names["memory"].entries] == [0, 3, 6]


GENERATING = (GUIDES / "generating.md").read_text()
SLOW = ("--checkpoint wan-1.3b",)
"""Commands that another test here runs by their parts."""


def _run_command(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A line of the guide, in this process; torchrun's ranks are told their places by the environment, as it does."""
    words = shlex.split(line)
    if words[0] != "torchrun":
        assert words[:2] == ["remind", "generate"], line
        generate(words[2:])
        return
    launcher = ["torchrun", "--nproc-per-node", "2", "-m", "remind", "generate"]
    assert words[: len(launcher)] == launcher, line
    with monkeypatch.context() as patched:
        patched.setenv("WORLD_SIZE", "2")
        for rank in ("0", "1"):
            patched.setenv("RANK", rank)
            generate(words[len(launcher) :])


def test_the_generating_guide_runs_as_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Block after block in one folder; Wan at tiny size on this CPU, Ray where everything is made already."""
    monkeypatch.chdir(tmp_path)
    _make_wan(tmp_path / "Wan2.1-T2V-1.3B-Diffusers", tmp_path / "ar_diffusion.pt")
    monkeypatch.setattr(components, "WAN_HW", (32, 48))
    names: dict[str, Any] = {}
    blocks = re.findall(r"(?:`([\w.]+)`:\n\n)?```(\w+)\n(.*?)```", GENERATING, flags=re.S)
    assert {language for _, language, _ in blocks} == {"python", "bash", "text", "json"}
    ran = 0
    for file, language, code in blocks:
        if language == "python":
            exec(compile(code, "generating.md", "exec"), names)
        elif language == "bash":
            for line in code.splitlines():
                if any(words in line for words in SLOW):
                    continue
                if "ar_diffusion.pt" in line:
                    line = line.replace("--device cuda", "--device cpu --chunks 2 --steps 2")
                _run_command(line, monkeypatch)
                ran += 1
        else:
            assert file, "a file's content comes after its name"
            Path(file).write_text(code)
    assert ran == GENERATING.count("\nremind generate") + GENERATING.count("\ntorchrun") - len(SLOW)
    said = capsys.readouterr().out
    assert said.count("the same video, bit for bit") == 2
    assert "3 videos made" in said
    assert "rank 1: 0 videos made, 1 were there already" in said
    for name in ("back.mp4", "told.mp4", "wan.mp4", "videos/tank_1.mp4", "videos/occluder/back.mp4"):
        assert probe(tmp_path / name).hw[0] >= 256, name
    assert (tmp_path / "plan.png").is_file()
    assert len(list((tmp_path / "back_again.mp4.frames").iterdir())) == 81

    # what the page says of memory
    made = json.loads((tmp_path / "back.mp4.json").read_text())
    assert made["output"]["first_generated_frame"] == 57
    table = {row.chunk: row for row in names["again"].memory.table()}
    assert [table[k].role for k in (0, 1, 3)] == ["anchor", "anchor", "degraded"]
    errors = names["errors"]
    assert errors[None] < 15, errors
    assert min(errors["direct"], errors["rebuild"]) > 30, errors
    assert len(names["session"].memory.resident) <= 3
    assert names["session"].rollout.cache_nbytes == 6 * names["one"]


def test_options_of_the_generating_guide_exist() -> None:
    known = {f"--{field.rstrip('_').replace('_', '-')}" for field in GenerateArguments.__dataclass_fields__}
    known |= {name.replace("--", "--no-") for name in known}
    typed = set(re.findall(r"`(--[a-z][\w-]*)", GENERATING))
    assert typed - known == set()
    for target in re.findall(r"\]\(([\w./-]+)\)", GENERATING):
        assert (GUIDES / target).is_file(), target


def test_what_the_generating_guide_says_of_wan_is_what_a_dry_run_says() -> None:
    """Of the row in which all options are at work."""
    (row,) = (line for line in GENERATING.splitlines() if line.startswith("| the same, `--guidance 5 --mem"))
    _, generating, decoding, main, a100, rtx = (cell.strip() for cell in row.strip("|").split("|"))
    plan = generation_plan("wan-1.3b", placement=Placement("cuda", offload=frozenset(("vae", "text"))), steps=50,
                           guidance=5.0, storage="int8")  # fmt: skip
    assert (generating, decoding) == (size_text(plan.live("generate")), size_text(plan.live("decode")))
    assert main == size_text(sum(plan.host_bytes.values()))
    times = {time.device.name: time for time in plan.times}
    assert a100 == f"{times['A100-80GB'].seconds:.0f} s"
    assert rtx == f"fits, {times['RTX-4090'].seconds:.0f} s"
    assert times["RTX-4090"].fits
