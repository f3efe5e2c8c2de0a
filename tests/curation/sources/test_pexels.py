"""Pexels behind a permission, at its pace, asked nothing twice; against a server that speaks its protocol."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from remind.curation.item import UrlMedia
from remind.curation.media import fetch
from remind.curation.refused import RefusedMedia
from remind.curation.sources.pexels import LICENCE, PexelsOptions, PexelsQuery, PexelsSource
from remind.curation.sources.pexels_api import RateLimiter
from remind.curation.web import WebRules
from remind.errors import InputError, SourceError
from tests.curation.serve import Served, reply, serve

KEY = "key-0123"
GRANTED = {"given_by": "J. Doe, Pexels", "given_on": "2026-03-01", "scope": "research", "reference": "ticket 7"}
START = 1_790_000_000.0
RULES = WebRules(idle_s=2.0, total_s=5.0, private_hosts=True, other_hosts=False)
CANDLE = PexelsQuery("melting candle", ("candle melting",), ("cartoon", "time lapse"))


class FakeClock:
    """Jumps instead of sleeping."""

    def __init__(self) -> None:
        self.time, self.slept = START, [0.0][:0]

    def now(self) -> float:
        return self.time

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.slept.append(seconds)
        self.time += seconds


def video(number: int, title: str = "a-candle", heights: tuple[int, ...] = (360, 720, 1080)) -> dict[str, Any]:
    files: list[dict[str, Any]] = [
        {
            "id": number * 10 + i, "quality": "hd", "file_type": "video/mp4", "width": h * 16 // 9, "height": h,
            "fps": 25, "link": f"https://videos.pexels.com/{number}-{h}.mp4",
        }
        for i, h in enumerate(heights)
    ]  # fmt: skip
    files.append(
        {"id": 1, "quality": "hls", "file_type": "application/x-mpegURL", "width": None, "height": None, "link": "x"}
    )
    return {
        "id": number, "width": 1920, "height": 1080, "duration": 12, "url": f"https://www.pexels.com/video/{title}-{number}/",
        "image": "https://images.pexels.com/x.jpg", "user": {"id": 1, "name": "Ann", "url": "https://www.pexels.com/@ann"},
        "video_files": files, "video_pictures": [],
    }  # fmt: skip


def answer_page(handler: BaseHTTPRequestHandler, videos: list[dict[str, Any]], **headers: str) -> None:
    """A page of results as the service cuts them."""
    asked = {k: v[0] for k, v in parse_qs(urlsplit(handler.path).query).items()}
    number, per_page = int(asked["page"]), int(asked["per_page"])
    start = (number - 1) * per_page
    body = {
        "page": number,
        "per_page": per_page,
        "total_results": len(videos),
        "videos": videos[start : start + per_page],
    }
    if start + per_page < len(videos):
        body["next_page"] = f"https://api.pexels.com/v1/videos/search/?page={number + 1}"
    reply(handler, json.dumps(body).encode(), Content_Type="application/json", **headers)


@pytest.fixture
def granted(tmp_path: Path) -> Path:
    path = tmp_path / "permission.json"
    path.write_text(json.dumps(GRANTED))
    return path


@pytest.fixture
def make(granted: Path, tmp_path: Path) -> Callable[..., PexelsSource]:
    def make_source(server: Served | None = None, **changes: Any) -> PexelsSource:
        options = changes.pop("options", PexelsOptions(per_page=2, max_pages=10))
        endpoint = "http://127.0.0.1:9" if server is None else server.url + "/v1/videos/search"
        arguments = {"permission": granted, "api_key": KEY, "queries": [CANDLE], "log": tmp_path / "log.jsonl"}
        options = replace(options, endpoint=endpoint, web=RULES)
        return PexelsSource(**{**arguments, "clock": FakeClock(), **changes, "options": options})

    return make_source


def test_results_become_items(make: Callable[..., PexelsSource]) -> None:
    videos = [video(1), video(2, "cartoon-candle"), video(3, "a-time-lapse"), video(4, heights=(360,)), video(5)]
    with serve(lambda h: answer_page(h, videos)) as server:
        items = list(make(server).items())
    assert [item.item_id for item in items] == ["1", "4", "5"]
    item = items[0]
    assert item.media == UrlMedia("https://videos.pexels.com/1-720.mp4")
    assert (item.tags, item.caption, item.licence) == (("melting candle",), "a candle", LICENCE)
    assert item.author == "Ann (https://www.pexels.com/@ann)"
    assert item.url == "https://www.pexels.com/video/a-candle-1/"
    for text in ("J. Doe, Pexels", "2026-03-01", "research", "ticket 7"):
        assert text in item.permission
    assert isinstance(items[1].media, RefusedMedia)
    assert "at most 360 px high" in items[1].media.reason
    path, headers = server.requests[0]
    assert urlsplit(path).path == "/v1/videos/search"
    assert parse_qs(urlsplit(path).query) == {"query": ["candle melting"], "page": ["1"], "per_page": ["2"]}
    assert headers["authorization"] == KEY
    assert len(server.requests) == 3


def test_nothing_is_asked_twice(make: Callable[..., PexelsSource]) -> None:
    videos = [video(i) for i in range(5)]
    with serve(lambda h: answer_page(h, videos)) as server:
        first = list(make(server).items())
        assert list(make(server).items()) == first
        assert len(server.requests) == 3
        more = PexelsQuery("wax", ("candle melting", " wax "))
        both = list(make(server, queries=[CANDLE, more]).items())
        assert both == first
        assert len(server.requests) == 6
    assert list(make().items()) == first


def test_a_run_that_was_killed_is_taken_up(make: Callable[..., PexelsSource], tmp_path: Path) -> None:
    """The last line is half written, as a kill leaves it."""
    log = tmp_path / "log.jsonl"
    with serve(lambda h: answer_page(h, [video(i) for i in range(5)])) as server:
        whole = list(make(server).items())
        log.write_bytes(log.read_bytes()[:-100])
        assert list(make(server).items()) == whole
        assert len(server.requests) == 4
        assert list(make(server).items()) == whole
        assert len(server.requests) == 4


def test_a_damaged_log_is_an_error(make: Callable[..., PexelsSource], tmp_path: Path) -> None:
    for line in (b"no json\n", b'{"query": 1}\n', b"\0\n"):
        (tmp_path / "log.jsonl").write_bytes(line)
        with pytest.raises(SourceError, match="line at byte 0"):
            list(make().items())


def test_a_log_has_one_run_at_a_time(make: Callable[..., PexelsSource], tmp_path: Path) -> None:
    with serve(lambda h: answer_page(h, [video(i) for i in range(5)])) as server:
        items = make(server).items()
        next(items)
        code = (
            "import sys; from pathlib import Path; from remind.curation.sources.pexels_log import open_search_log\n"
            "with open_search_log(Path(sys.argv[1])): pass"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "log.jsonl")]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert "another run" in done.stderr
        items.close()
        assert subprocess.run(command, check=False).returncode == 0


@pytest.mark.parametrize("gone", list(GRANTED))
def test_without_a_whole_permission_there_is_no_source(
    make: Callable[..., PexelsSource], granted: Path, gone: str
) -> None:
    granted.write_text(json.dumps({k: v for k, v in GRANTED.items() if k != gone}))
    with pytest.raises(SourceError, match=gone):
        make()


@pytest.mark.parametrize(
    "text",
    [
        "", "{}", "[]", "yes", '{"given_by": true}', json.dumps(GRANTED | {"given_by": "   "}),
        json.dumps(GRANTED | {"given_on": "soon"}), json.dumps(GRANTED | {"given_on": "2999-01-01"}),
        json.dumps(GRANTED | {"scope": "x" * 2000}), json.dumps(GRANTED | {"more": 1}),
    ],
)  # fmt: skip
def test_a_bad_permission_is_none(make: Callable[..., PexelsSource], granted: Path, text: str) -> None:
    granted.write_text(text)
    with pytest.raises(SourceError, match="permission"):
        make()
    granted.unlink()
    with pytest.raises(SourceError, match="needs a recorded permission"):
        make()


@pytest.mark.parametrize("key", ["", "a b", "a\r\nX: y", "ü"])
def test_a_key_is_a_header_value_and_stays_secret(make: Callable[..., PexelsSource], key: str) -> None:
    with pytest.raises(InputError, match="not an API key") as caught:
        make(api_key=key)
    assert not key or key not in str(caught.value)
    assert KEY not in repr(vars(make()).get("_options"))


def test_absurd_queries_and_options_are_refused(make: Callable[..., PexelsSource]) -> None:
    for query in (PexelsQuery("e", ()), PexelsQuery("e", (" ",)), PexelsQuery("e", ("x" * 201,))):
        with pytest.raises(InputError, match="nothing to search"):
            make(queries=[query])
    for options in ({"per_page": 81}, {"per_page": 0}, {"max_pages": 0}, {"per_hour": 0}):
        with pytest.raises(InputError):
            PexelsOptions(**options)


def test_at_most_so_many_requests_in_any_hour(make: Callable[..., PexelsSource]) -> None:
    clock = FakeClock()
    options = PexelsOptions(per_page=1, max_pages=10, per_hour=3)
    with serve(lambda h: answer_page(h, [video(i) for i in range(7)])) as server:
        assert len(list(make(server, options=options, clock=clock).items())) == 7
        assert clock.slept == [3600.0, 3600.0]
        again = make(server, options=options, clock=clock, queries=[PexelsQuery("e", ("other",))])
        for _ in zip(range(3), again.items(), strict=False):  # the log remembers the request of this hour
            pass
        assert clock.slept == [3600.0, 3600.0, 3600.0]


def test_the_limiter_slides() -> None:
    clock = FakeClock()
    limiter = RateLimiter(clock, per_hour=2, longest_wait_s=1e9)
    limiter.take()
    clock.time += 600
    limiter.take()
    limiter.take()
    limiter.take()
    assert clock.slept == [3000.0, 600.0]


def test_an_exhausted_quota_is_waited_for_or_said(make: Callable[..., PexelsSource]) -> None:
    clock = FakeClock()
    reset = str(int(START) + 900)
    headers = {"X_Ratelimit_Remaining": "0", "X_Ratelimit_Reset": reset}
    with serve(lambda h: answer_page(h, [video(i) for i in range(3)], **headers)) as server:
        assert len(list(make(server, clock=clock).items())) == 3
        assert clock.slept == [900.0]
    headers["X_Ratelimit_Reset"] = str(int(START) + 20 * 86400)
    with serve(lambda h: answer_page(h, [video(i) for i in range(3)], **headers)) as server:
        source = make(server, queries=[PexelsQuery("e", ("other",))])
        with pytest.raises(SourceError, match=r"a wait of 480\.0 h"):
            list(source.items())


@pytest.mark.parametrize(
    ("status", "headers", "expected"),
    [
        (500, {}, [2.0, 4.0]),
        (429, {"Retry_After": "77"}, [77.0, 77.0]),
        (429, {"Retry_After": formatdate(START + 100, usegmt=True)}, [100.0, 4.0]),
        (503, {"Retry_After": "soon"}, [2.0, 4.0]),
        (429, {"Retry_After": "-5"}, [2.0, 4.0]),
    ],
)
def test_a_busy_server_is_asked_again(
    make: Callable[..., PexelsSource], status: int, headers: dict[str, str], expected: list[float]
) -> None:
    clock, failures = FakeClock(), iter([True, True])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if next(failures, False):
            reply(handler, b"<html>", status=status, **headers)
        else:
            answer_page(handler, [video(1)])

    with serve(answer) as server:
        assert len(list(make(server, clock=clock).items())) == 1
    assert clock.slept == expected


def test_it_gives_up_after_a_while(make: Callable[..., PexelsSource]) -> None:
    with serve(lambda h: reply(h, status=502)) as server:
        with pytest.raises(SourceError, match="busy; got status 502"):
            list(make(server).items())
        assert len(server.requests) == 5
    with pytest.raises(SourceError, match="connection failed"):
        list(make().items())
    busy = {"status": 429, "Retry_After": "999999999999999999"}
    with serve(lambda h: reply(h, **busy)) as server, pytest.raises(SourceError, match="no further request"):
        list(make(server).items())


def test_what_asking_again_cannot_mend_is_said_at_once(make: Callable[..., PexelsSource]) -> None:
    for status, message in [
        (401, "refuses the key"),
        (403, "refuses the key"),
        (400, "status 400"),
        (204, "status 204"),
    ]:
        with serve(lambda h, status=status: reply(h, status=status)) as server:
            with pytest.raises(SourceError, match=message) as caught:
                list(make(server).items())
            assert len(server.requests) == 1
            assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>please log in</html>", b"", b"[]", b"{}", b'{"page": 1, "total_results": "many", "videos": []}',
        b'{"page": 1, "total_results": 1, "videos": [5]}', b'{"page": 1, "total_results": 1, "videos": null}',
        b"[" * 100_000,
        json.dumps({"page": 1, "total_results": 99, "videos": [video(i) for i in range(81)]}).encode(),
        json.dumps({"page": 1, "total_results": 1, "videos": [video(1) | {"id": "1"}]}).encode(),
        json.dumps({"page": 1, "total_results": 1, "videos": [video(1) | {"url": "x" * 5000}]}).encode(),
    ],
)  # fmt: skip
def test_answers_of_another_shape_are_refused_and_not_logged(
    make: Callable[..., PexelsSource], body: bytes, tmp_path: Path
) -> None:
    with serve(lambda h: reply(h, body)) as server, pytest.raises(SourceError, match="something else"):
        list(make(server).items())
    assert (tmp_path / "log.jsonl").read_bytes() == b""


def test_an_answer_without_end_is_cut_off(make: Callable[..., PexelsSource]) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(b'{"page": [' + b"1," * 100_000)

    started = time.monotonic()
    with serve(endless) as server, pytest.raises(SourceError, match="no end"):
        list(make(server).items())
    assert time.monotonic() - started < 5


@pytest.mark.parametrize("target", ["file:///etc/passwd", "http://127.0.0.2:1/", "https://evil.example/"])
def test_redirects_elsewhere_are_refused(make: Callable[..., PexelsSource], target: str) -> None:
    with serve(lambda h: reply(h, status=302, Location=target)) as server:
        with pytest.raises(SourceError, match=r"another host|not a web address"):
            list(make(server).items())
        assert len(server.requests) == 1


def test_hostile_links_fail_alone(make: Callable[..., PexelsSource], tmp_path: Path) -> None:
    bad = video(1)
    for file in bad["video_files"]:
        file["link"] = "file:///etc/passwd"
    with serve(lambda h: answer_page(h, [bad, video(2)])) as server:
        items = list(make(server).items())
    assert [type(item.media) for item in items] == [RefusedMedia, UrlMedia]
    with pytest.raises(SourceError, match="not a web address"):
        fetch(items[0].media, tmp_path / "s")
