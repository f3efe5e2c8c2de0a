"""The words of the chat completions protocol: what is sent, and what a good answer is.

Source: OpenAI's chat completions API; the `video_url` content part is vLLM's.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from remind.vlm.interface import Sampling, VLMMalformed, VLMRefused, check_mp4, image_type

EXCERPT = 200  # characters of a server's own words in an error message


def chat_request(
    model: str,
    video_mp4: bytes | None,
    images: Sequence[bytes],
    prompt: str,
    schema: Mapping[str, Any] | None,
    *,
    max_tokens: int,
    sampling: Sampling | None = None,
) -> dict[str, Any]:
    """The body of a request: one user message of video, pictures and question; answered greedily without `sampling`.

    Raises:
        InputError: media of the wrong kind.
    """
    parts: list[dict[str, Any]] = []
    if video_mp4 is not None:
        check_mp4(video_mp4)
        parts.append({"type": "video_url", "video_url": {"url": _data_url("video/mp4", video_mp4)}})
    for image in images:
        parts.append({"type": "image_url", "image_url": {"url": _data_url(image_type(image), image)}})
    parts.append({"type": "text", "text": prompt})
    request: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": parts}],
        "max_tokens": max_tokens,
        "temperature": 0.0,
    }
    if sampling is not None:
        request |= {"temperature": sampling.temperature, "seed": sampling.seed}
    if schema is not None:
        named = {"name": "reply", "schema": dict(schema), "strict": True}
        request["response_format"] = {"type": "json_schema", "json_schema": named}
    return request


class _Part(BaseModel):
    # Servers add fields of their own to the protocol's; those that are read here must be right.
    model_config = ConfigDict(extra="ignore", strict=True)


class _Message(_Part):
    content: str | None = None
    refusal: str | None = None


class _Choice(_Part):
    message: _Message
    finish_reason: str | None = None


class _Usage(_Part):
    prompt_tokens: int = Field(ge=0)
    completion_tokens: int = Field(ge=0)


class ChatCompletion(_Part):
    """A server's answer."""

    model: str
    choices: list[_Choice] = Field(min_length=1)
    usage: _Usage | None = None

    def text(self, page: str) -> str:
        """What the model said.

        Raises:
            VLMRefused, VLMMalformed: nothing, or not all of it.
        """
        choice = self.choices[0]
        if choice.message.refusal or choice.finish_reason == "content_filter":
            said = (choice.message.refusal or "stopped by a content filter")[:EXCERPT]
            raise VLMRefused("the VLM refuses to answer", got=said)
        if choice.finish_reason == "length":
            raise VLMMalformed("the VLM's reply was cut off", raw=page, got="max_tokens met", fix="raise max_tokens")
        if not choice.message.content:
            raise VLMMalformed("the VLM's reply is empty", raw=page, got=f"finish_reason {choice.finish_reason!r}")
        return choice.message.content


def read_completion(page: str) -> ChatCompletion:
    """A page as the protocol's answer.

    Raises:
        VLMMalformed: it is something else.
    """
    try:
        return ChatCompletion.model_validate_json(page)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        where = ".".join(map(str, first["loc"]))
        raise VLMMalformed(
            "the VLM server's answer is no chat completion",
            raw=page,
            got=f"{' '.join(page[:60].split())!r} ({where}: {first['msg'][:EXCERPT]})",
            fix="check that the base URL is that of an OpenAI-compatible API, usually ending in /v1",
        ) from None


def _data_url(mime: str, data: bytes) -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"
