"""Example cases of the report: what a model was given, what was true, and what each model made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.report_charts import state_curves
from remind.evaluation.report_media import (
    PHASE_COLOURS,
    PHASES,
    mp4_uri,
    phase_of,
    side_by_side,
    strip_frames,
    strip_png,
)
from remind.evaluation.report_text import KIND_WORDS
from remind.evaluation.world_benchmark import CaseScore
from remind.frame_graph import Schedule

_NOT_GIVEN = 128  # grey


@dataclass(frozen=True)
class Example:
    """One case to look at.

    Args:
        name: of the scene and seed.
        caption: the prompt.
        kind: of the interruption.
        schedule: when.
        first_generated: frames before this were given, the rest generated.
        given: the degraded track; only its given frames are shown.
        truth: the same scene without any interruption: what went on out of sight.
        videos: row label -> full-length video, in order.
        true_state: per frame.
        measured: model -> state per frame, NaN where not shown.
        note: one line, such as the state progress of each model.
        fps: frames per second.
    """

    name: str
    caption: str
    kind: str
    schedule: Schedule
    first_generated: int
    given: UInt8[Tensor, "t h w 3"]
    truth: UInt8[Tensor, "t h w 3"]
    videos: Mapping[str, UInt8[Tensor, "t h w 3"]]
    true_state: Float[np.ndarray, " t"]
    measured: Mapping[str, Float[np.ndarray, " t"]]
    note: str = ""
    fps: float = 16.0


def make_example(
    meter: CaseMeter,
    videos: Mapping[str, UInt8[Tensor, "t h w 3"]],
    scores: Mapping[str, CaseScore],
    *,
    generated_from: int | None = None,
) -> Example:
    """An example from what scoring left behind.

    Args:
        meter: of the case.
        videos: the models to show, in order of rows.
        scores: of at least these models on this case.
        generated_from: first generated frame; None = where video-to-video generation starts.
    """
    case = meter.case
    measured = {
        name: np.array([np.nan if v is None else v for v in scores[name].measured]) for name in videos
    }
    return Example(
        name=case.scene.scene_id,
        caption=case.clean.caption,
        kind=case.recipe.kind,
        schedule=case.schedule,
        first_generated=meter.first_generated_v2v if generated_from is None else generated_from,
        given=case.degraded.rgb,
        truth=case.clean.rgb,
        videos=videos,
        true_state=meter.true_state.double().numpy(),
        measured=measured,
        note=_note({name: scores[name] for name in videos}),
        fps=case.clean.fps,
    )


def _note(scores: Mapping[str, CaseScore]) -> str:
    """The measure that fits how the scene moves, for each model."""
    motions = {score.motion for score in scores.values()}
    if motions == {"discrete"}:
        said = {n: None if s.accuracy is None else f"{100 * s.accuracy:.0f} %" for n, s in scores.items()}
        title = "afterwards as open or shut as it should be, share of frames"
    elif motions == {"periodic"}:
        said = {n: None if s.after_error is None else f"{s.after_error:.2f}" for n, s in scores.items()}
        title = "phase error afterwards in turns (chance 0.25)"
    else:
        said = {
            n: None if s.progress is None else f"{round(s.progress, 2) + 0.0:.2f}" for n, s in scores.items()
        }
        title = "state progress"
    known = [f"{name} {value}" for name, value in said.items() if value is not None]
    return f"{title}: {', '.join(known)}" if known else "too little changed out of sight for a score"


def examples_section(examples: Sequence[Example]) -> str:
    """Strips, clips and curves of all examples; empty if there are none."""
    if not examples:
        return ""
    phases = "".join(f'<span style="background:{PHASE_COLOURS[p]}">{p}</span>' for p in PHASES)
    cards = "".join(_card(example) for example in examples)
    return (
        f'<h2>Look for yourself</h2><p class="phases">Phases of a clip: {phases}</p><p class="soft">'
        "Numbers are frames. Grey was not given: the model had to make it. All rows of a clip "
        "play in step.</p>"
        f"{cards}"
    )


def _card(example: Example) -> str:
    given = example.given.clone()
    given[example.first_generated :] = _NOT_GIVEN
    rows = {"given": given, "truth, never interrupted": example.truth, **example.videos}
    frames = strip_frames(example.schedule)
    heads = "".join(
        f'<span style="background:{PHASE_COLOURS[phase_of(f, example.schedule)]}">{f}</span>' for f in frames
    )
    strips = "".join(
        f'<div class="row"><b>{escape(label)}</b><img alt="{escape(label, quote=True)}: frames in order" '
        f'src="{strip_png(video, frames)}"></div>'
        for label, video in rows.items()
    )
    clip = mp4_uri(side_by_side(rows, example.schedule), example.fps)
    curves = state_curves(example.true_state, example.measured, example.schedule)
    return (
        f'<section class="card"><h3>{escape(example.name)} '
        f'<span class="soft">/ {escape(example.kind)}</span></h3>'
        f"<p>&ldquo;{escape(example.caption)}&rdquo; "
        f'<span class="soft">{escape(KIND_WORDS.get(example.kind, ""))}</span></p>'
        f'<p class="soft">{escape(example.note)}</p><div class="scroll"><div class="strip">'
        f'<div class="row"><b></b><div class="heads">{heads}</div></div>{strips}</div></div>'
        f'<div class="two"><video src="{clip}" controls loop muted playsinline preload="metadata"></video>'
        f"<div>{curves}</div></div></section>"
    )
