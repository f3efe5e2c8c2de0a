"""What a codec is to those who generate: clips in and out, whole or piece by piece, whichever network does it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.errors import InputError
from remind.frame_graph import FRAMES_PER_LATENT

BLOCK_PX = 8
CHANNELS = 16


@runtime_checkable
class FrameStream(Protocol):
    """One clip, decoded piece by piece; how it is cut does not change a bit of its frames."""

    def push(self, latents: Float[Tensor, "b i 16 y x"]) -> UInt8[Tensor, "b t h w 3"]:
        """Frames of the next latents: four each, but one for the clip's first."""
        ...

    def fork(self) -> FrameStream:
        """Another stream of the same clip so far."""
        ...


@runtime_checkable
class LatentStream(Protocol):
    """One clip, encoded piece by piece; how it is cut does not change a bit of its latents."""

    def push(self, rgb: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b i 16 y x"]:
        """Latents of the next frames: 1 + 4k frames first, then 4k."""
        ...


@runtime_checkable
class VideoCodec(Protocol):
    """Between frames and latents of unit variance: `LinearCodec` and `WanVAE`.

    What comes in may be on any device; what comes out is on `device`.
    """

    @property
    def digest(self) -> str:
        """Hash of all that decides the latents."""
        ...

    @property
    def device(self) -> torch.device: ...

    def encode(self, rgb: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b i 16 y x"]: ...

    def decode(self, latents: Float[Tensor, "b i 16 y x"]) -> UInt8[Tensor, "b t h w 3"]: ...

    def encode_stream(self) -> LatentStream:
        """A new clip to be encoded piece by piece."""
        ...

    def stream(self) -> FrameStream:
        """A new clip to be decoded piece by piece."""
        ...


def check_frames(rgb: UInt8[Tensor, "b t h w 3"], *, starts_clip: bool) -> None:
    """Frames must fill latent frames and blocks.

    Raises:
        InputError: they do not.
    """
    num_frames, height, width = rgb.shape[1:4]
    first = 1 if starts_clip else 0
    if num_frames < 1 or (num_frames - first) % FRAMES_PER_LATENT:
        raise InputError("these frames do not fill latent frames", got=f"{num_frames} frames",
                         expected="1 + 4k, e.g. 81" if starts_clip else "4k, since the clip has begun",
                         fix="cut or pad the clip")
    if height % BLOCK_PX or width % BLOCK_PX:
        raise InputError("frame size does not split into blocks", got=(height, width),
                         expected=f"multiples of {BLOCK_PX}")


def check_latents(latents: Float[Tensor, "b i 16 y x"]) -> None:
    """There must be some.

    Raises:
        InputError: there are none.
    """
    if latents.shape[1] == 0:
        raise InputError("there are no latents to decode", got=tuple(latents.shape))


def same_shape(before: tuple[int, ...] | None, now: tuple[int, ...]) -> tuple[int, ...]:
    """(batch, height, width) of a stream, which must not change.

    Raises:
        InputError: it does.
    """
    if before is not None and now != before:
        raise InputError("a stream is one batch of one size", got=f"(batch, height, width) = {now}", expected=before,
                         fix="open another stream")
    return now
