"""Asking Pexels for videos at the pace it allows: one endpoint, bounded replies, retries, a limiter with a clock.

Source: the public documentation of the Pexels API for parameters, fields and limits (200 requests an hour; the
X-Ratelimit headers count the month and come with successful replies only).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Annotated, Protocol, runtime_checkable
from urllib.parse import urlencode

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remind.curation.web import LostConnection, Reply, WebRules, get
from remind.errors import InputError, SourceError

ENDPOINT = "https://api.pexels.com/v1/videos/search"
MAX_PER_PAGE = 80
_HOUR_S = 3600.0
_MAX_REPLY_BYTES = 8 << 20
_ATTEMPTS = 5
_FIRST_PAUSE_S = 2.0  # doubled after each attempt

Text = Annotated[str, Field(max_length=2000)]
Count = Annotated[int, Field(ge=0, le=2**53)]


@runtime_checkable
class Clock(Protocol):
    """Time, so that tests need not wait for it."""

    def now(self) -> float:
        """Seconds since 1970."""
        ...

    def sleep(self, seconds: float) -> None: ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)


class _Reply(BaseModel):
    # Not "forbid": a service may add fields on any day, and none of ours would change its meaning.
    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class VideoFile(_Reply):
    """One rendition; an adaptive stream has no size."""

    id: Count
    file_type: Text | None = None
    width: Count | None = None
    height: Count | None = None
    fps: Annotated[float, Field(ge=0, le=1000)] | None = None
    link: Text


class Author(_Reply):
    name: Text = ""
    url: Text = ""


class PexelsVideo(_Reply):
    """A search result."""

    id: Count
    width: Count
    height: Count
    duration: Annotated[float, Field(ge=0)] = 0.0
    url: Text
    user: Author = Author()
    video_files: Annotated[tuple[VideoFile, ...], Field(max_length=100)] = ()


class SearchPage(_Reply):
    """One page of results."""

    page: Count
    total_results: Count
    next_page: Text | None = None
    videos: Annotated[tuple[PexelsVideo, ...], Field(max_length=MAX_PER_PAGE)]


class RateLimiter:
    """Spends at most so many requests in any hour, and heeds what the server says of its quota.

    Args:
        per_hour: requests in any 3600 s.
        longest_wait_s: a longer wait is an error, so that a month's quota does not look like a hang.
        earlier: times of requests made by earlier runs, seconds since 1970.
    """

    def __init__(self, clock: Clock, *, per_hour: int, longest_wait_s: float, earlier: Iterable[float] = ()):
        self._clock, self._per_hour, self._longest_wait_s = clock, per_hour, longest_wait_s
        self._times = deque(sorted(t for t in earlier if t > clock.now() - _HOUR_S))
        self._not_before = 0.0

    def take(self) -> None:
        """Wait until a request may be made, and count it.

        Raises:
            SourceError: the wait would be too long.
        """
        now = self._clock.now()
        while self._times and self._times[0] <= now - _HOUR_S:
            self._times.popleft()
        free_at = self._times[-self._per_hour] + _HOUR_S if len(self._times) >= self._per_hour else now
        self.wait(max(free_at, self._not_before) - now)
        self._times.append(self._clock.now())

    def wait(self, seconds: float) -> None:
        """Sleep, unless it would be too long."""
        if seconds > self._longest_wait_s:
            raise SourceError(
                "Pexels allows no further request for now",
                got=f"a wait of {seconds / _HOUR_S:.1f} h",
                fix="run again later: what was asked is in the log and is not asked again",
            )
        if seconds > 0:
            self._clock.sleep(seconds)

    def heed(self, headers: dict[str, str]) -> None:
        """Note an exhausted quota and when it is renewed."""
        remaining, reset = headers.get("x-ratelimit-remaining", ""), headers.get("x-ratelimit-reset", "")
        if remaining.isdecimal() and int(remaining) == 0 and reset.isdecimal():
            self._not_before = min(float(reset), 1e12)


@dataclass(frozen=True)
class PexelsApi:
    """The search endpoint.

    Args:
        endpoint: another address of the same protocol.
        rules: redirects to other hosts should be off, since the key goes with every request.
    """

    key: str
    limiter: RateLimiter
    clock: Clock
    endpoint: str = ENDPOINT
    rules: WebRules = WebRules(total_s=60.0, other_hosts=False)  # noqa: RUF009 (frozen)

    def __post_init__(self) -> None:
        if not (self.key.isascii() and self.key.isprintable() and self.key and " " not in self.key):
            raise InputError("not an API key", got="text that is no header value", expected="the key Pexels issued")

    def __repr__(self) -> str:  # the key stays out of logs
        return f"PexelsApi(endpoint={self.endpoint!r})"

    def search(self, query: str, page: int, per_page: int) -> SearchPage:
        """One page of a search, asked again while the server is busy.

        Raises:
            SourceError: a key that is refused, an answer that is none, no success after several attempts.
        """
        url = f"{self.endpoint}?{urlencode({'query': query, 'page': page, 'per_page': per_page})}"
        for attempt in range(_ATTEMPTS):
            self.limiter.take()
            pause = _FIRST_PAUSE_S * 2**attempt
            try:
                with get(url, self.rules, {"Authorization": self.key, "Accept": "application/json"}) as reply:
                    if reply.status == 200:
                        self.limiter.heed(dict(reply.headers))
                        return _parse(reply)
                    problem = _problem(reply)
                    pause = max(pause, _retry_after(reply, self.clock))
            except LostConnection as error:
                problem = error
            if attempt < _ATTEMPTS - 1:
                self.limiter.wait(pause)
        raise problem


def _problem(reply: Reply) -> SourceError:
    """What to raise if asking again does not help; raised at once where it cannot.

    Raises:
        SourceError: a status that asking again does not change.
    """
    if reply.status in (401, 403):
        raise SourceError("Pexels refuses the key", got=f"status {reply.status}", fix="check the key")
    if reply.status != 429 and reply.status < 500:
        raise SourceError("Pexels refuses the request", got=f"status {reply.status}", expected="200")
    return SourceError("Pexels is busy", got=f"status {reply.status}, {_ATTEMPTS} times", fix="run again later")


def _retry_after(reply: Reply, clock: Clock) -> float:
    """Seconds that the server asks for, in either form of the header; 0 if it asks for none."""
    said = reply.headers.get("retry-after", "").strip()
    if said.isdecimal():
        return float(said[:12])
    try:
        return parsedate_to_datetime(said).timestamp() - clock.now()
    except (ValueError, TypeError, OverflowError):
        return 0.0


def _parse(reply: Reply) -> SearchPage:
    body = b"".join(reply.blocks(_MAX_REPLY_BYTES))
    try:
        return SearchPage.model_validate_json(body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "all of it"
        start = body[:40].decode(errors="replace")
        raise SourceError(
            "Pexels answers with something else than search results",
            got=f"{where}: {first['msg'][:120]}; it begins {start!r}",
            expected="JSON with page, total_results and videos",
        ) from None
