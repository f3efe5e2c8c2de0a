"""How a video is generated, beside what is asked for: noise, sampler, guidance and memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TypedDict, get_args

from remind.errors import InputError
from remind.inference.memory_policy import MemoryPolicy, memory_policy
from remind.inference.samplers import Sampler, SamplerKind
from remind.models.kv_cache import Storage

WAN_SAMPLER = Sampler(steps=50, shift=5.0, kind="unipc")
"""What Wan's own pipeline does; weights that were distilled want `few_step` with four steps."""


@dataclass(frozen=True)
class GenerationOptions:
    """All that decides a video but its prompts, cameras and what it starts from.

    Args:
        seed: of all noise, 0..2^63 - 1.
        sampler: how a chunk is denoised.
        guidance: strength of classifier-free guidance, 1 = none; otherwise twice the passes and twice the memory.
        negative_prompt: what guidance leads away from.
        memory: which chunks the next one may see: a policy, or its text form (`full`, `window:6`, `sink_window:1+5`,
            `anchors`, `retrieve:4`).
        memory_budget: most bytes that keys and values may take at any moment; None = as many as the policy needs.
        memory_storage: `float`, or `int8`: a quarter of float32.
        memory_noise: sigma in [0, 1) at which chunks are remembered (ReMind Table 3, noisy memory retrieval).
        chunks_per_pass: 2 writes a finished chunk in the first pass of the next one; 1 in a pass of its own, which
            takes less memory at the same result up to rounding.
        measure_importance: measure how much remembered chunks are looked at, in the last pass of every chunk, so that
            memory can explain itself. It changes nothing of the video and costs 5 to 10 % with four steps a chunk.

    Raises:
        InputError: a value out of its range, or words that are no policy.
    """

    seed: int = 0
    sampler: Sampler = field(default_factory=Sampler)
    guidance: float = 1.0
    negative_prompt: str = ""
    memory: MemoryPolicy | str = "full"
    memory_budget: int | None = None
    memory_storage: Storage = "float"
    memory_noise: float = 0.0
    chunks_per_pass: int = 2
    measure_importance: bool = True

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise InputError("a seed is a number from 0 to 2^63 - 1", got=self.seed)
        if self.negative_prompt and self.guidance == 1:
            raise InputError("a negative prompt does nothing without guidance", got=f"guidance {self.guidance:g}",
                             fix="give guidance, e.g. 5, or leave the negative prompt out")
        if not 0 <= self.guidance < 1000:
            raise InputError("guidance is a strength from 0 on", got=self.guidance, expected="e.g. 5; 1 = none")
        if not 0 <= self.memory_noise < 1:
            raise InputError("memory noise is a noise level", got=self.memory_noise, expected="0 <= sigma < 1")
        if self.memory_storage not in get_args(Storage):
            raise InputError("no such storage of memory", got=self.memory_storage,
                             expected=" or ".join(get_args(Storage)))
        if self.memory_budget is not None and self.memory_budget < 0:
            raise InputError("a memory budget is a number of bytes", got=self.memory_budget)
        if self.chunks_per_pass < 1:
            raise InputError("a pass runs over at least one chunk", got=self.chunks_per_pass)
        self.policy  # noqa: B018 (words that are no policy are refused here)

    @property
    def policy(self) -> MemoryPolicy:
        return memory_policy(self.memory) if isinstance(self.memory, str) else self.memory


class HowToGenerate(TypedDict, total=False):
    """Keyword arguments of a pipeline: those of `GenerationOptions` and `Sampler` under one roof."""

    seed: int
    sampler: Sampler | SamplerKind
    steps: int
    shift: float
    guidance: float
    negative_prompt: str
    memory: MemoryPolicy | str
    memory_budget: int | None
    memory_storage: Storage
    memory_noise: float
    chunks_per_pass: int
    measure_importance: bool


def generation_options(how: HowToGenerate, *, wan: bool) -> GenerationOptions:
    """What is asked for, on top of what is usual for a checkpoint.

    Args:
        wan: whether it goes with Wan's VAE; else with the embedded codec.

    Raises:
        InputError: a value out of its range, or a sampler whose steps or shift are said a second time.
    """
    asked = how.get("sampler")
    usual = WAN_SAMPLER if wan else Sampler()
    if asked == "few_step":
        usual = replace(usual, steps=Sampler().steps)
    if isinstance(asked, Sampler):
        if "steps" in how or "shift" in how:
            raise InputError("a sampler says its own steps and shift", got=asked, fix="change them in the sampler")
        sampler = asked
    else:
        sampler = replace(usual, kind=asked or usual.kind, steps=how.get("steps", usual.steps),
                          shift=how.get("shift", usual.shift))  # fmt: skip
    rest = {name: value for name, value in how.items() if name not in ("sampler", "steps", "shift")}
    return GenerationOptions(sampler=sampler, **rest)  # type: ignore[arg-type]
