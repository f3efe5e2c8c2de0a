"""A Qwen3-VL model in this process, through transformers.

Source: Qwen3-VL (arXiv 2511.21631) and transformers' `Qwen3VLForConditionalGeneration`. Its processor is not used,
because transformers cannot build it without torchvision, which this package does without: the model's own tokenizer
and image processor are put together here in the same way, and a test compares the two where torchvision is installed.
The text is that of the model's release: times and frames alternate, without the pair of marks around the whole video
that transformers adds from 5.10 on.
"""

from __future__ import annotations

import importlib.util
import io
import json
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from jaxtyping import Float, Int
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from remind.errors import CheckpointError, InputError
from remind.vlm.interface import (
    Reply,
    Sampling,
    Usage,
    VLMMalformed,
    VLMTimeout,
    check_mp4,
    hash_of_prompt,
    image_type,
    only_json_object,
)

_MARKS = ("<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_MAX_SIDE_PX = 4096  # of a picture or frame to be shown
_MAX_FRAMES = 10_000  # of a video to choose frames from


@dataclass(frozen=True)
class LookingOptions:
    """How closely the model looks and how long it may talk.

    Args:
        frames_per_s: of the video that it sees; 2 is what Qwen3-VL was made for.
        max_frames: and no more than these, spread over the whole video; 2 or more.
        max_pixels: of each frame or picture; 32x32 px make one token, and a video's frames go in pairs.
        max_new_tokens: longest reply.
        max_seconds: wall clock of the generation.
    """

    frames_per_s: float = 2.0
    max_frames: int = 32
    max_pixels: int = 512 * 512
    max_new_tokens: int = 1024
    max_seconds: float = 600.0

    def __post_init__(self) -> None:
        enough = self.frames_per_s > 0 and self.max_frames >= 2 and self.max_pixels >= 64 * 64
        if not (enough and self.max_new_tokens > 0 and self.max_seconds > 0):
            raise InputError("too little to look at or to say", got=self, expected=">= 2 frames, 64x64 px, 1 token")


class TransformersVLM:
    """Asks a Qwen3-VL checkpoint, one question at a time, greedily without `sampling`; threads that share it wait.

    Nothing holds the model to a JSON schema here, so the schema is added to the question.

    Args:
        model_id_or_path: a folder, or the name of a model that is already in the Hugging Face cache; nothing is
            downloaded and no code of the model's repository is run.
        device: where it runs.
        dtype: of the weights; "auto" is the checkpoint's own.
        options: how closely it looks.

    Raises:
        InputError: transformers is not installed or too old.
        CheckpointError: no Qwen3-VL model is there.
    """

    def __init__(
        self,
        model_id_or_path: str | Path,
        *,
        device: str | torch.device = "cpu",
        dtype: torch.dtype | str = "auto",
        options: LookingOptions | None = None,
    ) -> None:
        if importlib.util.find_spec("transformers") is None:
            raise InputError("local VLMs run through transformers", fix="pip install 'remind-video[wan]'")
        import transformers

        if int(transformers.__version__.split(".")[0]) < 5:
            raise InputError("transformers is too old", got=transformers.__version__, expected="5 or later")
        where, offline = str(model_id_or_path), {"local_files_only": True}
        network_class: Any = transformers.Qwen3VLForConditionalGeneration
        try:
            self._tokenizer: Any = transformers.AutoTokenizer.from_pretrained(where, **offline)
            self._image_processor: Any = transformers.AutoImageProcessor.from_pretrained(
                where, backend="pil", **offline
            )
            model, report = network_class.from_pretrained(
                where, dtype=dtype, use_safetensors=True, output_loading_info=True, **offline
            )
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
            raise CheckpointError(
                "no Qwen3-VL model could be loaded",
                got=f"{where}: {str(error).strip().splitlines()[0][:300] if str(error).strip() else repr(error)}",
                fix="download it first, for example with `hf download`, and give its folder",
            ) from error
        if odd := sorted({*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]}):
            raise CheckpointError("the weights are not those of this model", got=f"{len(odd)} keys, first {odd[0]}")
        got = [self._mark(mark)[0] for mark in _MARKS]
        if None in got or got[-2:] != [model.config.image_token_id, model.config.video_token_id]:
            raise CheckpointError("the tokenizer is not this model's", got=dict(zip(_MARKS, got, strict=True)))
        self._network: Any = model.to(device).eval()
        self.model = Path(where).name if Path(where).is_dir() else where
        self.options = options or LookingOptions()
        self._turn = threading.Lock()

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
            InputError: media that cannot be read.
            VLMTimeout: not finished within `max_seconds`.
            VLMMalformed: not finished within `max_new_tokens`.
        """
        with self._turn:
            started = time.monotonic()
            asked = self._inputs(video_mp4, images, prompt, schema)
            tokens = self._generate(asked, sampling)
            latency_s = time.monotonic() - started
        text = self._tokenizer.decode(tokens, skip_special_tokens=True)
        if not self._is_end(tokens):
            if len(tokens) < self.options.max_new_tokens:
                raise VLMTimeout("the VLM did not finish its reply", got=f"{latency_s:.1f} s", fix="raise max_seconds")
            raise VLMMalformed("the VLM's reply was cut off", raw=text, got=f"{len(tokens)} tokens")
        return Reply(
            text=text,
            parsed=None if schema is None else only_json_object(text),
            model=self.model,
            prompt_hash=hash_of_prompt(prompt, schema),
            usage=Usage(asked["input_ids"].shape[1], len(tokens)),
            latency_s=latency_s,
            raw=self._tokenizer.decode(tokens, skip_special_tokens=False),
        )

    def _generate(self, asked: dict[str, Tensor], sampling: Sampling | None) -> list[int]:
        on_device = {name: value.to(self._network.device) for name, value in asked.items()}
        # What only sampling reads is unset where nothing is drawn, or transformers warns about the checkpoint's values.
        drawn: dict[str, Any] = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}
        if sampling is not None:
            drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": 1.0, "top_k": 0}
        device = self._network.device
        with torch.inference_mode(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            if sampling is not None:
                torch.manual_seed(sampling.seed)
            out = self._network.generate(
                **on_device,
                **drawn,
                num_beams=1,
                max_new_tokens=self.options.max_new_tokens,
                max_time=self.options.max_seconds,
            )
        return out[0, asked["input_ids"].shape[1] :].tolist()

    def _is_end(self, tokens: list[int]) -> bool:
        ends = self._network.generation_config.eos_token_id
        return bool(tokens) and tokens[-1] in (ends if isinstance(ends, list) else [ends])

    def _inputs(
        self, video_mp4: bytes | None, images: Sequence[bytes], prompt: str, schema: Mapping[str, Any] | None
    ) -> dict[str, Tensor]:
        """What the model is called with: one user message in its chat format, and the pixels.

        Words are tokenised apart from the marks of the format, so that a prompt that spells one cannot forge it.
        """
        config, out = self._network.config, {}
        ids = [*self._mark("<|im_start|>"), *self._words("user\n")]
        if video_mp4 is not None:
            frames, times_s = sample_frames(video_mp4, self.options)
            pixels, grid = self._pair_frames(*self._patches(frames))
            out["pixel_values_videos"], out["video_grid_thw"] = pixels, grid
            tokens = self._tokens_of(grid[0, 1:])
            for first, second in zip(times_s[0::2], times_s[1::2], strict=True):
                ids += self._words(f"<{(first + second) / 2:.1f} seconds>")
                ids += self._vision([config.video_token_id] * tokens)
        if images:
            out["pixel_values"], out["image_grid_thw"] = self._patches([_picture(image) for image in images])
            for grid_thw in out["image_grid_thw"]:
                ids += self._vision([config.image_token_id] * self._tokens_of(grid_thw[1:]))
        rules = "" if schema is None else f"\n\nThe JSON schema of the answer:\n{json.dumps(schema)}"
        ids += self._words(prompt + rules)
        ids += [*self._mark("<|im_end|>"), *self._words("\n"), *self._mark("<|im_start|>"), *self._words("assistant\n")]
        out["input_ids"] = torch.tensor([ids])
        out["attention_mask"] = torch.ones_like(out["input_ids"])
        is_image, is_video = out["input_ids"] == config.image_token_id, out["input_ids"] == config.video_token_id
        out["mm_token_type_ids"] = is_image.int() + 2 * is_video.int()
        return out

    def _patches(self, pictures: list[Image.Image]) -> tuple[Float[Tensor, "p d"], Int[Tensor, "n 3"]]:
        unit = self._image_processor.patch_size * self._image_processor.merge_size
        size = {"shortest_edge": 4 * unit**2, "longest_edge": max(self.options.max_pixels, 4 * unit**2)}
        done = self._image_processor(images=pictures, size=size, return_tensors="pt")
        return done["pixel_values"], done["image_grid_thw"]

    def _pair_frames(
        self, pixels: Float[Tensor, "p d"], grids: Int[Tensor, "n 3"]
    ) -> tuple[Float[Tensor, "q d"], Int[Tensor, "1 3"]]:
        """A video's patches from those of its frames: each spans two frames, where a picture's shows itself twice."""
        num, (_, height, width) = len(grids), grids[0].tolist()
        side = self._image_processor.patch_size
        frames = pixels.view(num, height * width, 3, 2, side * side)
        pairs = torch.stack([frames[0::2, :, :, 0], frames[1::2, :, :, 1]], dim=3)
        return pairs.reshape(-1, pixels.shape[1]), torch.tensor([[num // 2, height, width]])

    def _tokens_of(self, grid_hw: Int[Tensor, "2"]) -> int:
        return int(grid_hw.prod()) // self._image_processor.merge_size**2

    def _vision(self, ids: list[int]) -> list[int]:
        return [*self._mark("<|vision_start|>"), *ids, *self._mark("<|vision_end|>")]

    def _mark(self, token: str) -> list[int]:
        return [self._tokenizer.convert_tokens_to_ids(token)]

    def _words(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def sample_frames(video_mp4: bytes, options: LookingOptions) -> tuple[list[Image.Image], list[float]]:
    """Frames spread evenly over a video, an even number of them, and their times in seconds.

    Source: the spacing of Qwen3-VL's video processor; an odd last frame is shown twice, as there.

    Raises:
        InputError: a video that cannot be read.
    """
    check_mp4(video_mp4)
    try:
        times_s = [_time_s(frame) for frame in _frames(video_mp4)]
        if not times_s:
            raise InputError("the video has no frames", got=f"{len(video_mp4)} bytes")
        length_s = (times_s[-1] - times_s[0]) * len(times_s) / max(len(times_s) - 1, 1)
        wanted = min(max(int(length_s * options.frames_per_s), 4), options.max_frames, len(times_s))
        chosen = np.linspace(0, len(times_s) - 1, wanted).round().astype(int).tolist()
        pictures = {
            index: Image.fromarray(frame.to_ndarray(format="rgb24"))
            for index, frame in enumerate(_frames(video_mp4))
            if index in chosen
        }
    except av.error.FFmpegError as error:
        raise InputError("the video cannot be read", got=str(error), expected="a whole mp4 file") from error
    if len(chosen) % 2:
        chosen.append(chosen[-1])
    return [pictures[index] for index in chosen], [times_s[index] - times_s[0] for index in chosen]


def _frames(video_mp4: bytes) -> Iterator[av.VideoFrame]:
    with av.open(io.BytesIO(video_mp4), "r") as container:
        if not container.streams.video:
            raise InputError("the file holds no video", got=f"{len(container.streams)} streams")
        for frame in islice(container.decode(container.streams.video[0]), _MAX_FRAMES):
            _check_size(frame.width, frame.height)
            yield frame


def _time_s(frame: av.VideoFrame) -> float:
    if frame.time is None:
        raise InputError("a frame of the video has no time", expected="presentation times", fix="encode it anew")
    return frame.time


def _picture(image: bytes) -> Image.Image:
    image_type(image)
    try:
        opened = Image.open(io.BytesIO(image))
        _check_size(*opened.size)
        return opened.convert("RGB")
    except (OSError, SyntaxError, ValueError) as error:
        raise InputError("the picture cannot be read", got=str(error)) from error


def _check_size(width: int, height: int) -> None:
    """Refuse sizes that cost minutes or break the model's own rule on aspect ratios."""
    short, long = sorted((width, height))
    if long > _MAX_SIDE_PX or long > 200 * short:
        raise InputError("no size to look at", got=f"{width}x{height} px", expected=f"sides up to {_MAX_SIDE_PX} px")
