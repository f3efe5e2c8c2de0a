"""Weights of the Wan family, whoever saved them, under our names: Wan, diffusers, Self-Forcing, InSpatio, ReMind."""

from __future__ import annotations

import logging
from collections.abc import Container, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from remind.errors import CheckpointError
from remind.models.checkpoint import check_fit
from remind.models.checkpoint_config import resolve_config, stated_fields
from remind.models.checkpoint_files import StoredTensor, Weights, open_checkpoint
from remind.models.checkpoint_names import from_diffusers, image_names, is_diffusers, without_wrappers
from remind.models.config import DiTConfig
from remind.models.dit import CausalVideoDiT
from remind.models.licence import checkpoint_licence
from remind.models.pm_rope import CameraPhase

logger = logging.getLogger(__name__)

_PATCHES = "patch_embedding.weight"
INSPATIO_CHANNELS, WAN_CHANNELS = 36, 16


def load_checkpoint(
    path: str | Path,
    config: DiTConfig | None = None,
    *,
    weights: Weights | None = None,
    keep_extra_channels: bool = False,
    dtype: torch.dtype | None = None,
) -> tuple[DiTConfig, dict[str, Tensor]]:
    """Config and weights of any checkpoint of the Wan family, under Wan's names, ready for `load_state_dict`.

    The format is told by content: Wan's safetensors (whole or sharded), a diffusers transformer or pipeline folder,
    Self-Forcing's and Causal-Forcing's `.pt`, InSpatio's 36 channels, ReMind's folder. Weights stay in the file until
    they are touched, and writing to them does not reach it; only PyTorch files of the old, unzipped kind are read
    whole. `load_state_dict(state, assign=True)` on a model made on the meta device takes them over without a second
    copy. Where `dtype` is another than the file's, each tensor is converted as it is read.

    Args:
        path: a file or a folder.
        config: the model to load into; None = read off the checkpoint. One with cameras takes weights without them:
            camera parameters then start at their initial values and are logged (see `new_parameters`).
        weights: `ema` or `raw` where a file holds both; None = `ema` where there is one, else `raw`.
        keep_extra_channels: keep all 36 input channels of an InSpatio checkpoint. Otherwise they are cut to the first
            16, which is exactly the model with zeros in the other 20.
        dtype: of the returned tensors; None = as stored.

    Raises:
        CheckpointError: damaged, unsafe or ambiguous files; an image-to-video checkpoint; a config that disagrees;
            keys missing, unexpected or of another shape, all named.
    """
    path = Path(path)
    config, tensors = _resolved(path, config, weights, keep_extra_channels)
    expected = expected_shapes(config)
    new = _new_names(config, tensors)
    check_fit({name: shape for name, shape in expected.items() if name not in new},
              {name: tensor.shape for name, tensor in tensors.items()},
              fix="pass the config that these weights were trained with")

    state = {name: _read(name, tensors[name], dtype) for name in expected if name in tensors}
    fresh = new_parameters(config, state)
    if fresh:
        logger.info("%s: not in the file, at their initial values: %s", path, sorted(fresh))
    return config, state | fresh


def checkpoint_config(path: str | Path) -> DiTConfig:
    """The shape of the model that `load_checkpoint` would make of a checkpoint, without reading weights.

    Raises:
        CheckpointError: as `load_checkpoint`, but for weights that do not fit their own config.
    """
    return _resolved(Path(path), None, None, False)[0]


def _resolved(
    path: Path, config: DiTConfig | None, weights: Weights | None, keep_extra_channels: bool
) -> tuple[DiTConfig, dict[str, StoredTensor]]:
    """A checkpoint's config and its tensors under our names, unread. Arguments as `load_checkpoint`."""
    stored = open_checkpoint(path, weights)
    logger.info("%s: licence: %s", path, checkpoint_licence(path))
    tensors = _under_our_names(stored.tensors)
    stated = None if stored.config is None else stated_fields(stored.config)
    if stored.config is not None and stated is None and path.is_dir():
        raise CheckpointError("config.json describes no model of the Wan family", got=f"{path}: "
                              f"{stored.config.get('_class_name', sorted(stored.config))}",
                              expected="Wan's, WanTransformer3DModel's or ReMind's",
                              fix="name the file of weights itself, if they are of that family")

    patches = tensors.get(_PATCHES)
    cut = not keep_extra_channels and (config is None or config.in_channels == WAN_CHANNELS)
    if cut and patches is not None and patches.shape[1:2] == (INSPATIO_CHANNELS,):
        logger.warning("%s: input channels cut from %d to %d", path, INSPATIO_CHANNELS, WAN_CHANNELS)
        tensors[_PATCHES] = StoredTensor((patches.shape[0], WAN_CHANNELS, *patches.shape[2:]),
                                         lambda: patches.read()[:, :WAN_CHANNELS].contiguous())
        if stated is not None and stated.get("in_channels") == INSPATIO_CHANNELS:
            stated = {**stated, "in_channels": WAN_CHANNELS}
    return resolve_config(config, stated, {name: tensor.shape for name, tensor in tensors.items()}), tensors


def expected_shapes(config: DiTConfig) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a model's parameters; no memory is taken for them."""
    return {name: tuple(tensor.shape) for name, tensor in _meta_model(config).state_dict().items()}


def new_parameters(config: DiTConfig, state: Mapping[str, Tensor], *, seed: int = 0) -> dict[str, Tensor]:
    """Initial values of the camera parameters that a state dict lacks, in its dtype: they change no output.

    A camera module is new as a whole or not at all; one of which a part is there is damaged, and not mended here.

    Args:
        config: of the model that the state is for.
        state: at least the trunk's weights, under Wan's names.
        seed: of the hidden layers of the phase MLPs, which alone are random. Each value depends on it and on the
            config, not on what else is missing.

    Raises:
        CheckpointError: no trunk.
    """
    like = state.get("blocks.0.self_attn.v.weight")
    if like is None:
        raise CheckpointError("these weights have no trunk that camera parameters could join",
                              got=f"{len(state)} tensors", expected="blocks.0.self_attn.v.weight")
    new = _new_names(config, state)
    fresh: dict[str, Tensor] = {}
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        for module_name, module in _camera_modules(config).items():
            if isinstance(module, CameraPhase):
                initial = CameraPhase(config).state_dict()
            else:
                initial = {name: torch.zeros(value.shape) for name, value in module.state_dict().items()}
            fresh |= {f"{module_name}.{name}": value.to(like) for name, value in initial.items()
                      if f"{module_name}.{name}" in new}
    return fresh


def _meta_model(config: DiTConfig) -> CausalVideoDiT:
    with torch.device("meta"):
        return CausalVideoDiT(config)


def _camera_modules(config: DiTConfig) -> dict[str, nn.Module]:
    """All that a camera mode adds to a layer, whatever the mode: it is named `camera_*`."""
    return {name: module for name, module in _meta_model(config).named_modules()
            if name.rpartition(".")[2].startswith("camera_")}


def _new_names(config: DiTConfig, names: Container[str]) -> set[str]:
    """Parameters of the camera modules of which `names` has nothing at all."""
    new: set[str] = set()
    for module_name, module in _camera_modules(config).items():
        own = {f"{module_name}.{name}" for name, _ in module.named_parameters()}
        new |= own if not any(name in names for name in own) else set()
    return new


def _under_our_names(stored: Mapping[str, StoredTensor]) -> dict[str, StoredTensor]:
    """Tensors without wrappers' prefixes and under Wan's names; what has no such name keeps its own."""
    tensors: dict[str, StoredTensor] = {}
    diffusers = is_diffusers(without_wrappers(name) for name in stored)
    for name, tensor in stored.items():
        bare = without_wrappers(name)
        ours = (from_diffusers(bare) or bare) if diffusers else bare
        if ours in tensors:
            raise CheckpointError("two tensors of the file have one name once wrappers' prefixes are gone",
                                  got=name, expected="one set of weights")
        tensors[ours] = tensor
    images = image_names(tensors)
    if images:
        raise CheckpointError("this is an image-to-video (CLIP) checkpoint, which is not supported", got=images,
                              expected="a text-to-video checkpoint of the Wan family")
    return tensors


def _read(name: str, stored: StoredTensor, dtype: torch.dtype | None) -> Tensor:
    tensor = stored.read()
    if not tensor.is_floating_point():
        raise CheckpointError("the weights are quantised, which is not supported", got=f"{name}: {tensor.dtype}",
                              expected="floating-point weights")
    return tensor if dtype is None else tensor.to(dtype)
