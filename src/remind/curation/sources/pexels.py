"""Videos of Pexels by search words. Off by default: its terms forbid collecting media or metadata to train models.

Whoever has a permission records it in a JSON file (see `Permission`); without one no source can be made, and its text
goes with every item.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remind.curation.disk import disk_errors
from remind.curation.item import SourceItem, UrlMedia
from remind.curation.refused import refuse
from remind.curation.sources.pexels_api import (
    ENDPOINT,
    MAX_PER_PAGE,
    Clock,
    PexelsApi,
    PexelsVideo,
    RateLimiter,
    SearchPage,
    SystemClock,
    VideoFile,
)
from remind.curation.sources.pexels_log import SearchLog, open_search_log
from remind.curation.web import WebRules, checked_url
from remind.errors import InputError, SourceError

LICENCE = "Pexels License"
_MAX_PERMISSION_BYTES = 1 << 16

Line = Annotated[str, Field(min_length=3, max_length=1000)]


class Permission(BaseModel):
    """A permission as recorded by whoever asked for it.

    Args:
        given_by: person or office at Pexels that gave it.
        given_on: date, as 2026-03-01.
        scope: what it allows, in their words.
        reference: where the original is kept: a ticket, a contract, a message id.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, str_strip_whitespace=True)

    given_by: Line
    given_on: datetime.date
    scope: Line
    reference: Line

    def text(self) -> str:
        """In one line, for the provenance of an item."""
        return (
            f"given by {self.given_by} on {self.given_on.isoformat()}; scope: {self.scope}; reference: {self.reference}"
        )


@dataclass(frozen=True)
class PexelsQuery:
    """What to search for one event.

    Args:
        event: of the taxonomy; becomes the tag of what is found.
        keywords: each is one search.
        negative: words that must not be in a result's title, any case.
    """

    event: str
    keywords: tuple[str, ...]
    negative: tuple[str, ...] = ()


@dataclass(frozen=True)
class PexelsOptions:
    """How much to ask for.

    Args:
        min_height: the smallest file at least this high is taken, px.
        per_page: 1..80.
        max_pages: of each keyword, >= 1.
        per_hour: requests, >= 1; Pexels allows 200 unless it was agreed otherwise.
        longest_wait_s: for the rate limit; a longer one ends the run, which can be taken up again.
        endpoint: another server of the same protocol.
        web: time limits and where requests may lead.
    """

    min_height: int = 480
    per_page: int = MAX_PER_PAGE
    max_pages: int = 3
    per_hour: int = 200
    longest_wait_s: float = 2 * 3600.0
    endpoint: str = ENDPOINT
    web: WebRules = field(default_factory=lambda: WebRules(total_s=60.0, other_hosts=False))

    def __post_init__(self) -> None:
        if not 1 <= self.per_page <= MAX_PER_PAGE:
            raise InputError("no such page size", got=self.per_page, expected=f"1..{MAX_PER_PAGE}")
        if min(self.max_pages, self.per_hour, self.min_height) < 1:
            raise InputError("pages, requests and height must be positive", got=self)


class PexelsSource:
    """Results of searches in the order of the queries; a video that several find has the tag of the first.

    Args:
        permission: JSON file with the fields of `Permission`.
        api_key: issued by Pexels; never logged.
        queries: what to search.
        log: JSONL file of all answers; what is in it is not asked again.
        clock: for the rate limit.

    Raises:
        SourceError: no permission, one that is incomplete or lies in the future. From `items`: a service that refuses
            or cannot be reached, a log that is damaged or in use.
        InputError: an empty or absurd query.
    """

    name = "pexels"

    def __init__(
        self,
        *,
        permission: Path,
        api_key: str,
        queries: Sequence[PexelsQuery],
        log: Path,
        options: PexelsOptions | None = None,
        clock: Clock | None = None,
    ):
        self._clock = clock or SystemClock()
        self._permission = read_permission(permission, self._clock)
        self._options = options or PexelsOptions()
        self._queries, self._log = tuple(queries), log
        self._api_key = api_key
        self._api(())  # a malformed key is an error now
        for query in self._queries:
            if not query.keywords or not all(0 < len(word.strip()) <= 200 for word in query.keywords):
                raise InputError("nothing to search for", got=query, expected="keywords of 1..200 characters")

    def items(self) -> Iterator[SourceItem]:
        """All results that no negative word excludes; one without a fitting file is listed and fails when fetched."""
        seen: set[int] = set()
        with open_search_log(self._log) as log:
            api = self._api(log.times)
            for query in self._queries:
                for video in self._search(query, api, log):
                    if video.id not in seen and not _excluded(video, query.negative):
                        seen.add(video.id)
                        yield self._item(video, query)

    def _api(self, earlier: Sequence[float]) -> PexelsApi:
        options = self._options
        limiter = RateLimiter(
            self._clock, per_hour=options.per_hour, longest_wait_s=options.longest_wait_s, earlier=earlier
        )
        return PexelsApi(self._api_key, limiter, self._clock, options.endpoint, options.web)

    def _search(self, query: PexelsQuery, api: PexelsApi, log: SearchLog) -> Iterator[PexelsVideo]:
        per_page = self._options.per_page
        for keyword in query.keywords:
            for number in range(1, self._options.max_pages + 1):
                key = (keyword.strip(), number, per_page)
                page = log.get(key)
                if page is None:
                    page = api.search(*key)
                    log.add(key, self._clock.now(), page)
                yield from page.videos
                if _is_last(page, number, per_page):
                    break

    def _item(self, video: PexelsVideo, query: PexelsQuery) -> SourceItem:
        file, reason = _choose(video.video_files, self._options.min_height)
        if file is None:
            return refuse(str(video.id), self.name, f"Pexels video {video.id}: {reason}")
        return SourceItem(
            str(video.id),
            self.name,
            UrlMedia(file.link),
            caption=_title(video),
            tags=(query.event,),
            url=video.url,
            author=f"{video.user.name} ({video.user.url})" if video.user.url else video.user.name,
            licence=LICENCE,
            permission=self._permission.text(),
            facts={
                "seconds": float(video.duration),
                "height": float(file.height or 0),
                "width": float(file.width or 0),
            },
        )


def read_permission(path: Path, clock: Clock) -> Permission:
    """The recorded permission.

    Raises:
        SourceError: none, not one, or one that is dated in the future.
    """
    fix = "record given_by, given_on, scope and reference of the permission that Pexels gave you, or leave Pexels out"
    if not path.is_file():
        raise SourceError("Pexels needs a recorded permission", got=f"no file {path}", fix=fix)
    with disk_errors("cannot read the permission", path), path.open("rb") as file:
        text = file.read(_MAX_PERMISSION_BYTES)
    try:
        permission = Permission.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        raise SourceError(f"{path.name}: not a recorded permission: {where}", got=first["msg"], fix=fix) from None
    today = datetime.datetime.fromtimestamp(clock.now(), datetime.UTC).date()
    if permission.given_on > today + datetime.timedelta(days=1):  # it may be tomorrow where it was given
        raise SourceError(f"{path.name}: the permission is not given yet", got=permission.given_on, fix=fix)
    return permission


def _choose(files: Sequence[VideoFile], min_height: int) -> tuple[VideoFile | None, str]:
    """The smallest mp4 at least this high with a web address; else None and why."""
    sized = [f for f in files if f.file_type == "video/mp4" and f.height and f.width]
    if not sized:
        return None, "no mp4 of known size"
    large = [f for f in sized if (f.height or 0) >= min_height]
    if not large:
        return None, f"at most {max(f.height or 0 for f in sized)} px high, {min_height} are asked for"
    file = min(large, key=lambda f: ((f.height or 0) * (f.width or 0), f.id))
    try:
        checked_url(file.link)
    except SourceError as error:
        return None, str(error)
    return file, ""


def _is_last(page: SearchPage, number: int, per_page: int) -> bool:
    return not page.videos or not page.next_page or number * per_page >= page.total_results


def _title(video: PexelsVideo) -> str:
    """Pexels gives videos no title but in the address of their page: /video/candle-in-the-wind-12345/."""
    slug = video.url.split("?")[0].rstrip("/").rsplit("/", 1)[-1]
    words = re.sub(rf"-?{video.id}$", "", slug).replace("-", " ").strip()
    return words if re.search(r"[^\W\d]", words) else ""


def _excluded(video: PexelsVideo, negative: Sequence[str]) -> bool:
    title = f" {_title(video).casefold()} "
    return any(f" {word.strip().casefold()} " in title for word in negative if word.strip())
