"""YAML from outside: what could fill the machine, or hide a value, is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from remind import yaml_file
from remind.errors import InputError
from remind.yaml_file import read_yaml


def test_plain_values_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("a: [1, two]\nb: {c: 0.5}\n")
    assert read_yaml(path) == {"a": [1, "two"], "b": {"c": 0.5}}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"a: 1\nb: 2\na: 3\n", "`a` is given twice in line 3"),
        (b"a: &x [1]\nb: [*x, *x]\n", "aliases are not read in line 2"),
        (b"a: !!python/object/apply:os.system [true]\n", "could not determine a constructor"),
        (b"a: [1\n", "not a YAML file"),
        (b"a: " + b"[" * 5000, "not a YAML file"),
        (b"a: " + b"9" * 5000, "not a YAML file"),
        (b"a: 2024-99-99\n", "not a YAML file"),
        (b"\xff\xfe\x00\xd8", "not a YAML file"),
        (b"a: \x00", "not a YAML file"),
        (b"? [a]\n: 1\n", "not a YAML file"),
    ],
)
def test_bad_files_are_refused(tmp_path: Path, text: bytes, line: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_bytes(text)
    with pytest.raises(InputError, match=r"^bad\.yaml") as caught:
        read_yaml(path)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_and_huge_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="No such file"):
        read_yaml(tmp_path / "absent.yaml")
    with pytest.raises(InputError, match="cannot read"):
        read_yaml(tmp_path)
    monkeypatch.setattr(yaml_file, "_MAX_BYTES", 1 << 20)
    (tmp_path / "big.yaml").write_text("a: 1\n" * (1 << 18))
    with pytest.raises(InputError, match="too large"):
        read_yaml(tmp_path / "big.yaml")
