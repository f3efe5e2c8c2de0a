"""Asking a judge: every raw reply is kept under the hash of what was asked, for tracing a verdict and for replay.

    REPLIES/judge.json    which model answered
    REPLIES/HASH.json     one call: the question and its hash, the media's hashes, temperature and seed, the raw reply

A call that came to nothing is kept too if asking again would bring the same; trouble that may pass is not, so that the
next run asks again. `replay` answers from such a folder alone and never asks anyone.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import av

from remind.errors import InputError
from remind.evaluation.eval_run import Record, read_json, write_json
from remind.evaluation.found_videos import VideoProblem, sha256_of
from remind.inference.placement import Placement
from remind.vlm import (
    VLM,
    OpenAICompatibleVLM,
    Sampling,
    TransformersVLM,
    VLMError,
    VLMMalformed,
    VLMRefused,
    VLMRejected,
    VLMTimeout,
    VLMUnavailable,
    hash_of_prompt,
)
from remind.vlm.interface import only_json_object

FORMAT = "remind-judge-1"
FAILED = "failed_calls"
"""Score of a record: how many of its calls gave nothing that could be read."""
_KINDS = ((VLMTimeout, "timed out"), (VLMUnavailable, "unavailable"), (VLMRejected, "rejected"),
          (VLMRefused, "refused"), (VLMMalformed, "malformed"))  # fmt: skip


@dataclass(frozen=True)
class Question:
    """One call.

    Args:
        prompt: what is asked.
        media: names and sha256 of what is shown, in order; they stand for the bytes in the hash.
        video_mp4, images: the bytes; not needed for a replay.
        schema: that the reply should follow.
        sampling: None = greedy.
    """

    prompt: str
    media: tuple[str, ...]
    video_mp4: bytes | None = None
    images: tuple[bytes, ...] = ()
    schema: Mapping[str, Any] | None = None
    sampling: Sampling | None = None

    @property
    def prompt_hash(self) -> str:
        return hash_of_prompt(self.prompt, self.schema)

    @property
    def key(self) -> str:
        """Of everything that decides the reply but the model."""
        drawn = None if self.sampling is None else [self.sampling.temperature, self.sampling.seed]
        return hashlib.sha256(json.dumps([self.prompt_hash, self.media, drawn]).encode()).hexdigest()


@dataclass(frozen=True)
class Answer:
    """What came back.

    Args:
        text: what the judge said, or None if nothing usable came.
        failure: why not, one of few words: timed out, unavailable, rejected, refused, malformed, not shown (too large,
            or of a kind that the model does not take), not in the replay.
        key: of the call; the file that holds it.
    """

    text: str | None
    failure: str
    key: str

    @property
    def parsed(self) -> dict[str, Any] | None:
        """The one JSON object in the text, with or without words around it."""
        return None if self.text is None else only_json_object(self.text)


class Judge:
    """A vision-language model whose replies are kept; may be shared by threads.

    Args:
        replies: folder of the replies, made if missing.
        vlm: who is asked; None replays.

    Raises:
        InputError: a folder of another judge's replies, or none to replay.
    """

    def __init__(self, replies: Path, vlm: VLM | None):
        self.replies, self._vlm = replies, vlm
        self._answered, self._guard = threading.Event(), threading.Lock()
        self._turns: dict[str, threading.Lock] = {}
        known = replies / "judge.json"
        if vlm is None:
            self.model = str(self._known(known)["model"])
        elif known.exists():
            self.model = vlm.model
            if (there := self._known(known)["model"]) != vlm.model:
                raise InputError("the replies are another judge's", got=vlm.model, expected=there,
                                 fix="choose another --out")  # fmt: skip
        else:
            self.model = vlm.model
            write_json(known, {"format": FORMAT, "model": vlm.model})

    def ask(self, question: Question) -> Answer:
        """The reply, from the folder or from the model.

        Raises:
            VLMError: nobody answers at all: the first call already found no server, or one that takes no such request.
            InputError: a reply that cannot be written.
        """
        with self._guard:
            turn = self._turns.setdefault(question.key, threading.Lock())
        with turn:  # two equal videos are asked about once
            return self._ask(question)

    def _ask(self, question: Question) -> Answer:
        path = self.replies / f"{question.key}.json"
        if path.exists():
            kept = read_json(path)
            text = kept.get("text")
            return Answer(text if isinstance(text, str) else None, str(kept.get("failure", "")), question.key)
        if self._vlm is None:
            return Answer(None, "not in the replay", question.key)
        text, failure, raw = None, "", ""
        try:
            reply = self._vlm.ask(question.video_mp4, question.images, question.prompt, question.schema,
                                  sampling=question.sampling)  # fmt: skip
            text, raw = reply.text, reply.raw
        except VLMError as error:
            if not self._answered.is_set() and isinstance(error, VLMUnavailable | VLMRejected):
                raise
            failure = next(name for kind, name in _KINDS if isinstance(error, kind))
            raw = error.raw if isinstance(error, VLMMalformed) else str(error)
            if error.transient:
                return Answer(None, failure, question.key)
        except InputError:  # a video that is too large to be sent, or that the model cannot open
            return Answer(None, "not shown", question.key)
        self._answered.set()
        drawn = question.sampling
        write_json(path, {
            "format": FORMAT, "model": self.model, "prompt_hash": question.prompt_hash, "prompt": question.prompt,
            "schema": question.schema, "media": list(question.media), "text": text, "failure": failure, "raw": raw,
            "temperature": 0.0 if drawn is None else drawn.temperature, "seed": None if drawn is None else drawn.seed,
        })  # fmt: skip
        return Answer(text, failure, question.key)

    @staticmethod
    def _known(path: Path) -> dict[str, Any]:
        if not path.exists():
            raise InputError("no judge's replies are there", got=path.parent,
                             expected="judge.json, as a judged run writes it in RUN/replies")  # fmt: skip
        known = read_json(path)
        if known.get("format") != FORMAT or not isinstance(known.get("model"), str):
            raise InputError("these are no judge's replies", got=path, expected=FORMAT)
        return known


def check_judge(where: str, model: str) -> None:
    """Refuse a judge that nobody can ask, before anything is written or loaded.

    Raises:
        InputError: a URL that is none, or without a model's name.
    """
    if _is_url(where):
        if not model:
            raise InputError("a server may hold several models", got="a judge's URL alone", fix="add --judge-model")
        OpenAICompatibleVLM(where, model)


def _is_url(where: str) -> bool:
    return "://" in where


def open_judge(where: str, model: str, replies: Path, *, device: str = "auto") -> Judge:
    """A judge by what a user says.

    Args:
        where: URL of an OpenAI-compatible server, or the folder of a Qwen3-VL checkpoint. A server's key is read from
            REMIND_VLM_API_KEY.
        model: its name on the server; not needed for a folder.
        replies: where its replies go.
        device: of a model that runs here.

    Raises:
        InputError, CheckpointError: a server without a model's name, or no model there.
    """
    check_judge(where, model)
    if _is_url(where):
        return Judge(replies, OpenAICompatibleVLM(where, model, os.environ.get("REMIND_VLM_API_KEY")))
    return Judge(replies, TransformersVLM(where, device=Placement(device).target))


def replayed(folder: Path) -> Judge:
    """A judge that only repeats what it said before: from a folder of replies, or from the run that holds one."""
    inside = folder / "replies"
    return Judge(inside if inside.is_dir() else folder, None)


def blind_mp4(path: Path) -> bytes:
    """A video as the judge sees it: the same pictures, without titles, comments and names; packets are copied.

    Raises:
        VideoProblem: a file that is no whole video.
    """
    out = io.BytesIO()
    try:
        with av.open(str(path)) as source, av.open(out, "w", format="mp4") as target:
            stream = source.streams.video[0]
            copied = target.add_stream_from_template(stream)
            copied.metadata.clear()
            for packet in source.demux(stream):
                if packet.dts is not None:
                    packet.stream = copied
                    target.mux(packet)
    except (av.FFmpegError, OSError, IndexError, ValueError) as error:
        raise VideoProblem("truncated or damaged", got=f"{path.name}: {error}", expected="a whole video") from None
    return out.getvalue()


def needs_judging(record: Record | None, video: Path, *, retry: bool) -> bool:
    """Whether there is something to do for an example: no record, another video by now, or with `retry` a failure."""
    if record is None:
        return True
    there, judged = video.is_file(), record.about.get("sha256")
    if (there and judged is None and record.reason in ("missing", "not generated")) or (judged and not there):
        return True
    if there and judged and sha256_of(video) != judged:
        return True
    return retry and (record.status == "failed" or bool(record.scores.get(FAILED)))


def trials(media: Sequence[str], count: int, temperature: float, seed: int) -> list[Sampling]:
    """How the calls about one video are drawn: a function of seed, video and index, the same in every order and run."""
    first = int.from_bytes(hashlib.sha256(json.dumps([seed, list(media)]).encode()).digest()[:4], "big") % 2**30
    return [Sampling(temperature, first + index) for index in range(count)]


_Item = TypeVar("_Item")


def at_once(judged: Callable[[_Item], None], items: Sequence[_Item], workers: int) -> None:
    """Judge several items at a time, since nearly all of it is waiting. The first error ends it, and what has not begun
    does not begin.

    Args:
        workers: most at a time; fewer than 1 counts as 1.
    """
    with ThreadPoolExecutor(max(workers, 1)) as pool:
        futures = [pool.submit(judged, item) for item in items]
        try:
            for future in futures:
                future.result()
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
