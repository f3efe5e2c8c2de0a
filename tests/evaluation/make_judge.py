"""A judge behind a real server that answers by what it is asked, well or badly."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler

from remind.evaluation.stevo_questions import CHECKLIST
from remind.vlm import OpenAICompatibleVLM, RequestLimits
from tests.vlm.chat_server import Seen, completion, reply, serving

QUICK = RequestLimits(connect_s=2.0, attempt_s=10.0, total_s=20.0, max_attempts=1, backoff_s=0.01)
Says = Callable[[str, int], "str | int"]
"""From the question and the number of the request, from 0, to words, or to an HTTP status."""


@contextmanager
def judging(says: Says) -> Iterator[Seen]:
    """A server whose replies depend on the question."""
    lock, count = threading.Lock(), [0]

    def behave(handler: BaseHTTPRequestHandler) -> None:
        with lock:
            number = count[0]
            count[0] += 1
        said = says(handler.asked["messages"][0]["content"][-1]["text"], number)  # type: ignore[attr-defined]
        answer = reply(completion(said)) if isinstance(said, str) else reply({"error": "no"}, status=said)
        answer(handler)

    with serving(behave) as seen:
        yield seen


def client(seen: Seen) -> OpenAICompatibleVLM:
    """Of such a server; it asks once, so that failures are quick."""
    return OpenAICompatibleVLM(seen.url, "some-judge", limits=QUICK)


def approves(prompt: str, number: int) -> str:
    """The judge of STEVO-Bench that likes everything."""
    if "Process:" in prompt:
        return "It goes on.\nProcess: the water rises"
    if "VERDICT" in prompt:
        return "VERDICT: Yes\nEXPLANATION: it rose"
    if '"artifact"' in prompt:
        return json.dumps({"artifact": False, "notes": ""})
    if '"coherence"' in prompt:
        return json.dumps({**dict.fromkeys(CHECKLIST, False), "coherence": True})
    return json.dumps({"occlusion_done": True} if "occlusion_done" in prompt else {"trigger_applied": True})
