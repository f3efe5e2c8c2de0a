"""Tables of the world benchmark from its records. Shares are in percent with integer counts; what failed is in none.

The headline takes the part `main`: what hides, in families and by kinds as in training. What was never trained on and
what hides nothing have rows of their own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from remind.evaluation.eval_run import Record
from remind.evaluation.score_cells import Cell, mean_cell, row, share_cell, table
from remind.evaluation.statistics import bootstrap
from remind.evaluation.world_scores import Mode
from remind.evaluation.world_suite import PARTS

Scores = Mapping[str, Any]

MEASURES: dict[str, dict[str, str]] = {
    "progress": {"title": "state progress", "better": "higher", "only": "ramp"},
    "within_15": {"title": "within 15 %", "better": "higher", "only": "ramp"},
    "in_phase": {"title": "in phase", "better": "higher", "only": "periodic"},
    "accuracy": {"title": "accuracy of switching scenes", "better": "higher", "only": "discrete"},
    "after_error": {"title": "state error after", "better": "lower"},
    "shown_share": {"title": "shown", "better": "higher"},
    "plausible": {"title": "plausible", "better": "higher"},
    "steady": {"title": "steady", "better": "higher"},
    "coherent": {"title": "coherent", "better": "higher"},
    "observation": {"title": "observation control", "better": "higher"},
    "action": {"title": "action control", "better": "higher"},
    "background_psnr_db": {"title": "background PSNR, dB", "better": "higher"},
    "psnr_after_db": {"title": "PSNR after, dB", "better": "higher"},
}
"""What runs are compared by, and for which motion of the state it counts."""


@dataclass(frozen=True)
class _Clip:
    """A scored clip: what it is, and its scores."""

    about: Mapping[str, Any]
    scores: Scores


def summarise(records: Mapping[str, Record], mode: Mode, *, extra: Sequence[str] = ()) -> dict[str, Any]:
    """All tables of a run.

    Args:
        records: of all clips.
        mode: what was given.
        extra: names of videos that no clip expects.
    """
    clips = [_Clip(r.about, r.scores) for r in records.values() if r.status == "scored"]
    main = [c for c in clips if c.about["part"] == "main"]
    applied = [c for c in main if c.scores["applied"]]
    parts = [(part, [c for c in clips if c.about["part"] == part]) for part in PARTS]
    given = "all before the view returns was given" if mode == "v2v" else "the first frame was given"
    rows = [("all clips", main), ("interruption applied", applied),
            ("not applied", [c for c in main if c.scores["applied"] is False])]  # fmt: skip
    return {
        "measures": MEASURES,
        "extra_videos": list(extra),
        "left_out": _left_out(main),
        "tables": [
            _five(f"Five measures, {mode.upper()}", rows,
                  f"Part main; {given}. Applied: at least 80 % of the frames asked to be hidden are."),
            _five("By part of the test set", parts, "Never trained on: unseen kinds and families. Zoom hides nothing."),
            _five("By part, where the interruption was applied",
                  [(name, [c for c in some if c.scores["applied"]]) for name, some in parts if name != "zoom"]),
            _by("By interruption", [c for c in clips if c.about["part"] in ("main", "unseen_kinds", "zoom")], "kind"),
            _by("By gap, hidden frames", main, "gap_frames",
                "16 frames a second. Clips of short gaps are of faster scenes: each hides a quarter of its range."),
            _by("By family", [c for c in clips if c.about["part"] in ("main", "unseen_families")], "family"),
            _phases(main),
            _apart(main),
        ],
    }  # fmt: skip


def _five(title: str, groups: Iterable[tuple[str, Sequence[_Clip]]], note: str = "") -> dict[str, Any]:
    return table(title, [row(name, _measures(clips)) for name, clips in groups], note)


def _by(title: str, clips: Sequence[_Clip], key: str, note: str = "") -> dict[str, Any]:
    names = sorted({c.about[key] for c in clips if c.about[key] is not None})
    groups = [(str(name), [c for c in clips if c.about[key] == name]) for name in names]
    if key == "kind" and (hidden_by := [g for g in groups if g[0] == "zoom"]):
        groups = [g for g in groups if g[0] != "zoom"] + hidden_by
    return _five(title, groups, note)


def _measures(clips: Sequence[_Clip]) -> dict[str, Cell]:
    ramps = [c for c in clips if c.scores["motion"] == "ramp"]
    return {
        "state progress": _mean(ramps, "progress"),
        "its median": _median(ramps, "progress"),
        "within 15 %, %": _share(ramps, "within_15"),
        "state error after": _mean(clips, "after_error"),
        "shown": _mean(clips, "shown_share"),
        "plausible, %": _share(clips, "plausible"),
        "steady, %": _share(clips, "steady"),
        "coherent, %": _share(clips, "coherent"),
        "observation control, %": _share(clips, "observation"),
        "action control, %": _share(clips, "action"),
        "background PSNR, dB": _mean(clips, "background_psnr_db"),
    }


def _phases(clips: Sequence[_Clip]) -> dict[str, Any]:
    def cells(phase: str) -> dict[str, Cell]:
        found = {"PSNR of frames, dB": _mean(clips, f"psnr_{phase}_db")}
        if phase != "during":
            found["state error"] = _mean(clips, f"{phase}_error")
        if phase == "during":
            found["hidden as asked, share of frames"] = _mean(clips, "seen_hidden_share")
            found["interruption applied, %"] = _share(clips, "applied")
        if phase == "after":
            found["view back, share of frames"] = _mean(clips, "seen_returned_share")
        return found

    return table("By phase", [row(phase, cells(phase)) for phase in ("before", "during", "after")],
                 "Part main. PSNR to what a camera would have seen; identical pictures count as 60 dB. "
                 "Frames that were given are in it.")  # fmt: skip


def _apart(clips: Sequence[_Clip]) -> dict[str, Any]:
    """Turning and switching scenes, which have no place in the headline."""
    turning, switching = ([c for c in clips if c.scores["motion"] == m] for m in ("periodic", "discrete"))
    moved = [c for c in switching if c.scores["eligible"]]
    return table("Turning and switching scenes", [
        row("turning", {"in phase, %": _share(turning, "in_phase"), "phase error, turns": _mean(turning, "after_error"),
                        "state progress": _mean(turning, "progress")}),
        row("switching", {"frames on the right side, share": _mean(switching, "accuracy")}),
        row("switched while hidden", {"frames on the right side, share": _mean(moved, "accuracy")}),
    ], "Part main. In phase: mean error of at most 0.1 turns; chance level of the error is 0.25.")  # fmt: skip


def _left_out(clips: Sequence[_Clip]) -> dict[str, int]:
    """Why clips of the part main are not behind a number."""
    return {
        "no camera sees the state afterwards": sum(not c.scores["observable"] for c in clips),
        "too little happened while hidden": sum(not c.scores["eligible"] for c in clips
                                                if c.scores["motion"] != "discrete"),
        "no background": sum(c.scores["background_psnr_db"] is None for c in clips),
        "switching scene without an event": sum(c.scores["motion"] == "discrete" and c.scores["observable"]
                                                and c.scores["action"] is None for c in clips),
    }  # fmt: skip


def _values(clips: Sequence[_Clip], key: str) -> list[Any]:
    return [c.scores[key] for c in clips if c.scores[key] is not None]


def _mean(clips: Sequence[_Clip], key: str) -> Cell:
    return mean_cell(_values(clips, key))


def _median(clips: Sequence[_Clip], key: str) -> Cell:
    found = bootstrap(_values(clips, key), "median")
    return {"value": found.value, "low": found.low, "high": found.high, "n": found.n}


def _share(clips: Sequence[_Clip], key: str) -> Cell:
    return share_cell(_values(clips, key))


__all__ = ["MEASURES", "summarise"]
