"""A vision-language model behind an OpenAI-compatible server (vLLM, SGLang, llama.cpp, hosted ones).

Source: the chat completions protocol with the `video_url` content part of vLLM; limits and retries are our choice. HTTP
goes through httpx2, the transport of the `openai` package, and not through that package: it reads a key and more from
the environment, reads error pages without a bound, and draws its jitter from a generator that cannot be seeded.
"""

from __future__ import annotations

import email.utils
import hashlib
import importlib.util
import json
import logging
import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any
from urllib.parse import urlsplit

from remind.errors import InputError
from remind.vlm.chat_protocol import EXCERPT, chat_request, read_completion
from remind.vlm.interface import (
    Reply,
    Sampling,
    Usage,
    VLMMalformed,
    VLMRejected,
    VLMTimeout,
    VLMUnavailable,
    hash_of_prompt,
    only_json_object,
)

logger = logging.getLogger(__name__)

_RETRIED_STATUS = frozenset({408, 409, 429})  # and every 5xx
_HIDDEN = "[api key]"
_MIN_SECRET = 8  # shorter keys, such as vLLM's customary EMPTY, are no secrets and would blot out ordinary words


@dataclass(frozen=True)
class RequestLimits:
    """How long, how often, how much at once and how large.

    Our choice: a window of 5 s takes a server seconds, not minutes. A connection that fails or an overloaded server is
    tried again; an attempt that runs out of time is not, since the server may still be working on it.

    Args:
        connect_s: to establish a connection.
        attempt_s: wall clock of one attempt, from connecting to the last byte, however slowly bytes drip in.
        total_s: wall clock of a question, with all attempts and pauses; waiting for a free slot is not counted.
        max_attempts: 1 for no retries.
        backoff_s: pause after the first failed attempt, doubled after each further one, times 0.5..1.5 at random.
        max_backoff_s: longest such pause; a longer `Retry-After` of the server is respected.
        max_concurrent: questions under way at a time, over all threads that share the client.
        max_reply_bytes: of a reply's body.
        max_media_bytes: of video and pictures together, before base64 makes them a third larger.
    """

    connect_s: float = 10.0
    attempt_s: float = 180.0
    total_s: float = 600.0
    max_attempts: int = 5
    backoff_s: float = 1.0
    max_backoff_s: float = 60.0
    max_concurrent: int = 8
    max_reply_bytes: int = 1 << 20
    max_media_bytes: int = 64 << 20

    def __post_init__(self) -> None:
        for field in fields(self):
            if not 0 < (value := getattr(self, field.name)) < float("inf"):
                raise InputError("a limit must be a positive number", got=f"{field.name} = {value}")


class OpenAICompatibleVLM:
    """Asks a model that a server runs; may be shared by threads, and sent to other processes.

    Args:
        base_url: of the API, `http://localhost:8000/v1` for vLLM.
        model: its name on the server.
        api_key: sent as a bearer token; never logged, never in an error, a reply or a record.
        max_tokens: longest reply.
        limits: of time, number and size.

    Raises:
        InputError: a URL or a key that cannot be used, or httpx2 is not installed.
    """

    def __init__(
        self,
        base_url: str,
        model: str,
        api_key: str | None = None,
        *,
        max_tokens: int = 1024,
        limits: RequestLimits | None = None,
    ) -> None:
        if importlib.util.find_spec("httpx2") is None:
            raise InputError("VLM servers are asked through httpx2", fix="pip install 'remind-video[data]'")
        self.base_url, self.model, self.max_tokens = _checked_url(base_url), model, max_tokens
        self.limits = limits or RequestLimits()
        if api_key is not None and not (api_key.isascii() and api_key.isprintable() and api_key.split() == [api_key]):
            raise InputError("the API key holds characters that no key has", expected="printable ASCII without spaces")
        self._api_key = api_key
        self._slots = threading.BoundedSemaphore(self.limits.max_concurrent)

    def __repr__(self) -> str:
        return f"OpenAICompatibleVLM({self.base_url!r}, {self.model!r})"

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "_slots"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._slots = threading.BoundedSemaphore(self.limits.max_concurrent)

    def ask(
        self,
        video_mp4: bytes | None,
        images: Sequence[bytes],
        prompt: str,
        schema: Mapping[str, Any] | None = None,
        *,
        sampling: Sampling | None = None,
    ) -> Reply:
        """See `VLM.ask`.

        Raises:
            InputError: media that are of the wrong kind or too large.
            VLMError: no usable reply; see its subclasses.
        """
        size, most = len(video_mp4 or b"") + sum(map(len, images)), self.limits.max_media_bytes
        if size > most:
            raise InputError("too much to show to the VLM", got=f"{size} bytes", expected=f"at most {most} bytes")
        request = chat_request(self.model, video_mp4, images, prompt, schema, max_tokens=self.max_tokens,
                               sampling=sampling)  # fmt: skip
        body = json.dumps(request).encode()
        with self._slots:
            started = time.monotonic()
            page = self._post_with_retries(body)
            latency_s = time.monotonic() - started
        completion = read_completion(page)
        text = completion.text(page)
        return Reply(
            text=text,
            parsed=None if schema is None else only_json_object(text),
            model=completion.model,
            prompt_hash=hash_of_prompt(prompt, schema),
            usage=None if completion.usage is None else Usage(**completion.usage.model_dump()),
            latency_s=latency_s,
            raw=page,
        )

    def _post_with_retries(self, body: bytes) -> str:
        """The page that answers a request.

        The pauses are a function of the request alone: clips that fail together come back at different times, and a run
        can be repeated.
        """
        limits, jitter = self.limits, random.Random(hashlib.sha256(body).digest())
        deadline = time.monotonic() + limits.total_s
        for attempt in range(1, limits.max_attempts + 1):
            try:
                return self._post(body, min(limits.attempt_s, deadline - time.monotonic()))
            except _TryAgain as failed:
                pause_s = min(limits.backoff_s * 2.0 ** (attempt - 1) * jitter.uniform(0.5, 1.5), limits.max_backoff_s)
                pause_s = max(pause_s, failed.retry_after_s)
                late = time.monotonic() + pause_s >= deadline
                if attempt == limits.max_attempts or late:
                    asked = f"; the server asks for a pause of {pause_s:.0f} s" if failed.retry_after_s else ""
                    raise VLMUnavailable(
                        f"the VLM server at {self.base_url} does not answer",
                        got=f"{failed.why}, {attempt} attempts{asked}",
                        fix="check that it runs and is not overloaded, then retry",
                    ) from None
                logger.warning("VLM: %s; attempt %d follows in %.1f s", failed.why, attempt + 1, pause_s)
            time.sleep(pause_s)
        raise AssertionError("max_attempts is at least 1")

    def _post(self, body: bytes, seconds: float) -> str:
        """One attempt.

        Raises:
            _TryAgain, VLMTimeout, VLMRejected, VLMMalformed: see there.
        """
        import httpx2
        from anyio.from_thread import start_blocking_portal

        try:
            # A loop of its own in a thread of its own: it can be cut off at any byte, and it works under a running
            # loop (notebooks) and after a fork.
            with start_blocking_portal() as portal:
                status, retry_after, content = portal.call(self._exchange, body, max(seconds, 0.001))
        except (httpx2.ConnectTimeout, httpx2.PoolTimeout) as error:
            raise _TryAgain(f"no connection within {self.limits.connect_s:g} s") from error
        except (TimeoutError, httpx2.TimeoutException):
            raise VLMTimeout(
                f"the VLM at {self.base_url} did not finish its reply",
                got=f"nothing complete within {seconds:.1f} s",
                fix="raise attempt_s, or lower max_concurrent or the video's size",
            ) from None
        except httpx2.TransportError as error:
            raise _TryAgain(self._without_key(f"{type(error).__name__}: {error}")[:EXCERPT]) from error
        page = self._without_key(content.decode(errors="replace"))
        excerpt = " ".join(page[:EXCERPT].split())
        if status in _RETRIED_STATUS or status >= 500:
            raise _TryAgain(f"HTTP {status}: {excerpt}", _seconds(retry_after))
        if not 200 <= status < 300:
            raise VLMRejected(
                f"the VLM server at {self.base_url} rejects the request",
                got=f"HTTP {status}: {excerpt}",
                fix="check URL, model name, API key and the server's limits for video",
            )
        if len(content) > self.limits.max_reply_bytes:
            raise VLMMalformed(
                "the VLM's reply is too large", raw=page[:EXCERPT], expected=f"<= {self.limits.max_reply_bytes} bytes"
            )
        return page

    async def _exchange(self, body: bytes, seconds: float) -> tuple[int, str, bytes]:
        """Status, `Retry-After` and body, of which no more is read than the limit and one piece."""
        import anyio
        import httpx2

        headers = {"content-type": "application/json", "accept-encoding": "identity"}  # nothing that could unfold
        if self._api_key is not None:
            headers["authorization"] = f"Bearer {self._api_key}"
        timeout = httpx2.Timeout(seconds, connect=min(self.limits.connect_s, seconds))
        content = bytearray()
        tls = self.base_url.startswith("https:")  # reading certificates takes longer than asking a local server
        with anyio.fail_after(seconds):
            async with (
                httpx2.AsyncClient(timeout=timeout, headers=headers, verify=tls) as http,
                http.stream("POST", f"{self.base_url}/chat/completions", content=body) as response,
            ):
                async for piece in response.aiter_raw():
                    content += piece
                    if len(content) > self.limits.max_reply_bytes:
                        break
        return response.status_code, response.headers.get("retry-after", ""), bytes(content)

    def _without_key(self, text: str) -> str:
        """A server's words; some repeat the key that they were sent."""
        if self._api_key is None or len(self._api_key) < _MIN_SECRET:
            return text
        return text.replace(self._api_key, _HIDDEN)


class _TryAgain(Exception):
    """An attempt failed in a way that may pass."""

    def __init__(self, why: str, retry_after_s: float = 0.0):
        super().__init__(why)
        self.why, self.retry_after_s = why, retry_after_s


def _checked_url(base_url: str) -> str:
    parts = urlsplit(base_url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise InputError("no base URL of an API", got=base_url.split("@")[-1], expected="like http://localhost:8000/v1")
    if "@" in parts.netloc:
        raise InputError("the base URL holds a user name or password", fix="give the key as api_key: URLs are recorded")
    return base_url.rstrip("/")


def _seconds(retry_after: str) -> float:
    """`Retry-After` as seconds from now, which HTTP gives as a number or as a date; 0 if absent or unreadable."""
    try:
        return max(float(int(retry_after)), 0.0)
    except ValueError:
        pass
    try:
        return max(email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    except (ValueError, OverflowError):
        return 0.0
