"""One client for vision-language models: any OpenAI-compatible server, or transformers in this process."""

from remind.vlm.interface import (
    VLM,
    Reply,
    Sampling,
    Usage,
    VLMError,
    VLMMalformed,
    VLMRefused,
    VLMRejected,
    VLMTimeout,
    VLMUnavailable,
    hash_of_prompt,
)
from remind.vlm.local import LookingOptions, TransformersVLM
from remind.vlm.server import OpenAICompatibleVLM, RequestLimits

__all__ = [
    "VLM",
    "LookingOptions",
    "OpenAICompatibleVLM",
    "Reply",
    "RequestLimits",
    "Sampling",
    "TransformersVLM",
    "Usage",
    "VLMError",
    "VLMMalformed",
    "VLMRefused",
    "VLMRejected",
    "VLMTimeout",
    "VLMUnavailable",
    "hash_of_prompt",
]
