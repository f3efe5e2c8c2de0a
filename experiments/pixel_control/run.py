"""How well pixels alone tell whether an interruption was obeyed: against the world's truth, by kind and picture size.

    python experiments/pixel_control/run.py --clips 10 --out experiments/pixel_control/results/world.json

Every clip is rendered, interrupted and shown in several ways that obey (the truth, and futures in which the world stood
still or was reset) and several that do not (no interruption, one frame for ever, a view that never
comes back, one that comes back to another place, a half effect, another kind). What is right is known, since each was
made that way. `observation.py`, which knows the truth of every pixel, is asked too.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from remind.data.world_clips import TEST_SEEDS, VALIDATION_SEEDS, WorldClip, make_world_clip
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.controls import Control, run_control
from remind.evaluation.observation import observe
from remind.evaluation.pixel_control import VERSION, check_control, find_cuts
from remind.evaluation.statistics import bootstrap
from remind.frame_graph import InterruptionKind
from remind.models.codec import LinearCodec

KINDS: tuple[InterruptionKind, ...] = (
    "light_toggle", "flicker", "blink", "occluder", "cardboard", "curtain", "camera_loop",
)  # fmt: skip
OBEY: tuple[Control, ...] = ("oracle", "freeze", "reset")
SIZES = ((32, 32), (64, 64))


def videos(case: WorldClip, meter: CaseMeter, elsewhere: WorldClip) -> Iterator[tuple[str, bool, Tensor]]:
    """Name, whether it obeys, and frames."""
    event, rgb, clean = case.schedule.interruptions[0], case.degraded.rgb, case.clean.rgb
    for name in OBEY:
        yield name, True, run_control(name, meter, generated_from=1)
    yield "uninterrupted", False, clean
    yield "one frame", False, run_control("copy_anchor", meter, generated_from=1)
    stays = rgb.clone()
    stays[event.hidden_stop :] = rgb[(event.hidden_start + event.hidden_stop) // 2]
    yield "never back", False, stays
    other = rgb.clone()
    other[event.hidden_stop :] = elsewhere.clean.rgb[event.hidden_stop :]
    yield "another place", False, other
    half = rgb.clone()
    half[event.start : event.stop] = ((rgb.float() + clean.float()) / 2).to(torch.uint8)[event.start : event.stop]
    if case.recipe.kind != "camera_loop":  # two views at once are none
        yield "half", False, half
    if case.recipe.kind == "camera_loop":
        dark = clean.clone()
        dark[event.hidden_start : event.hidden_stop] = 0
        yield "dark instead", False, dark
    if case.recipe.kind in ("light_toggle", "flicker", "blink"):
        grey = clean.clone()
        grey[event.hidden_start : event.hidden_stop] = 150
        yield "covered instead", False, grey


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=10)
    parser.add_argument("--seeds", choices=("validation", "test"), default="test")
    parser.add_argument("--out", type=Path)
    asked = parser.parse_args()
    codec = LinearCodec.load()
    start = (TEST_SEEDS if asked.seeds == "test" else VALIDATION_SEEDS).start + 40_000
    counts: dict[str, Counter[str]] = {}
    missed: Counter[str] = Counter()
    seconds, num = 0.0, 0

    def tell(group: str, right: bool, said: bool) -> None:
        name = ("true" if right == said else "false") + (" positive" if said else " negative")
        counts.setdefault(group, Counter())[name] += 1

    for hw in SIZES:
        for k, kind in enumerate(KINDS):
            for number in range(asked.clips if hw[0] < 64 else max(1, asked.clips // 2)):
                seed = start + 1000 * k + number
                case = make_world_clip(seed, hw=hw, kind=kind)
                meter = CaseMeter(case)
                elsewhere = make_world_clip(seed + 500, hw=hw, kind=kind)
                event = case.schedule.interruptions[0]
                for name, right, rgb in videos(case, meter, elsewhere):
                    truth = observe(rgb, meter)
                    assert truth is not None
                    for through, frames in (("rendered", rgb), ("codec", codec.decode(codec.encode(rgb[None]))[0])):
                        began = time.perf_counter()
                        found = check_control(frames, kind, times=event)
                        seconds, num = seconds + time.perf_counter() - began, num + 1
                        group = f"{hw[0]}x{hw[1]} {through}"
                        tell(f"{group} | {kind}", right, found.passed)
                        tell(group, right, found.passed)
                        tell(f"{through} | {kind}", right, found.passed)
                        tell(f"{through} | no times", right, check_control(frames, kind).passed)
                        if through == "rendered":
                            tell("with the truth beside it (observation.py)", right, truth.passed)
                        if kind == "camera_loop" and name == "oracle":
                            tell(f"{through} | measured cameras", True,
                                 check_control(frames, kind, times=event, cameras=case.degraded.cameras).passed)
                            tell(f"{through} | measured cameras", False,
                                 check_control(frames, kind, times=event, cameras=case.clean.cameras).passed)
                        if right != found.passed:
                            missed[f"{through} | {kind} | {name} | {found.why or 'passed'}"] += 1
                for through, frames in (("rendered", case.clean.rgb),
                                        ("codec", codec.decode(codec.encode(case.clean.rgb[None]))[0])):
                    tell(f"{through} | cut", False, bool(find_cuts(frames)))
                    cut = frames.clone()
                    cut[40:] = elsewhere.clean.rgb[40:]
                    tell(f"{through} | cut", True, find_cuts(cut) == (40,))
            print(hw, kind, dict(counts[f"{hw[0]}x{hw[1]} rendered | {kind}"]), flush=True)
    rows = {}
    for group, count in counts.items():
        tp, fp, fn, tn = (count[name] for name in ("true positive", "false positive", "false negative",
                                                   "true negative"))  # fmt: skip
        rows[group] = {"true_positive": tp, "false_positive": fp, "false_negative": fn, "true_negative": tn}
        for name, k, n in (("precision", tp, tp + fp), ("recall", tp, tp + fn)):
            share = bootstrap([1.0] * k + [0.0] * (n - k), "share")
            rows[group][name] = {"value": share.value, "low": share.low, "high": share.high, "k": k, "n": n}
    result = {"version": VERSION, "seeds": asked.seeds, "first_seed": start, "clips": asked.clips,
              "videos_per_minute": round(60 * num / seconds), "groups": rows,
              "mistakes": dict(missed.most_common())}  # fmt: skip
    text = json.dumps(result, indent=1)
    if asked.out:
        asked.out.write_text(text + "\n")
    for group, row in rows.items():
        if " | " not in group or not group[0].isdigit():
            print(f"{group:45s} precision {row['precision']['k']}/{row['precision']['n']} "
                  f"recall {row['recall']['k']}/{row['recall']['n']}")  # fmt: skip
    print("\n".join(f"{n:4d} {what}" for what, n in missed.most_common(30)))
    print(result["videos_per_minute"], "videos a minute")


if __name__ == "__main__":
    main()
