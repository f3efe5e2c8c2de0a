"""`remind eval recovery`: how near a recovered video comes to the truth, on clips of any store."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from remind.errors import InputError


def recovery(
    data: Path,
    out: Path,
    checkpoint: str = "",
    videos: Path | None = None,
    control: Literal["oracle", "copy_anchor", "codec"] | None = None,
    write_inputs: bool = False,
    base: Path | None = None,
    kinds: tuple[Literal["light", "occluder", "lookaway", "zoom"], ...] = ("light", "occluder", "lookaway", "zoom"),
    lpips_weights: tuple[Path, ...] = (),
    steps: int | None = None,
    batch: int | None = None,
    limit: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    retry: bool = False,
) -> None:
    """Interrupt the clips of a store, let a model continue them, and compare with what really followed.

    V2V: a model is given everything up to the moment at which the view returns. PSNR, SSIM and LPIPS over the frames
    that it made, during and after the interruption; after a look away also how well the same view is met again. What is
    hidden may have gone on, so that a copy of the last clear frame is what to beat: --control copy_anchor. Kill it at
    any time and run it again: it goes on where it was. Writes OUT/scores.json and every video.

    Args:
        data: A clip store, see `remind data build`; look-aways need one that was built with --view-hw, or clips whose
            own camera looks away.
        out: The folder of this evaluation.
        checkpoint: A shipped checkpoint (nano), a run folder, or weights of the Wan family.
        videos: Score this folder of CLIP.KIND.mp4 instead, all frames of them.
        control: Score what needs no model: oracle (the truth), copy_anchor (the last clear frame), or codec (the truth
            through the checkpoint's codec, the best that it could do).
        write_inputs: Write to OUT what another model is to be given, and stop: the frames before the view returns, with
            prompts and cameras.
        base: A local Wan pipeline, where the checkpoint needs its VAE and text encoder.
        kinds: Of interruptions.
        lpips_weights: Files with AlexNet and the heads of LPIPS; kept under REMIND_CACHE for later. Without any, LPIPS
            is not reported.
        steps: Denoising steps a chunk; by default those of the checkpoint.
        batch: Videos made at once; by default 8 with the embedded codec, 1 with the VAE of Wan.
        limit: The first so many clips.
        seed: Of the interruptions and of the noise.
        device: auto, cpu, cuda or mps.
        retry: Try again what failed.
    """
    from rich.console import Console

    from remind.data.clip_store import ClipStore
    from remind.eval_commands.model_under_test import load_model
    from remind.evaluation.eval_run import EvalRun
    from remind.evaluation.lpips_weights import load_lpips
    from remind.evaluation.recovery_suite import FromControl, FromModel, FromVideos, Recoverer, RecoverySuite
    from remind.evaluation.recovery_suite import write_inputs as write
    from remind.evaluation.recovery_summary import NO_LPIPS
    from remind.training.progress import progress_bar

    if (batch is not None and batch < 1) or (limit is not None and limit < 1) or not 0 <= seed < 2**63:
        raise InputError("batch and limit are 1 or more, a seed is 0 or more", got=f"{batch}, {limit}, {seed}")
    if write_inputs:
        count = write(RecoverySuite(ClipStore.open(data), kinds, limit, seed, None), out)
        print(f"wrote {out}: {count} videos to continue, and inputs.json")
        return
    asked = [name for name, value in (("checkpoint", checkpoint and control != "codec"), ("videos", videos),
                                      ("control", control)) if value]  # fmt: skip
    if len(asked) != 1 or (control == "codec" and not checkpoint):
        raise InputError("a model, a folder of videos or a control is scored", got=", ".join(asked) or "none of them",
                         fix="give one of --checkpoint, --videos, --control; codec with its --checkpoint")  # fmt: skip
    console = Console(stderr=True)
    lpips = load_lpips(lpips_weights, device="cuda" if device.startswith("cuda") else "cpu")
    if lpips is None:
        console.print(f"note: {NO_LPIPS}", markup=False)
    suite = RecoverySuite(ClipStore.open(data), kinds, limit, seed, lpips)
    maker: Recoverer
    about: dict[str, Any] = {}
    hw, usual = None, 8
    if checkpoint:
        pipe, about = load_model(checkpoint, base=base, device=device)
        hw, usual = pipe.hw, 8 if pipe.components.facts.base is None else 1
        suite.check_size(hw)
        options = pipe.options() if steps is None else pipe.options(steps=steps)
        maker = FromModel(pipe, options.sampler) if control is None else FromControl(control, pipe)
        about = about | ({"sampler": repr(options.sampler)} if control is None else {"control": control})
    elif control is not None:
        maker, about = FromControl(control), {"control": control}
    else:
        assert videos is not None
        maker = FromVideos.open(videos, suite.specs)
        about = {"videos": str(videos.resolve())}
        for name, meant in maker.found.missing.items():
            console.print(f"missing: {name}.mp4" + (f" (is it {meant}?)" if meant else ""), markup=False)
        for name in maker.found.extra:
            console.print(f"not expected: {name}", markup=False)
    run = EvalRun(out, suite.identity(about), [spec.name for spec in suite.specs])
    done = len(suite.specs) - len(run.todo(retry_failed=retry))
    with progress_bar("recovery", console, total=len(suite.specs), done=done) as (bar, task):
        suite.run(run, maker, hw=hw, batch=batch or usual, retry_failed=retry, advance=lambda n: bar.advance(task, n))
    counts = suite.finish(run)["counts"]
    print(f"wrote {out / 'scores.json'}: {counts['scored']} videos scored, {counts['failed']} failed "
          f"{counts['reasons'] or ''}".rstrip())  # fmt: skip
