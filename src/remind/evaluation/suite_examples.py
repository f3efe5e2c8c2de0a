"""Examples of evaluations to look at: the videos of all runs side by side, chosen by the first run's result."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import torch
from einops import rearrange
from jaxtyping import UInt8
from torch import Tensor
from torch.nn.functional import interpolate

from remind.errors import RemindError
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.compare_runs import LoadedRun, measures_of, values_of
from remind.evaluation.found_videos import read_video
from remind.evaluation.report_examples import Example, examples_section, make_example
from remind.evaluation.report_media import mp4_uri, side_by_side
from remind.evaluation.suite_tables import videos_of
from remind.evaluation.world_files import read_case_video
from remind.evaluation.world_scores import case_score
from remind.evaluation.world_suite import NUM_FRAMES, SuiteCase, whole_suite
from remind.frame_graph import Schedule
from remind.prompt_schedule import FPS

MAX_SHOWN_PX = 256  # of the larger side; a page must stay small
MAX_SHOWN_FRAMES = 200


def choose_examples(runs: Sequence[LoadedRun], count: int) -> list[str]:
    """Examples that all runs have a score of: the best, the worst and some between, by the first run's first measure.

    Our choice, so that nobody picks the prettiest: evenly spaced ranks. For state progress, which is best at 1, by the
    distance to 1.
    """
    names = sorted(runs[0].records)
    scored = [name for name in names if all(run.records[name].status == "scored" for run in runs)]
    for key, measure in measures_of(runs).items():
        values = dict(zip(names, values_of(runs[0], key, measure), strict=True))
        ranked = sorted((abs(1 - value) if key == "progress" else -value, name) for name in scored
                        if (value := values[name]) is not None)  # fmt: skip
        if len(ranked) >= 2:
            places = torch.linspace(0, len(ranked) - 1, min(count, len(ranked))).round().int().tolist()
            return [ranked[place][1] for place in dict.fromkeys(places)]
    return scored[:count]


def suite_examples(runs: Sequence[LoadedRun], count: int) -> str:
    """Cards of some examples as HTML; empty where no video can be read."""
    names = choose_examples(runs, count)
    if runs[0].suite == "world":
        return world_cards(runs, names)
    cards = [card for name in names if (card := _plain_card(runs, name))]
    return "<h3>Examples</h3>" + "".join(cards) if cards else ""


def path_of(run: LoadedRun, path: str) -> Path:
    """Where a video is that a record names."""
    return Path(path) if Path(path).is_absolute() else run.folder / path


def world_cards(runs: Sequence[LoadedRun], names: Sequence[str]) -> str:
    """Strips, clips and state curves of clips of the world benchmark."""
    test_set, scored = runs[0].identity["test_set"], runs[0].identity["scored_hw"]
    cases = {case.id: case for case in whole_suite(test_set["name"]).cases}
    examples = [made for name in names if name in cases
                and (made := _world_example(runs, cases[name], (int(scored[0]), int(scored[1])))) is not None]
    return examples_section(examples)


def _world_example(runs: Sequence[LoadedRun], case: SuiteCase, hw: tuple[int, int]) -> Example | None:
    videos: dict[str, UInt8[Tensor, "t h w 3"]] = {}
    for run in runs:
        for _, path in videos_of(run.records[case.id].about)[:1]:
            try:
                videos[run.name] = read_case_video(path_of(run, path), hw, NUM_FRAMES)
            except RemindError:
                continue
    if not videos:
        return None
    scores = {run.name: case_score(run.records[case.id].scores) for run in runs if run.name in videos}
    first = int(runs[0].records[case.id].about.get("first_generated_frame", 1))
    return make_example(CaseMeter(case.render(hw)), videos, scores, generated_from=first)


def _plain_card(runs: Sequence[LoadedRun], name: str) -> str:
    panels: dict[str, UInt8[Tensor, "t h w 3"]] = {}
    for run in runs:
        for label, path in videos_of(run.records[name].about):
            try:
                panels[" ".join(filter(None, (run.name, label)))] = _small(read_video(path_of(run, path)))
            except RemindError:
                continue
    if not panels:
        return ""
    clip = mp4_uri(side_by_side(_alike(panels), Schedule(min(map(len, panels.values())))), FPS)
    words = runs[0].records[name].about.get("prompt", "")
    return (f'<section class="card"><h3>{escape(name)}</h3><p>{escape(str(words))}</p>'
            f'<video src="{clip}" controls loop muted playsinline preload="metadata"></video></section>')  # fmt: skip


def _small(rgb: UInt8[Tensor, "t h w 3"]) -> UInt8[Tensor, "t h w 3"]:
    larger = max(rgb.shape[1:3])
    rgb = rgb[:MAX_SHOWN_FRAMES]
    if larger <= MAX_SHOWN_PX:
        return rgb
    height, width = (max(2, round(side * MAX_SHOWN_PX / larger)) for side in rgb.shape[1:3])
    return _resized(rgb, (height, width))


def _alike(panels: Mapping[str, UInt8[Tensor, "t h w 3"]]) -> dict[str, UInt8[Tensor, "t h w 3"]]:
    """Of one size, and as long as the shortest."""
    hw, length = next(iter(panels.values())).shape[1:3], min(map(len, panels.values()))
    return {name: _resized(rgb[:length], (hw[0], hw[1])) for name, rgb in panels.items()}


def _resized(rgb: UInt8[Tensor, "t h w 3"], hw: tuple[int, int]) -> UInt8[Tensor, "t h w 3"]:
    if tuple(rgb.shape[1:3]) == hw:
        return rgb
    found = interpolate(rearrange(rgb.float(), "t h w c -> t c h w"), hw, mode="bilinear", antialias=True)
    return rearrange(found.round().clamp(0, 255).to(torch.uint8), "t c h w -> t h w c").contiguous()
