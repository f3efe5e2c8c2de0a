"""How like two pictures are, pixel by pixel and by structure: PSNR and SSIM of video frames. LPIPS is in `lpips.py`."""

from __future__ import annotations

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.errors import InputError

VERSION = "perceptual-1"
MAX_PSNR_DB = 60.0
"""Our choice: equal pictures would be infinitely good, and no mean survives that. Rounding to 8 bits alone is 59 dB."""
WINDOW_PX, SIGMA_PX = 11, 1.5
_K1, _K2 = 0.01, 0.03


def psnr_db(a: UInt8[Tensor, "t h w 3"], b: UInt8[Tensor, "s y x 3"]) -> Float[Tensor, " t"]:
    """Peak signal-to-noise ratio of each frame, dB, over all pixels and channels, at most `MAX_PSNR_DB`.

    Raises:
        InputError: videos of different size.
    """
    _check(a, b)
    if not len(a):
        return torch.zeros(0)
    mse = torch.stack([(x.float() - y.float()).square().mean() for x, y in zip(a, b, strict=True)])
    return (10 * torch.log10(255**2 / mse.clamp_min(1e-9))).clamp(max=MAX_PSNR_DB)


def ssim(a: UInt8[Tensor, "t h w 3"], b: UInt8[Tensor, "s y x 3"]) -> Float[Tensor, " t"]:
    """Structural similarity of each frame, -1..1, mean over colour channels and over all whole windows.

    Source: Wang, Bovik, Sheikh, Simoncelli, Image Quality Assessment: From Error Visibility to Structural Similarity,
    2004, Eq. 13 with its own window (Gaussian, 11 px, sigma 1.5) and constants (0.01, 0.03). Per channel as
    scikit-image does with `channel_axis`, `gaussian_weights`, `sigma=1.5` and `use_sample_covariance=False`: the tests
    hold it to 1e-4 of that.

    Raises:
        InputError: videos of different size, or frames smaller than the window.
    """
    _check(a, b)
    if min(a.shape[1:3]) < WINDOW_PX:
        raise InputError("frames are too small for SSIM", got=tuple(a.shape[1:3]), expected=f"{WINDOW_PX} px or more")
    if not len(a):
        return torch.zeros(0)
    return torch.stack([_ssim_of_frame(x, y) for x, y in zip(a, b, strict=True)])


def _ssim_of_frame(a: UInt8[Tensor, "h w 3"], b: UInt8[Tensor, "h w 3"]) -> Float[Tensor, ""]:
    x, y = (frame.permute(2, 0, 1)[:, None].double() for frame in (a, b))  # float32 cancels in the variances
    mean_x, mean_y, xx, yy, xy = (_blur(v) for v in (x, y, x * x, y * y, x * y))
    c1, c2 = (_K1 * 255) ** 2, (_K2 * 255) ** 2
    luminance = (2 * mean_x * mean_y + c1) / (mean_x**2 + mean_y**2 + c1)
    structure = (2 * (xy - mean_x * mean_y) + c2) / (xx - mean_x**2 + yy - mean_y**2 + c2)
    return (luminance * structure).mean().float()


def _blur(channels: Float[Tensor, "c 1 h w"]) -> Float[Tensor, "c 1 y x"]:
    """Means under the window, where it lies wholly in the picture."""
    at = torch.arange(WINDOW_PX, dtype=channels.dtype) - WINDOW_PX // 2
    weights = torch.exp(-(at**2) / (2 * SIGMA_PX**2))
    weights /= weights.sum()
    rows = torch.nn.functional.conv2d(channels, weights[None, None, :, None])
    return torch.nn.functional.conv2d(rows, weights[None, None, None, :])


def _check(a: Tensor, b: Tensor) -> None:
    if a.shape != b.shape:
        raise InputError("only videos of one size can be compared", got=tuple(b.shape), expected=tuple(a.shape))
