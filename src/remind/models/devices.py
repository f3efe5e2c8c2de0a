"""Devices that a run can be estimated for: memory and peak rates as their vendors state them."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import torch

from remind.errors import InputError


@dataclass(frozen=True)
class Device:
    """One device.

    Args:
        name: short.
        memory_bytes: of GPUs the data sheet's GB as 10^9 bytes. Most hold 2^30 instead; the difference, 7 %, is about
            what driver, libraries and communication take for themselves.
        bf16_flops, fp32_flops: dense peak rates of matrix products, FLOP/s; without sparsity, accumulating in float32,
            and for fp32 without TF32, which torch does not use unasked.
    """

    name: str
    memory_bytes: float
    bf16_flops: float
    fp32_flops: float

    def peak_flops(self, precision: str) -> float:
        """At the precision of a run: `bf16` or `fp32`."""
        return self.bf16_flops if precision == "bf16" else self.fp32_flops


GPUS: Mapping[str, Device] = {device.name: device for device in (
    # NVIDIA A100 80GB SXM data sheet (2021): BF16 312, FP32 19.5 TFLOPS.
    Device("A100-80GB", 80e9, 312e12, 19.5e12),
    # NVIDIA H100 SXM data sheet (2023): BF16 1,979 with sparsity, so 989.5 dense; FP32 67 TFLOPS; 80 GB.
    Device("H100", 80e9, 989.5e12, 67e12),
    # NVIDIA H200 SXM data sheet (2024): BF16 1,979 with sparsity, FP32 67 TFLOPS; 141 GB.
    Device("H200", 141e9, 989.5e12, 67e12),
    # NVIDIA L40S data sheet (2023): BF16 362.05 dense, FP32 91.6 TFLOPS; 48 GB.
    Device("L40S", 48e9, 362.05e12, 91.6e12),
    # NVIDIA Ada GPU architecture white paper, appendix A (2022): RTX 4090 BF16 165.2 dense with FP32 accumulate, FP32
    # 82.6 TFLOPS; 24 GB.
    Device("RTX-4090", 24e9, 165.2e12, 82.6e12),
    # AMD Instinct MI300X data sheet (2023): BF16 1,307.4 dense, FP32 matrix 163.4 TFLOPS; 192 GB.
    Device("MI300X", 192e9, 1307.4e12, 163.4e12),
)}  # fmt: skip


def find_device(name: str) -> Device:
    """A GPU of the table by its name, the beginning of it or what its driver calls it; `cpu`, this machine, measured.

    Raises:
        InputError: a name that is none of them.
    """
    if name.lower() == "cpu":
        return this_cpu()
    wanted = _plain(name)
    found = [device for known, device in GPUS.items()
             if _plain(known).startswith(wanted) or all(_plain(part) in wanted for part in known.split("-"))]
    if len(found) != 1:
        raise InputError("this device is not in the table", got=name, expected=" | ".join((*GPUS, "cpu")))
    return found[0]


@lru_cache(maxsize=1)
def this_cpu() -> Device:
    """This machine with the threads that torch has: float32 rate of `torch.matmul`, the better of a few short runs.

    Its bfloat16 rate is not measured: on processors without hardware for it that takes minutes. It is taken as equal.
    """
    a, b = torch.randn(512, 768), torch.randn(768, 768)
    best = float("inf")
    for _ in range(5):
        start = time.perf_counter()
        for _ in range(2):
            a @ b
        best = min(best, time.perf_counter() - start)
    rate = 2 * 2 * 512 * 768 * 768 / best
    return Device("cpu", float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")), rate, rate)


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())
