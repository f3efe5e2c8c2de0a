"""Pictures of plans: edges as in the graph, colours of what is there, the same bytes twice."""

from __future__ import annotations

from dataclasses import astuple
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from matplotlib.colors import to_rgb
from PIL import Image

from remind.data.figure_style import ROLE_COLORS, VERMILION
from remind.errors import InputError
from remind.frame_graph import FrameGraph, Interruption, Schedule
from remind.prompt_schedule import chunk_prompts
from remind.sequence_plan import SequencePlan
from remind.training.plan_picture import colored, memory_edges, save_plans
from remind.training.regimes import REGIMES, BatchChoices, RegimeOptions

from .test_regimes import any_seed, build, graphs

pytestmark = pytest.mark.filterwarnings("ignore:Do not use the .random. module")

GRAPH = FrameGraph(Schedule(81, (Interruption("light_toggle", 24, 27, 57, 60),)))
SHARES = RegimeOptions(memory_noise_share=0.9, anchor_drop_share=1.0, clean_prefix_share=0.0, clean_target_share=0.0)


def plan(name: str) -> SequencePlan:
    return REGIMES[name](GRAPH, np.random.default_rng(3), SHARES, BatchChoices(5, 2, 4))


def share_of(path: Path, color: str) -> float:
    pixels = np.asarray(Image.open(path).convert("RGB"))
    return float((pixels == np.round(255 * np.array(to_rgb(color))).astype(np.uint8)).all(-1).mean())


@given(graph=graphs(), seed=any_seed)
@settings(deadline=None, max_examples=60)
def test_edges_of_a_plan_are_those_of_the_graph(graph: FrameGraph, seed: int) -> None:
    for name in ("all_history", "noisy_memory", "node_drop"):
        made = build(name, graph, seed)
        found = memory_edges(made)
        # A recovery chunk that is anchor to the next interruption is one of its anchors too.
        assert sorted(astuple(edge) for _, _, edge in found) == sorted(map(astuple, graph.edges))
        for reader, read, edge in found:
            assert made.entries[reader].is_supervised
            assert read in made.entries[reader].sees
            assert (made.entries[reader].chunk, made.entries[read].chunk) == (edge.recovery, edge.anchor)


def test_edges_of_a_reference_plan_start_at_its_first_target() -> None:
    found = memory_edges(plan("reference_cache"))
    assert [(reader, read, edge.gap_chunks) for reader, read, edge in found] == [(4, 0, 4), (4, 1, 3)]
    assert [(r, edge.gap_chunks) for _, r, edge in memory_edges(plan("v2v_frontier"))] == [(0, 6), (1, 5)]


def test_all_regimes_in_one_picture(tmp_path: Path) -> None:
    plans = [plan(name) for name in REGIMES]
    told = [p.told(chunk_prompts("a cup", Schedule(81)), chunk_prompts("a cup", GRAPH.schedule)) for p in plans]
    save_plans(plans, tmp_path / "all.png", told=told)
    assert [file.name for file in tmp_path.iterdir()] == ["all.png"]
    for color in (ROLE_COLORS["anchor"], ROLE_COLORS["degraded"], ROLE_COLORS["reference"], VERMILION):
        assert share_of(tmp_path / "all.png", color) > 0.002
    width, height = Image.open(tmp_path / "all.png").size
    assert width > 1500
    assert height > 1500


def test_the_picture_shows_what_differs_and_only_that(tmp_path: Path) -> None:
    for name, shown in (("a", "all_history"), ("b", "all_history"), ("c", "node_drop"), ("d", "v2v_frontier")):
        save_plans([plan(shown)], tmp_path / f"{name}.png")
    a, b, c, d = ((tmp_path / f"{name}.png").read_bytes() for name in "abcd")
    assert a == b != c
    anchor, loss = ROLE_COLORS["anchor"], VERMILION
    assert share_of(tmp_path / "c.png", anchor) < 0.75 * share_of(tmp_path / "a.png", anchor)  # one of two is noise
    in_loss = [share_of(tmp_path / f"{name}.png", loss) * Image.open(tmp_path / f"{name}.png").size[1] for name in "ad"]
    assert in_loss[1] < 0.5 * in_loss[0]  # 6 of 20 latent frames
    assert len(d) > 0


def test_the_terminal_says_what_draw_says_in_colours() -> None:
    for name in REGIMES:
        made = plan(name)
        text = colored(made)
        assert text.plain == made.draw()
        assert any("magenta" in str(span.style) for span in text.spans) == (name == "reference_cache")
        green = [text.plain[span.start : span.end] for span in text.spans if "green" in str(span.style)]
        assert green == ["s*"] * sum(sum(entry.supervised) for entry in made.entries)
    assert colored(made, ["p"] * len(made.entries)).plain == made.draw(["p"] * len(made.entries))


def test_what_cannot_be_drawn_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no plan"):
        save_plans([], tmp_path / "none.png")
    with pytest.raises(InputError, match="prompts do not belong"):
        save_plans([plan("node_drop")], tmp_path / "none.png", told=[["one"]])
    with pytest.raises(InputError, match=r"\.png"):
        save_plans([plan("node_drop")], tmp_path / "none.gif")
    with pytest.raises(InputError, match="cannot write"):
        save_plans([plan("node_drop")], tmp_path / "missing" / "none.png")
    assert list(tmp_path.iterdir()) == []
