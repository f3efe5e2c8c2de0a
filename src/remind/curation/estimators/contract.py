"""Our half of the file contract with tools that live elsewhere: what is asked, what is answered, what is believed.

    request.json   contract, task, parameters
    frames.npz     `rgb` uint8 [t h w 3]       or   frames.mp4
    result.json    contract, tool, its version, weights and their licence, facts
    result.npz     arrays of the task          or   result.mp4

Nothing in an answer names a file, so nothing can point outside of the folder; arrays are checked for type and shape
before they are allocated, and hold no pickles. This guards against broken tools: a worker runs with our user's rights.
"""

from __future__ import annotations

import math
import os
import stat
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, TypeVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remind.errors import RemindError

CONTRACT = 1
MAX_JSON_BYTES = 1 << 16
MAX_RESULT_BYTES = 4 * 2**30

Word = Annotated[str, Field(min_length=1, max_length=200)]
Text = Annotated[str, Field(max_length=2000)]


class EstimatorError(RemindError):
    """A tool that failed on one clip, or answered what cannot be believed; other clips may work.

    Args:
        stderr_tail: the last of what the tool wrote on its stderr; empty if nothing.
    """

    def __init__(
        self, what: str, *, got: object = None, expected: object = None, fix: str | None = None, stderr_tail: str = ""
    ):
        super().__init__(what, got=got, expected=expected, fix=fix)
        self.stderr_tail = stderr_tail


class EstimatorSetupError(EstimatorError):
    """A tool that is missing, broken or of another version: no clip will work until that is mended."""


class _FromOutside(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class _Version(BaseModel):
    """The one field that every version of the contract has."""

    model_config = ConfigDict(strict=True, extra="ignore")
    contract: int


class Handshake(_FromOutside):
    """What a worker says that it speaks, before any request."""

    contract: int
    tool: Word
    tool_version: Word
    tasks: tuple[Word, ...] = Field(max_length=20)


class Reply(_FromOutside):
    """One line for one request."""

    folder: Text
    ok: bool
    kind: Literal["setup", "input"] = "input"
    error: Text = ""


class ResultInfo(_FromOutside):
    """What made a result, for the record.

    Args:
        weights: which ones; empty for tools without.
        weights_licence: as their publisher names it, or "unknown".
        facts: numbers and words of the task.
    """

    contract: int
    tool: Word
    tool_version: Word
    weights: Annotated[str, Field(max_length=200)]
    weights_licence: Annotated[str, Field(max_length=200)]
    facts: Annotated[dict[Word, Annotated[str, Field(max_length=500)] | float | int], Field(max_length=50)]


Model = TypeVar("Model", bound=BaseModel)


def parse(model: type[Model], data: bytes, *, what: str) -> Model:
    """One JSON message of a worker.

    Raises:
        EstimatorSetupError: a worker of another contract version; says which side to update.
        EstimatorError: not JSON, or not this message.
    """
    try:
        if "contract" in model.model_fields:
            check_version(_Version.model_validate_json(data).contract, what=what)
        return model.model_validate_json(data)
    except ValidationError as error:
        first = error.errors()[0]
        raise EstimatorError(
            f"{what} is not what the contract says",
            got=f"{data[:80]!r} ({'.'.join(map(str, first['loc'])) or 'JSON'}: {first['msg']})",
            expected=f"{model.__name__} of contract {CONTRACT}",
            fix="check that the command runs a ReMind worker and nothing else prints on its stdout",
        ) from None


def check_version(got: int, *, what: str) -> None:
    """Refuse another version of the contract.

    Raises:
        EstimatorSetupError: says which side to update.
    """
    if got != CONTRACT:
        older = "update the worker: copy ReMind's workers/ folder into the tool's environment again"
        raise EstimatorSetupError(
            f"{what} speaks another version of the contract",
            got=got,
            expected=CONTRACT,
            fix=older if got < CONTRACT else "update ReMind: the worker is newer",
        )


@dataclass(frozen=True)
class ArraySpec:
    """What an array must be.

    Args:
        dtype: exactly this one.
        shape: None for a side that is free.
        max_elements: bound that is checked before anything is allocated.
        optional: may be missing.
    """

    dtype: str
    shape: tuple[int | None, ...]
    max_elements: int = 2**28
    optional: bool = False

    def why_not(self, dtype: np.dtype, shape: tuple[int, ...]) -> str | None:
        """Why an array does not fit, or None."""
        fits = len(shape) == len(self.shape) and all(
            n > 0 and want in (None, n) for n, want in zip(shape, self.shape, strict=True)
        )
        if dtype != np.dtype(self.dtype) or not fits:
            wanted = ", ".join("?" if n is None else str(n) for n in self.shape)
            return f"{dtype}{list(shape)}, not {self.dtype}[{wanted}]"
        if math.prod(shape) > self.max_elements:
            return f"{math.prod(shape)} numbers, more than {self.max_elements}"
        return None


def read_file(folder: Path, name: str, *, max_bytes: int) -> bytes:
    """A regular file of the folder, never followed out of it, never larger than promised.

    Raises:
        EstimatorError: missing, a link, a pipe, or too large.
    """
    try:
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise EstimatorError(f"the tool left no readable {name}", got=error.strerror) from None
    try:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > max_bytes:
            kind = f"{status.st_size} bytes" if stat.S_ISREG(status.st_mode) else "a special file"
            raise EstimatorError(f"the tool's {name} cannot be read", got=kind, expected=f"at most {max_bytes} bytes")
        with os.fdopen(handle, "rb", closefd=False) as file:
            return file.read(max_bytes)
    finally:
        os.close(handle)


def read_arrays(folder: Path, specs: Mapping[str, ArraySpec]) -> dict[str, np.ndarray]:
    """The arrays of `result.npz`, each checked before it is allocated; others in the file are not read.

    Raises:
        EstimatorError: missing, of another type or shape, too large, pickled, damaged.
    """
    path = folder / "result.npz"
    if path.is_symlink() or not path.is_file() or path.stat().st_size > MAX_RESULT_BYTES:
        raise EstimatorError("the tool left no readable result.npz", expected=f"at most {MAX_RESULT_BYTES} bytes")
    arrays: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
            for name, spec in specs.items():
                if f"{name}.npy" in names:
                    arrays[name] = _read_array(archive, name, spec)
                elif not spec.optional:
                    raise EstimatorError("the tool's result lacks an array", got=sorted(names), expected=name)
    except (zipfile.BadZipFile, ValueError, EOFError, NotImplementedError, RuntimeError, OSError, zlib.error) as error:
        raise EstimatorError("the tool's result.npz is damaged", got=str(error)[:120]) from None
    return arrays


def _read_array(archive: zipfile.ZipFile, name: str, spec: ArraySpec) -> np.ndarray:
    with archive.open(f"{name}.npy") as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError("an array header of another version")
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
        reason = "it is pickled" if dtype.hasobject else "Fortran order" if fortran else spec.why_not(dtype, shape)
        if reason:
            raise EstimatorError(f"the tool's array {name!r} is not what was asked for", got=reason)
        size = math.prod(shape) * dtype.itemsize
        raw = file.read(size)
        if len(raw) != size:
            raise ValueError(f"{name} ends early")
        return np.frombuffer(raw, dtype).reshape(shape).copy()
