"""Prompt files: the same again, varied, growing without changing, and refused when they are not as agreed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from remind.curation.generator_prompts import read_prompts, write_prompts
from remind.curation.taxonomy import Taxonomy
from remind.errors import InputError


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return Taxonomy.load()


def test_the_same_arguments_give_the_same_file(taxonomy: Taxonomy, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_prompts(taxonomy, tmp_path / name, types=["sunset", "lid_opening"], per_type=3)
    write_prompts(taxonomy, tmp_path / "c", types=["sunset", "lid_opening"], per_type=3, seed=1)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes() != (tmp_path / "c").read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "b", "c"]


def test_more_prompts_a_type_change_none(taxonomy: Taxonomy, tmp_path: Path) -> None:
    few = write_prompts(taxonomy, tmp_path / "a.jsonl", types=["sunset", "ice_melting"], per_type=2)
    many = write_prompts(taxonomy, tmp_path / "a.jsonl", types=["ice_melting", "sunset"], per_type=9)
    assert set(few) < set(many)
    assert len(many) == 18


def test_prompts_of_all_types_say_what_changes_and_vary(taxonomy: Taxonomy, tmp_path: Path) -> None:
    prompts = write_prompts(taxonomy, tmp_path / "all.jsonl", per_type=20)
    assert len(prompts) == 20 * len(taxonomy.types)
    assert len({p.prompt for p in prompts}) == len(prompts)
    assert len({p.prompt_id for p in prompts}) == len(prompts)
    assert len({p.seed for p in prompts}) > 0.99 * len(prompts)
    for prompt in prompts:
        cues = taxonomy[prompt.event_type].cues
        told = [cues.direction] if cues.direction else [cues.before, cues.trigger, cues.after]
        assert all(cue is not None and cue in prompt.prompt for cue in told)
        assert any(thing in prompt.prompt for thing in cues.objects)
        assert "takes up most of the picture" in prompt.prompt
        assert "None" not in prompt.prompt
        assert "  " not in prompt.prompt
    assert read_prompts(tmp_path / "all.jsonl") == prompts


def test_wordings_repeat_only_when_all_are_used(taxonomy: Taxonomy, tmp_path: Path) -> None:
    prompts = write_prompts(taxonomy, tmp_path / "a.jsonl", types=["sunset"], per_type=500)
    texts = [p.prompt for p in prompts]
    wordings = len(set(texts))
    assert 50 < wordings < 500
    assert len(set(texts[:wordings])) == wordings
    assert len({p.prompt_id for p in prompts}) == 500


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"types": ["sunsets"]}, "no such event type"),
        ({"types": []}, "got none"),
        ({"types": ["sunset", "sunset"]}, "each once"),
        ({"per_type": 0}, "1..10000"),
        ({"seed": -1}, "seed"),
    ],
)
def test_bad_options_are_refused_before_writing(
    taxonomy: Taxonomy, tmp_path: Path, options: dict, line: str
) -> None:
    with pytest.raises(InputError, match=line):
        write_prompts(taxonomy, tmp_path / "a.jsonl", **options)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written_is_refused(taxonomy: Taxonomy, tmp_path: Path) -> None:
    for path in (tmp_path / "absent" / "a.jsonl", tmp_path):
        with pytest.raises(InputError, match="cannot write the prompts"):
            write_prompts(taxonomy, path, types=["sunset"])


GOOD = {"prompt_id": "a-1", "event_type": "sunset", "prompt": "a sunset", "seed": 1}


@pytest.mark.parametrize(
    ("rows", "line"),
    [
        ([], "has no prompt"),
        (["\n \n"], "has no prompt"),
        (["{"], "line 1: not a prompt"),
        (["[1]"], "line 1: not a prompt"),
        ([GOOD, GOOD], "line 2: an id is given twice; got a-1"),
        ([GOOD, GOOD | {"prompt_id": "A-1"}], "line 2: an id is given twice; got A-1"),
        ([GOOD | {"prompt_id": "../../etc/x"}], "prompt_id"),
        ([GOOD | {"prompt_id": "a/b"}], "prompt_id"),
        ([GOOD | {"prompt_id": "a\n"}], "prompt_id"),
        ([GOOD | {"prompt_id": ""}], "prompt_id"),
        ([GOOD | {"seed": -1}], "seed"),
        ([GOOD | {"seed": "1"}], "seed"),
        ([GOOD | {"prompt": ""}], "prompt"),
        ([GOOD | {"prompt": "x" * 5000}], "prompt"),
        ([GOOD | {"more": 1}], "more"),
        ([{"prompt_id": "a"}], "event_type"),
    ],
)
def test_a_file_that_is_not_as_agreed_is_refused(tmp_path: Path, rows: list, line: str) -> None:
    path = tmp_path / "p.jsonl"
    path.write_text("".join((r if isinstance(r, str) else json.dumps(r)) + "\n" for r in rows))
    with pytest.raises(InputError) as caught:
        read_prompts(path)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


def test_other_bytes_and_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "p.jsonl").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a prompt"):
        read_prompts(tmp_path / "p.jsonl")
    with pytest.raises(InputError, match="cannot read the prompts"):
        read_prompts(tmp_path / "absent.jsonl")
