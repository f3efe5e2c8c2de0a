"""The transformer, its memory and its files. The names below load on first use: a config needs no PyTorch."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from remind.models.config import DiTConfig
    from remind.models.convert import load_checkpoint
    from remind.models.dit import CausalVideoDiT
    from remind.models.export import export_diffusers, export_wan

__all__ = ["CausalVideoDiT", "DiTConfig", "export_diffusers", "export_wan", "load_checkpoint"]

_FILE_OF = {"CausalVideoDiT": "dit", "DiTConfig": "config", "export_diffusers": "export", "export_wan": "export",
            "load_checkpoint": "convert"}


def __getattr__(name: str) -> Any:
    if name not in _FILE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_FILE_OF[name]}"), name)
