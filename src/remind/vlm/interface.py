"""What every vision-language model is asked and answers, and the ways in which it does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, NoReturn, Protocol, runtime_checkable

from remind.errors import InputError, RemindError


class VLMError(RemindError):
    """No usable reply. `transient` says whether the same question may be answered later."""

    transient: ClassVar[bool] = False


class VLMUnavailable(VLMError):
    """The server cannot be reached, is overloaded or fails, also after every retry."""

    transient = True


class VLMTimeout(VLMUnavailable):
    """The reply was not complete in time."""


class VLMRejected(VLMError):
    """The server does not take the request: a wrong key, an unknown model, too long a video."""


class VLMRefused(VLMError):
    """The model or its content filter declines to answer."""


class VLMMalformed(VLMError):
    """What came back is no reply of the protocol, is too long or was cut off.

    Args:
        raw: what came back, as far as it was read.
    """

    def __init__(self, what: str, *, raw: str, got: object = None, expected: object = None, fix: str | None = None):
        super().__init__(what, got=got, expected=expected, fix=fix)
        self.raw = raw


@dataclass(frozen=True)
class Usage:
    """Tokens that a reply cost, as counted by whoever ran the model."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True)
class Reply:
    """A complete reply of a vision-language model.

    Args:
        text: what the model said.
        parsed: the JSON object in `text` if a schema was given and there is exactly one, else None. It is *not* yet
            checked against the schema: whoever asks validates.
        model: which model says it answered.
        prompt_hash: see `hash_of_prompt`.
        usage: None where it is not told.
        latency_s: wall clock from the first attempt on, retries included.
        raw: all that came back, for provenance.
    """

    text: str
    parsed: dict[str, Any] | None
    model: str
    prompt_hash: str
    usage: Usage | None
    latency_s: float
    raw: str


@dataclass(frozen=True)
class Sampling:
    """How a reply is drawn where it is not to be the likeliest one.

    Args:
        temperature: > 0; 1 draws from what the model believes.
        seed: of the draw, >= 0. This process keeps it; a server may or may not.
    """

    temperature: float
    seed: int

    def __post_init__(self) -> None:
        if not (0 < self.temperature <= 2 and 0 <= self.seed < 2**31):
            raise InputError("no such sampling", got=self, expected="0 < temperature <= 2, 0 <= seed < 2^31")


@runtime_checkable
class VLM(Protocol):
    """A model that looks at a video and pictures and answers in words; greedy without `sampling`, so asking twice is
    pointless."""

    model: str

    def ask(
        self,
        video_mp4: bytes | None,
        images: Sequence[bytes],
        prompt: str,
        schema: Mapping[str, Any] | None = None,
        *,
        sampling: Sampling | None = None,
    ) -> Reply:
        """Show the media, ask the question, wait for the whole reply.

        Args:
            video_mp4: the bytes of an mp4 file.
            images: the bytes of PNG, JPEG or WebP files, shown after the video.
            prompt: the question, shown last.
            schema: a JSON schema that the reply should follow, for servers that can hold a model to one.
            sampling: None = greedy.

        Raises:
            InputError: media that are not what they should be, or a library that is not installed.
            VLMError: no usable reply; the subclass says which kind.
        """
        ...


def hash_of_prompt(prompt: str, schema: Mapping[str, Any] | None) -> str:
    """sha256 of what was asked, question and schema, media not included: equal for all clips of one run."""
    return hashlib.sha256(json.dumps([prompt, schema], sort_keys=True).encode()).hexdigest()


def check_mp4(video_mp4: bytes) -> None:
    """Refuse what does not begin like an mp4 file.

    Raises:
        InputError: another kind of file.
    """
    if video_mp4[4:8] != b"ftyp":
        raise InputError("the video is no mp4 file", got=f"{len(video_mp4)} bytes, {video_mp4[:12]!r}", expected="mp4")


def image_type(image: bytes) -> str:
    """The MIME type of a picture by its first bytes.

    Raises:
        InputError: another kind of file.
    """
    if image.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if image.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if image.startswith(b"RIFF") and image[8:12] == b"WEBP":
        return "image/webp"
    raise InputError("the picture is of no known kind", got=repr(image[:12]), expected="PNG, JPEG or WebP")


def only_json_object(text: str) -> dict[str, Any] | None:
    """The JSON object in a text that holds exactly one, with or without words or a code fence around it.

    Our choice: words around the object do not matter, but two objects leave it open which one is meant, and a repeated
    key which value; both give None, as do NaN and Infinity, which are not JSON.
    """
    start = text.find("{")
    decoder = json.JSONDecoder(object_pairs_hook=_without_repeats, parse_constant=_refuse_constant)
    try:
        found, end = decoder.raw_decode(text, max(start, 0))
    except (ValueError, RecursionError):
        return None
    if "{" in text[end:] or not isinstance(found, dict):
        return None
    return found


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key is repeated")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")
