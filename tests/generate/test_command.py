"""What a user says: sizes in bytes, and options that do not go together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from remind.errors import InputError
from remind.generate.command import GenerateCommand, size_in_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [("4096", 4096), ("0", 0), ("500MB", 500_000_000), ("500 mb", 500_000_000), ("2GiB", 2**31), ("1.5kib", 1536),
     (" 12 B ", 12), ("3e9", 3_000_000_000), ("1kB", 1000)],
)  # fmt: skip
def test_sizes_in_bytes(text: str, size: int) -> None:
    assert size_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "GB", "-1", "nan", "inf", "12 bananas", "2 TBs", "1e99", "0x10", "1 2"])
def test_what_is_no_size(text: str) -> None:
    if text == "1 2":
        assert size_in_bytes(text) == 12  # spaces are not looked at
        return
    with pytest.raises(InputError, match=r"no size in bytes; got .*expected a number, or e\.g\. 500MB or 2GiB"):
        size_in_bytes(text)


def test_the_mode_follows_from_what_is_given() -> None:
    out = Path("a.mp4")
    modes = [GenerateCommand(out, **given).mode for given in ({}, {"image": Path("a.png")}, {"video": Path("a.mkv")})]
    assert modes == ["t2v", "i2v", "v2v"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"image": Path("a.png"), "video": Path("b.mp4")}, "not both; got a.png and b.mp4"),
        ({"interrupt": "light_toggle"}, "needs something to interrupt"),
        ({"interrupt": "lookaway", "video": Path("b.mp4")}, "--camera lookaway:60"),
        ({"interrupt": "camera_loop", "image": Path("a.png")}, "--camera lookaway:60"),
        ({"interrupt": "zoom", "image": Path("a.png"), "schedule": Path("s.txt")}, "leave one of them out"),
        ({"compare": True, "video": Path("b.mp4")}, "only where a video is interrupted"),
        ({"compare": True, "image": Path("a.png"), "interrupt": "zoom"}, "only where a video is interrupted"),
        ({"chunks": 0}, r"at least one chunk; got 0; expected 1\.\.100000"),
        ({"memory_budget": "lots"}, "no size in bytes"),
        ({"start_s": 1.0, "image": Path("a.png")}, r"no video to start in or to hold; got --start-s 1, no --hold"),
        ({"hold": True}, r"got --start-s 0, --hold\. Fix"),
        ({"camera_fit": "hold"}, "no camera path"),
        ({"fov_deg": 60.0}, "no camera path"),
        ({"allow_camera_jumps": True}, "no camera path"),
        ({"reference_gap": 3}, "gap of 3 chunks, 0 references"),
        ({"reference_gap": 1, "reference": (Path("a"), Path("b"))}, "gap of 1 chunks, 2 references"),
    ],
)
def test_options_that_do_not_go_together(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        GenerateCommand(Path("a.mp4"), **asked).check()
