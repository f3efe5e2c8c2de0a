"""RealEstate10K: text files of cameras for spans of YouTube videos, which everybody downloads by themselves."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from remind.camera_io import realestate10k_url_and_span_s
from remind.curation.item import CameraRef, FileMedia, SourceItem
from remind.errors import CameraError, InputError

LICENCE = "cameras: CC BY 4.0; video: its owner's terms"
_VIDEO_SUFFIXES = (".mp4", ".mkv", ".webm", ".mov")
_VIDEO_ID = re.compile(r"https?://(?:www\.|m\.)?youtu(?:\.be/|be\.com/watch\?(?:.*&)?v=)([A-Za-z0-9_-]{11})\b.*")


@dataclass(frozen=True)
class RealEstate10kSource:
    """Every text file under a folder, with the video that was downloaded for it.

    Args:
        cameras: folder of `<clip>.txt`, at any depth.
        videos: folder of `<clip>.mp4`, cut to the poses, or `<YouTube id>.mp4`, whole; also mkv, webm, mov. The
            first is preferred.
    """

    cameras: Path
    videos: Path
    name: str = field(default="realestate10k", init=False)

    def items(self) -> Iterator[SourceItem]:
        """All clips in order of their names; one without a video or with a damaged text is listed and fails when it
        is read, its `facts["problem"]` says why.

        `facts` hold `start_s` and `end_s`, the span of the poses on the clock of the file, and `camera_origin_s`, the
        time on the poses' clock at which the file begins.

        Raises:
            InputError: no such folders, or no text files.
        """
        for folder in (self.cameras, self.videos):
            if not folder.is_dir():
                raise InputError("no such folder of RealEstate10K", got=folder)
        texts = sorted(self.cameras.rglob("*.txt"), key=lambda path: path.as_posix())
        if not texts:
            raise InputError("no cameras of RealEstate10K", got=self.cameras, expected="<clip>.txt")
        videos = {path.stem: path for path in sorted(self.videos.rglob("*")) if path.suffix.lower() in _VIDEO_SUFFIXES}
        for text in texts:
            yield self._item(text, videos)

    def missing(self) -> tuple[str, ...]:
        """What is not complete, one line a clip."""
        return tuple(f"{item.item_id}: {item.facts['problem']}" for item in self.items() if "problem" in item.facts)

    def _item(self, text: Path, videos: dict[str, Path]) -> SourceItem:
        facts: dict[str, str | float] = {}
        url, media = "", self.videos / f"{text.stem}.mp4"
        try:
            url, first_s, last_s = realestate10k_url_and_span_s(text)
        except CameraError as error:
            facts["problem"] = str(error)
        else:
            match = _VIDEO_ID.fullmatch(url)
            cut, whole = videos.get(text.stem), videos.get(match[1]) if match else None
            media = cut or whole or media
            origin_s = first_s if cut else 0.0
            facts |= {"start_s": first_s - origin_s, "end_s": last_s - origin_s, "camera_origin_s": origin_s}
            if not (cut or whole):
                facts["problem"] = f"no video {text.stem} or {match[1] if match else 'of this URL'} in the folder"
        return SourceItem(
            item_id=text.relative_to(self.cameras).with_suffix("").as_posix(),
            source=self.name,
            media=FileMedia(str(media)),
            cameras=CameraRef("realestate10k", str(text)),
            url=url if _VIDEO_ID.fullmatch(url) else "",
            licence=LICENCE,
            facts=facts,
        )
