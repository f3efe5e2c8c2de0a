"""What a pipeline is made of: a transformer, its codec, its text encoder, and where they came from."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import torch

from remind.errors import CheckpointError, InputError
from remind.frame_graph import num_chunks
from remind.inference.placement import Placement
from remind.models.checkpoint import FORMAT, load_run
from remind.models.checkpoint_files import weight_files
from remind.models.codec import LinearCodec
from remind.models.config import DiTConfig
from remind.models.convert import load_checkpoint
from remind.models.dit import CausalVideoDiT
from remind.models.licence import checkpoint_licence
from remind.models.text import TextEncoder, WordHashEncoder
from remind.models.umt5 import UMT5Encoder
from remind.models.vae import WanVAE
from remind.models.video_codec import BLOCK_PX, CHANNELS, VideoCodec

logger = logging.getLogger(__name__)

SHIPPED = ("nano", "nano-base", "nano-matched")
WAN_HW, WAN_NUM_FRAMES = (480, 832), 81
"""Frame size, px, and clip length of models that do not say theirs: what the Wan family of 1.3B was trained at."""


@dataclass(frozen=True)
class ComponentFacts:
    """Where components came from.

    Args:
        source: as the user named it.
        path: the file or folder that it is.
        base: folder of the Wan pipeline with VAE and text encoder; None = embedded codec and word hash.
        hw: frame size, px.
        num_frames: of a usual clip.
        licence: of the weights, one line.
    """

    source: str
    path: Path
    base: Path | None
    hw: tuple[int, int]
    num_frames: int
    licence: str

    @cached_property
    def checkpoint_hash(self) -> str:
        """See `checkpoint_hash`; read when it is first asked for."""
        return checkpoint_hash(self.path)


@dataclass(frozen=True)
class Components:
    """A transformer in eval mode and what stands before and behind it.

    Args:
        model: cameras folded where they can be.
        codec: between frames and latents.
        text: prompts to embeddings.
        config: the `config.json` of a run of `remind train`; of other checkpoints only `{"model": ...}`.
        facts: where all this came from.
        placement: where it is.
    """

    model: CausalVideoDiT
    codec: VideoCodec
    text: TextEncoder
    config: dict[str, Any]
    facts: ComponentFacts
    placement: Placement

    @property
    def device(self) -> torch.device:
        """Where the transformer computes."""
        return next(self.model.parameters()).device

    @staticmethod
    def of_small_model(model: CausalVideoDiT, codec: LinearCodec, hw: tuple[int, int]) -> Components:
        """Those of a model in memory that goes with the embedded codec, e.g. one in training."""
        text = WordHashEncoder(model.config.text_dim, model.config.text_len)
        facts = ComponentFacts("a model in memory", Path(), None, hw, WAN_NUM_FRAMES, "that of its data")
        placement = Placement(device=str(next(model.parameters()).device))
        return Components(model, codec, text, {}, facts, placement)


@dataclass(frozen=True)
class Source:
    """A checkpoint before its weights are read.

    Args:
        name: as the user named it.
        path: the file or folder that it is.
        config: a ReMind folder's `config.json`, else None.
        base: folder of a Wan pipeline, given or found around `path`; None = this checkpoint goes with the embedded
            codec.
        hw, num_frames: frame size, px, and clip length: asked for, trained at, or the family's.
    """

    name: str
    path: Path
    config: dict[str, Any] | None
    base: Path | None
    hw: tuple[int, int]
    num_frames: int


def load_components(
    source: str | Path,
    *,
    base: str | Path | None = None,
    placement: Placement = Placement(),  # noqa: B008 (frozen)
    hw: tuple[int, int] | None = None,
    num_frames: int | None = None,
) -> Components:
    """Load a model with its codec and text encoder, and put each where it belongs.

    Args:
        source: a shipped checkpoint (`nano`, `nano-base`, `nano-matched`), a run folder of `remind train`, a Wan
            pipeline in the diffusers layout, or any file or folder that `load_checkpoint` knows.
        base: a local Wan pipeline in the diffusers layout, of which `vae/`, `text_encoder/` and `tokenizer/` are used.
            Needed by everything that was not trained on the embedded codec; None = the pipeline that `source` is, or
            whose `transformer/` it is.
        placement: device, type and what is offloaded.
        hw: frame size, px; None = what it was trained at, 480x832 for checkpoints that do not say.
        num_frames: of a usual clip; None = what it was trained on, 81 for checkpoints that do not say.

    Raises:
        CheckpointError: no such checkpoint, a damaged one, a missing base, or parts that do not belong together.
        InputError: a device that is not there, a frame size or a length that does not fit, a missing library.
    """
    found = find_source(source, base=base, hw=hw, num_frames=num_frames)
    placement = placement.for_small_model() if found.base is None else placement
    dtype = placement.weights_dtype  # before anything large is read
    codec: VideoCodec = LinearCodec.load() if found.base is None else WanVAE.from_pretrained(found.base)
    _check_codec(found, codec)
    placement.put(codec)  # one after the other, so that main memory holds one at a time
    model, config = _load_model(found, dtype)
    check_shape(model.config, found.hw)
    placement.put(model)
    text = _load_text(found, model.config, dtype)
    placement.put(text)
    licence = checkpoint_licence(found.path)
    if found.base is not None:
        logger.info("%s: licence: %s", found.base, checkpoint_licence(found.base))
    facts = ComponentFacts(found.name, found.path, found.base, found.hw, found.num_frames, licence)
    return Components(model, codec, text, config, facts, placement)


def find_source(
    source: str | Path, *, base: str | Path | None, hw: tuple[int, int] | None, num_frames: int | None
) -> Source:
    """Find a checkpoint and what belongs to it, without reading weights. Arguments as `load_components`.

    Raises:
        CheckpointError, InputError: as `load_components`.
    """
    path = Path(source)
    if not path.exists() and str(source) in SHIPPED:
        path = Path(str(resources.files("remind") / "assets" / "checkpoints" / str(source)))
        if not path.is_dir():
            raise CheckpointError("this installation carries no weights", got=source,
                                  fix=f"train them: remind train {source} --out RUN")
    if not path.exists():
        raise CheckpointError("no such checkpoint", got=source,
                              expected=f"a folder, a file of weights, or one of {', '.join(SHIPPED)}")
    config = _own_config(path)
    weight_files(path)
    train = (config or {}).get("train") or {}
    trained_hw = tuple(train["hw"]) if "hw" in train else WAN_HW
    trained_frames = int(train.get("num_frames", WAN_NUM_FRAMES))
    for name, asked, trained in (("frame size", hw, trained_hw), ("clip length", num_frames, trained_frames)):
        if train and asked is not None and asked != trained:
            logger.warning("%s: it was trained at another %s: %s, not %s", source, name, trained, asked)
    frames = trained_frames if num_frames is None else num_frames
    num_chunks(frames)
    chosen = _base_of(path, config, None if base is None else Path(base))
    return Source(str(source), path, config, chosen, trained_hw if hw is None else hw, frames)


def check_shape(model: DiTConfig, hw: tuple[int, int]) -> None:
    """A model must read and write latents as codecs make them, and a frame must split into its patches.

    Raises:
        CheckpointError: other channels.
        InputError: another size.
    """
    if (model.in_channels, model.out_channels) != (CHANNELS, CHANNELS):
        raise CheckpointError("the model is for latents of another kind", expected=f"{CHANNELS} channels",
                              got=f"{model.in_channels} channels in, {model.out_channels} out")
    sides = tuple(BLOCK_PX * patch for patch in model.patch_hw)
    if min(hw) < 1 or any(size % side for size, side in zip(hw, sides, strict=True)):
        raise InputError("the frame size does not split into patches", got=f"{hw[0]}x{hw[1]} px",
                         expected=f"multiples of {sides[0]} and {sides[1]} px")


def checkpoint_hash(path: Path) -> str:
    """sha256 of a checkpoint's weight files, hex: of one file that of `sha256sum`, of shards that of their list.

    Read once per process and version of a file.

    Raises:
        CheckpointError: no weights.
    """
    files = weight_files(path)
    hashes = [_file_hash(file, file.stat().st_size, file.stat().st_mtime_ns) for file in files]
    if len(files) == 1:
        return hashes[0]
    lines = "".join(f"{digest}  {file.name}\n" for digest, file in zip(hashes, files, strict=True))
    return hashlib.sha256(lines.encode()).hexdigest()


@lru_cache(maxsize=256)
def _file_hash(file: Path, _size: int, _changed_ns: int) -> str:
    with file.open("rb") as f:
        return hashlib.file_digest(f, "sha256").hexdigest()


def _own_config(path: Path) -> dict[str, Any] | None:
    """`config.json` of a ReMind folder; None for checkpoints of others."""
    try:
        config = json.loads((path / "config.json").read_text())
    except OSError:
        return None
    except ValueError as error:
        raise CheckpointError("config.json is damaged", got=f"{path}: {error}") from None
    return config if isinstance(config, dict) and config.get("format") == FORMAT else None


def _base_of(path: Path, config: dict[str, Any] | None, given: Path | None) -> Path | None:
    """The Wan pipeline that goes with a checkpoint, None for one that goes with the embedded codec."""
    if given is None:
        around = [folder for folder in (path, path.parent) if (folder / "vae").is_dir()
                  and (folder / "text_encoder").is_dir() and (folder == path or path.name == "transformer")]
        given = around[0] if around else None
    embedded = config is not None and not _is_wan(config)
    if embedded and given is not None:
        raise CheckpointError("this checkpoint goes with the embedded codec, not with a Wan VAE", got=f"base {given}",
                              fix="leave the base out")
    if embedded or given is not None:
        if given is not None and not given.is_dir():
            raise CheckpointError("no such base folder", got=given, expected="a Wan pipeline in the diffusers layout: "
                                  "vae/, text_encoder/ and tokenizer/ in it")
        return given
    raise CheckpointError("this checkpoint needs a Wan VAE and a text encoder", got=f"{path}, and no base",
                          fix="name a local Wan pipeline in the diffusers layout (vae/, text_encoder/, tokenizer/) as "
                              "the base")


def _is_wan(config: dict[str, Any]) -> bool:
    """Whether a ReMind checkpoint reads latents of a Wan VAE: its training says so, or weights were only converted."""
    train = config.get("train")
    if isinstance(train, dict):
        return bool(train.get("encoders", "embedded") == "wan")
    return config.get("codec") != LinearCodec.load().digest


def _check_codec(found: Source, codec: VideoCodec) -> None:
    trained_with = (found.config or {}).get("codec")
    if trained_with is None or trained_with == codec.digest:
        return
    fix = "use the version of remind that trained it" if found.base is None else "name the base whose VAE made them"
    raise CheckpointError("the checkpoint was trained with another codec", got=trained_with, expected=codec.digest,
                          fix=fix)


def _load_model(found: Source, dtype: torch.dtype) -> tuple[CausalVideoDiT, dict[str, Any]]:
    if found.config is None:
        shape, state = load_checkpoint(found.path)
        model = CausalVideoDiT.empty(shape)
        model.load_state_dict({name: tensor.to(_folding_dtype(shape, dtype)) for name, tensor in state.items()},
                              assign=True)
        config: dict[str, Any] = {"model": shape.to_json()}
    else:
        model, config = load_run(found.path)
    if model.config.vo_transform == "concat":
        model.fold_cameras()
    return model.to(dtype).eval(), config


def _folding_dtype(shape: DiTConfig, dtype: torch.dtype) -> torch.dtype:
    """Residuals are put into the weights before these are rounded."""
    return torch.float32 if shape.camera_mode in ("vo", "full") and shape.vo_transform == "concat" else dtype


def _load_text(found: Source, shape: DiTConfig, dtype: torch.dtype) -> TextEncoder:
    if found.base is None:
        return WordHashEncoder(shape.text_dim, shape.text_len)
    text = UMT5Encoder.from_pretrained(found.base, dtype=dtype, text_len=shape.text_len)
    if text.dim != shape.text_dim:
        raise CheckpointError("the base's text encoder does not fit the model", got=f"embeddings of {text.dim}",
                              expected=shape.text_dim, fix="name the base that the model was trained with")
    return text
