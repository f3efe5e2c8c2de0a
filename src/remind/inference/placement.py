"""Where a pipeline's parts compute and in what type, and parts that are on the device only while they are used."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import torch

from remind.errors import InputError
from remind.models.text import TextEncoder

logger = logging.getLogger(__name__)

Part = Literal["model", "vae", "text"]
Offload = Literal["vae", "text"]
Precision = Literal["fp32", "bf16"]
_KINDS = ("cuda", "mps", "cpu")  # in the order in which "auto" tries them
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


@runtime_checkable
class Movable(Protocol):
    """A part with weights or state. Parts without, such as the word hash, have no `to` and stay on the CPU."""

    def to(self, device: torch.device) -> Any: ...


@dataclass(frozen=True)
class Placement:
    """Where parts compute.

    Args:
        device: `auto` takes CUDA where there is one, else MPS, else the CPU; or `cuda`, `cuda:1`, `mps`, `cpu`.
        dtype: of transformer and text encoder; None = bf16 on CUDA, fp32 elsewhere and for small models. Our choice:
            the family runs bf16 on CUDA, at twice the speed and half the memory; on CPUs most processors emulate it,
            and on MPS the first generation does (no Apple device was at hand to measure), while unified memory holds
            1.3B in fp32 (5.7 GB). The VAE computes in fp32 always, as the family has it: latents, and so its digest,
            depend on it.
        offload: parts that wait on the CPU and are on the device only within `using`. On a CPU it changes nothing.
    """

    device: str = "auto"
    dtype: Precision | None = None
    offload: frozenset[Offload] = frozenset()

    def __post_init__(self) -> None:
        kind, _, index = self.device.partition(":")
        if self.device != "auto" and (kind not in _KINDS or (":" in self.device and not index.isdecimal())):
            raise InputError("unknown device", got=self.device, expected="auto | cuda | cuda:N | mps | cpu")
        if self.dtype is not None and self.dtype not in _DTYPES:
            raise InputError("unknown precision", got=self.dtype, expected=" | ".join(_DTYPES))
        if not set(self.offload) <= set(get_args(Offload)):
            raise InputError("only some parts can be offloaded", got=sorted(self.offload),
                             expected=" | ".join(get_args(Offload)))
        object.__setattr__(self, "offload", frozenset(self.offload))

    @cached_property
    def target(self) -> torch.device:
        """The device.

        Raises:
            InputError: this machine, or this build of torch, does not have it.
        """
        if self.device == "auto":
            return torch.device(next(kind for kind in _KINDS if _available(kind)))
        target = torch.device(self.device)
        if not _available(target.type):
            raise InputError("torch finds no such device on this machine", got=self.device,
                             expected=" | ".join(kind for kind in _KINDS if _available(kind)), fix="use device auto")
        if target.type == "cuda" and (target.index or 0) >= torch.cuda.device_count():
            raise InputError("torch finds no such device on this machine", got=self.device,
                             expected=f"an index below {torch.cuda.device_count()}")
        return target

    @cached_property
    def weights_dtype(self) -> torch.dtype:
        """Of transformer and text encoder."""
        if self.dtype == "bf16" and self.target.type == "cpu":
            logger.warning("bf16 on a CPU saves memory and costs time: few processors multiply it in hardware")
        return self.dtype_on(self.target.type)

    def dtype_on(self, kind: str) -> torch.dtype:
        """The same on a kind of device that need not be here."""
        if self.dtype is None:
            return torch.bfloat16 if kind == "cuda" else torch.float32
        return _DTYPES[self.dtype]

    def for_small_model(self) -> Placement:
        """For models of the embedded codec: in fp32 unless it was said otherwise, since that is how they were trained
        and there is nothing to save."""
        return self if self.dtype is not None else replace(self, dtype="fp32")

    def waits(self, part: Part) -> bool:
        """Whether a part is on the CPU while it is not used."""
        return part in self.offload and self.target.type != "cpu"

    def put(self, component: Any) -> None:
        """Bring a component to where it is between uses."""
        if isinstance(component, Movable):
            component.to(torch.device("cpu") if self.waits(part_of(component)) else self.target)

    @contextmanager
    def using(self, *components: Any) -> Iterator[None]:
        """Have components on the device, and back on the CPU afterwards where they are offloaded, also after an error.

        Args:
            components: model, codec, text encoder, or a stream of the codec, whose state waits with it.
        """
        waiting = [c for c in components if isinstance(c, Movable) and self.waits(part_of(c))]
        moved: list[Movable] = []
        try:
            for component in waiting:
                moved.append(component)
                component.to(self.target)
            yield
        finally:
            for component in reversed(moved):
                component.to(torch.device("cpu"))


def part_of(component: Any) -> Part:
    """What a component is to a placement; streams of a codec belong to it."""
    if isinstance(component, torch.nn.Module):
        return "model"
    return "text" if isinstance(component, TextEncoder) else "vae"


def _available(kind: str) -> bool:
    if kind == "cuda":
        return torch.cuda.is_available()
    return kind == "cpu" or torch.backends.mps.is_available()
