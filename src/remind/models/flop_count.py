"""Floating-point operations of a run: of matrix products and of attention, on every device."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode, sdpa_backward_flop_count, sdpa_flop_count

_SDPA = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_SDPA_BACKWARD = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


def _forward(q: Any, k: Any, v: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return sdpa_flop_count(q, k, v)


def _backward(grad: Any, q: Any, k: Any, v: Any, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return sdpa_backward_flop_count(grad, q, k, v)


def count_flops(run: Callable[[], object]) -> int:
    """FLOPs of a run. torch's counter does not know the CPU's attention and would count it as nothing."""
    with FlopCounterMode(display=False, custom_mapping={_SDPA: _forward, _SDPA_BACKWARD: _backward}) as counter:
        run()
    return int(counter.get_total_flops())
