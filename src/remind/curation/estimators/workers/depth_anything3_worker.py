"""Worker for Depth Anything 3: depth and cameras of a clip. Runs inside an environment with `depth_anything_3`.

Weights are loaded at the first request and kept; another model replaces them. Not run with real weights yet: tested
against a stand-in package with the same calls (`from_pretrained`, `to`, `inference`) of the release of December 2025.
"""

from __future__ import annotations

import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
from worker_loop import Result, SetupError, main, read_frames

# As the model cards say; nothing else is known to be free.
_LICENCES = {
    "depth-anything/DA3-SMALL": "Apache-2.0",
    "depth-anything/DA3-BASE": "Apache-2.0",
    "depth-anything/DA3-LARGE": "CC-BY-NC-4.0",
    "depth-anything/DA3-LARGE-1.1": "CC-BY-NC-4.0",
    "depth-anything/DA3-GIANT": "CC-BY-NC-4.0",
    "depth-anything/DA3-GIANT-1.1": "CC-BY-NC-4.0",
    "depth-anything/DA3NESTED-GIANT-LARGE": "CC-BY-NC-4.0",
    "depth-anything/DA3NESTED-GIANT-LARGE-1.1": "CC-BY-NC-4.0",
}
_RESIZE = "upper_bound_resize"  # the whole picture, nothing cropped: intrinsics scale by the ratio of the sizes


class _Models:
    """The one model in memory."""

    def __init__(self) -> None:
        self._name, self._device, self._model = "", "", None

    def get(self, name: str, device: str) -> Any:
        if (name, device) != (self._name, self._device):
            self._name, self._model = "", None  # let the old one go before the new one comes
            self._model = self._load(name, device)
            self._name, self._device = name, device
        return self._model

    def _load(self, name: str, device: str) -> Any:
        try:
            from depth_anything_3.api import DepthAnything3
        except ImportError as error:
            raise SetupError(f"depth_anything_3 cannot be imported here: {error}") from error
        try:
            return DepthAnything3.from_pretrained(name).to(device)
        except Exception as error:
            raise SetupError(f"{name} cannot be loaded on {device}: {error}") from error


_MODELS = _Models()


def _version() -> str:
    try:
        return importlib.metadata.version("depth-anything-3")
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _handle(task: str, parameters: dict[str, Any], folder: Path) -> Result:
    name = parameters["model"]
    model = _MODELS.get(name, parameters["device"])
    found = model.inference(
        list(read_frames(folder)), process_res=parameters["process_res"], process_res_method=_RESIZE
    )
    if found.extrinsics is None or found.intrinsics is None:
        raise SetupError(f"{name} estimates no cameras: take an any-view model such as DA3-BASE")
    depth = np.asarray(found.depth, np.float32)
    sky = getattr(found, "sky", None)
    if sky is not None:
        depth = np.where(np.asarray(sky, bool), np.float32(0), depth)  # 0 = unknown
    w2c, matrix = np.asarray(found.extrinsics, np.float64), np.asarray(found.intrinsics, np.float64)
    arrays = {
        "depth": np.ascontiguousarray(depth),
        "w2c": np.ascontiguousarray(w2c[:, :3, :4]),
        "intrinsics_px": np.stack([matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, 0, 2], matrix[:, 1, 2]], -1),
    }
    if found.conf is not None:
        arrays["conf"] = np.ascontiguousarray(found.conf, dtype=np.float32)
    return Result(name, _LICENCES.get(name, "unknown"), arrays, {"metric": int(getattr(found, "is_metric", 0) or 0)})


if __name__ == "__main__":
    main("depth_anything_3", _version(), ("geometry",), _handle)
