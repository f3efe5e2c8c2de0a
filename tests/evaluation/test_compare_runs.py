"""Comparing and reporting runs: paired statistics against scipy, and what must be refused is refused by name."""

from __future__ import annotations

import csv
import io
import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from scipy import stats

from remind.errors import InputError
from remind.evaluation.compare_runs import compare_runs, load_runs
from remind.evaluation.eval_run import EvalRun, Record
from remind.evaluation.statistics import holm, paired_difference, paired_p_value
from remind.evaluation.suite_report import write_suite_report
from remind.evaluation.suite_tables import latex, number, tables_latex

NASTY = "<script>alert('x')</script>"


def make_run(folder, values, *, failed=(), title="Results", **identity):
    """A finished run of a made-up suite: a score an example."""
    ids = [f"clip-{i}" for i in range(len(values))]
    run = EvalRun(folder, {"suite": "toy", "version": "1", "test_set": {"name": "toy-1", "examples": len(ids)},
                           **identity}, ids)  # fmt: skip
    for i, (name, value) in enumerate(zip(ids, values, strict=True)):
        if i in failed:
            run.write(Record(name, "failed", {}, {"prompt": NASTY}, "missing"))
        else:
            run.write(Record(name, "scored", {"score": value, "yes": value > 0.5, "words": "no number"},
                             {"prompt": NASTY, "video": f"videos/{name}.mp4"}))  # fmt: skip
    cell = {"value": float(np.mean(values)), "low": -0.25, "high": 0.75, "n": len(values), "k": 3}
    run.finish({"tables": [{"title": title, "rows": [{"name": "all_of & it", "cells": {
        "score, %": cell, "none": {"value": None, "low": None, "high": None, "n": 0}}}], "note": "of 100 %",
    }]})  # fmt: skip
    return folder


@pytest.fixture
def two(tmp_path):
    rng = np.random.default_rng(0)
    a = rng.random(30)
    b = a - 0.1 + 0.1 * rng.random(30)
    return (make_run(tmp_path / "a", a.tolist(), checkpoint="one", failed=(0,)),
            make_run(tmp_path / "b", b.tolist(), checkpoint="two", failed=(5,)))  # fmt: skip


def test_p_values_are_scipys():
    rng = np.random.default_rng(3)
    a, b = rng.normal(0.3, 1, 60), rng.normal(0, 1, 60)
    ours = paired_p_value(a.tolist(), b.tolist())
    assert ours == pytest.approx(stats.ttest_rel(a, b).pvalue, abs=0.02)  # another test, but of the same question
    small_a, small_b = a[:7].tolist(), b[:7].tolist()
    d = np.array(small_a) - np.array(small_b)
    signs = np.array(np.meshgrid(*[[1, -1]] * 7)).reshape(7, -1).T  # all 128 by hand
    means = (signs * d).mean(1)
    exact = min(1, 2 * min((means >= d.mean() - 1e-12).mean(), (means <= d.mean() + 1e-12).mean()))
    assert paired_p_value(small_a, small_b) == pytest.approx(exact)
    assert paired_p_value([None, 1.0, 2.0], [1.0, None, 2.0]) is None
    assert paired_p_value([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]) == 1
    with pytest.raises(InputError, match="same clips"):
        paired_p_value([1.0], [1.0, 2.0])


def test_holm_by_hand():
    assert holm([0.01, None, 0.04, 0.03]) == pytest.approx([0.03, None, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


def test_p_values_are_uniform_where_nothing_differs():
    rng = np.random.default_rng(1)
    found = [paired_p_value(rng.normal(size=12).tolist(), rng.normal(size=12).tolist()) for _ in range(60)]
    assert stats.kstest(found, "uniform").pvalue > 0.01


def test_differences_are_paired_on_what_both_have(two):
    (table,) = compare_runs(load_runs(two))
    assert table["title"] == "a minus b"
    cells = {row["name"]: row["cells"] for row in table["rows"]}
    assert set(cells) == {"score", "yes"}
    assert cells["score"]["difference"]["n"] == 28  # two failed, one on each side
    a, b = ([run.records[f"clip-{i}"].scores.get("score") for i in range(30)] for run in load_runs(two))
    expected = paired_difference(a, b)
    assert cells["score"]["difference"]["low"] == pytest.approx(expected.low, abs=0.01)  # order of clips differs
    assert cells["score"]["difference"]["value"] == pytest.approx(expected.value)
    assert cells["score"]["p"]["value"] < 0.01
    assert "28 of 30" in table["note"]


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"test_set": {"name": "toy-2", "examples": 30}}, "test_set differs.*toy-1.*toy-2"),
     ({"version": "2"}, "version differs"), ({"mode": "i2v"}, "mode differs"), ({"limits": 0.5}, "limits differs")],
)  # fmt: skip
def test_different_tests_are_refused_by_name(changed, named, tmp_path):
    a, b = make_run(tmp_path / "a", [0.5] * 30), make_run(tmp_path / "b", [0.5] * 30, **changed)
    with pytest.raises(InputError, match=named):
        write_suite_report([a, b], tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_runs_that_cannot_be_read_are_named(two, tmp_path):
    with pytest.raises(InputError, match="given twice"):
        load_runs([two[0], two[0]])
    with pytest.raises(InputError, match="needs evaluations"):
        load_runs([])
    (two[0] / "examples" / "clip-3.json").write_text('{"status": "scor')
    with pytest.raises(InputError, match="29 of 30 can be read"):
        load_runs([two[0]])
    (two[1] / "scores.json").unlink()
    with pytest.raises(InputError, match="not done"):
        load_runs([two[1]])
    with pytest.raises(InputError, match="cannot be read"):
        load_runs([tmp_path / "nothing"])


class Page(HTMLParser):
    def __init__(self):
        super().__init__()
        self.scripts, self.loads, self.links = 0, [], []

    def handle_starttag(self, tag, attrs):
        self.scripts += tag == "script"
        self.loads += [v for k, v in attrs if k in ("src", "poster", "srcset") and not v.startswith("data:")]
        self.links += [v for k, v in attrs if k == "href"]


def test_a_report_is_whole_safe_and_repeats_its_numbers(two, tmp_path):
    written = write_suite_report(two, tmp_path / "out", title=NASTY)
    names = [path.name for path in written]
    assert names == ["report.html", "summary.json", "tables.csv", "examples.csv", "tables.tex"]
    page = Page()
    text = written[0].read_text()
    page.feed(text)
    assert page.scripts == 1  # our own; what files say is text
    assert page.loads == []
    assert "../a/videos/clip-1.mp4" in page.links
    assert 'id="example-clip-1"' in text
    assert "missing: 1" in text
    rows = list(csv.DictReader(io.StringIO(written[2].read_text())))
    summary = json.loads(written[1].read_text())
    whole = next(r for r in rows if r["run"] == "a" and r["column"] == "score, %")
    assert float(whole["value"]) == summary["runs"]["a"]["tables"][0]["rows"][0]["cells"]["score, %"]["value"]
    assert any(r["table"] == "a minus b" and r["column"] == "p, Holm" for r in rows)
    examples = list(csv.DictReader(io.StringIO(written[3].read_text())))
    assert len(examples) == 60
    lost = next(e for e in examples if e["run"] == "a" and e["example"] == "clip-0")
    assert (lost["status"], lost["reason"], lost["score"]) == ("failed", "missing", "")


def test_latex_compiles_in_principle():
    cell = {"value": -0.5, "low": -1.25, "high": 12.5, "n": 4}
    table = {"title": "50 % of_it", "rows": [{"name": "a_b & c", "cells": {"x^2": cell}}], "note": "n # 1"}
    text = tables_latex([("one", table), ("two", table)])
    body = "\n".join(line for line in text.splitlines() if not line.startswith("%"))
    assert r"a\_b \& c, one & $-$0.50 {\scriptsize [$-$1.25, 12.5]} \\" in body
    assert body.count("{") == body.count("}")
    assert not re.search(r"(?<!\\)[_#%]", body)
    assert latex("100 % {x}~\\") == r"100 \% \{x\}\textasciitilde{}\textbackslash{}"
    assert [number(v) for v in (0, 0.00123, 0.5, 12.34, 1234.5)] == ["0", "0.0012", "0.50", "12.3", "1234"]
