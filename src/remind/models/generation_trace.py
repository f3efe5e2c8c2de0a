"""What the networks hold and compute when they generate, found by running them on tensors without content.

Source: our choice. The real classes run at their real sizes on torch's fake tensors: every operator is gone through and
nothing is computed, so that no formula can go stale. Not seen: workspaces inside of an operator (those of a GPU's
convolutions may be large), and what an allocator keeps in pieces.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode

from remind.frame_graph import FRAMES_PER_LATENT, LATENTS_PER_CHUNK
from remind.models.codec import LinearCodec
from remind.models.config import DiTConfig
from remind.models.cross_attention import PromptContext
from remind.models.dit import CausalVideoDiT
from remind.models.flop_count import count_flops
from remind.models.kv_cache import Storage, StreamingKVCache, grid_of
from remind.models.memory import LiveBytes
from remind.models.pretrained import library_class
from remind.models.vae import WanVAE
from remind.models.video_codec import BLOCK_PX, CHANNELS, VideoCodec


@dataclass(frozen=True)
class Traced:
    """A run.

    Args:
        peak: most bytes that it holds at once, beside weights, cache and what it is given.
        kept: bytes of it that stay.
        flops: of matrix products, convolutions and attention, 2 per multiply-add.
    """

    peak: float
    kept: float
    flops: float

    def with_layers(self, two: Traced, layers: int) -> Traced:
        """From one layer (self) and two: every layer but the first adds the same."""
        pairs = zip(vars(self).values(), vars(two).values(), strict=True)
        return Traced(*(one + (layers - 1) * (other - one) for one, other in pairs))


@dataclass(frozen=True)
class PassShape:
    """A denoising pass.

    Args:
        model: its shape.
        batch: sequences in parallel.
        latent_hw: latent pixels of a frame.
        dtype: of weights, stream and cache.
        storage: of the cache.
        chunks: that it runs over, >= 1, each with a prompt of its own.
        seen: chunks in memory beside them.
    """

    model: DiTConfig
    batch: int
    latent_hw: tuple[int, int]
    dtype: torch.dtype
    storage: Storage = "float"
    chunks: int = 1
    seen: int = 0


@lru_cache(maxsize=64)
@torch.no_grad()
def trace_pass(shape: PassShape) -> Traced:
    """A pass of one branch; prompts are encoded, cameras given where the model has them."""

    def at(layers: int) -> Traced:
        config, frames = replace(shape.model, num_layers=layers), LATENTS_PER_CHUNK * shape.chunks
        model = _shape_model(config, shape.dtype)
        with FakeTensorMode(allow_non_fake_inputs=True):
            model.to_empty(device="cpu")
            cache = StreamingKVCache(config, batch=shape.batch, num_slots=shape.seen + shape.chunks,
                                     grid_hw=grid_of(config, shape.latent_hw), storage=shape.storage,
                                     dtype=shape.dtype)  # fmt: skip
            for chunk in range(shape.seen + shape.chunks):
                cache.open(chunk, 0, "clean")
                if chunk < shape.seen:
                    cache.close()
            texts = torch.zeros(shape.batch, shape.chunks, config.text_len, config.text_dim)
            prompts = model.encode_prompt(texts)
            latents = torch.zeros(shape.batch, frames, config.in_channels, *shape.latent_hw)
            sigmas, cameras = torch.zeros(shape.batch, frames), torch.zeros(shape.batch, frames, 14)
            return _measured(lambda: model(latents, sigmas, sigmas, prompts, cameras, cache=cache))

    return at(1).with_layers(at(2), shape.model.num_layers)


@lru_cache(maxsize=64)
@torch.no_grad()
def trace_prompt(config: DiTConfig, *, batch: int, dtype: torch.dtype) -> Traced:
    """The keys and values of one prompt in all layers, which are what is `kept`."""

    def at(layers: int) -> Traced:
        model = _shape_model(replace(config, num_layers=layers), dtype)
        with FakeTensorMode(allow_non_fake_inputs=True):
            model.to_empty(device="cpu")
            text = torch.zeros(batch, config.text_len, config.text_dim)
            contexts: list[PromptContext] = []
            found = _measured(lambda: contexts.append(model.encode_prompt(text)))
            return replace(found, kept=float(contexts[0].nbytes))

    return at(1).with_layers(at(2), config.num_layers)


def trace_decode(vae: Mapping[str, Any] | None, *, batch: int, hw: tuple[int, int]) -> Traced:
    """A chunk of a stream that has begun; `kept` is the state of the stream between chunks.

    Args:
        vae: config of an `AutoencoderKLWan`, `{}` = Wan2.1's own; None = the embedded codec.
        hw: frame size, px.
    """
    return _trace_stream(None if vae is None else json.dumps(dict(vae)), batch, hw, encodes=False)


def trace_encode(vae: Mapping[str, Any] | None, *, batch: int, hw: tuple[int, int]) -> Traced:
    """The frames of a chunk of a stream that has begun. Arguments and `kept` as `trace_decode`."""
    return _trace_stream(None if vae is None else json.dumps(dict(vae)), batch, hw, encodes=True)


@torch.no_grad()
def trace_text(umt5: Mapping[str, Any], *, prompts: int, text_len: int, dtype: torch.dtype) -> Traced:
    """UMT5 over some prompts at once; `kept` is their embeddings. `umt5` as `text_weights` takes it."""

    def at(layers: int) -> Traced:
        network = _text_network({**umt5, "num_layers": layers}, dtype)
        with FakeTensorMode(allow_non_fake_inputs=True):
            network.to_empty(device="cpu")
            tokens = torch.zeros(prompts, text_len, dtype=torch.long)
            return _measured(lambda: network(input_ids=tokens, attention_mask=tokens).last_hidden_state.float())

    found = at(1).with_layers(at(2), int(umt5["num_layers"]))
    return replace(found, kept=4.0 * prompts * text_len * umt5["d_model"])


def model_weights(config: DiTConfig, dtype: torch.dtype) -> float:
    """Bytes of the transformer's parameters; all layers have equally many."""
    one, two = (_nbytes(CausalVideoDiT.empty(replace(config, num_layers=layers))) for layers in (1, 2))
    return (one + (config.num_layers - 1) * (two - one)) * dtype.itemsize / torch.float32.itemsize


def vae_weights(vae: Mapping[str, Any] | None) -> float:
    """Bytes of a codec's parameters, float32."""
    return 0.0 if vae is None else _nbytes(_vae_network(vae))


def text_weights(umt5: Mapping[str, Any], dtype: torch.dtype) -> float:
    """Bytes of a UMT5 encoder's parameters, of its `config.json`."""
    return _nbytes(_text_network(umt5, dtype))


def _shape_model(config: DiTConfig, dtype: torch.dtype) -> CausalVideoDiT:
    """As a pipeline has it: cameras folded where they can be."""
    model = CausalVideoDiT.empty(config).to(dtype).eval().requires_grad_(False)
    model.__dict__["_check"] = lambda *_: None  # it asks for values, and there are none
    return model.fold_cameras() if config.vo_transform == "concat" else model


def _vae_network(vae: Mapping[str, Any]) -> Any:
    network = library_class("diffusers", "AutoencoderKLWan")
    with torch.device("meta"):
        made = network.from_config(dict(vae)) if vae else network()
    return made.eval().requires_grad_(False)


def _text_network(umt5: Mapping[str, Any], dtype: torch.dtype) -> Any:
    config = library_class("transformers", "UMT5Config").from_dict(dict(umt5))
    with torch.device("meta"):
        made = library_class("transformers", "UMT5EncoderModel")(config)
    return made.to(dtype).eval().requires_grad_(False)


@lru_cache(maxsize=16)
@torch.no_grad()
def _trace_stream(vae: str | None, batch: int, hw: tuple[int, int], *, encodes: bool) -> Traced:
    """The first and the second chunk of a stream; `vae` is JSON."""
    codec: VideoCodec = LinearCodec.load()
    network = None if vae is None else _vae_network(json.loads(vae))
    latents = (batch, LATENTS_PER_CHUNK, CHANNELS, hw[0] // BLOCK_PX, hw[1] // BLOCK_PX)
    frames = FRAMES_PER_LATENT * LATENTS_PER_CHUNK
    with FakeTensorMode(allow_non_fake_inputs=True):
        if network is not None:
            codec = WanVAE(network.to_empty(device="cpu"))
        push: Callable[[Tensor], Tensor] = codec.encode_stream().push if encodes else codec.stream().push
        if encodes:
            first, later = (torch.zeros(batch, number, *hw, 3, dtype=torch.uint8)
                            for number in (frames - FRAMES_PER_LATENT + 1, frames))  # fmt: skip
        else:
            first = later = torch.zeros(latents)
        with LiveBytes() as live:  # the state of the first piece is let go while the second one runs
            push(first)
            kept = live.now
            flops = count_flops(lambda: push(later))
        return Traced(float(live.peak), float(kept), float(flops))


def _measured(run: Callable[[], object]) -> Traced:
    with LiveBytes() as live:
        flops = count_flops(run)
    return Traced(float(live.peak), 0.0, float(flops))


def _nbytes(network: nn.Module) -> float:
    return float(sum(parameter.nbytes for parameter in network.parameters()))
