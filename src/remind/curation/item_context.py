"""One item at work: its options, its file, what is remembered of it, and the blobs that it points at."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from remind.clip import Clip
from remind.curation.blobs import Blobs
from remind.curation.item import SourceItem, WorldMedia
from remind.curation.media import FetchLimits, fetch
from remind.curation.options import BuildOptions
from remind.curation.scan import Window
from remind.curation.sources.world import render_world_item
from remind.curation.stages import Memo
from remind.curation.window_annotation import Look


@dataclass(frozen=True)
class OpenedSource:
    """An item that was read: its windows, and of the video the first pts, size and rate."""

    item: SourceItem
    windows: list[Window]
    first_pts: int
    hw: tuple[int, int]
    fps: float

    def unit(self, window: Window) -> str:
        return f"{self.item.item_id}#{window.start_s:.2f}s"


class ItemContext:
    """What the stages of one item share.

    Args:
        scratch: for fetched files.
        tools: versions of what decides bytes.
        look: the model that annotates, or None.

    Attributes:
        sha256: of the item's content, once that is known.
        used: digests of all blobs that its results point at.
    """

    def __init__(self, item: SourceItem, options: BuildOptions, blobs: Blobs, scratch: Path, tools: dict[str, str],
                 look: Look | None, memo: Memo):  # fmt: skip
        self.item, self.options, self.blobs, self.tools, self.look, self.memo = item, options, blobs, tools, look, memo
        self.sha256 = ""
        self.used: set[str] = set()
        self._scratch = scratch
        self._rendered: Clip | None = None

    def path(self) -> Path:
        """The item's video as a local file, fetched when somebody needs it."""
        return fetch(self.item.media, self._scratch, FetchLimits(max_bytes=self.options.limits.max_bytes))

    def scene(self) -> Clip:
        """The clip of a scene of the world, rendered when somebody needs it, once."""
        if self._rendered is None:
            assert isinstance(self.item.media, WorldMedia)
            self._rendered = render_world_item(self.item.media)
        return self._rendered
