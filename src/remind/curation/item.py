"""A source item: one video, wherever it lies, with what its source knows about it. All sources give this type."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from typing import Literal, Protocol, runtime_checkable

CameraFormat = Literal["store_npz", "dl3dv", "realestate10k", "quaternion_npy", "c2w_npy", "w2c_npy"]


@dataclass(frozen=True)
class FileMedia:
    """A video file on this machine or on a shared file system."""

    path: str


@dataclass(frozen=True)
class ZipMedia:
    """A video inside a zip archive; read without unpacking the rest."""

    archive: str
    member: str


@dataclass(frozen=True)
class UrlMedia:
    """A video behind HTTP; fetched when its turn comes, never more than the limits allow."""

    url: str


@dataclass(frozen=True)
class ImagesMedia:
    """Pictures that make a video when shown at `fps`, in this order.

    Args:
        folder: which `names` are relative to.
        fps: our choice where the source knows none; it gives the pictures their time.
    """

    folder: str
    names: tuple[str, ...]
    fps: float


@dataclass(frozen=True)
class WorldMedia:
    """A scene of the embedded world, rendered from its seed when its turn comes."""

    seed: int
    family: str
    hw: tuple[int, int]
    num_frames: int


Media = FileMedia | ZipMedia | UrlMedia | ImagesMedia | WorldMedia


@dataclass(frozen=True)
class CameraRef:
    """Where an item's cameras are and how they are written; `camera_io` reads them.

    Args:
        format: how to read `path`.
        path: the poses.
        intrinsics_path: where a format keeps intrinsics in a file of their own; else empty.
        stride: a pose for every `stride`-th picture of the video, for formats that carry no times.
    """

    format: CameraFormat
    path: str
    intrinsics_path: str = ""
    stride: int = 1


@dataclass(frozen=True)
class SourceItem:
    """One video of a source; plain data, so that it crosses process borders and has a key.

    Args:
        item_id: unique and stable within the source, readable: usually a relative posix path.
        source: name of the source, e.g. `local`, `openvid`.
        media: where the bytes are.
        caption: what the source says about the content; may be empty.
        tags: taxonomy event types or groups that the source knows.
        cameras: given cameras, or None.
        url, author, licence, permission: where it was found, by whom, on what terms; empty if unknown.
        facts: everything else that the source knows, by name (scores, camera motion, prompts).
    """

    item_id: str
    source: str
    media: Media
    caption: str = ""
    tags: tuple[str, ...] = ()
    cameras: CameraRef | None = None
    url: str = ""
    author: str = ""
    licence: str = ""
    permission: str = ""
    facts: dict[str, str | float] = field(default_factory=dict)

    def describe(self) -> str:
        """As JSON with sorted keys: what the ledger keys an item by before its content is known."""
        media = {"kind": type(self.media).__name__, **asdict(self.media)}
        return json.dumps({**asdict(self), "media": media}, sort_keys=True)


@runtime_checkable
class Source(Protocol):
    """Lists items, always in the same order, without reading their pictures."""

    @property
    def name(self) -> str:
        """Short and stable; `SourceItem.source` of its items."""
        ...

    def items(self) -> Iterator[SourceItem]:
        """All items.

        Raises:
            RemindError: a source that is not there or whose own tables are damaged; a bad *item* is still listed, and
                fails when it is read.
        """
        ...
