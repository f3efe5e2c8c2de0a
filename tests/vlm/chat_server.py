"""A real HTTP server in a thread that speaks the chat completions protocol, well or badly."""

from __future__ import annotations

import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

Behave = Callable[[BaseHTTPRequestHandler], None]


@dataclass
class Seen:
    """What the server saw: requests in order, and how many were open at once."""

    url: str
    requests: list[tuple[str, dict[str, str], dict[str, object]]] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    open_now: int = 0
    most_open: int = 0


@contextmanager
def serving(*behaviours: Behave) -> Iterator[Seen]:
    """Answer the first request as the first behaviour says, and so on; the last one repeats."""
    lock, stop = threading.Lock(), threading.Event()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        stopped = stop

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            self.asked = body  # for behaviours that answer what was asked
            with lock:
                behave = behaviours[min(len(seen.requests), len(behaviours) - 1)]
                seen.requests.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                seen.times_s.append(time.monotonic())
                seen.open_now += 1
                seen.most_open = max(seen.most_open, seen.open_now)
            try:
                behave(self)
            except (BrokenPipeError, ConnectionResetError):
                pass
            finally:
                self.close_connection = True
                with lock:
                    seen.open_now -= 1

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen = Seen(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        server.shutdown()
        server.server_close()
        thread.join()


def completion(content: object, **changes: object) -> dict[str, object]:
    """A complete answer of the protocol, as vLLM sends it."""
    message = {"role": "assistant", "content": content, "refusal": None, "tool_calls": []}
    whole: dict[str, object] = {
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "served-model",
        "choices": [{"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 700, "completion_tokens": 90, "total_tokens": 790},
    }
    return whole | changes


def reply(body: object, *, status: int = 200, headers: dict[str, str] | None = None, pause_s: float = 0) -> Behave:
    """Answer with JSON, or with a text or bytes as they are."""
    data = body if isinstance(body, bytes) else body.encode() if isinstance(body, str) else json.dumps(body).encode()

    def behave(handler: BaseHTTPRequestHandler) -> None:
        time.sleep(pause_s)
        handler.send_response(status)
        for name, value in {"content-length": str(len(data)), **(headers or {})}.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(data)

    return behave


def say(content: object) -> Behave:
    return reply(completion(content))


def drip(status: int = 200, *, in_headers: bool = False, piece: bytes = b" ", every_s: float = 0.02) -> Behave:
    """Send a byte now and then, without end: each read succeeds, and the whole never does."""

    def behave(handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"HTTP/1.1 %d Fine\r\n" % status)
        handler.wfile.write(b"x-slow: " if in_headers else b"\r\n")
        while not handler.stopped.is_set():
            handler.wfile.write(piece)
            time.sleep(every_s)

    return behave


def silence(handler: BaseHTTPRequestHandler) -> None:
    """Read the request and never answer."""
    handler.stopped.wait(20)


def reset(handler: BaseHTTPRequestHandler) -> None:
    """Break the connection off in the middle of an answer, as a dying process does."""
    handler.wfile.write(b"HTTP/1.1 200 Fine\r\ncontent-length: 1000\r\n\r\n{")
    handler.wfile.flush()
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()
