"""Loading takes the memory of the weights once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from remind.models import DiTConfig
from remind.models.convert import expected_shapes

from .make_checkpoints import WRAPS, diffusers_names, wrapped

MEASURE = """
import sys
import torch
from remind.models import CausalVideoDiT, DiTConfig, load_checkpoint
from remind.models.convert import expected_shapes

def megabytes(field):
    line = next(line for line in open("/proc/self/status") if line.startswith(field + ":"))
    return int(line.split()[1]) / 1024

def load():
    config, state = load_checkpoint(sys.argv[1], dtype=getattr(torch, sys.argv[2], None))
    with torch.device("meta"):
        model = CausalVideoDiT(config)
    model.load_state_dict(state, assign=True)
    return model

expected_shapes(DiTConfig.preset("nano"))  # PyTorch imports 70 MB of code when the meta device is first used
before, own_before = megabytes("VmRSS"), megabytes("RssAnon")
model = load()
print(sum(parameter.sum().item() > 0 for parameter in model.parameters()))  # touches every page
print(megabytes("VmHWM") - before, megabytes("RssAnon") - own_before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")
@pytest.mark.parametrize("kind", ["wan", "diffusers", "pt"])
def test_loading_never_holds_two_copies(kind: str, tmp_path: Path) -> None:
    """163 MB of weights in one file, all touched; the model takes them over as they are."""
    config = DiTConfig(dim=1024, ffn_dim=4096, num_heads=8, num_layers=2, freq_dim=64, text_dim=512)
    torch.manual_seed(0)
    state = {k: torch.randn(shape) for k, shape in expected_shapes(config).items()}
    path = tmp_path / "w"
    if kind == "pt":
        torch.save({"generator": {"w": torch.zeros(5)}, "generator_ema": wrapped(state, WRAPS["fsdp"])}, path)
    else:
        save_file(diffusers_names(state) if kind == "diffusers" else state, path)
    size = path.stat().st_size / 2**20
    del state
    peak, own = _measure(path, "None")
    assert 0.9 * size < peak < 1.3 * size  # the lower bound says that the weights were touched at all
    assert own < 0.2 * size  # pages of the file, which the system may drop again
    _, own = _measure(path, "bfloat16")
    assert own < 0.7 * size  # half for the converted weights


def _measure(path: Path, dtype: str) -> tuple[float, float]:
    done = subprocess.run([sys.executable, "-c", MEASURE, str(path), dtype], capture_output=True, text=True, check=True)
    peak, own = map(float, done.stdout.split()[-2:])
    return peak, own
