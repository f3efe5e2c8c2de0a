"""A quarantine keeps every clip that any process adds, and reads nothing that is not one."""

from __future__ import annotations

import json
from multiprocessing import get_context
from pathlib import Path

import pytest

from remind.data.quarantine import Quarantine
from remind.errors import InputError


def add_many(path: Path, who: int) -> None:
    for i in range(20):
        Quarantine(path).add(f"clip-{who}-{i}", "damaged")


def test_no_file_is_an_empty_quarantine_and_the_first_reason_stays(tmp_path: Path) -> None:
    quarantine = Quarantine(tmp_path / "q.json")
    assert quarantine.read() == {}
    quarantine.add("b", "cut off")
    quarantine.add("a", "black")
    quarantine.add("b", "another reason")
    assert quarantine.read() == {"a": "black", "b": "cut off"}
    assert json.loads((tmp_path / "q.json").read_text()) == {"quarantined": {"a": "black", "b": "cut off"}}


def test_processes_that_add_at_once_lose_nothing(tmp_path: Path) -> None:
    workers = [get_context("fork").Process(target=add_many, args=(tmp_path / "q.json", i)) for i in range(3)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(Quarantine(tmp_path / "q.json").read()) == 60


@pytest.mark.parametrize("text", ["", "[]", '{"quarantined": ["a"]}', '{"quarantined": {"a": 1}}', "{}", "\xff"])
def test_what_is_no_quarantine_is_refused_and_left_as_it_is(tmp_path: Path, text: str) -> None:
    path = tmp_path / "q.json"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match="not a quarantine file"):
        Quarantine(path).read()
    with pytest.raises(InputError, match="not a quarantine file"):
        Quarantine(path).add("a", "b")
    assert path.read_text(encoding="latin-1") == text


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        Quarantine(tmp_path / "missing" / "q.json").add("a", "b")
