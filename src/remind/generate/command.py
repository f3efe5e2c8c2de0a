"""What `remind generate` was asked for, as a user says it: files, words and numbers."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from remind.errors import InputError
from remind.frame_graph import InterruptionKind
from remind.geometry import PoseReading
from remind.inference.camera_path import Fit
from remind.inference.placement import Offload, Placement, Precision
from remind.inference.samplers import SamplerKind
from remind.models.kv_cache import Storage

_UNITS = {"": 1, "b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 2**10, "mib": 2**20, "gib": 2**30}


@dataclass(frozen=True)
class GenerateCommand:
    """One video, as it is asked for on the command line or in a line of a batch.

    Args:
        out: mp4 to write; the manifest stands beside it as OUT.json.
        checkpoint: shipped name, run folder, or any checkpoint of the Wan family.
        base: a Wan pipeline in the diffusers layout, where the checkpoint needs its VAE and text encoder.
        image: start from this picture (I2V) ...
        video: ... or continue this video (V2V); with neither, words alone (T2V).
        start_s: where in the video to start, s.
        hold: hold a video that is shorter than one chunk at its last picture.
        prompt: what is going on.
        schedule: file of prompts over time (.json, .yaml, .txt).
        interrupt: let this happen to the view: a video is interrupted and continued from where the view returns;
            an image's video is asked for it by its prompts.
        camera: words such as `right-20, left-20`, or a file.
        camera_convention: how the matrices of a .npy or a bare .json are to be read; other files say it themselves.
        camera_fit: what to do with a camera path of another length.
        fov_deg: horizontal field of view where the path has no lens.
        allow_camera_jumps: take a path that jumps.
        reference: pictures or videos of what was there before; each is remembered as a clean chunk.
        reference_gap: chunks from the first reference to the video.
        chunks: of the whole video, given ones included; None = the checkpoint's usual 7, after at most 20 s of a
            video that is given.
        sampler: how a chunk is denoised: explicit steps along the flow, Wan's multistep solver, or, for weights that
            were distilled for it, prediction and fresh noise in turns. None = the checkpoint's usual.
        steps: model passes per chunk; None = the checkpoint's usual.
        shift: moves noise levels towards 1; None = the checkpoint's usual.
        guidance: strength of classifier-free guidance; 1 = none, else twice the passes and twice the memory.
        negative_prompt: what guidance leads away from.
        memory: which chunks the next one may see: full, window:6, sink_window:1+5, anchors:2 or retrieve:4.
        memory_budget: most bytes of keys and values at any moment, e.g. 2GiB or 500MB.
        memory_storage: keep keys and values as they are, or as int8: a quarter of float32.
        memory_noise: noise level at which chunks are remembered, 0..1.
        seed: of all noise and of the interruption.
        device: auto, cpu, cuda, cuda:1 or mps; auto takes a GPU where there is one.
        dtype: of transformer and text encoder; None = bf16 on CUDA, fp32 elsewhere.
        offload: parts that are on the device only while they are used.
        keep_inputs: copy files that were given to the folder `inputs` beside the video, if they are not in its folder
            already: the manifest then needs nothing else. Without, `--from` must be told to `--allow` their folder.
        png_frames: write OUT.frames/00000.png too.
        compare: show what was given and what really happened beside the result; with `video` and `interrupt`.
    """

    out: Path
    checkpoint: str = "nano"
    base: Path | None = None
    image: Path | None = None
    video: Path | None = None
    start_s: float = 0.0
    hold: bool = False
    prompt: str = ""
    schedule: Path | None = None
    interrupt: InterruptionKind | None = None
    camera: str | None = None
    camera_convention: PoseReading | None = None
    camera_fit: Fit | None = None
    fov_deg: float | None = None
    allow_camera_jumps: bool = False
    reference: tuple[Path, ...] = ()
    reference_gap: int | None = None
    chunks: int | None = None
    sampler: SamplerKind | None = None
    steps: int | None = None
    shift: float | None = None
    guidance: float = 1.0
    negative_prompt: str = ""
    memory: str = "full"
    memory_budget: str | None = None
    memory_storage: Storage = "float"
    memory_noise: float = 0.0
    seed: int = 0
    device: str = "auto"
    dtype: Precision | None = None
    offload: tuple[Offload, ...] = ()
    keep_inputs: bool = True
    png_frames: bool = False
    compare: bool = False

    def __post_init__(self) -> None:
        if self.chunks is not None and not 1 <= self.chunks <= 100_000:
            raise InputError("a video has at least one chunk", got=self.chunks, expected="1..100000")
        self.budget_bytes  # noqa: B018 (words that are no size are refused here)

    def check(self) -> None:
        """Whether the options go together; what the lines of a batch share need not, before a line adds its own.

        Raises:
            InputError: they do not.
        """
        if self.image is not None and self.video is not None:
            raise InputError("give an image or a video, not both", got=f"{self.image} and {self.video}")
        if self.interrupt in ("lookaway", "camera_loop"):
            raise InputError("a camera that looks away must see more than the model's view",
                             got=f"interrupt {self.interrupt}",
                             fix="ask for it with --camera lookaway:60, or take another interruption")  # fmt: skip
        if self.interrupt is not None and self.image is None and self.video is None:
            raise InputError("an interruption needs something to interrupt", got="neither an image nor a video")
        if self.interrupt is not None and self.schedule is not None:
            raise InputError("the interruption brings its own prompts", got=f"--interrupt and {self.schedule}",
                             fix="leave one of them out")  # fmt: skip
        if self.video is None and (self.start_s or self.hold):
            raise InputError("there is no video to start in or to hold",
                             got=f"--start-s {self.start_s:g}, {'' if self.hold else 'no '}--hold",
                             fix="give --video, or leave them out")  # fmt: skip
        if self.camera is None and (self.camera_fit or self.fov_deg is not None or self.allow_camera_jumps):
            raise InputError("there is no camera path", fix="give --camera, or leave them out",
                             got="options of one (--camera-fit, --fov-deg, --allow-camera-jumps)")  # fmt: skip
        if self.reference_gap is not None and not 0 < len(self.reference) <= self.reference_gap:
            raise InputError("the gap is from the first reference to the video, and must hold all of them",
                             got=f"gap of {self.reference_gap} chunks, {len(self.reference)} references",
                             fix="give --reference, and a --reference-gap of at least as many chunks")  # fmt: skip
        if self.compare and (self.video is None or self.interrupt is None):
            raise InputError("there is a truth to compare with only where a video is interrupted",
                             fix="give --video and --interrupt, or leave --compare out")  # fmt: skip

    @property
    def mode(self) -> Literal["t2v", "i2v", "v2v"]:
        return "v2v" if self.video is not None else "i2v" if self.image is not None else "t2v"

    @property
    def budget_bytes(self) -> int | None:
        return None if self.memory_budget is None else size_in_bytes(self.memory_budget)

    @property
    def placement(self) -> Placement:
        return Placement(self.device, self.dtype, frozenset(self.offload))


def size_in_bytes(text: str) -> int:
    """`2GiB`, `500 MB` or `4096`.

    Raises:
        InputError: no size.
    """
    words = text.strip().lower().replace(" ", "")
    number = words.rstrip("bgikm")
    unit = _UNITS.get(words[len(number) :])
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if unit is None or not 0 <= value < 1e15:
        raise InputError("no size in bytes", got=repr(text[:40]), expected="a number, or e.g. 500MB or 2GiB")
    return int(value * unit)
