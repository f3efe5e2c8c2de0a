"""HTTP GET with bounds: only http and https, redirects followed by hand, no silence and no exchange without an end."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
import urllib.error
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit
from urllib.request import AbstractHTTPHandler, OpenerDirector, ProxyHandler, Request

from remind.errors import SourceError

_BLOCK = 1 << 16
_MAX_REDIRECTS = 5
_MAX_URL = 4000
_ADDRESS = "http://... or https://... without a password"
_USER_AGENT = "remind-video (https://pypi.org/project/remind-video)"


@dataclass(frozen=True)
class WebRules:
    """What a request may do.

    Args:
        idle_s: longest silence, > 0.
        total_s: longest exchange from connecting to the last byte, > 0.
        private_hosts: allow loopback, link-local and private addresses. Off, a table from a stranger cannot make this
            machine ask the services of its own network. Behind a proxy (`http_proxy`), that is for the proxy to refuse.
        other_hosts: follow redirects to another host, port or from https to http.
    """

    idle_s: float = 30.0
    total_s: float = 3600.0
    private_hosts: bool = False
    other_hosts: bool = True


class LostConnection(SourceError):
    """The network failed; asking again may help."""


@dataclass(frozen=True)
class Reply:
    """An answer of any status, its body not yet read.

    Args:
        headers: by lower-case name.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    _response: http.client.HTTPResponse
    _stop_at: float

    def blocks(self, max_bytes: int) -> Iterator[bytes]:
        """The body as it comes.

        Raises:
            SourceError: more than `max_bytes`, declared or received.
            LostConnection: silence, an end before the declared one, or no end in time.
        """
        declared = self.headers.get("content-length", "")
        if declared.isdigit() and int(declared) > max_bytes:
            raise _too_large(self.url, f"{declared} bytes", max_bytes)
        received = 0
        while True:
            with _network_errors(self.url, self._stop_at):
                block = self._response.read1(_BLOCK)
            if time.monotonic() >= self._stop_at:  # the watchdog's end looks like an end of the body
                raise _too_slow(self.url)
            if not block:
                break
            received += len(block)
            if received > max_bytes:
                raise _too_large(self.url, f"more than {max_bytes} bytes and no end", max_bytes)
            yield block
        if declared.isdigit() and received < int(declared):
            raise LostConnection(
                "the connection broke", got=f"{received} of {declared} bytes of {shown(self.url)}", fix="try again"
            )


@contextmanager
def get(url: str, rules: WebRules, headers: Mapping[str, str] | None = None) -> Iterator[Reply]:
    """Ask for `url`; the reply is open inside the `with` block.

    Args:
        url: untrusted text.
        headers: sent to the first host only.

    Raises:
        SourceError: no http(s) address, an address in a private network, a redirect that the rules forbid.
        LostConnection: a network that fails.
    """
    stop_at = time.monotonic() + rules.total_s
    sent = {"User-Agent": _USER_AGENT, "Accept-Encoding": "identity", **(headers or {})}
    address, first = checked_url(url), url
    for _ in range(_MAX_REDIRECTS + 1):
        with ExitStack() as stack:
            with _network_errors(address, stop_at):  # not around the yield: what the reader does is another matter
                response = stack.enter_context(_ask(address, sent, rules, stop_at))
            received = {name.lower(): value for name, value in response.headers.items()}
            if response.status not in (301, 302, 303, 307, 308):
                yield Reply(address, response.status, received, response, stop_at)
                return
            target = _target(address, received.get("location", ""), rules)
        if _origin(target) != _origin(address):
            sent = {name: sent[name] for name in ("User-Agent", "Accept-Encoding", "Range", "If-Range") if name in sent}
        address = target
    raise SourceError("redirected too often", got=shown(first), expected=f"at most {_MAX_REDIRECTS} redirects")


def checked_url(url: str) -> str:
    """An http(s) address with its odd characters escaped.

    Raises:
        SourceError: another scheme, no host, a name and password inside, control characters, or too long.
    """
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
        host = host.encode("idna").decode() if host and not host.isascii() else host
    except (ValueError, UnicodeError) as error:
        raise SourceError("not a web address", got=f"{url[:200]!r}: {error}", expected=_ADDRESS) from None
    bad = len(url) > _MAX_URL or any(ord(c) < 33 or ord(c) == 127 for c in url)
    if bad or parts.scheme not in ("http", "https") or not host or "@" in parts.netloc:
        raise SourceError("not a web address", got=repr(url[:200]), expected=_ADDRESS)
    where = f"[{host}]" if ":" in host else host
    keep = "/%:@!$&'()*+,;=~?-._[]"
    return urlunsplit(
        (
            parts.scheme,
            where if port is None else f"{where}:{port}",
            quote(parts.path or "/", safe=keep, errors="replace"),
            quote(parts.query, safe=keep, errors="replace"),
            "",
        )
    )


def shown(url: str) -> str:
    """An address as messages show it: short, and without its query, which may hold a secret."""
    return url.split("?")[0][:200]


def _target(address: str, location: str, rules: WebRules) -> str:
    if not location:
        raise SourceError("redirected to nowhere", got=shown(address))
    target = checked_url(urljoin(address, location))
    if not rules.other_hosts and _origin(target) != _origin(address):
        raise SourceError("redirected to another host", got=shown(target), expected=_origin(address))
    return target


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


@contextmanager
def _ask(url: str, headers: Mapping[str, str], rules: WebRules, stop_at: float) -> Iterator[http.client.HTTPResponse]:
    watchdog = _Watchdog(stop_at)
    opener = OpenerDirector()  # with no handler for file:, ftp: or data:, and none that follows redirects
    for handler in (ProxyHandler(), _Handler(rules, watchdog)):
        opener.add_handler(handler)
    try:
        request = Request(url, headers=dict(headers))
        with opener.open(request, timeout=rules.idle_s) as response:
            yield response
    finally:
        watchdog.cancel()


class _Watchdog:
    """Shuts sockets down when time is up: a server that sends a byte now and then outlives every other timeout."""

    def __init__(self, stop_at: float):
        self._timer = threading.Timer(max(0.0, stop_at - time.monotonic()), self._shut)
        self._timer.daemon = True
        self._sockets: list[socket.socket] = []
        self._timer.start()

    def watch(self, sock: socket.socket) -> None:
        self._sockets.append(sock.dup())  # TLS takes the original over before it shakes hands

    def cancel(self) -> None:
        self._timer.cancel()
        for sock in self._sockets:
            sock.close()

    def _shut(self) -> None:
        for sock in self._sockets:
            with suppress(OSError):  # already closed
                sock.shutdown(socket.SHUT_RDWR)


class _Handler(AbstractHTTPHandler):
    """Opens http and https over connections that are watched and, without a proxy, checked for where they lead."""

    def __init__(self, rules: WebRules, watchdog: _Watchdog):
        super().__init__()
        self._rules, self._watchdog = rules, watchdog

    def http_open(self, request: Request) -> http.client.HTTPResponse:
        return self._open(request, http.client.HTTPConnection)

    def https_open(self, request: Request) -> http.client.HTTPResponse:
        return self._open(request, http.client.HTTPSConnection, context=ssl.create_default_context())

    def _open(self, request: Request, kind: Any, **arguments: Any) -> http.client.HTTPResponse:
        proxied = request.has_proxy() or getattr(request, "_tunnel_host", None)
        check = not self._rules.private_hosts and not proxied
        watchdog = self._watchdog

        def connect(*address: Any, **options: Any) -> socket.socket:
            sock = socket.create_connection(*address, **options)
            watchdog.watch(sock)
            if check:
                _refuse_private(sock)
            return sock

        class Connection(kind):  # type: ignore[misc]
            def connect(self) -> None:
                self._create_connection = connect  # before TLS, so that nothing at all is said to a private host
                super().connect()

        return self.do_open(Connection, request, **arguments)  # type: ignore[return-value]

    http_request = https_request = AbstractHTTPHandler.do_request_


def _refuse_private(sock: socket.socket) -> None:
    """Look at the address that was reached, not at the name: a name can mean another address each time."""
    address = ipaddress.ip_address(sock.getpeername()[0].split("%")[0])
    if not (getattr(address, "ipv4_mapped", None) or address).is_global:
        sock.close()
        raise SourceError(
            "the address leads into a private network",
            got=address,
            expected="a public host",
            fix="allow private hosts if you trust where the address comes from",
        )


@contextmanager
def _network_errors(url: str, stop_at: float) -> Iterator[None]:
    try:
        yield
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        if time.monotonic() >= stop_at:
            raise _too_slow(url) from None
        reason = getattr(error, "reason", None) or error
        said = "no answer in time" if isinstance(reason, TimeoutError) else str(reason) or type(reason).__name__
        raise LostConnection("the connection failed", got=f"{shown(url)}: {said}", fix="try again") from None


def _too_slow(url: str) -> LostConnection:
    return LostConnection("the server takes too long", got=shown(url), fix="try again, or raise the time limit")


def _too_large(url: str, got: str, max_bytes: int) -> SourceError:
    return SourceError(
        "the server sends too much",
        got=f"{shown(url)}: {got}",
        expected=f"at most {max_bytes} bytes",
        fix="leave it out or raise the limit",
    )
