"""The Wan2.1 VAE: 1 + 4k frames to 1 + k latent frames and back, at once or piece by piece, without seams.

Source: Wan (arXiv 2503.20314), Sec. 4.1; the network is diffusers' `AutoencoderKLWan`. Its convolutions look back in
time only, so two frames of features per convolution are all that a later piece needs of the earlier ones. diffusers
keeps these features in the module and drops them after each call; here they live in a stream object that the caller
holds, so that a clip can be decoded while it is generated, and several at a time.
"""

from __future__ import annotations

import copy
import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.errors import CheckpointError, InputError
from remind.frame_graph import FRAMES_PER_LATENT
from remind.models.pretrained import library_class, load_network
from remind.models.video_codec import BLOCK_PX, CHANNELS, check_frames, check_latents, same_shape

# What decides how weights are used. All versions of diffusers know these fields, so that a digest outlives an update.
_CONFIG_FIELDS = ("base_dim", "z_dim", "dim_mult", "num_res_blocks", "attn_scales", "temperal_downsample",
                  "latents_mean", "latents_std")


class WanVAE:
    """Encodes to latents z = (mu - mean) / std and back; mean and std per channel are the config's `latents_mean/std`.

    Frames and latents that come out are on the VAE's device; latents and unrounded frames are float32.

    Args:
        module: a frozen `AutoencoderKLWan` of the 2.1 family (16 channels, strides 4 and 8); only its tiling is set.
        tile_px: None = whole frames. Otherwise `encode` and `decode` cut larger frames in square tiles of this side, a
            multiple of 32, that overlap by a quarter and are blended linearly: diffusers' own tiling, which bounds
            memory. An approximation: a tile does not see beyond its edge, neither through convolutions nor through the
            attention of the middle block, so larger tiles are nearer to whole frames. What that costs with Wan's
            weights was not measured here.

    Raises:
        CheckpointError: a VAE of another family.
        InputError: a tile size that does not fit.
    """

    def __init__(self, module: Any, *, tile_px: int | None = None):
        config = dict(module.config)
        found = {"z_dim": config["z_dim"], "spatial stride": 2 ** (len(config["dim_mult"]) - 1),
                 "temporal stride": 2 ** sum(config["temperal_downsample"]),
                 "patch_size": config.get("patch_size"), "is_residual": config.get("is_residual", False)}
        expected = {"z_dim": CHANNELS, "spatial stride": BLOCK_PX, "temporal stride": FRAMES_PER_LATENT,
                    "patch_size": None, "is_residual": False}
        if found != expected:
            raise CheckpointError("this is not a VAE of the Wan2.1 family", got=found, expected=expected)
        mean, std = config["latents_mean"], config["latents_std"]
        if len(mean) != CHANNELS or len(std) != CHANNELS or min(std) <= 0:
            raise CheckpointError("the latents cannot be normalised", got=f"latents_mean {mean}, latents_std {std}",
                                  expected=f"{CHANNELS} numbers each, latents_std > 0")
        if tile_px is not None and (tile_px < 32 or tile_px % 32):
            raise InputError("tiles of this size do not split into latents", got=tile_px, expected="a multiple of 32")
        self.module, self.config, self.tile_px = module, config, tile_px
        self.dtype = next(module.parameters()).dtype
        self._mean = torch.tensor(mean, dtype=torch.float32, device=self.device)[:, None, None]
        self._std = torch.tensor(std, dtype=torch.float32, device=self.device)[:, None, None]

    @staticmethod
    def from_pretrained(folder: str | Path, *, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu",
                        tile_px: int | None = None) -> WanVAE:
        """The VAE of a Wan pipeline in the diffusers layout: the pipeline's folder or its `vae/`.

        Args:
            dtype: of weights and computation; the family runs its VAE in float32.
            tile_px: see the class.

        Raises:
            CheckpointError: no VAE in the folder, one of another family, damaged files, weights that do not fit.
            InputError: diffusers is not installed.
        """
        folder = Path(folder)
        if (folder / "vae").is_dir():
            folder = folder / "vae"
        # The short way of loading needs one more package and saves half a gigabyte for a second.
        module = load_network(library_class("diffusers", "AutoencoderKLWan"), folder,
                              kind=("_class_name", "AutoencoderKLWan"), dtype=dtype, low_cpu_mem_usage=False)
        return WanVAE(module.to(device), tile_px=tile_px)

    @property
    def device(self) -> torch.device:
        return next(self.module.parameters()).device

    def to(self, device: torch.device | str) -> WanVAE:
        """Move the weights, in place; open streams are moved by their own `to`."""
        self.module.to(device)
        self._mean, self._std = self._mean.to(device), self._std.to(device)
        return self

    @cached_property
    def digest(self) -> str:
        """Hash of weights, their dtype, the config and the tiling: part of the key of everything encoded."""
        settings = {"tile_px": self.tile_px, **{name: self.config[name] for name in _CONFIG_FIELDS}}
        h = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        for name, tensor in sorted(self.module.state_dict().items()):
            h.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
            h.update(tensor.cpu().flatten().view(torch.uint8).numpy().data)
        return h.hexdigest()[:16]

    def stream(self) -> DecodeStream:
        """A new clip to be decoded piece by piece.

        Raises:
            InputError: the VAE is tiled.
        """
        self._refuse_tiles()
        return DecodeStream(self)

    def encode_stream(self) -> EncodeStream:
        """A new clip to be encoded piece by piece.

        Raises:
            InputError: the VAE is tiled.
        """
        self._refuse_tiles()
        return EncodeStream(self)

    @torch.no_grad()
    def encode(self, rgb: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b i 16 y x"]:
        """Normalised posterior means of whole clips.

        Raises:
            InputError: frames that are not 1 + 4k, or sizes that are no multiple of 8.
        """
        if self.tile_px is None:
            return self.encode_stream().push(rgb)
        check_frames(rgb, starts_clip=True)
        self._set_tiles(self.tile_px)
        return self.normalise(self.module.encode(self._to_video(rgb)).latent_dist.mode())

    @torch.no_grad()
    def decode(self, latents: Float[Tensor, "b i 16 y x"]) -> UInt8[Tensor, "b t h w 3"]:
        """Frames of latents that begin where a clip begins. To go on from decoded ones, keep the `stream()`.

        Raises:
            InputError: no latents.
        """
        if self.tile_px is None:
            return self.stream().push(latents)
        check_latents(latents)
        self._set_tiles(self.tile_px)
        return _to_uint8(_to_pixels(self.module.decode(self.denormalise(latents)).sample))

    def normalise(self, mu: Float[Tensor, "b 16 i y x"]) -> Float[Tensor, "b i 16 y x"]:
        """Latents as this package has them, of latents as diffusers has them."""
        return (rearrange(mu.float(), "b c i y x -> b i c y x") - self._mean) / self._std

    def denormalise(self, latents: Float[Tensor, "b i 16 y x"]) -> Float[Tensor, "b 16 i y x"]:
        """The inverse of `normalise`, in the dtype and on the device of the weights."""
        mu = latents.to(self.device, torch.float32) * self._std + self._mean
        return rearrange(mu, "b i c y x -> b c i y x").to(self.dtype)

    def _to_video(self, rgb: Tensor) -> Tensor:
        return rearrange(rgb.to(self.device).float() / 127.5 - 1, "b t h w c -> b c t h w").to(self.dtype)

    def _set_tiles(self, side: int) -> None:
        """Set at each call, since two WanVAEs may share the module."""
        self.module.enable_tiling(side, side, side * 3 // 4, side * 3 // 4)

    def _refuse_tiles(self) -> None:
        if self.tile_px is not None:
            raise InputError("a tiled VAE does not stream", got=f"tile_px {self.tile_px}",
                             fix="open it with tile_px=None")


class DecodeStream:
    """One clip, decoded piece by piece; how it is cut does not change the frames.

    State: the features that the decoder's convolutions look back on (two frames each), on the VAE's device. Streams of
    one VAE do not know of each other.
    """

    def __init__(self, vae: WanVAE):
        self._vae = vae
        self._features = _no_features(vae.module.decoder)
        self._shape: tuple[int, ...] | None = None

    def to(self, device: torch.device | str) -> DecodeStream:
        """Move the state, in place."""
        self._features = [f.to(device) if isinstance(f, Tensor) else f for f in self._features]
        return self

    def push(self, latents: Float[Tensor, "b i 16 y x"]) -> UInt8[Tensor, "b t h w 3"]:
        """Frames of the next latents: four each, but one for the clip's first.

        Raises:
            InputError: no latents, or another batch or frame size than before.
        """
        return _to_uint8(self.push_unrounded(latents))

    @torch.no_grad()
    def push_unrounded(self, latents: Float[Tensor, "b i 16 y x"]) -> Float[Tensor, "b t h w 3"]:
        """As `push`, before rounding to 8 bits: values in [-1, 1]."""
        check_latents(latents)
        self._shape = same_shape(self._shape, (latents.shape[0], *latents.shape[3:]))
        module = self._vae.module
        # One latent frame a call: the decoder tells the clip's first call from later ones, and calls of one shape
        # round alike, so that the cuts do not even change the last bit.
        video = [module.decoder(module.post_quant_conv(z), feat_cache=self._features, feat_idx=[0])
                 for z in self._vae.denormalise(latents).split(1, dim=2)]
        return _to_pixels(torch.cat(video, dim=2))

    def fork(self) -> DecodeStream:
        """Another stream of the same clip so far."""
        other = copy.copy(self)
        other._features = list(self._features)  # the decoder replaces them and never writes to them
        return other


class EncodeStream:
    """One clip, encoded piece by piece; how it is cut does not change the latents.

    State: as `DecodeStream`, of the encoder.
    """

    def __init__(self, vae: WanVAE):
        self._vae = vae
        self._features = _no_features(vae.module.encoder)
        self._shape: tuple[int, ...] | None = None

    def to(self, device: torch.device | str) -> EncodeStream:
        """Move the state, in place."""
        self._features = [f.to(device) if isinstance(f, Tensor) else f for f in self._features]
        return self

    @torch.no_grad()
    def push(self, rgb: UInt8[Tensor, "b t h w 3"]) -> Float[Tensor, "b i 16 y x"]:
        """Latents of the next frames: 1 + 4k frames first, then 4k.

        Raises:
            InputError: another number of frames, sizes that are no multiple of 8, another batch or size than before.
        """
        starts_clip = self._shape is None
        check_frames(rgb, starts_clip=starts_clip)
        self._shape = same_shape(self._shape, (rgb.shape[0], *rgb.shape[2:4]))
        module = self._vae.module
        lengths = [1] * starts_clip + [FRAMES_PER_LATENT] * (rgb.shape[1] // FRAMES_PER_LATENT)
        features = [module.encoder(self._vae._to_video(piece), feat_cache=self._features, feat_idx=[0])
                    for piece in rgb.split(lengths, dim=1)]
        mean, _log_variance = torch.cat([module.quant_conv(h) for h in features], dim=2).chunk(2, dim=1)
        return self._vae.normalise(mean)


def _no_features(network: torch.nn.Module) -> list[Any]:
    """The state before a clip: one empty place per convolution over time."""
    return [None] * sum(isinstance(layer, torch.nn.Conv3d) for layer in network.modules())


def _to_pixels(video: Float[Tensor, "b 3 t h w"]) -> Float[Tensor, "b t h w 3"]:
    return rearrange(video.float().clamp(-1, 1), "b c t h w -> b t h w c")


def _to_uint8(pixels: Float[Tensor, "b t h w 3"]) -> UInt8[Tensor, "b t h w 3"]:
    return ((pixels + 1) * 127.5).round().to(torch.uint8)
