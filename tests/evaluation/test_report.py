"""The report: complete, self-contained, escaped, and never half-written."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from html.parser import HTMLParser

import av
import numpy as np
import pytest
import torch
from PIL import Image

from remind.errors import InputError
from remind.evaluation.aggregate import aggregate, compare
from remind.evaluation.controls import run_control
from remind.evaluation.kv_importance import KVImportance
from remind.evaluation.report import ReportData, render_report, write_report
from remind.evaluation.report_examples import make_example
from remind.evaluation.report_media import mp4_uri, phase_of, side_by_side, strip_frames, strip_png
from remind.evaluation.world_benchmark import score_video
from remind.frame_graph import Interruption, Schedule

SCHEDULE = Schedule(81, (Interruption("occluder", 24, 28, 57, 61),))
NASTY = '<script>alert("x")</script>'


@pytest.fixture(scope="module")
def data(metered, calibration) -> ReportData:
    names = {"remind": "linear", "base": "reset", "freeze": "freeze", "oracle": "oracle"}
    videos = [{n: run_control(c, m.meter) for n, c in names.items()} for m in metered[:3]]
    scores = {
        n: [score_video(metered[i].case, videos[i][n], metered[i].meter, calibration) for i in range(3)]
        for n in names
    }
    examples = [make_example(metered[i].meter, videos[i], {n: scores[n][i] for n in names}) for i in range(2)]
    mass = np.full((7, 7), np.nan)
    mass[6, [0, 1, 5, 6]] = [0.5, 0.2, 0.1, 0.2]
    return ReportData(
        world={n: aggregate(s) for n, s in scores.items()},
        machine={"cores": 2, "processor": NASTY},
        commit="0123abc",
        run={"command": "remind demo --out DIR"},
        examples=[dataclasses.replace(examples[0], caption=NASTY, name=NASTY, note=NASTY), examples[1]],
        kv_importance={"remind": KVImportance(mass, mass, "mean over everything", 3)},
        comparisons={"remind - base": compare(scores["remind"], scores["base"])},
        caveats=[NASTY],
    )


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.links = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [v for k, v in attrs if k in ("src", "href", "poster", "data", "srcset") and v]
        if tag not in ("meta", "img", "br", "line", "rect", "circle", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in ("meta", "img", "br", "line", "rect", "circle", "polyline"):
            self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_page_is_whole_and_loads_nothing(data, tmp_path):
    write_report(tmp_path / "out" / "report.html", data)
    text = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    page = Page()
    page.feed(text)
    assert page.open == []
    assert page.tags.count("video") == 2
    assert page.links
    assert all(link.startswith("data:") for link in page.links)
    assert not re.search(r"url\((?!#)|@import|https?://", text)
    assert NASTY not in text
    assert text.count("<script>") == 1
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["report.html", "summary.json"]


def test_summary_keeps_the_contract(data, tmp_path):
    write_report(tmp_path / "report.html", data)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert set(summary) >= {"world", "kv_importance", "machine", "commit"}
    entry = summary["world"]["remind"]
    assert set(entry["state_progress"]) >= {"mean", "low", "high", "median", "n"}
    assert set(entry["within_15"]) >= {"mean", "low", "high"}
    assert entry["background_psnr"]["mean"] > 0
    assert summary["kv_importance"]["remind"]["mass"][6][2] is None


def test_numbers_that_are_no_numbers_stop_it(data, tmp_path):
    broken = dataclasses.replace(data, world={"remind": {"state_progress": {"mean": float("nan")}}})
    with pytest.raises(InputError, match="not finite"):
        write_report(tmp_path / "report.html", broken)
    with pytest.raises(InputError, match="at least one model"):
        write_report(tmp_path / "report.html", dataclasses.replace(data, world={}))
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot be written"):
        write_report(tmp_path / "file" / "report.html", data)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


def test_a_bare_report_still_renders():
    assert "no clip to score" in render_report(ReportData({"remind": {}}, {}, "none"))


def test_hatched_cells_are_the_unavailable_ones(data):
    text = render_report(data)
    assert text.count('class="absent"') == 6 - 3  # chunk 6 may read 0..5; three of them were there


def test_phases_and_strip():
    assert [phase_of(f, SCHEDULE) for f in (0, 23, 24, 28, 56, 57, 60, 61)] == [
        "before", "before", "changing", "hidden", "hidden", "changing", "changing", "after",
    ]  # fmt: skip
    frames = strip_frames(SCHEDULE)
    assert len(frames) == 12
    assert {phase_of(f, SCHEDULE) for f in frames} == {"before", "changing", "hidden", "after"}


def test_strip_is_nearest_neighbour():
    rgb = torch.randint(0, 256, (81, 32, 32, 3), dtype=torch.uint8)
    image = Image.open(io.BytesIO(base64.b64decode(strip_png(rgb, [0, 5]).split(",")[1])))
    assert image.size == (2 * (128 + 4), 128)
    cell = np.asarray(image)[:, 2:130, :3]
    assert np.array_equal(cell[::4, ::4], rgb[0].numpy())


def test_clip_decodes_to_what_was_given():
    rgb = torch.zeros(81, 32, 32, 3, dtype=torch.uint8)
    rgb[:, :, :, 0] = torch.arange(81)[:, None, None] * 3
    panels = side_by_side({"a": rgb, "b": rgb, "c": rgb, "d": rgb}, SCHEDULE)
    data = base64.b64decode(mp4_uri(panels, 16.0).split(",")[1])
    with av.open(io.BytesIO(data)) as container:
        frames = [f.to_ndarray(format="rgb24") for f in container.decode(video=0)]
    assert len(frames) == 81
    assert frames[0].shape == panels.shape[1:]
    assert abs(int(frames[40][100, 100, 0]) - 120) <= 8
    with pytest.raises(InputError, match="one size"):
        side_by_side({"a": rgb, "b": rgb[:9]}, SCHEDULE)
