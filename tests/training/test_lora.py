"""Adapters through the real peft: the base stays, what is merged is what was trained, nothing is skipped in silence."""

from __future__ import annotations

import copy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from remind.data.mixture import Mixture
from remind.errors import InputError
from remind.models.checkpoint import save_checkpoint
from remind.models.config import DiTConfig
from remind.models.dit import CausalVideoDiT
from remind.training.config import Execution, TrainConfig
from remind.training.distributed import Ranks
from remind.training.lora import LoraOptions, add_lora, merge, merged_state
from remind.training.trainer import Trainer

from ..make_memory import TINY, filled_model, random_bank, random_cameras

ROOT = Path(__file__).parents[2]
OPTIONS = LoraOptions(rank=4, alpha=6.0)


def run(model: CausalVideoDiT) -> torch.Tensor:
    """A pass with moving cameras, long enough for both orders of the camera residual (tokens against width)."""
    generator = torch.Generator().manual_seed(3)
    latents = torch.randn(2, 6, 16, 8, 8, generator=generator)
    return model(
        latents, torch.rand(2, 6, generator=generator), torch.arange(6.0).expand(2, -1),
        torch.randn(2, 2, model.config.text_len, model.config.text_dim, generator=generator),
        random_cameras(2, 6, generator),
    )  # fmt: skip


def trained_model(config: DiTConfig = TINY, steps: int = 2) -> tuple[CausalVideoDiT, CausalVideoDiT]:
    """A base and the same model after some real steps with adapters."""
    base = filled_model(config)
    model = copy.deepcopy(base)
    torch.manual_seed(1)
    add_lora(model, OPTIONS)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=0.02)
    for _ in range(steps):
        run(model).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    return base, model


def test_adapters_start_without_effect() -> None:
    base, model = trained_model(steps=0)
    torch.testing.assert_close(run(model), run(base), atol=1e-6, rtol=0)


@pytest.mark.parametrize("mode", ["none", "qk", "vo", "full", "dual"])
def test_the_base_is_frozen_and_all_else_moves(mode: str) -> None:
    base, model = trained_model(replace(TINY, camera_mode=mode))
    before, after = base.state_dict(), dict(model.named_parameters())
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert {name for name in before if "camera" in name} == {name for name in trained if "lora" not in name}
    assert len([name for name in trained if "lora_A" in name]) == TINY.num_layers * 10
    for name, parameter in after.items():
        if name in trained:
            old = before.get(name)
            assert parameter.abs().max() > 0, name  # of an adapter, the half that starts at zero too
            assert old is None or not torch.equal(parameter, old), name
        else:
            assert torch.equal(parameter, before[name.replace(".base_layer.", ".")]), name


@pytest.mark.parametrize("mode", ["vo", "full", "dual"])
def test_merged_weights_are_the_adapted_model(mode: str) -> None:
    base, model = trained_model(replace(TINY, camera_mode=mode))
    plain = CausalVideoDiT(base.config)
    plain.load_state_dict(merged_state(model))  # strict: plain names, and all of them
    assert (run(model) - run(base)).abs().max() > 1e-2
    torch.testing.assert_close(run(plain), run(model), atol=1e-6, rtol=1e-5)


def test_a_gathered_state_merges_to_the_same_bits() -> None:
    _, model = trained_model()
    gathered = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    other = merged_state(model)
    for name, tensor in merge(gathered, OPTIONS.scale).items():
        assert torch.equal(tensor, other[name])
    plain = filled_model()
    assert all(torch.equal(tensor, plain.state_dict()[name]) for name, tensor in merged_state(plain).items())


def test_adapters_go_on_with_the_base_that_they_began_with_and_no_other(tmp_path: Path) -> None:
    base = tmp_path / "base"
    save_checkpoint(base, TINY, filled_model().state_dict(), {})
    config = TrainConfig(
        recipe="by_hand", arm="remind", model=TINY, hw=(16, 16), num_frames=57, steps=3, batch_size=2, warmup_steps=0,
        init_from=str(base), lora=OPTIONS, execution=Execution(workers=0),
    )  # fmt: skip

    def trainer() -> Trainer:
        return Trainer(config, Mixture([random_bank(4)], [1.0], config.seed), Ranks(torch.device("cpu")))

    first = trainer()
    losses = [record["loss"] for record in first.steps()]
    begun = trainer()
    next(begun.steps())
    checkpoint = begun.save(tmp_path / "run")
    stored = (checkpoint / "state.json").read_text()
    assert "self_attn.q.lora_A" in stored
    assert "camera_value.feature" in stored
    assert "base_layer" not in stored  # nor any other frozen weight
    assert "patch_embedding" not in stored
    again = trainer()
    again.resume(checkpoint)
    assert [record["loss"] for record in again.steps()] == losses[1:]
    exact = again.averaged_weights()
    assert all(torch.equal(tensor, exact[name]) for name, tensor in first.averaged_weights().items())
    CausalVideoDiT(TINY).load_state_dict(exact)

    save_checkpoint(base, TINY, filled_model(seed=1).state_dict(), {})
    with pytest.raises(InputError, match=r"trained on another base; got .*base, changed"):
        trainer().resume(checkpoint)


def test_bfloat16_weights_are_merged_in_float32() -> None:
    _, model = trained_model()
    low = {name: tensor.bfloat16() for name, tensor in model.state_dict().items()}
    exact = merge({name: tensor.float() for name, tensor in low.items()}, OPTIONS.scale)
    for name, tensor in merge(low, OPTIONS.scale).items():
        assert torch.equal(tensor, exact[name].bfloat16())


def test_cameras_fold_into_merged_weights_and_never_into_adapters() -> None:
    base, model = trained_model()
    plain = CausalVideoDiT(base.config)
    plain.load_state_dict(merged_state(model))
    torch.testing.assert_close(run(plain.fold_cameras()), run(model), atol=1e-5, rtol=1e-4)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(InputError, match="merged before"):
        model.fold_cameras()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_shapes_are_known_without_memory() -> None:
    model = CausalVideoDiT.empty(DiTConfig.preset("wan-1.3b", camera_mode="full"))
    add_lora(model, LoraOptions(rank=16))
    assert all(p.is_meta for p in model.parameters())
    adapters = sum(p.numel() for name, p in model.named_parameters() if "lora" in name)
    dim, ffn = 1536, 8960
    assert adapters == 30 * 16 * (8 * 2 * dim + 2 * (dim + ffn))


@pytest.mark.parametrize(
    ("targets", "said"),
    [(("q", "to_q"), "got to_q; expected .*self_attn.q, .*ffn.2"), (("camera_phase.mlp.0",), "camera_phase"),
     (("patch_embedding",), "patch_embedding"), (("elf_attn.q",), "elf_attn.q")],
)  # fmt: skip
def test_a_layer_that_is_not_there_is_refused(targets: tuple[str, ...], said: str) -> None:
    model = filled_model()
    with pytest.raises(InputError, match=said):
        add_lora(model, LoraOptions(targets=targets))
    assert all(p.requires_grad for p in model.parameters())


def test_options_that_cannot_be_are_refused() -> None:
    for options in ({"rank": 0}, {"alpha": 0.0}, {"targets": ()}, {"targets": ("q", "")}):
        with pytest.raises(InputError):
            LoraOptions(**options)
    model = filled_model()
    add_lora(model, OPTIONS)
    with pytest.raises(InputError, match="adapters already"):
        add_lora(model, OPTIONS)


ALONE = """
import sys
import torch
import remind.training.lora
assert not {"peft", "transformers"} & set(sys.modules)
from dataclasses import replace
from tests.make_memory import TINY
from tests.training.test_lora import run, trained_model
_, model = trained_model(replace(TINY, num_layers=1), steps=1)
expected = run(model)
model.checkpoint_blocks = True
model.compile_blocks(backend="aot_eager")
torch.testing.assert_close(run(model), expected, atol=1e-5, rtol=1e-4)
run(model).sum().backward()
assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
assert "torchvision" not in sys.modules
"""


def test_peft_is_imported_late_and_a_block_with_adapters_compiles_whole() -> None:
    """In a process of its own: compilation and type checks at run time exclude each other."""
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
