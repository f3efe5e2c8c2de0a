"""The folder of an evaluation: what resumes, what is refused, and what is never a zero."""

from __future__ import annotations

from pathlib import Path

import pytest

from remind.errors import InputError
from remind.evaluation.eval_run import EvalRun, Record, open_run

WHO = {"suite": "test", "version": "1", "checkpoint": "nano"}
IDS = ["a", "b", "c"]


def scored(name: str, value: float) -> Record:
    return Record(name, "scored", {"progress": value}, {"video": f"{name}.mp4"})


def test_it_goes_on_where_it_stopped(tmp_path: Path) -> None:
    run = EvalRun(tmp_path / "run", WHO, IDS)
    run.write(scored("a", 0.5))
    run.write(Record("b", "failed", {}, {}, "wrong length"))
    again = EvalRun(tmp_path / "run", WHO, IDS)
    assert again.records() == {"a": scored("a", 0.5), "b": Record("b", "failed", {}, {}, "wrong length")}
    assert again.todo() == ["c"]
    assert again.todo(retry_failed=True) == ["b", "c"]
    with pytest.raises(InputError, match=r"not done; got 1 of 3 examples missing"):
        again.finish({})
    assert not (tmp_path / "run" / "scores.json").exists()
    again.write(scored("c", 1.0))
    counts = again.finish({"tables": []})["counts"]
    assert counts == {"examples": 3, "scored": 2, "failed": 1, "reasons": {"wrong length": 1}}
    identity, records = open_run(tmp_path / "run")
    assert identity["checkpoint"] == "nano"
    assert list(records) == IDS


def test_a_damaged_record_is_made_again(tmp_path: Path) -> None:
    run = EvalRun(tmp_path, WHO, IDS)
    for name in IDS:
        run.write(scored(name, 0.0))
    (tmp_path / "examples" / "b.json").write_text('{"status": "scored"')
    assert run.todo() == ["b"]


def test_another_evaluation_and_other_things_are_refused(tmp_path: Path) -> None:
    EvalRun(tmp_path / "run", WHO, IDS)
    with pytest.raises(InputError, match=r"another evaluation; got .*\['checkpoint'\]"):
        EvalRun(tmp_path / "run", {**WHO, "checkpoint": "nano-base"}, IDS)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x")
    with pytest.raises(InputError, match="holds something else"):
        EvalRun(tmp_path / "mine", WHO, IDS)
    for ids in (["../a"], ["a", "a"], []):
        with pytest.raises(InputError, match="names of their own"):
            EvalRun(tmp_path / "new", WHO, ids)
    with pytest.raises(InputError, match="no such example"):
        EvalRun(tmp_path / "run", WHO, IDS).write(scored("d", 1.0))


def test_what_is_no_number_is_no_score(tmp_path: Path) -> None:
    run = EvalRun(tmp_path, WHO, IDS)
    with pytest.raises(InputError, match="a score is no number"):
        run.write(scored("a", float("nan")))
    assert run.todo() == IDS
