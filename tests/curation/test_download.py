"""Downloads arrive whole or not at all, go on where they broke off, and refuse what is no download."""

from __future__ import annotations

import random
import shutil
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from remind.curation.download import download
from remind.curation.web import WebRules, checked_url, get
from remind.errors import SourceError
from tests.curation.serve import reply, serve

CONTENT = random.Random(0).randbytes(400_000)
LOCAL = WebRules(idle_s=2.0, total_s=10.0, private_hosts=True)
LIMIT = 1 << 20


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("remind.curation.download._PAUSE_S", 0.0)


def ranged(handler: BaseHTTPRequestHandler, content: bytes, tag: str, *, break_at: int | None = None) -> None:
    """Answer as a server with ranges and ETags does; break the line after so many bytes of the whole."""
    start = 0
    wanted = handler.headers.get("Range", "")
    if wanted.startswith("bytes=") and handler.headers.get("If-Range") in (None, tag):
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
    handler.send_response(206 if start else 200)
    handler.send_header("ETag", tag)
    handler.send_header("Content-Length", str(len(content) - start))
    if start:
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    handler.end_headers()
    handler.wfile.write(content[start:break_at])


def test_a_file_arrives_whole_and_is_not_asked_for_twice(tmp_path: Path) -> None:
    with serve(lambda h: reply(h, CONTENT)) as server:
        for _ in range(2):
            download(server.url + "/a.mp4", tmp_path / "a.mp4", max_bytes=LIMIT, rules=LOCAL)
    assert (tmp_path / "a.mp4").read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_a_broken_transfer_goes_on_where_it_broke(tmp_path: Path) -> None:
    breaks = iter([150_000, 300_000, None])
    with serve(lambda h: ranged(h, CONTENT, '"v1"', break_at=next(breaks))) as server:
        download(server.url, tmp_path / "a.mp4", max_bytes=LIMIT, rules=LOCAL)
    assert (tmp_path / "a.mp4").read_bytes() == CONTENT
    assert [h.get("range") for _, h in server.requests] == [None, "bytes=150000-", "bytes=300000-"]


def test_versions_are_never_joined(tmp_path: Path) -> None:
    """The file changes between two attempts: the second one begins anew."""
    other = CONTENT[::-1]
    answers = iter([(CONTENT, '"v1"', 150_000), (other, '"v2"', None)])
    with serve(lambda h: ranged(h, *(a := next(answers))[:2], break_at=a[2])) as server:
        download(server.url, tmp_path / "a.mp4", max_bytes=LIMIT, rules=LOCAL)
    assert (tmp_path / "a.mp4").read_bytes() == other
    assert server.requests[1][1]["if-range"] == '"v1"'


def test_without_a_version_it_begins_anew(tmp_path: Path) -> None:
    sizes = iter([100_000, None])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(CONTENT)))
        handler.end_headers()
        handler.wfile.write(CONTENT[: next(sizes)])

    with serve(answer) as server:
        download(server.url, tmp_path / "a.mp4", max_bytes=LIMIT, rules=LOCAL)
    assert (tmp_path / "a.mp4").read_bytes() == CONTENT
    assert "range" not in server.requests[1][1]


def test_a_killed_download_is_taken_up_by_the_next_run(tmp_path: Path) -> None:
    slow = threading.Event()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        if slow.is_set():
            ranged(handler, CONTENT, '"v1"')
            return
        ranged(handler, CONTENT, '"v1"', break_at=200_000)
        slow.wait(20)

    code = """
import sys
from pathlib import Path
from remind.curation.download import download
from remind.curation.web import WebRules
download(sys.argv[1], Path(sys.argv[2]), max_bytes=1 << 20, rules=WebRules(private_hosts=True))
"""
    target = tmp_path / "a.mp4"
    with serve(answer) as server:
        child = subprocess.Popen([sys.executable, "-c", code, server.url, str(target)])
        partial = tmp_path / "a.mp4.partial"
        stop = time.monotonic() + 30
        while not (partial.exists() and partial.stat().st_size > 100_000) and time.monotonic() < stop:
            time.sleep(0.02)
        child.kill()
        child.wait()
        slow.set()
        assert not target.exists()
        have = partial.stat().st_size
        download(server.url, target, max_bytes=LIMIT, rules=LOCAL)
    assert target.read_bytes() == CONTENT
    assert server.requests[-1][1]["range"] == f"bytes={have}-"


def test_two_that_want_the_same_file_fetch_it_once(tmp_path: Path) -> None:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.2)
        reply(handler, CONTENT)

    with serve(answer) as server:
        arguments = {"max_bytes": LIMIT, "rules": LOCAL}
        threads = [
            threading.Thread(target=download, args=(server.url, tmp_path / "a.mp4"), kwargs=arguments) for _ in range(3)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert (tmp_path / "a.mp4").read_bytes() == CONTENT
    assert len(server.requests) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_one_that_waited_for_a_failed_download_starts_its_own(tmp_path: Path) -> None:
    statuses = iter([404, 200])

    def answer(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(0.3)
        reply(handler, CONTENT, status=next(statuses))

    def first() -> None:
        with suppress(SourceError):
            download(server.url, tmp_path / "a.mp4", max_bytes=LIMIT, rules=LOCAL)

    with serve(answer) as server:
        thread = threading.Thread(target=first)
        thread.start()
        while not server.requests:  # until the first one holds the file
            time.sleep(0.01)
        download(server.url, tmp_path / "a.mp4", max_bytes=LIMIT, rules=LOCAL)
        thread.join()
    assert (tmp_path / "a.mp4").read_bytes() == CONTENT


def test_a_busy_server_is_asked_again_and_a_refusal_is_not(tmp_path: Path) -> None:
    answers = iter([503, 429, 200])
    with serve(lambda h: reply(h, CONTENT, status=next(answers))) as server:
        download(server.url, tmp_path / "a.mp4", max_bytes=LIMIT, rules=LOCAL)
        assert len(server.requests) == 3
    with serve(lambda h: reply(h, b"no", status=404)) as server:
        with pytest.raises(SourceError, match="status 404"):
            download(server.url, tmp_path / "b.mp4", max_bytes=LIMIT, rules=LOCAL)
        assert len(server.requests) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_declared_and_actual_size_are_bounded(tmp_path: Path) -> None:
    def endless(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(CONTENT)

    with serve(lambda h: reply(h, CONTENT)) as server, pytest.raises(SourceError, match="400000 bytes"):
        download(server.url, tmp_path / "a.mp4", max_bytes=399_999, rules=LOCAL)
    with serve(endless) as server, pytest.raises(SourceError, match="no end"):
        download(server.url, tmp_path / "a.mp4", max_bytes=LIMIT, rules=LOCAL)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", ["body", "headers"])
def test_a_server_that_drips_is_cut_off(where: str) -> None:
    """Each byte comes before the silence is too long; only the watchdog ends it."""
    done = threading.Event()

    def drip(handler: BaseHTTPRequestHandler) -> None:
        if where == "body":
            handler.send_response(200)
            handler.end_headers()
        else:
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        while not done.wait(0.1):
            handler.wfile.write(b"x")
            handler.wfile.flush()

    rules = WebRules(idle_s=5.0, total_s=0.8, private_hosts=True)
    started = time.monotonic()
    with serve(drip) as server:
        with pytest.raises(SourceError, match="too long"), get(server.url, rules) as answer:
            list(answer.blocks(LIMIT))
        done.set()
    assert time.monotonic() - started < 4


def test_a_handshake_that_drips_is_cut_off() -> None:
    """A TLS record that announces 16 kB and comes byte by byte."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def drip() -> None:
            with server.accept()[0] as connection, suppress(OSError):
                connection.sendall(b"\x16\x03\x03\x3f\xff\x02\x00\x3f\xfb")
                while not done.wait(0.1):
                    connection.sendall(b"\x03")

        thread = threading.Thread(target=drip, daemon=True)
        thread.start()
        started = time.monotonic()
        rules = WebRules(idle_s=5.0, total_s=0.8, private_hosts=True)
        with pytest.raises(SourceError, match="too long"), get(f"https://127.0.0.1:{server.getsockname()[1]}/", rules):
            pass
        done.set()
        thread.join()
    assert 0.5 < time.monotonic() - started < 4


def test_silence_is_cut_off() -> None:
    done = threading.Event()
    with serve(lambda h: done.wait(20) and None) as server:
        with pytest.raises(SourceError, match="no answer in time"), get(server.url, WebRules(0.3, 9.0, True)):
            pass
        done.set()


@pytest.mark.parametrize(
    "target", ["file:///etc/passwd", "ftp://host/a", "data:,a", "http://user:pw@host/", "javascript:1"]
)
def test_redirects_to_anything_but_the_web_are_refused(target: str) -> None:
    with (
        serve(lambda h: reply(h, status=302, Location=target)) as server,
        pytest.raises(SourceError, match="not a web address"),
        get(server.url, LOCAL),
    ):
        pass


def test_redirects_to_other_hosts_are_followed_without_secrets_or_not_at_all() -> None:
    with (
        serve(lambda h: reply(h, b"here")) as other,
        serve(lambda h: reply(h, status=307, Location=other.url)) as server,
    ):
        with get(server.url, LOCAL, {"Authorization": "secret", "Range": "bytes=0-"}) as answer:
            assert b"".join(answer.blocks(LIMIT)) == b"here"
        assert "authorization" in server.requests[0][1]
        assert "authorization" not in other.requests[0][1]
        assert other.requests[0][1]["range"] == "bytes=0-"
        rules = WebRules(private_hosts=True, other_hosts=False)
        with pytest.raises(SourceError, match="another host"), get(server.url, rules):
            pass


def test_a_circle_of_redirects_ends() -> None:
    with serve(lambda h: reply(h, status=301, Location="/again")) as server:
        with pytest.raises(SourceError, match="too often"), get(server.url, LOCAL):
            pass
        assert len(server.requests) == 6


def test_private_networks_are_not_asked_unless_allowed() -> None:
    with serve(lambda h: reply(h, b"secret")) as server:
        with pytest.raises(SourceError, match="private network"), get(server.url, WebRules()):
            pass
        with (
            pytest.raises(SourceError, match="private network"),
            get(server.url.replace("127.0.0.1", "localhost"), WebRules()),
        ):
            pass
        assert server.requests == []


def test_a_proxy_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    with serve(lambda h: reply(h, b"through")) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.delenv("no_proxy", raising=False)
        with get("http://videos.example/a.mp4", WebRules()) as answer:
            assert b"".join(answer.blocks(LIMIT)) == b"through"
    assert proxy.requests[0][0] == "http://videos.example/a.mp4"


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")
def test_https_needs_a_certificate_that_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=here -addext subjectAltName=IP:127.0.0.1"
    pem = tmp_path / "both.pem"
    subprocess.run([*command.split(), "-keyout", pem, "-out", tmp_path / "c.pem"], check=True, capture_output=True)
    pem.write_bytes(pem.read_bytes() + (tmp_path / "c.pem").read_bytes())
    with serve(lambda h: reply(h, b"safe"), certificate=pem) as server:
        with pytest.raises(SourceError, match="certificate verify failed"), get(server.url, LOCAL):
            pass
        monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "c.pem"))
        with get(server.url, LOCAL) as answer:
            assert b"".join(answer.blocks(LIMIT)) == b"safe"
        with pytest.raises(SourceError, match="private network"), get(server.url, WebRules()):
            pass
    with (
        serve(lambda h: reply(h)) as plain,
        pytest.raises(SourceError, match="connection failed"),
        get(plain.url.replace("http:", "https:"), LOCAL),
    ):
        pass


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.mp4",
        "file:///etc/passwd",
        "http://",
        "http://a b/",
        "http://a/\n",
        "http://a:99999/",
        "http://[::1",
        "x" * 5000,
    ],
)
def test_what_is_no_web_address_is_refused(url: str) -> None:
    with pytest.raises(SourceError, match="not a web address"):
        checked_url(url)


def test_odd_characters_of_an_address_are_escaped() -> None:
    assert checked_url("https://bücher.example/ä b%20c?q=ü#part".replace(" ", "%20")) == (
        "https://xn--bcher-kva.example/%C3%A4%20b%20c?q=%C3%BC"
    )


def test_a_disk_that_takes_no_more_says_so(tmp_path: Path) -> None:
    """A real limit of the operating system, in a process of its own."""
    code = """
import resource, signal, sys
from pathlib import Path
from remind.curation.download import download
from remind.curation.web import WebRules
from remind.errors import SourceError
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    download(sys.argv[1], Path(sys.argv[2]), max_bytes=1 << 20, rules=WebRules(private_hosts=True))
except SourceError as error:
    print(error)
"""
    with serve(lambda h: reply(h, CONTENT)) as server:
        command = [sys.executable, "-c", code, server.url, str(tmp_path / "a.mp4")]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "cannot write the download" in done.stdout
    assert "File too large" in done.stdout
    assert not (tmp_path / "a.mp4").exists()
