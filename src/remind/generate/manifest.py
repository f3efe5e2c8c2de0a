"""What stands beside a video: all that is needed to make it again, and what it took.

    clip.mp4                 the video
    clip.mp4.json            the manifest: what was asked (`request`), and how it went
    clip.mp4.cameras.npz     the cameras, resolved, one per frame: `c2w` f64 [t 4 4], `intrinsics_px` f64 [t 4], `hw`,
                             `valid`; absent without cameras

Paths in a manifest are relative to its folder. A manifest from a stranger can only name files in that folder, or in one
that its reader allows; what it names is compared by hash before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from remind.errors import CheckpointError, InputError
from remind.generate.manifest_files import read_bytes, resolve_inside, write_bytes
from remind.generate.request import Count, Hash, Part, PathText, Request, Seconds, Word

FORMAT = "remind-generation-1"
MAX_BYTES = 2**24
"""Of a manifest: 16 MiB hold the prompts of some ten thousand chunks."""


class Timings(Part):
    """Seconds of wall time.

    Args:
        first_frame_s: from the call to the first frame that was handed over.
        chunks_s: of each generated chunk.
        total_s: with reading and writing.
    """

    first_frame_s: Seconds
    chunks_s: Annotated[tuple[Seconds, ...], Field(max_length=100_000)]
    total_s: Seconds


class MemoryLine(Part):
    """One entry of memory when the video was done."""

    slot: Count | None
    chunk: Annotated[int, Field(ge=-100_000, le=100_000)]
    position: Annotated[int, Field(ge=-(10**7), le=10**7)]
    role: Word
    protected: bool
    importance: float | None
    last_importance: float | None = None
    bytes: Count


class Output(Part):
    """The video.

    Args:
        path: relative to the manifest's folder.
        sha256: of the file.
        frame_digest: of the model's frames before encoding, see `outputs.frame_digest`.
        num_frames: and the first one that was generated.
        columns: what stands side by side, left to right.
    """

    path: PathText
    sha256: Hash
    frame_digest: Hash
    num_frames: Annotated[int, Field(ge=1)]
    first_generated_frame: Count
    columns: Annotated[tuple[Word, ...], Field(max_length=20)] = ("generated",)


class Machine(Part):
    """What computed; another machine may round otherwise.

    Args:
        device: e.g. cpu, or the GPU's name.
        threads: of torch on the CPU.
        versions: by package; remind, torch and python at least.
    """

    device: Word
    threads: Annotated[int, Field(ge=1, le=100_000)]
    versions: Annotated[dict[Word, Word], Field(max_length=100)]


class Manifest(Part):
    """One video and how it came about.

    Args:
        item_sha256: of the batch's line that asked for it (`batch.item_sha256`); None outside of a batch.
        memory_table: what was remembered at the end.
    """

    format: Literal["remind-generation-1"] = "remind-generation-1"
    request: Request
    machine: Machine
    timings: Timings
    output: Output
    memory_table: Annotated[tuple[MemoryLine, ...], Field(max_length=100_000)] = ()
    item_sha256: Hash | None = None

    def write(self, path: Path) -> None:
        """Write it, whole or not at all.

        Raises:
            InputError: a place that cannot be written.
        """
        write_bytes(path, (self.model_dump_json(indent=1) + "\n").encode())

    @staticmethod
    def read(path: Path, *, allow: Iterable[Path] = ()) -> Manifest:
        """A manifest that makes sense and stays where it may; `checked_file` opens the files that it names.

        Args:
            allow: folders that its paths may lead to besides its own.

        Raises:
            InputError: missing, too large, not JSON, of another version, a field that is missing, unknown or out of
                range, or a path that leads elsewhere.
        """
        data = read_bytes(path, MAX_BYTES)
        try:
            found = json.loads(data, parse_constant=_no_number)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path.name}: not a manifest", got=str(error)[:100],
                             expected="JSON as `remind generate` writes it beside a video") from None  # fmt: skip
        version = found.get("format") if isinstance(found, dict) else None
        if version != FORMAT:
            raise InputError(f"{path.name}: a manifest of another version, or something else", got=repr(version)[:80],
                             expected=FORMAT, fix="use the version of remind that wrote it")  # fmt: skip
        try:
            manifest = Manifest.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "the whole"
            raise InputError(f"{path.name}: {where}: {first['msg']}", got=repr(first.get("input"))[:80],
                             fix="restore the file that `remind generate` wrote") from None  # fmt: skip
        for name in manifest._paths():
            resolve_inside(path.parent, name, allow=allow)
        return manifest

    def _paths(self) -> Iterable[str]:
        yield from (item.path for item in self.request.inputs)
        if self.request.cameras is not None:
            yield self.request.cameras.path
        yield self.output.path

    def check_checkpoint(self, name: str, weights: str) -> None:
        """Whether these are the weights that made the video.

        Args:
            name: of the checkpoint that is about to be used.
            weights: its `checkpoint_hash`.

        Raises:
            CheckpointError: other weights; names both.
        """
        then = self.request.checkpoint
        if weights != then.sha256:
            raise CheckpointError("the video was made with other weights",
                                  got=f"{name} (sha256 {weights[:12]}...)",
                                  expected=f"{then.name} (sha256 {then.sha256[:12]}...)",
                                  fix="give the checkpoint that made it, or make a new video without --from",
                                  )  # fmt: skip


def differences(then: Manifest, now: Manifest) -> list[str]:
    """Why two manifests' videos may differ, a sentence each; none where they should be the same bits.

    What was asked comes first: it changes the video. What computed it changes rounding, which a few chunks can enlarge.
    """
    asked, asks = (m.request.model_dump(mode="json") for m in (then, now))
    plain = [name for name in asked if name not in ("inputs", "cameras", "checkpoint")]
    said = [f"{name} differs: {_short(asked[name])} then, {_short(asks[name])} now"
            for name in plain if asked[name] != asks[name]]  # fmt: skip
    pairs = [("the inputs", [i.sha256 for i in then.request.inputs], [i.sha256 for i in now.request.inputs]),
             ("the cameras", then.request.cameras and then.request.cameras.sha256,
              now.request.cameras and now.request.cameras.sha256),
             ("the weights", then.request.checkpoint.sha256, now.request.checkpoint.sha256)]  # fmt: skip
    said += [f"{what} differ: {_short(a)} then, {_short(b)} now" for what, a, b in pairs if a != b]
    a, b = then.machine, now.machine
    for what, before, after in (("device", a.device, b.device), ("number of threads", a.threads, b.threads)):
        if before != after:
            said.append(f"another {what}, which may round otherwise: {before} then, {after} now")
    for name in sorted(a.versions.keys() | b.versions.keys()):
        before, after = a.versions.get(name, "none"), b.versions.get(name, "none")
        if before != after:
            said.append(f"another version of {name}: {before} then, {after} now")
    return said


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _no_number(name: str) -> float:
    raise ValueError(f"{name} is no number")
