"""Write picture and result tables of README and results page from a demo's `summary.json`: no number typed by hand.

    remind demo --out demo && python experiments/readme/update.py --demo demo
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image, ImageDraw

from remind.demo import choose_clips
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.controls import run_control
from remind.inference.pipeline import RecoveryTask, RemindPipeline

ROWS = {
    "remind": "**ReMind**", "matched": "matched: same clips and cameras, plain curriculum",
    "base": "base: never saw an interruption", "remind_anchor_knocked_out": "ReMind, anchors removed from memory",
    "freeze": "control: the world stops", "reset": "control: the world starts over",
    "copy_anchor": "control: last frame copied", "middle": "control: middle of the range, blindly",
    "linear": "ceiling: true line from measured states",
    "oracle": "ceiling: the truth through the codec",
}
FRAMES = (4, 12, 20, 28, 40, 52, 64, 70, 76, 80)


def table(summary: dict, raw: str) -> str:
    heads = ("", "state progress (mean, 95 %)", "median", "within 15 %", "error after", "state shown",
             "background PSNR")
    lines = ["| " + " | ".join(heads) + " |", "|---" * len(heads) + "|"]
    for name, words in ROWS.items():
        entry = summary["world"][name]
        p, b = entry["state_progress"], entry["background_psnr"]
        within, error, shown = (entry[name]["mean"] for name in ("within_15", "after_error", "shown"))
        lines.append(f"| {words} | {p['mean']:.2f} [{p['low']:.2f}, {p['high']:.2f}] | {p['median']:.2f} | "
                     f"{100 * within:.0f} % | {error:.2f} | {100 * shown:.0f} % | {b['mean']:.1f} dB |")
    p = summary["world"]["remind"]["state_progress"]
    lines += ["", f"State progress over {p['n']} held-out clips (0 = frozen where it was last seen, 1 = where it "
              f"really is); `make demo`, {summary['run']['clips']} clips in all, commit `{summary['commit']}`, "
              f"{summary['machine']['processor']}, {summary['machine']['threads']} threads. Raw numbers: "
              f"[nano-summary.json]({raw})."]
    return "\n".join(lines)


def picture(index: int, out: Path) -> None:
    """Four rows of one test clip: what was seen, the truth, ReMind, the base model."""
    pipelines = {name: RemindPipeline.from_pretrained(name) for name in ("nano", "nano-base")}
    clip = choose_clips(index + 1, pipelines["nano"].hw)[index]
    case = clip.render()
    task = RecoveryTask(case.degraded, case.schedule, index)
    rows = {"seen": case.degraded.rgb, "truth": case.clean.rgb,
            "ReMind": pipelines["nano"].recover([task])[0], "base": pipelines["nano-base"].recover([task])[0],
            "frozen": run_control("freeze", CaseMeter(case))}
    first = CaseMeter(case).first_generated_v2v
    scale, left, gap = 96, 70, 4
    sheet = Image.new("RGB", (left + len(FRAMES) * (scale + gap), len(rows) * (scale + gap) + 20), "white")
    draw = ImageDraw.Draw(sheet)
    for c, frame in enumerate(FRAMES):
        mark = " *" if frame >= first else ""
        draw.text((left + c * (scale + gap) + 4, 4), f"{frame / 16:.1f} s{mark}", fill="black")
    for r, (name, video) in enumerate(rows.items()):
        y = 20 + r * (scale + gap)
        draw.text((6, y + scale // 2 - 6), name, fill="black")
        for c, frame in enumerate(FRAMES):
            if name == "seen" and frame >= first:
                continue
            tile = Image.fromarray(np.asarray(video[frame])).resize((scale, scale), Image.Resampling.BICUBIC)
            sheet.paste(tile, (left + c * (scale + gap), y))
    sheet.save(out)


def main(demo: Path, example: int | None = None, root: Path = Path()) -> None:
    torch.set_num_threads(2)
    summary = json.loads((demo / "summary.json").read_text())
    (root / "docs/results").mkdir(parents=True, exist_ok=True)
    slim = {k: v for k, v in summary.items() if k != "cases"}
    (root / "docs/results/nano-summary.json").write_text(json.dumps(slim, indent=1) + "\n")
    if example is not None:
        (root / "docs/assets").mkdir(parents=True, exist_ok=True)
        picture(example, root / "docs/assets/recovery.png")
    for page, raw in (("README.md", "docs/results/nano-summary.json"), ("docs/results/nano.md", "nano-summary.json")):
        filled = f"<!-- results -->\n{table(summary, raw)}\n<!-- /results -->"
        text = (root / page).read_text()
        before, _, rest = text.partition("<!-- results -->")
        (root / page).write_text(before + filled + rest.partition("<!-- /results -->")[2])


if __name__ == "__main__":
    tyro.cli(main)
