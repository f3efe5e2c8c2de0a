"""Run by test_dit_runtime.py in a process of its own: type checks at run time and compilation exclude each other."""

from __future__ import annotations

import sys
from dataclasses import replace

import torch

from remind.models import CausalVideoDiT, DiTConfig
from remind.models.attention import ChunkMask


def main(mode: str, kernel: str) -> None:
    torch.manual_seed(0)
    config = DiTConfig(dim=48, ffn_dim=96, num_heads=4, num_layers=2, freq_dim=32, text_dim=20, text_len=7,
                       camera_hidden=16)  # fmt: skip
    model = CausalVideoDiT(replace(config, camera_mode=mode))
    with torch.no_grad():
        for parameter in model.parameters():
            if (parameter == 0).all():
                parameter.normal_(std=0.2)
    cameras = torch.zeros(2, 9, 14)
    cameras[..., [0, 4, 8]] = 1
    cameras[..., 9:12] = torch.randn(2, 9, 3)
    inputs = {
        "latents": torch.randn(2, 9, 16, 4, 6), "sigmas": torch.rand(2, 9), "cameras": cameras,
        "positions": torch.arange(9.0).expand(2, -1), "text": torch.randn(2, 3, 7, 20),
        "attention": ChunkMask(ChunkMask.causal(3).visibility, kernel=kernel),  # type: ignore[arg-type]
    }  # fmt: skip

    def run() -> tuple[torch.Tensor, list[torch.Tensor]]:
        model.zero_grad()
        if kernel == "flex":  # torch has no backward of it on CPUs
            with torch.no_grad():
                return model(**inputs), []
        out = model(**inputs)
        out.square().mean().backward()
        return out.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    eager_out, eager = run()
    model.compile_blocks(backend="aot_eager")
    compiled_out, compiled = run()
    torch.testing.assert_close(compiled_out, eager_out, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(compiled, eager, atol=1e-5, rtol=1e-4)
    print("same")


if __name__ == "__main__":
    main(*sys.argv[1:])
