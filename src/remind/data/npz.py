"""Arrays in npz files that are safe to read from strangers: types and shapes are known before anything is allocated."""

from __future__ import annotations

import io
import math
import zipfile
import zlib

import numpy as np

from remind.errors import StoreError

Shape = tuple[int | None, ...]
MAX_VALUES = 2**28  # of one array; 81 frames of depth at 1820 x 1820


def write_npz(arrays: dict[str, np.ndarray], *, compress: bool = False) -> bytes:
    """The bytes of an npz; the same arrays give the same bytes."""
    buffer = io.BytesIO()
    (np.savez_compressed if compress else np.savez)(buffer, **arrays)  # type: ignore[arg-type]  # a flag, says the stub
    return buffer.getvalue()


def read_npz(data: bytes, expected: dict[str, tuple[str, Shape]]) -> dict[str, np.ndarray]:
    """The arrays named in `expected`; no pickles.

    Args:
        expected: dtype and shape of each; None in a shape stands for any length.

    Raises:
        StoreError: no npz, an array that is absent, of another type or shape, cut short, or of more than 2^28 values.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return {name: _array(archive, name, np.dtype(dtype), shape) for name, (dtype, shape) in expected.items()}
    except (zipfile.BadZipFile, ValueError, KeyError, EOFError, NotImplementedError, RuntimeError, zlib.error) as error:
        raise StoreError("arrays cannot be read", got=str(error)[:120]) from None


def _array(archive: zipfile.ZipFile, name: str, dtype: np.dtype, shape: Shape) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        np.lib.format.read_magic(file)
        got_shape, fortran, got_dtype = np.lib.format.read_array_header_1_0(file)
        fits = len(got_shape) == len(shape) and all(
            want is None or got == want for got, want in zip(got_shape, shape, strict=True)
        )
        count = math.prod(got_shape)
        if not fits or fortran or got_dtype != dtype or not 0 <= count <= MAX_VALUES:
            raise StoreError("an array of another form", got=f"{name}: {got_dtype}{got_shape}",
                             expected=f"{dtype}{shape}".replace("None", "any"))
        return np.frombuffer(file.read(count * dtype.itemsize), dtype, count).reshape(got_shape).copy()
