from __future__ import annotations

import base64
import email.utils
import gzip
import io
import logging
import pickle
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from PIL import Image

from remind.data.video_io import encode_mp4
from remind.errors import InputError
from remind.vlm import (
    OpenAICompatibleVLM,
    RequestLimits,
    Sampling,
    Usage,
    VLMMalformed,
    VLMRefused,
    VLMRejected,
    VLMTimeout,
    VLMUnavailable,
)
from tests.data.make_video import moving_square
from tests.vlm.chat_server import completion, drip, reply, reset, say, serving, silence

MP4 = encode_mp4(moving_square(9), 16)
KEY = "sk-secret-0123456789"
QUICK = RequestLimits(connect_s=2.0, attempt_s=5.0, total_s=10.0, max_attempts=3, backoff_s=0.01)
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}


def client(url: str, limits: RequestLimits = QUICK, key: str | None = KEY) -> OpenAICompatibleVLM:
    return OpenAICompatibleVLM(url, "some-model", key, max_tokens=50, limits=limits)


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    return buffer.getvalue()


def test_a_good_reply_is_returned_with_all_that_provenance_needs() -> None:
    with serving(say('{"a": 1}')) as server:
        answer = client(server.url).ask(MP4, [], "how many?", SCHEMA)
    assert (answer.text, answer.parsed, answer.model) == ('{"a": 1}', {"a": 1}, "served-model")
    assert answer.usage == Usage(700, 90)
    assert '"chatcmpl-1"' in answer.raw
    assert 0 < answer.latency_s < 5


def test_the_request_is_what_the_protocol_asks_for() -> None:
    picture = png()
    with serving(say("x")) as server:
        client(server.url + "/").ask(MP4, [picture], "how many?", SCHEMA)
        client(server.url, key=None).ask(None, [], "how many?")
    (path, headers, body), (_, plain_headers, plain) = server.requests
    assert path == "/v1/chat/completions"
    assert headers["authorization"] == f"Bearer {KEY}"
    assert headers["content-type"] == "application/json"
    assert body == {
        "model": "some-model",
        "messages": [{"role": "user", "content": [
            {"type": "video_url",
             "video_url": {"url": "data:video/mp4;base64," + base64.b64encode(MP4).decode()}},
            {"type": "image_url",
             "image_url": {"url": "data:image/png;base64," + base64.b64encode(picture).decode()}},
            {"type": "text", "text": "how many?"},
        ]}],
        "max_tokens": 50,
        "temperature": 0.0,
        "response_format": {"type": "json_schema",
                            "json_schema": {"name": "reply", "schema": SCHEMA, "strict": True}},
    }
    assert "authorization" not in plain_headers
    assert "response_format" not in plain
    assert plain["messages"] == [{"role": "user", "content": [{"type": "text", "text": "how many?"}]}]


@pytest.mark.parametrize(("page", "says"), [
    ("<html><body>Sign in</body></html>", "no chat completion"),
    ("", "no chat completion"),
    ([1, 2], "no chat completion"),
    ({"choices": []}, "no chat completion"),
    ({"error": {"message": "no"}}, "no chat completion"),
    (completion({"not": "text"}), "no chat completion"),
    (completion("x", model=7), "no chat completion"),
    (completion("x", usage={"prompt_tokens": -1, "completion_tokens": 0}), "no chat completion"),
    (completion("\ud800"), "no chat completion"),  # half a character, which no file could hold
    (b'{"model": "\xff\xfe"}', "no chat completion"),
    ("[" * 100_000, "no chat completion"),
    (completion(None), "empty"),
    (completion(""), "empty"),
    (completion("", choices=[{"message": {"content": '{"a": '}, "finish_reason": "length"}]), "cut off"),
])
def test_what_is_no_reply_is_malformed_and_kept(page: object, says: str) -> None:
    with serving(reply(page)) as server, pytest.raises(VLMMalformed, match=says) as caught:
        client(server.url).ask(MP4, [], "?")
    assert len(server.requests) == 1
    assert not caught.value.transient
    if page:
        assert caught.value.raw
    assert len(str(caught.value)) < 1000


def test_a_missing_count_of_tokens_is_unknown_not_zero() -> None:
    with serving(reply(completion("x", usage=None))) as server:
        assert client(server.url).ask(None, [], "?").usage is None


@pytest.mark.parametrize("choice", [
    {"message": {"content": None, "refusal": "I cannot help with that."}, "finish_reason": "stop"},
    {"message": {"content": "Sorr"}, "finish_reason": "content_filter"},
])
def test_a_refusal_is_told_apart(choice: dict[str, object]) -> None:
    with serving(reply(completion("", choices=[choice]))) as server, pytest.raises(VLMRefused) as caught:
        client(server.url).ask(MP4, [], "?")
    assert (len(server.requests), caught.value.transient) == (1, False)


@pytest.mark.parametrize("status", [301, 400, 401, 404, 413, 422])
def test_a_rejected_request_is_not_repeated(status: int) -> None:
    page = reply({"error": {"message": f"bad key {KEY}"}}, status=status, headers={"location": "http://127.0.0.1:1/"})
    with serving(page) as server, pytest.raises(VLMRejected, match=f"HTTP {status}") as caught:
        client(server.url).ask(MP4, [], "?")
    assert len(server.requests) == 1
    assert KEY not in str(caught.value)


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 529])
def test_trouble_that_may_pass_is_retried(status: int) -> None:
    with serving(reply("busy", status=status), reply("busy", status=status), say("fine")) as server:
        assert client(server.url).ask(MP4, [], "?").text == "fine"
    assert len(server.requests) == 3


@pytest.mark.parametrize("in_seconds", [True, False])
def test_retry_after_is_respected(in_seconds: bool) -> None:
    header = "1" if in_seconds else email.utils.formatdate(time.time() + 2, usegmt=True)
    with serving(reply("slow down", status=429, headers={"retry-after": header}), say("fine")) as server:
        assert client(server.url).ask(MP4, [], "?").text == "fine"
    first, second = server.times_s
    assert second - first >= 0.9


@pytest.mark.parametrize("header", ["soon", "-5", "1e3", "", "nan"])
def test_an_unreadable_retry_after_is_no_pause(header: str) -> None:
    with serving(reply("no", status=503, headers={"retry-after": header}), say("fine")) as server:
        assert client(server.url).ask(None, [], "?").text == "fine"
    assert server.times_s[1] - server.times_s[0] < 1


def test_a_pause_longer_than_there_is_time_ends_at_once() -> None:
    started = time.monotonic()
    busy = reply("no", status=429, headers={"retry-after": "3600"})
    with serving(busy) as server, pytest.raises(VLMUnavailable, match="pause of 3600 s"):
        client(server.url).ask(MP4, [], "?")
    assert len(server.requests) == 1
    assert time.monotonic() - started < 3


def test_failures_for_ever_end_after_the_last_attempt() -> None:
    down = reply("down", status=500)
    with serving(down) as server, pytest.raises(VLMUnavailable, match=r"HTTP 500: down, 3 attempts") as caught:
        client(server.url).ask(MP4, [], "?")
    assert (len(server.requests), caught.value.transient) == (3, True)


def test_a_reset_connection_is_retried_and_then_unavailable() -> None:
    with serving(reset, say("fine")) as server:
        assert client(server.url).ask(MP4, [], "?").text == "fine"
    with serving(reset) as server, pytest.raises(VLMUnavailable, match="3 attempts"):
        client(server.url).ask(MP4, [], "?")


def test_nobody_listens() -> None:
    with serving(say("x")) as server:
        pass
    with pytest.raises(VLMUnavailable, match="ConnectError"):
        client(server.url).ask(MP4, [], "?")


@pytest.mark.parametrize("behave", [
    silence, drip(), drip(500), drip(in_headers=True), reply(completion("late"), pause_s=3),
])
def test_no_server_holds_a_caller_longer_than_agreed(behave: object) -> None:
    """Every byte of a drip arrives in time, so only a bound on the whole attempt ends it."""
    limits = RequestLimits(attempt_s=0.4, total_s=5.0, max_attempts=3, backoff_s=0.01)
    with serving(behave) as server:
        started = time.monotonic()
        with pytest.raises(VLMTimeout) as caught:
            client(server.url, limits).ask(MP4, [], "?")
        assert 0.35 < time.monotonic() - started < 2
        assert len(server.requests) == 1
    assert caught.value.transient


def test_the_total_bounds_attempts_and_pauses_together() -> None:
    limits = RequestLimits(attempt_s=5.0, total_s=0.5, max_attempts=100, backoff_s=0.1)
    with serving(reply("down", status=500)) as server:
        started = time.monotonic()
        with pytest.raises(VLMUnavailable):
            client(server.url, limits).ask(MP4, [], "?")
    assert time.monotonic() - started < 2
    assert 1 < len(server.requests) < 20


@pytest.mark.parametrize("behave", [
    reply(b'{"model": "' + b"x" * 3_000_000 + b'"}'), drip(piece=b" " * 65536, every_s=0),
])
def test_a_huge_reply_is_not_read_to_its_end(behave: object) -> None:
    with serving(behave) as server, pytest.raises(VLMMalformed, match="too large") as caught:
        client(server.url, RequestLimits(attempt_s=10.0, max_reply_bytes=100_000)).ask(MP4, [], "?")
    assert len(caught.value.raw) < 1000


def test_a_huge_error_page_is_not_read_to_its_end_either() -> None:
    limits = RequestLimits(attempt_s=10.0, max_attempts=1, max_reply_bytes=100_000)
    with serving(drip(503, piece=b"x" * 65536, every_s=0)) as server, pytest.raises(VLMUnavailable, match="HTTP 503"):
        client(server.url, limits).ask(MP4, [], "?")


def test_a_compressed_bomb_stays_compressed() -> None:
    bomb = reply(gzip.compress(b" " * 200_000_000, compresslevel=1), headers={"content-encoding": "gzip"})
    with serving(bomb) as server, pytest.raises(VLMMalformed, match="no chat completion"):
        client(server.url, RequestLimits(max_reply_bytes=4_000_000)).ask(None, [], "?")


def test_no_more_questions_at_once_than_agreed() -> None:
    limits = RequestLimits(attempt_s=20.0, max_concurrent=2)
    with serving(reply(completion("x"), pause_s=0.15)) as server:
        vlm = client(server.url, limits)
        with ThreadPoolExecutor(6) as pool:
            list(pool.map(lambda i: vlm.ask(None, [], str(i)), range(6)))
    assert (server.most_open, len(server.requests)) == (2, 6)


def test_a_failed_question_gives_its_slot_back() -> None:
    with serving(reply("no", status=400), say("fine")) as server:
        vlm = client(server.url, RequestLimits(max_concurrent=1))
        with pytest.raises(VLMRejected):
            vlm.ask(None, [], "?")
        assert vlm.ask(None, [], "?").text == "fine"


def test_the_pauses_are_the_same_in_every_run_and_differ_between_clips(monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    # The test server sleeps for 0 s before it answers.
    monkeypatch.setattr("remind.vlm.server.time.sleep", lambda pause_s: pauses.append(pause_s) if pause_s else None)
    with serving(reply("down", status=500)) as server:
        for question in ("a", "a", "b"):
            with pytest.raises(VLMUnavailable):
                client(server.url).ask(None, [], question)
    assert pauses[:2] == pauses[2:4] != pauses[4:]
    assert 0.005 <= pauses[0] <= 0.015
    assert 0.01 <= pauses[1] <= 0.03


def test_the_key_shows_up_nowhere(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    echo = completion(f"your key is {KEY}")
    with serving(reply(f"key {KEY} is over its quota", status=429), reply(echo)) as server:
        vlm = client(server.url)
        answer = vlm.ask(MP4, [], "?")
    assert KEY not in repr(vlm) + repr(answer) + caplog.text
    assert "[api key]" in answer.raw
    assert "over its quota" in caplog.text


@pytest.mark.parametrize(("url", "says"), [
    ("localhost:8000/v1", "no base URL"), ("ftp://host/v1", "no base URL"), ("http:///v1", "no base URL"),
    ("http://host/v1?key=secret", "no base URL"), ("http://user:secret@host/v1", "user name or password"),
])
def test_urls_that_cannot_be_or_hold_secrets(url: str, says: str) -> None:
    with pytest.raises(InputError, match=says) as caught:
        OpenAICompatibleVLM(url, "m")
    assert "user" not in str(caught.value).replace("user name", "")


@pytest.mark.parametrize("key", ["two words", "line\nbreak", "", "schlüssel"])
def test_keys_that_cannot_be_sent_are_not_repeated_in_the_error(key: str) -> None:
    with pytest.raises(InputError, match="API key") as caught:
        OpenAICompatibleVLM("http://host/v1", "m", key)
    assert not key or key not in str(caught.value)


@pytest.mark.parametrize("limits", [{"attempt_s": 0.0}, {"total_s": float("nan")}, {"max_concurrent": 0},
                                    {"connect_s": float("inf")}, {"max_attempts": 0}])
def test_limits_must_limit(limits: dict[str, float]) -> None:
    with pytest.raises(InputError, match="positive"):
        RequestLimits(**limits)  # type: ignore[arg-type]


def test_too_much_media_and_wrong_media_are_refused_before_sending() -> None:
    with serving(say("x")) as server:
        vlm = client(server.url, RequestLimits(max_media_bytes=100))
        with pytest.raises(InputError, match="too much"):
            vlm.ask(MP4, [], "?")
        with pytest.raises(InputError, match="no mp4"):
            vlm.ask(b"<html>not a video</html>", [], "?")
        with pytest.raises(InputError, match="no known kind"):
            vlm.ask(None, [b"GIF89a"], "?")
    assert server.requests == []


def test_a_client_travels_to_other_processes() -> None:
    with serving(say("fine")) as server:
        vlm = pickle.loads(pickle.dumps(client(server.url)))
        assert vlm.ask(None, [], "?").text == "fine"
    assert server.requests[0][1]["authorization"] == f"Bearer {KEY}"


def test_it_works_under_a_running_event_loop_and_leaves_no_threads() -> None:
    import asyncio

    async def as_in_a_notebook(url: str) -> str:
        return client(url).ask(None, [], "?").text

    before = set(threading.enumerate())
    with serving(say("fine")) as server:
        assert asyncio.run(as_in_a_notebook(server.url)) == "fine"
    assert set(threading.enumerate()) <= before


def test_a_drawn_reply_has_its_temperature_and_seed() -> None:
    with serving(say("x")) as server:
        client(server.url).ask(None, [], "?", sampling=Sampling(0.7, 42))
        client(server.url).ask(None, [], "?")
    drawn, greedy = (body for _, _, body in server.requests)
    assert (drawn["temperature"], drawn["seed"]) == (0.7, 42)
    assert greedy["temperature"] == 0.0
    assert "seed" not in greedy
    for wrong in ((0.0, 1), (-1.0, 1), (float("nan"), 1), (0.7, -1)):
        with pytest.raises(InputError, match="no such sampling"):
            Sampling(*wrong)
