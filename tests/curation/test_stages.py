"""A stage's key holds all that decides its result, so that nothing stale is taken for fresh."""

from __future__ import annotations

from dataclasses import fields, replace

import pytest

from remind.curation.ledger import Result
from remind.curation.motion_policy import MotionPolicy
from remind.curation.options import BuildOptions
from remind.curation.stages import CAMERAS, ENCODE, INTERRUPT, SCAN, STAGES, Failed, Memo, Stage
from remind.errors import InputError, StoreError

# Decided anew each time, from numbers and records that stages keep.
THRESHOLDS = {"motion", "keep"}


def test_every_option_belongs_to_a_stage_and_every_name_is_an_option() -> None:
    named = {name for stage in STAGES for name in stage.options}
    assert named | THRESHOLDS == {field.name for field in fields(BuildOptions)}
    assert not named & THRESHOLDS


@pytest.mark.parametrize(
    ("change", "touched"),
    [({"seed": 1}, {"interrupt"}), ({"crf": 20}, {"encode", "pack"}), ({"cut_threshold": 30.0}, {"scan"}),
     ({"check_cameras": False}, {"cameras"}), ({"motion": MotionPolicy(0.0, 0.0, 0.0, 0.0)}, set()),
     ({"fps": 12}, {"scan", "encode", "cameras"})],
)  # fmt: skip
def test_an_option_changes_the_keys_that_it_touches(change: dict, touched: set[str]) -> None:
    before, after = (Memo("a", options, {}, ()) for options in (BuildOptions(), replace(BuildOptions(), **change)))
    assert {s.name for s in STAGES if before.key(s, [1]) != after.key(s, [1])} == touched


def test_version_tools_item_and_inputs_are_in_the_key() -> None:
    options = BuildOptions()
    key = Memo("a", options, {"av": "1"}, ()).key(SCAN, "x")
    assert Memo("a", options, {"av": "1"}, ()).key(SCAN, "x") == key
    assert Memo("a", options, {"av": "2"}, ()).key(SCAN, "x") != key  # it decides what is decoded
    assert Memo("b", options, {"av": "1"}, ()).key(SCAN, "x") != key
    assert Memo("a", options, {"av": "1"}, ()).key(SCAN, "y") != key
    assert Memo("a", options, {"av": "1"}, ()).key(replace(SCAN, version=SCAN.version + 1), "x") != key
    for stage in (INTERRUPT, CAMERAS):
        assert Memo("a", options, {"av": "2"}, ()).key(stage, 0) == Memo("a", options, {"av": "1"}, ()).key(stage, 0)


def fail() -> None:
    raise InputError("it is bad")


def test_failures_are_remembered_and_a_full_disk_is_none() -> None:
    first = Memo("a", BuildOptions(), {}, ())
    with pytest.raises(Failed, match="it is bad"):
        first.run(ENCODE, "a#0.00s", 1, fail)
    second = Memo("a", BuildOptions(), {}, first.new)
    with pytest.raises(Failed, match="it is bad"):
        second.run(ENCODE, "a#0.00s", 1, lambda: pytest.fail("ran again"))

    def full() -> None:
        raise StoreError("no space")

    with pytest.raises(StoreError):
        second.run(ENCODE, "a#1.00s", 2, full)
    assert second.new == []


def test_what_a_known_result_points_at_must_be_there() -> None:
    stage = Stage("encode", 1, "", "")
    memo = Memo("a", BuildOptions(), {}, ())
    known = Result("encode", memo.key(stage, 1), "a", "a", "ok", "old")
    again = Memo("a", BuildOptions(), {}, [known])
    assert again.run(stage, "a", 1, lambda: "new") == "old"
    assert again.run(stage, "a", 1, lambda: "new", lambda payload: payload != "old") == "new"
