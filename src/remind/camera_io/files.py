"""Files of cameras, read within bounds and written whole. Nothing is allocated on the word of a file; no pickles."""

from __future__ import annotations

import io
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from remind.camera_io.track import MAX_POSES
from remind.errors import CameraError
from remind.whole_file import whole_file

MAX_FILE_BYTES = 64 * 2**20
# What NumPy and zipfile were seen to raise for damaged files; the tokenizer's is for unbalanced headers.
_NOT_READABLE = (
    OSError, ValueError, EOFError, KeyError, RuntimeError, zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip


def read_bytes(path: Path) -> bytes:
    """A whole file.

    Raises:
        CameraError: missing, not to be read, or too large for cameras.
    """
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise CameraError("cannot read the cameras", got=f"{path}: {reason}") from None
    if len(data) > MAX_FILE_BYTES:
        raise CameraError(f"{path.name}: too large for cameras", expected=f"at most {MAX_FILE_BYTES >> 20} MiB")
    return data


def read_npy(path: Path, *, expected: str, fits: Callable[[tuple[int, ...]], bool]) -> Tensor:
    """An array of real numbers as float64.

    Args:
        expected: the shape in words, for the message.
        fits: whether a shape is right.

    Raises:
        CameraError: missing, damaged, pickled, complex, of another shape, or of more than `MAX_POSES` rows.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)  # mapped: the header allocates nothing
    except _NOT_READABLE as error:
        raise CameraError("cannot read the cameras", got=f"{path}: {error}", expected="a .npy file") from None
    if not isinstance(array, np.ndarray):
        array.close()
        raise CameraError(f"{path.name}: an archive of arrays", expected="a .npy file")
    if array.dtype.kind not in "fiu" or array.ndim < 2 or not fits(array.shape):
        raise CameraError(f"{path.name}: an array of another kind", got=f"{array.dtype}{list(array.shape)}",
                          expected=f"numbers {expected}")  # fmt: skip
    if not 1 <= len(array) <= MAX_POSES:
        raise CameraError(f"{path.name}: this many rows cannot be used", got=len(array), expected=f"1..{MAX_POSES}")
    return torch.from_numpy(np.array(array, dtype=np.float64))


def read_npz(
    name: str, data: bytes, members: Mapping[str, tuple[tuple[type, ...], tuple[int, ...]]]
) -> tuple[dict[str, np.ndarray], int]:
    """Arrays of an npz whose types are known and whose lengths agree.

    Args:
        name: for messages.
        members: possible dtypes and shape of each array; a first dimension of -1 is the common number of rows.

    Returns:
        The arrays and the number of rows.

    Raises:
        CameraError: damaged, a member missing or of another type or shape, too many rows.
    """
    arrays: dict[str, np.ndarray] = {}
    rows: int | None = None
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            for member, (dtypes, shape) in members.items():
                with archive.open(f"{member}.npy") as stream:
                    if np.lib.format.read_magic(stream) != (1, 0):
                        raise ValueError(f"{member} has an unknown header")
                    got, fortran, got_dtype = np.lib.format.read_array_header_1_0(stream)
                    if shape[0] == -1 and rows is None and got and 1 <= got[0] <= MAX_POSES:
                        rows = got[0]
                    wanted = tuple(rows if side == -1 else side for side in shape)
                    if got != wanted or fortran or got_dtype not in dtypes:
                        expected = " or ".join(str(np.dtype(dtype)) for dtype in dtypes)
                        raise ValueError(f"{member} is {got_dtype}{got}, not {expected}{wanted}")
                    count = int(np.prod(got))
                    raw = stream.read(count * got_dtype.itemsize)
                    arrays[member] = np.frombuffer(raw, got_dtype, count).reshape(got).copy()
    except _NOT_READABLE as error:
        raise CameraError(f"{name}: damaged, or not our cameras", got=str(error) or type(error).__name__) from None
    assert rows is not None
    return arrays, rows


def write_whole(path: Path, data: bytes) -> None:
    """The file appears at once or not at all.

    Raises:
        CameraError: a place that cannot be written.
    """
    if not path.parent.is_dir():  # a mistyped folder should not come to be
        raise CameraError("cannot write the cameras", got=f"{path.parent}: no such folder")
    try:
        with whole_file(path) as file:
            file.write_bytes(data)
    except OSError as error:
        raise CameraError("cannot write the cameras", got=f"{path}: {error.strerror}") from None


@contextmanager
def naming(name: str) -> Iterator[None]:
    """Put the file's name before what is wrong with its cameras."""
    try:
        yield
    except CameraError as error:
        raise CameraError(f"{name}: {error.what}", got=error.got, expected=error.expected, fix=error.fix) from None


def check_rate(fps: int | float) -> None:
    """Raises:
    CameraError: a rate that gives no times.
    """
    if not 0 < fps < 10_000:
        raise CameraError("poses without times need the video's frame rate", got=fps, expected="fps > 0")
