"""The recovery suite: a clip of any store is interrupted, a model continues it, and the result is held to the truth.

Clips of a store have no state that a meter could read, so what is measured is how near the pictures come: PSNR, SSIM
and LPIPS by phase, and loop closure after a look away. A copy of the last clear frame scores well wherever little
moves: run `--control copy_anchor` beside a model, and compare.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from jaxtyping import UInt8
from torch import Tensor

from remind.data.clip_store import ClipStore
from remind.data.video_io import write_video
from remind.errors import InputError, RemindError
from remind.evaluation.eval_run import EvalRun, Record, write_json
from remind.evaluation.found_videos import FoundVideos, VideoProblem, find_videos, read_video, sha256_of
from remind.evaluation.kept_video import keep_video
from remind.evaluation.lpips import VERSION as LPIPS_VERSION
from remind.evaluation.lpips import Lpips
from remind.evaluation.perceptual import VERSION as PERCEPTUAL_VERSION
from remind.evaluation.recovery_cases import (
    CaseSpec,
    NoCase,
    RecoveryCase,
    RecoveryKind,
    case_specs,
    hash_of_cases,
    make_case,
    seen_hw,
)
from remind.evaluation.recovery_scores import measures_for, score_recovery
from remind.evaluation.recovery_summary import summarise
from remind.inference.pipeline import RecoveryTask, RemindPipeline
from remind.inference.samplers import Sampler
from remind.prompt_schedule import FPS, chunk_prompts

VERSION = "recovery-1"
RecoveryControl = Literal["oracle", "copy_anchor", "codec"]
OTHER_SIZE = "what is seen of the clip has another size than the model"


@dataclass(frozen=True)
class Made:
    """What came of a case.

    Args:
        rgb: the whole video, or None with the reason why there is none.
        first_made: first frame that was not given.
        file: where it came from, if it was a file; else it is kept in the run's folder.
        reason: of few kinds.
    """

    rgb: UInt8[Tensor, "t h w 3"] | None
    first_made: int = 0
    file: Path | None = None
    reason: str = ""


Recoverer = Callable[[Sequence[RecoveryCase]], list[Made]]
"""Makes or finds the videos of some cases, in their order."""


@dataclass(frozen=True)
class FromModel:
    """V2V: the model is given the chunks before the view returns, and goes on."""

    pipe: RemindPipeline
    sampler: Sampler

    def __call__(self, cases: Sequence[RecoveryCase]) -> list[Made]:
        tasks = [RecoveryTask(case.degraded, case.schedule, case.seed) for case in cases]
        videos = self.pipe.recover(tasks, sampler=self.sampler, max_batch=len(tasks))
        return [Made(video, case.first_generated) for case, video in zip(cases, videos, strict=True)]


@dataclass(frozen=True)
class FromControl:
    """What is known without a model: the truth, the truth through a codec, or the last clear frame for ever."""

    control: RecoveryControl
    pipe: RemindPipeline | None = None

    def __call__(self, cases: Sequence[RecoveryCase]) -> list[Made]:
        return [Made(self._video(case), case.first_generated) for case in cases]

    def _video(self, case: RecoveryCase) -> UInt8[Tensor, "t h w 3"]:
        rgb, first = case.degraded.rgb.clone(), case.first_generated
        if self.control == "copy_anchor":
            rgb[first:] = rgb[case.phases["before"].stop - 1]
        elif self.control == "codec":
            assert self.pipe is not None
            components = self.pipe.components
            with components.placement.using(components.codec):
                latents = components.codec.encode(rgb[None]).to(components.device)
                rgb[first:] = components.codec.decode(latents)[0].cpu()[first:]
        return rgb


@dataclass(frozen=True)
class FromVideos:
    """A folder of anyone's videos, `<clip>.<kind>.mp4`; all frames are scored, given or made."""

    found: FoundVideos

    @staticmethod
    def open(folder: Path, specs: Sequence[CaseSpec]) -> FromVideos:
        """Compare the folder with what is expected; errors as `find_videos`."""
        return FromVideos(find_videos(folder, {spec.name: f"{spec.name}.mp4" for spec in specs}))

    def __call__(self, cases: Sequence[RecoveryCase]) -> list[Made]:
        return [self._one(case) for case in cases]

    def _one(self, case: RecoveryCase) -> Made:
        path = self.found.paths.get(case.name)
        if path is None:
            return Made(None, reason="missing")
        try:
            return Made(read_video(path, num_frames=len(case.degraded), hw=case.degraded.hw), file=path)
        except VideoProblem as error:
            return Made(None, file=path, reason=error.kind)


class RecoverySuite:
    """All cases of a store, and how they are scored.

    Args:
        store: of clips.
        kinds: of interruptions.
        limit: the first so many clips; None = all.
        seed: of the interruptions and of a model's noise.
        lpips: the network, or None where there are no weights: then nothing is reported under that name.

    Raises:
        InputError: a store without clips.
    """

    def __init__(self, store: ClipStore, kinds: Sequence[RecoveryKind], limit: int | None, seed: int,
                 lpips: Lpips | None):  # fmt: skip
        self.store, self.seed, self.lpips = store, seed, lpips
        self.specs = case_specs(store, kinds, limit)
        if not self.specs:
            raise InputError("there is nothing to recover",
                             got=f"{len(store)} clips, kinds {list(kinds)}, limit {limit}")  # fmt: skip

    def identity(self, maker: dict[str, Any]) -> dict[str, Any]:
        """What decides the numbers.

        Args:
            maker: checkpoint and its hash, folder of videos, or control.
        """
        metrics = {"perceptual": PERCEPTUAL_VERSION, "lpips": None if self.lpips is None else LPIPS_VERSION}
        return {"suite": "recovery", "version": VERSION, **maker, "store": str(self.store.root), "seed": self.seed,
                "test_set": hash_of_cases(self.store, self.specs, self.seed), "examples": len(self.specs),
                "metrics": metrics}  # fmt: skip

    def check_size(self, hw: tuple[int, int]) -> None:
        """Refuse a model that can be shown none of the clips.

        Raises:
            InputError: all clips have another size.
        """
        sizes = set()
        for number in dict.fromkeys(spec.number for spec in self.specs):
            try:
                sizes.add(seen_hw(self.store, number))
            except RemindError:
                continue  # a damaged clip is counted when its turn comes
        if sizes and hw not in sizes:
            raise InputError("the clips have another size than the model", got=sorted(sizes)[:4], expected=hw,
                             fix=f"build the store with --hw {hw[0]} {hw[1]}, or with that --view-hw")  # fmt: skip

    def run(
        self, run: EvalRun, maker: Recoverer, *, hw: tuple[int, int] | None, batch: int = 8, retry_failed: bool = False,
        advance: Callable[[int], None] = lambda done: None,
    ) -> None:  # fmt: skip
        """Do what is not there yet.

        Args:
            run: of this suite's examples.
            maker: makes or finds the videos.
            hw: frame size of the model; None where anything goes.
            batch: cases at once.
            retry_failed: also what failed before.
            advance: called with the number of examples that have just been done.
        """
        todo = set(run.todo(retry_failed=retry_failed))
        waiting = iter([spec for spec in self.specs if spec.name in todo])
        while specs := list(islice(waiting, batch)):
            cases = list(self._cases(run, specs, hw))
            for case, made in zip(cases, _each(maker, cases), strict=True):
                self._record(run, case, made)
            advance(len(specs))

    def _cases(self, run: EvalRun, specs: Sequence[CaseSpec], hw: tuple[int, int] | None) -> Iterator[RecoveryCase]:
        for spec in specs:
            try:
                case = make_case(self.store, spec, self.seed)
                if hw is not None and case.degraded.hw != hw:
                    raise NoCase(OTHER_SIZE)
                yield case
            except NoCase as error:
                about = {"clip": self.store.clip_ids[spec.number], "kind": spec.kind}
                if error.__cause__ is not None:
                    about["error"] = str(error.__cause__)
                run.write(Record(spec.name, "failed", {}, about, reason=str(error)))

    def _record(self, run: EvalRun, case: RecoveryCase, made: Made) -> None:
        event = case.schedule.interruptions[0]
        about: dict[str, Any] = {
            "clip": case.degraded.clip_id, "kind": case.kind, "prompt": case.degraded.caption, "seed": case.seed,
            "times": [event.start, event.hidden_start, event.hidden_stop, event.stop],
            "hides": event.hidden_stop > event.hidden_start, "recipe": case.recipe.model_dump(mode="json"),
        }  # fmt: skip
        if made.file is not None:
            about["video"] = {"path": str(made.file), "sha256": sha256_of(made.file)}
        if made.rgb is None:
            run.write(Record(case.name, "failed", {}, about, reason=made.reason))
            return
        measures = measures_for(case.degraded.hw, self.lpips)
        scores, facts = score_recovery(case, made.rgb, measures, first_made=made.first_made)
        if made.file is None:
            about["video"] = keep_video(run, case.name, made.rgb)
        about["frames_sha256"] = hashlib.sha256(made.rgb.contiguous().numpy().tobytes()).hexdigest()
        run.write(Record(case.name, "scored", scores, about | facts))

    def finish(self, run: EvalRun) -> dict[str, Any]:
        """Summarise; returns what `scores.json` holds.

        Raises:
            InputError: examples are missing.
        """
        return run.finish({} if run.todo() else summarise(run.records().values(), with_lpips=self.lpips is not None))


def write_inputs(suite: RecoverySuite, folder: Path) -> int:
    """Write what another model is given: the frames before the view returns, as mp4, and the rest as `inputs.json`.

    What followed is not in there. Videos that go on from them, named `<clip>.<kind>.mp4`, are read by `FromVideos`.

    Returns:
        How many there are; cases that cannot be made are left out, and counted when they are scored.

    Raises:
        InputError, VideoError: a folder that cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError("the inputs cannot be written", got=f"{folder}: {error.strerror}") from None
    rows = []
    for spec in suite.specs:
        try:
            case = make_case(suite.store, spec, suite.seed)
        except NoCase:
            continue
        cameras = case.degraded.cameras
        write_video(folder / f"{spec.name}.mp4", case.degraded.rgb[: case.first_generated], FPS, crf=0)
        rows.append({
            "name": spec.name, "given_frames": case.first_generated, "num_frames": len(case.degraded), "fps": FPS,
            "hw": case.degraded.hw, "prompts": chunk_prompts(case.degraded.caption, case.schedule), "seed": case.seed,
            "c2w": None if cameras is None else cameras.c2w.tolist(),
            "intrinsics_px": None if cameras is None else cameras.intrinsics_px.tolist(),
            "valid": None if cameras is None else cameras.valid.tolist(),
        })  # fmt: skip
    write_json(folder / "inputs.json", {"inputs": rows})
    return len(rows)


def _each(maker: Recoverer, cases: Sequence[RecoveryCase]) -> list[Made]:
    """All at once; if that cannot be done, one by one, so that one bad case fails by itself."""
    if not cases:
        return []
    try:
        return maker(cases)
    except RemindError as error:
        if len(cases) == 1:
            return [Made(None, reason=error.what)]
        return [made for case in cases for made in _each(maker, [case])]
