"""What was asked for: everything that decides which video comes out, but for rounding. A part of the manifest."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from remind.generate.manifest_files import canonical_sha256
from remind.inference.placement import Precision
from remind.inference.samplers import SamplerKind
from remind.models.kv_cache import Storage

Hash = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Word = Annotated[str, Field(max_length=500)]
PathText = Annotated[str, Field(min_length=1, max_length=4000, pattern=r"^[^\x00]+$")]
Prompt = Annotated[str, Field(max_length=20_000)]
Count = Annotated[int, Field(ge=0, le=2**53)]
Seed = Annotated[int, Field(ge=0, le=2**64 - 1)]
Seconds = Annotated[float, Field(ge=0)]


class Part(BaseModel):
    """A part of a manifest: no unknown field, no other type, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class InputFile(Part):
    """A file that was given.

    Args:
        kind: what it was read as.
        path: relative to the manifest's folder.
        sha256: of its bytes.
        start_s: where reading began; videos only.
        num_frames: how many frames of it were used.
        hold: a video shorter than a chunk was held at its last frame.
        adaptations: what was done to it, in sentences.
    """

    kind: Literal["image", "video", "reference"]
    path: PathText
    sha256: Hash
    start_s: Seconds = 0.0
    num_frames: Annotated[int, Field(ge=1, le=10**7)] = 1
    hold: bool = False
    adaptations: tuple[Prompt, ...] = ()


class CameraFile(Part):
    """The resolved cameras.

    Args:
        path: of the npz, relative to the manifest's folder.
        sha256: of its bytes.
        said: what the user wrote, for reading; the npz decides.
    """

    path: PathText
    sha256: Hash
    said: Prompt = ""


class SamplerFacts(Part):
    """As `Sampler`; levels are those of few-step sampling."""

    kind: SamplerKind = "euler"
    steps: Annotated[int, Field(ge=1, le=10_000)]
    shift: Annotated[float, Field(gt=0)]
    levels: tuple[float, ...] | None = None


class MemoryFacts(Part):
    """What may be remembered, and how it is kept.

    Args:
        policy: as on the command line, e.g. `retrieve:4`.
        budget_bytes: of resident entries; None is no bound.
        storage: of the cache's entries.
        noise: at which finished chunks are written, 0 = clean.
    """

    policy: Word = "full"
    budget_bytes: Count | None = None
    storage: Storage = "float"
    noise: Annotated[float, Field(ge=0, le=1)] = 0.0


class CheckpointFacts(Part):
    """Which weights.

    Args:
        name: shipped name or path, as it was given.
        sha256: of the weights, see `components.checkpoint_hash`.
        licence: on what terms they may be used.
        base: name or path of the pipeline that brought VAE and text encoder; None where the package has them.
        codec, text_encoder: their digests.
    """

    name: PathText
    sha256: Hash
    licence: Word = ""
    base: PathText | None = None
    codec: Word = ""
    text_encoder: Word = ""


class Request(Part):
    """Everything that decides which video comes out, but for rounding.

    Args:
        mode: from text, an image or a video.
        inputs: given files, references among them in their order.
        prompt, negative_prompt: as given.
        schedule: the prompt of each chunk.
        roles: of each chunk, a letter each as the frame graph draws them; empty where nobody said.
        recipe: of an interruption, as `InterruptionRecipe.to_json`; None without.
        cameras: None is a model without, or unknown cameras.
        guidance: of classifier-free guidance; 1 is none.
        gap_chunks: distance of references, in chunks.
        num_chunks: of the whole video.
        chunks_per_pass: as `rollout`; changes rounding at most.
        hw: frame size of the model, px.
        dtype: of the weights while generating.
    """

    mode: Literal["t2v", "i2v", "v2v"]
    inputs: Annotated[tuple[InputFile, ...], Field(max_length=1000)] = ()
    prompt: Prompt = ""
    negative_prompt: Prompt = ""
    schedule: Annotated[tuple[Prompt, ...], Field(max_length=100_000)] = ()
    roles: Annotated[str, Field(max_length=100_000, pattern=r"^[Ax.Rr]*$")] = ""
    recipe: dict[str, Any] | None = None
    cameras: CameraFile | None = None
    sampler: SamplerFacts
    guidance: float = 1.0
    memory: MemoryFacts = MemoryFacts()
    gap_chunks: Annotated[int, Field(ge=0, le=100_000)] = 0
    seed: Seed = 0
    num_chunks: Annotated[int, Field(ge=1, le=100_000)]
    chunks_per_pass: Annotated[int, Field(ge=1, le=1000)] = 2
    hw: tuple[Annotated[int, Field(ge=1, le=16384)], Annotated[int, Field(ge=1, le=16384)]]
    fps: Annotated[float, Field(gt=0, le=1000)] = 16.0
    dtype: Precision = "fp32"
    checkpoint: CheckpointFacts

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Request:
        for name in ("schedule", "roles"):
            length = len(getattr(self, name))
            if length not in (0, self.num_chunks):
                raise ValueError(f"{name}: {length} entries for {self.num_chunks} chunks")
        given = sorted(item.kind for item in self.inputs if item.kind != "reference")
        if given != {"t2v": [], "i2v": ["image"], "v2v": ["video"]}[self.mode]:
            raise ValueError(f"inputs: {given or 'none'} for {self.mode}")
        return self

    def digest(self) -> str:
        """SHA-256 in hex; equal for requests that ask for the same video, wherever their files lie."""
        asked = self.model_dump(mode="json")
        for item in asked["inputs"]:
            del item["path"], item["adaptations"]
        if asked["cameras"] is not None:
            del asked["cameras"]["path"], asked["cameras"]["said"]
        for name in ("name", "licence", "base"):
            del asked["checkpoint"][name]
        return canonical_sha256(asked)
