"""A batch's lines as commands: types, rivals, and what all lines share."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from remind.errors import InputError
from remind.generate.batch import BatchItem, read_batch
from remind.generate.batch_commands import ALLOWED, BatchMaker, command_of
from remind.generate.batch_run import run_batch
from remind.generate.command import GenerateCommand
from remind.generate.manifest import Manifest

from .make_command import command, make_files


def line(**options: Any) -> BatchItem:
    return BatchItem(3, "fern", Path("/out/fern.mp4"), options)


SHARED = GenerateCommand(Path("/out"), image=Path("/in/a.png"), steps=1, device="cpu")


def test_a_line_overrides_what_is_shared() -> None:
    asked = {"seed": 7, "prompt": "a fern", "guidance": 2, "negative_prompt": "blurred", "chunks": 3}
    made = command_of(line(**asked, reference="/in/b.png"), SHARED)
    assert made == GenerateCommand(
        Path("/out/fern.mp4"), image=Path("/in/a.png"), steps=1, device="cpu", seed=7, prompt="a fern", guidance=2.0,
        negative_prompt="blurred", chunks=3, reference=(Path("/in/b.png"),),
    )  # fmt: skip


def test_a_video_takes_the_place_of_a_shared_image() -> None:
    assert command_of(line(video="/in/b.mp4"), SHARED).mode == "v2v"
    assert command_of(line(image=None), SHARED).mode == "t2v"
    shared = GenerateCommand(Path("/out"), video=Path("/in/b.mp4"), interrupt="zoom")
    assert command_of(line(image="/in/a.png"), shared).image == Path("/in/a.png")
    assert command_of(line(schedule="/in/s.txt"), shared).interrupt is None
    every_video = GenerateCommand(Path("/out"), interrupt="zoom", start_s=2.0)
    assert command_of(line(video="/in/b.mp4"), every_video).start_s == 2
    with pytest.raises(InputError, match="needs something to interrupt"):
        command_of(line(prompt="words alone"), every_video)
    with pytest.raises(InputError, match="not both"):
        command_of(line(image="/in/a.png", video="/in/b.mp4"), SHARED)


@pytest.mark.parametrize(
    "wrong",
    [{"seed": "seven"}, {"seed": 1.5}, {"steps": [1]}, {"guidance": "much"}, {"memory_storage": "int4"},
     {"interrupt": "earthquake"}, {"prompt": 3}, {"reference": 3}, {"hold": "perhaps"}, {"image": 5},
     {"sampler": "heun"}, {"chunks": True}, {"seed": True}, {"seed": "7"}],
)  # fmt: skip
def test_values_of_the_wrong_kind_are_named(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(InputError, match=rf"line 3, fern: {name} is of the wrong kind; got .*; expected ."):
        command_of(line(**wrong), SHARED)


def test_what_all_lines_share_is_no_option_of_a_line() -> None:
    assert not ALLOWED & {"checkpoint", "base", "device", "dtype", "offload", "out"}
    assert ALLOWED.issuperset({"prompt", "image", "camera", "seed", "memory", "png_frames"})


def test_the_context_is_weights_and_shared_options(tmp_path: Path) -> None:
    a = command(tmp_path)
    same = [BatchMaker(a).context(), BatchMaker(command(tmp_path / "elsewhere")).context()]
    assert same[0] == same[1]
    others = [command(tmp_path, seed=6), command(tmp_path, checkpoint="nano-base"), command(tmp_path, dtype="bf16")]
    assert len({same[0], *(BatchMaker(other).context() for other in others)}) == 4


def test_a_batch_is_made_once_and_failures_stop_nothing(tmp_path: Path) -> None:
    files = make_files(tmp_path / "in")
    requests = [{"id": "words", "prompt": "a red jug"}, {"id": "bad", "memory": "elephant"},
                {"id": "picture", "image": "start.png", "camera": "right-4", "out": "sub/picture.mp4"}]  # fmt: skip
    (files / "batch.jsonl").write_text("".join(json.dumps(one) + "\n" for one in requests))
    shared = command(tmp_path / "out", chunks=2)

    def run() -> Any:
        maker = BatchMaker(shared)
        items = read_batch(files / "batch.jsonl", shared.out, allowed=ALLOWED)
        return run_batch(items, maker, shared.out, context=maker.context())

    first = run()
    assert (first.made, first.skipped, [one.id for one in first.failed], first.exit_code) == (2, 0, ["bad"], 1)
    assert "elephant" in (tmp_path / "out" / "failed.jsonl").read_text()
    manifest = Manifest.read(tmp_path / "out" / "sub" / "picture.mp4.json", allow=[tmp_path])
    assert manifest.request.mode == "i2v"
    before = (tmp_path / "out" / "sub" / "picture.mp4").stat().st_mtime_ns
    second = run()
    assert (second.made, second.skipped, len(second.failed)) == (0, 2, 1)
    assert (tmp_path / "out" / "sub" / "picture.mp4").stat().st_mtime_ns == before
