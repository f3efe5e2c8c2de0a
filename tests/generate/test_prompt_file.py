"""Prompt schedules from files of three kinds; what cannot be read is said in one line with the file's name."""

from __future__ import annotations

from pathlib import Path

import pytest

from remind.errors import InputError
from remind.generate.prompt_file import MAX_BYTES, read_prompt_schedule

SAID = ("a cup fills", "a cup fills, the lights go off", "a cup fills", "a city: night")
FILES = {
    "a.json": '{"base": "a cup fills", "1": "the lights go off", "1.5s": null, "3": "= a city: night"}',
    "a.yaml": "base: a cup fills\n1: the lights go off\n1.5s:\n3: '= a city: night'\n",
    "a.yml": "- \n- the lights go off\n-\n- '= a city: night'\n",
    "a.TXT": "\ufeff# what happens\n\n1: the lights go off\n 1.5s :\n3: = a city: night\n",
}


@pytest.mark.parametrize("name", FILES)
def test_the_same_schedule_in_every_kind_of_file(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text(FILES[name])
    base = "" if "base" in FILES[name] else "a cup fills"
    assert read_prompt_schedule(path, base=base).per_chunk(4) == SAID


@pytest.mark.parametrize(
    ("name", "data", "line"),
    [
        ("a.json", b'{"1": "x", "1": "y"}', "`1` is given twice"),
        ("a.json", b"[" * 100_000, "not a JSON file"),
        ("a.json", b"\xff", "not text"),
        ("a.json", b'{"1": 2}', "no text"),
        ("a.json", b"3", "no schedule"),
        ("a.yaml", b"1: x\n1: y\n", "`1` is given twice"),
        ("a.yaml", b"3: off\n", "no text.*False.*in quotes"),
        ("a.txt", b"1: x\nnot a line\n", "line 2 is no prompt"),
        ("a.txt", b"1: x\n1: y\n", "line 2 gives a time again"),
        ("a.txt", b"soon: x\n", "at no time.*'soon'"),
        ("a.txt", b"a" * (MAX_BYTES + 1), "too large"),
        ("a.toml", b"", "no such kind"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, name: str, data: bytes, line: str) -> None:
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(InputError, match=line) as caught:
        read_prompt_schedule(path)
    assert name in str(caught.value)


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot read"):
        read_prompt_schedule(tmp_path / "none.txt")
