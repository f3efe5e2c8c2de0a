"""The embedded codec: a causal linear block transform with Wan's strides and 16 latent channels.

Our choice: no weights to download and no training loop. A block of 8x8 px of the first frame, or
of 8x8 px over four frames, is projected on the 16 directions that hold most of its variance on world clips (KLT).
What it loses is stated in its file and measured by `benchmarks/codec.py`.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from remind.errors import CheckpointError
from remind.frame_graph import FRAMES_PER_LATENT, num_latent_frames
from remind.models.video_codec import BLOCK_PX, CHANNELS, check_frames, check_latents, same_shape


class LinearCodec:
    """Encodes 1 + 4k frames to 1 + k latent frames and back, each latent frame from its own frames alone.

    It always computes one latent frame at a time: the rounding of a matrix product depends on its number of rows, and
    so no cut of a clip changes a bit. It costs nothing (81 frames of 32 to 64 px: as fast as at once, or faster). It
    stays on the CPU, where it takes milliseconds, so that latents are the same whatever the model's device.

    Args:
        tensors: for `first` and `rest`: `mean` [n], `encode` [16, n], `decode` [n, 16], with n = 192 or 768.
    """

    def __init__(self, tensors: dict[str, Tensor]):
        for part, size in (("first", BLOCK_PX**2 * 3), ("rest", FRAMES_PER_LATENT * BLOCK_PX**2 * 3)):
            for name, shape in (("mean", (size,)), ("encode", (CHANNELS, size)), ("decode", (size, CHANNELS))):
                tensor = tensors.get(f"{part}.{name}")
                if tensor is None or tuple(tensor.shape) != shape:
                    raise CheckpointError("this is not a codec file", got=f"{part}.{name} = "
                                          f"{None if tensor is None else tuple(tensor.shape)}", expected=shape)
        self.tensors = tensors

    @property
    def digest(self) -> str:
        """Hash of all weights: part of the key of everything encoded."""
        h = hashlib.sha256()
        for name in sorted(self.tensors):
            h.update(name.encode() + self.tensors[name].contiguous().numpy().tobytes())
        return h.hexdigest()[:16]

    @staticmethod
    def load(name_or_path: str | Path = "world") -> LinearCodec:
        """A codec shipped with the package (by name) or a file.

        Raises:
            CheckpointError: no such codec, or not a codec file.
        """
        path = Path(name_or_path)
        if path.suffix != ".safetensors":
            path = Path(str(resources.files("remind.models") / "weights" / f"codec-{name_or_path}.safetensors"))
        if not path.is_file():
            raise CheckpointError("no such codec", got=name_or_path, expected="a shipped name or a .safetensors file")
        try:
            with safe_open(str(path), framework="pt") as f:
                return LinearCodec({key: f.get_tensor(key) for key in f.keys()})  # noqa: SIM118 (not a dict)
        except CheckpointError:
            raise
        except Exception as error:  # safetensors raises its own type, which is no stable name
            raise CheckpointError("the codec file is damaged", got=f"{path}: {error}") from None

    def save(self, path: Path, metadata: dict[str, str]) -> None:
        save_file({k: v.contiguous() for k, v in self.tensors.items()}, str(path), metadata)

    @property
    def device(self) -> torch.device:
        return torch.device("cpu")

    def encode(self, rgb: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b i 16 y x"]:
        """Latents of near unit variance per channel.

        Raises:
            InputError: frames that are not 1 + 4k, or sizes that are no multiple of 8.
        """
        num_latent_frames(rgb.shape[1])
        return self.encode_stream().push(rgb)

    def decode(self, latents: Float[Tensor, "b i 16 y x"], *, starts_clip: bool = True) -> UInt8[Tensor, "b t h w 3"]:
        """Frames of latents; `starts_clip` says whether the first latent frame is the clip's first.

        Raises:
            InputError: no latents.
        """
        return LinearDecodeStream(self, starts_clip=starts_clip).push(latents)

    def encode_stream(self) -> LinearEncodeStream:
        """A new clip to be encoded piece by piece."""
        return LinearEncodeStream(self)

    def stream(self) -> LinearDecodeStream:
        """A new clip to be decoded piece by piece."""
        return LinearDecodeStream(self)

    def _project(self, part: str, video: Tensor, frames: int) -> Tensor:
        blocks = _blocks(video, frames)
        mean, encode = self.tensors[f"{part}.mean"], self.tensors[f"{part}.encode"]
        return rearrange(torch.addmm(-(encode @ mean), blocks.flatten(0, 3), encode.T),
                         "(b i y x) c -> b i c y x", b=blocks.shape[0], i=blocks.shape[1], y=blocks.shape[2])

    def _reconstruct(self, part: str, latents: Tensor, frames: int) -> Tensor:
        flat = rearrange(latents, "b i c y x -> (b i y x) c")
        blocks = torch.addmm(self.tensors[f"{part}.mean"], flat, self.tensors[f"{part}.decode"].T)
        return rearrange(blocks, "(b i y x) (f p q c) -> b (i f) (y p) (x q) c", i=latents.shape[1],
                         y=latents.shape[3], x=latents.shape[4], f=frames, p=BLOCK_PX, q=BLOCK_PX)

    @staticmethod
    def fit(videos: Iterable[UInt8[Tensor, "b t h w 3"]], *, whitening: float = 0.5) -> LinearCodec:
        """Principal directions of blocks, from sums of outer products: one pass, no training loop.

        Args:
            videos: batches of clips.
            whitening: 1 = every direction scaled to unit variance; below 1 the directions keep (1 - whitening) of
                their spread in log variance and are then mixed by an orthogonal matrix, so that every *channel*
                still has unit variance. Our choice of 0.5: latents whose large directions stay large are easier to
                denoise (250 steps of nano: flow loss 0.79 against 0.91, state progress 0.24 against 0.20).
        """
        moments: dict[str, tuple[float, Tensor, Tensor]] = {}
        for batch in videos:
            video = batch.float() / 127.5 - 1
            for part, frames, piece in (("first", 1, video[:, :1]), ("rest", FRAMES_PER_LATENT, video[:, 1:])):
                blocks = _blocks(piece, frames).flatten(0, 3)
                n, s, ss = moments.get(part, (0.0, torch.zeros(()), torch.zeros(())))
                moments[part] = (n + len(blocks), s + blocks.sum(0).double(), ss + (blocks.T @ blocks).double())
        tensors: dict[str, Tensor] = {}
        for part, (n, s, ss) in moments.items():
            mean = s / n
            variance, directions = torch.linalg.eigh(ss / n - torch.outer(mean, mean))
            variance, directions = variance.flip(0)[:CHANNELS].clamp_min(1e-8), directions.flip(1)[:, :CHANNELS]
            scale = variance.sqrt() ** -whitening
            mix = _hadamard(CHANNELS) if whitening < 1 else torch.eye(CHANNELS, dtype=torch.float64)
            unit = (mix**2 @ (variance * scale**2)).rsqrt()
            encode = unit[:, None] * (mix @ (scale[:, None] * directions.T))
            decode = (directions / scale) @ mix.T / unit
            for name, tensor in (("mean", mean), ("encode", encode), ("decode", decode)):
                tensors[f"{part}.{name}"] = tensor.float()
        return LinearCodec(tensors)


class LinearEncodeStream:
    """One clip, encoded piece by piece; it remembers only whether the clip has begun, and its size."""

    def __init__(self, codec: LinearCodec):
        self._codec = codec
        self._shape: tuple[int, ...] | None = None

    def push(self, rgb: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b i 16 y x"]:
        """Latents of the next frames: 1 + 4k frames first, then 4k.

        Raises:
            InputError: another number of frames, sizes that are no multiple of 8, another batch or size than before.
        """
        starts_clip = self._shape is None
        check_frames(rgb, starts_clip=starts_clip)
        self._shape = same_shape(self._shape, (rgb.shape[0], *rgb.shape[2:4]))
        video = rgb.cpu().float() / 127.5 - 1
        first = [self._codec._project("first", video[:, :1], 1)] if starts_clip else []
        rest = video[:, len(first) :].split(FRAMES_PER_LATENT, 1) if video.shape[1] > len(first) else ()
        return torch.cat(first + [self._codec._project("rest", piece, FRAMES_PER_LATENT) for piece in rest], 1)


class LinearDecodeStream:
    """One clip, decoded piece by piece; it remembers only whether the clip has begun, and its size."""

    def __init__(self, codec: LinearCodec, *, starts_clip: bool = True):
        self._codec, self._starts_clip = codec, starts_clip
        self._shape: tuple[int, ...] | None = None

    def push(self, latents: Float[Tensor, "b i 16 y x"]) -> UInt8[Tensor, "b t h w 3"]:
        """Frames of the next latents: four each, but one for the clip's first.

        Raises:
            InputError: no latents, or another batch or frame size than before.
        """
        check_latents(latents)
        self._shape = same_shape(self._shape, (latents.shape[0], *latents.shape[3:]))
        pieces = latents.cpu().float().split(1, 1)
        first = [self._codec._reconstruct("first", pieces[0], 1)] if self._starts_clip else []
        rest = [self._codec._reconstruct("rest", piece, FRAMES_PER_LATENT) for piece in pieces[len(first) :]]
        self._starts_clip = False
        return ((torch.cat(first + rest, 1) + 1) * 127.5).round_().clamp_(0, 255).to(torch.uint8)

    def fork(self) -> LinearDecodeStream:
        """Another stream of the same clip so far."""
        return copy.copy(self)


def _blocks(video: Float[Tensor, "b t h w 3"], frames: int) -> Float[Tensor, "b i y x n"]:
    return rearrange(video, "b (i f) (y p) (x q) c -> b i y x (f p q c)", f=frames, p=BLOCK_PX, q=BLOCK_PX)


def _hadamard(size: int) -> Float[Tensor, "n n"]:
    """Orthogonal matrix of entries +-1/sqrt(n), n a power of two (Sylvester)."""
    matrix = torch.ones(1, 1, dtype=torch.float64)
    while matrix.shape[0] < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    return matrix / size**0.5


def psnr_db(a: UInt8[Tensor, "*n"], b: UInt8[Tensor, "*n"]) -> float:
    """Peak signal-to-noise ratio over all values, in dB; infinite for equal inputs."""
    mse = (a.float() - b.float()).square().mean().item()
    return float("inf") if mse == 0 else 10 * torch.log10(torch.tensor(255.0**2 / mse)).item()
