"""LPIPS with AlexNet: the learned perceptual distance of two pictures, in plain torch.

Source: Zhang, Isola, Efros, Shechtman, Wang, The Unreasonable Effectiveness of Deep Features as a Perceptual Metric,
2018; version 0.1 of its weights ("LPIPS-Alex" in tables). The first five convolutions of AlexNet (Krizhevsky, One Weird
Trick, 2014) see both pictures; unit-length features are compared at every pixel, weighted by channel, and averaged.

Only this distance with those weights is called LPIPS here. The tests hold the network to the output of another
implementation (JAX) to 1e-5, and `check_weights` holds weights to its output on a pair of pictures.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from remind.errors import CheckpointError, InputError

VERSION = "lpips-alex-0.1"
LEAST_PX = 31  # a smaller picture leaves nothing for the last layer to see
MAX_FRAMES = 8  # at once: 480x832 px take about 100 MB a frame
# Channels, kernel, stride and padding; a maximum over 3x3 px at stride 2 comes before the second and the third.
_CONVOLUTIONS = ((3, 64, 11, 4, 2), (64, 192, 5, 1, 2), (192, 384, 3, 1, 1), (384, 256, 3, 1, 1), (256, 256, 3, 1, 1))
_POOLED = (1, 2)
_SHIFT, _SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # ImageNet's colours, for inputs in -1..1
_EPS = 1e-10
# The JAX port's distance of `reference_pair`, float32 on a CPU.
REFERENCE = 0.59021795
_REFERENCE_TOLERANCE = 2e-4


class Lpips(nn.Module):
    """The network; make one with `lpips_weights.load_lpips`.

    Args:
        weights: `conv{0..4}.weight`, `conv{0..4}.bias` and `head{0..4}` (one number a channel).

    Raises:
        CheckpointError: another set of tensors, or other shapes.
    """

    def __init__(self, weights: Mapping[str, Tensor]):
        super().__init__()
        wanted = shapes()
        got = {name: tuple(tensor.shape) for name, tensor in weights.items()}
        if got != wanted:
            wrong = sorted(name for name in wanted.keys() | got.keys() if wanted.get(name) != got.get(name))
            raise CheckpointError("these are not the weights of LPIPS with AlexNet",
                                  got=f"missing or other: {wrong[:4]}", expected=f"{len(wanted)} tensors, e.g. "
                                  f"conv0.weight of {wanted['conv0.weight']}")  # fmt: skip
        for name, tensor in weights.items():
            self.register_buffer(name.replace(".", "_"), tensor.detach().float())
        self.eval()

    @torch.inference_mode()
    def forward(self, a: UInt8[Tensor, "t h w 3"], b: UInt8[Tensor, "s y x 3"]) -> Float[Tensor, " t"]:
        """The distance of each pair of frames, 0 or more.

        Raises:
            InputError: videos of different size, or frames under `LEAST_PX`.
        """
        if a.shape != b.shape:
            raise InputError("only videos of one size can be compared", got=tuple(b.shape), expected=tuple(a.shape))
        if min(a.shape[1:3]) < LEAST_PX:
            raise InputError("frames are too small for LPIPS", got=tuple(a.shape[1:3]),
                             expected=f"{LEAST_PX} px or more")  # fmt: skip
        found = [self._distance(x, y) for x, y in zip(a.split(MAX_FRAMES), b.split(MAX_FRAMES), strict=True)]
        return torch.cat(found) if len(a) else torch.zeros(0)

    def _distance(self, a: UInt8[Tensor, "t h w 3"], b: UInt8[Tensor, "t h w 3"]) -> Float[Tensor, " t"]:
        total = torch.zeros(len(a))
        for layer, (x, y) in enumerate(zip(self._features(a), self._features(b), strict=True)):
            head = self.get_buffer(f"head{layer}")
            total += torch.einsum("tchw,c->thw", (x - y).square(), head).mean((1, 2)).cpu()
        return total

    def _features(self, rgb: UInt8[Tensor, "t h w 3"]) -> list[Float[Tensor, "t c y x"]]:
        """Of each layer, of unit length at every pixel."""
        device = self.get_buffer("head0").device
        shift, scale = (torch.tensor(v, device=device)[:, None, None] for v in (_SHIFT, _SCALE))
        x = (rgb.to(device).permute(0, 3, 1, 2).float() / 127.5 - 1 - shift) / scale
        found = []
        for layer, (_, _, _, stride, padding) in enumerate(_CONVOLUTIONS):
            if layer in _POOLED:
                x = nn.functional.max_pool2d(x, 3, 2)
            weight, bias = self.get_buffer(f"conv{layer}_weight"), self.get_buffer(f"conv{layer}_bias")
            x = nn.functional.conv2d(x, weight, bias, stride, padding).relu()
            found.append(x / (x.square().sum(1, keepdim=True).sqrt() + _EPS))
        return found


def shapes() -> dict[str, tuple[int, ...]]:
    """Of all weights."""
    found: dict[str, tuple[int, ...]] = {}
    for layer, (into, out, size, _, _) in enumerate(_CONVOLUTIONS):
        found |= {f"conv{layer}.weight": (out, into, size, size), f"conv{layer}.bias": (out,), f"head{layer}": (out,)}
    return found


def check_weights(network: Lpips) -> None:
    """Hold weights to the known distance of one pair of pictures: any others would not give LPIPS.

    Raises:
        CheckpointError: another distance.
    """
    a, b = reference_pair()
    got = float(network(a[None], b[None]))
    if not abs(got - REFERENCE) <= _REFERENCE_TOLERANCE:  # NaN is not
        raise CheckpointError("these weights have the shape of LPIPS with AlexNet but are others",
                              got=f"distance {got:.5f} of the reference pair", expected=f"{REFERENCE:.5f}",
                              fix="give AlexNet of ImageNet and the heads of LPIPS version 0.1")  # fmt: skip


def reference_pair() -> tuple[UInt8[Tensor, "h w 3"], UInt8[Tensor, "h w 3"]]:
    """Two pictures that a formula makes."""
    return picture((96, 160), 2, 3), picture((96, 160), 5, 1)


def picture(hw: tuple[int, int], across: int, down: int) -> UInt8[Tensor, "h w 3"]:
    """Slanted waves of some periods across and down, shifted by channel, over checks; in integers, for equal bits."""
    y, x = torch.arange(hw[0])[:, None, None], torch.arange(hw[1])[None, :, None]
    along = (256 * across * x // hw[1] + 256 * down * y // hw[0] + 80 * torch.arange(3)) % 256
    checks = (2 * down * x // hw[1] + 2 * across * y // hw[0]) % 2
    return (((2 * along - 255).abs() + 255 * checks) // 2).to(torch.uint8)
