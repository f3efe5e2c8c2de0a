"""A batch does what is not done yet, whatever happened before, and one bad request costs no other."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from remind.errors import InputError
from remind.generate.batch import BatchItem, is_done, read_batch, share_of
from remind.generate.batch_run import BatchReport, _Worker, run_batch
from tests.generate.batch_work import OPTIONS, build, build_fails

ROOT = Path(__file__).resolve().parents[2]


def batch(folder: Path, *requests: dict[str, Any] | str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / "batch.jsonl"
    path.write_text("".join((one if isinstance(one, str) else json.dumps(one)) + "\n" for one in requests))
    return path


def read(path: Path) -> list[BatchItem]:
    return read_batch(path, path.parent / "out", allowed=OPTIONS)


def run(path: Path, **how: Any) -> BatchReport:
    return run_batch(read(path), build, path.parent / "out", **how)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def seeds(count: int) -> list[dict[str, Any]]:
    return [{"id": f"clip_{i}", "seed": i, "prompt": "a ball"} for i in range(count)]


def test_a_request_has_the_options_of_the_command_line(tmp_path: Path) -> None:
    path = batch(tmp_path, {"id": "a b", "image": "x/a.png", "camera": "right-20, left-20", "seed": 3},
                 "", {"id": "c", "out": "sub/c.MP4", "camera": "poses.npy", "schedule": {"0": "dark", "2s": "light"}})
    first, second = read(path)
    assert first.out == (tmp_path / "out" / "a b.mp4").resolve()
    assert first.options == {"image": str(tmp_path.resolve() / "x" / "a.png"), "camera": "right-20, left-20", "seed": 3}
    assert [file.name for file in first.files] == ["a.png"]
    assert (second.line, second.out.name, second.manifest.name) == (3, "c.MP4", "c.MP4.json")
    assert [file.name for file in second.files] == ["poses.npy"]


@pytest.mark.parametrize(
    ("request_line", "says"),
    [
        ({"id": "a", "out": "../a.mp4"}, "line 1: a path leads out of its folder; got '../a.mp4'; expected .*Fix"),
        ({"id": "../../a"}, "line 1: a path leads out of its folder"),
        ({"id": "a", "out": "/tmp/a.mp4"}, "line 1: a path leads out of its folder"),
        ({"id": "a", "out": "link/a.mp4"}, "line 1: a path leads out of its folder"),
        ({"id": "a", "image": "../secret.png"}, "line 1: a path leads out of its folder; got '../secret.png'"),
        ({"id": "a", "image": "/etc/passwd"}, "line 1: a path leads out of its folder"),
        ({"id": "a", "camera": "/etc/cameras"}, "line 1: a path leads out of its folder"),
        ({"id": "a", "image": "a\0b"}, "line 1: not a path"),
        ({"id": "a", "out": "a.sh"}, "line 1: out is no name of a video; got 'a.sh'; expected a name that ends"),
        ({"id": "a", "promt": "x"}, "line 1: no such option; got 'promt'; expected prompt"),
        ({"id": "a", "prompt": {"x": {"y": 1}}}, "line 1: prompt: no value of an option; got .*expected a number"),
        ({"id": "a", "prompt": "x" * 20_001}, "line 1: prompt: no value of an option"),
        ({"prompt": "x"}, "line 1: no id; got None; expected 1 to 200 characters"),
        ({"id": 3}, "line 1: no id; got 3"),
        ('{"id": "a", "seed": NaN}', "line 1: not JSON; got NaN is no number"),
        ("[" * 5000, "line 1: not JSON"),
        ("3", "line 1: not an object; got int"),
        ("x" * (2**20 + 1), "line 1 is too long; got over 1048576 bytes; expected one request a line"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_bad_requests_are_found_before_anything_is_made(tmp_path: Path, request_line: Any, says: str) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path)
    with pytest.raises(InputError, match=says):
        read(batch(tmp_path, request_line))


def test_all_bad_lines_are_counted_and_the_first_are_named(tmp_path: Path) -> None:
    path = batch(tmp_path, {"id": "a"}, {"id": "a"}, {"id": "b", "out": "a.mp4"}, "x", "y", "z")
    says = (r"5 of 6 requests cannot be run; got line 2: the id of line 1 again; got 'a'; line 3: the out of line 1 "
            r"again.*; line 4: not JSON.*; and 2 more. Fix: mend these lines")  # fmt: skip
    with pytest.raises(InputError, match=says):
        read(path)
    with pytest.raises(InputError, match=r"no request in it; expected a JSON object in each line"):
        read(batch(tmp_path, "", " "))
    with pytest.raises(InputError, match=r"the batch cannot be read; got .*none.jsonl: No such file.*Fix: check"):
        read(tmp_path / "none.jsonl")


def test_what_is_there_is_not_made_again(tmp_path: Path) -> None:
    path = batch(tmp_path, *seeds(3))
    first = run(path)
    assert (first.made, first.skipped, first.exit_code) == (3, 0, 0)
    before = tree(tmp_path / "out")
    again = run_batch(read(path), lambda: pytest.fail("loaded a pipeline for nothing"), tmp_path / "out")
    assert (again.made, again.skipped) == (0, 3)
    assert tree(tmp_path / "out") == before
    assert str(again) == "0 videos made, 3 were there already, 0 failed"


def test_what_changed_is_made_again(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"one")
    requests = [{"id": "a", "image": "a.png"}, {"id": "b", "seed": 1}, {"id": "c", "seed": 2}, {"id": "d"}]
    run(batch(tmp_path, *requests))
    (tmp_path / "a.png").write_bytes(b"two")  # another input under the same name
    requests[1]["seed"] = 5  # another request
    (tmp_path / "out" / "c.mp4").write_bytes(b"damaged")
    report = run(batch(tmp_path, *requests))
    assert (report.made, report.skipped) == (3, 1)
    assert run(batch(tmp_path, *requests)).made == 0
    assert run(batch(tmp_path, *requests), context="other weights").made == 4


def test_failures_are_listed_and_stop_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = batch(tmp_path, {"id": "a", "fail": "input"}, {"id": "b"}, {"id": "c", "fail": "bug"},
                 {"id": "d", "fail": "nothing"}, {"id": "e"})
    report = run(path)
    assert (report.made, report.exit_code) == (2, 1)
    assert str(report).startswith("2 videos made, 0 were there already, 3 failed: ")
    lines = [json.loads(line) for line in (tmp_path / "out" / "failed.jsonl").read_text().splitlines()]
    assert [(line["id"], line["line"]) for line in lines] == [("a", 1), ("c", 3), ("d", 4)]
    assert lines[0]["error"] == "the tank is empty; got 0; expected water. Fix: fill it"
    assert lines[1]["error"] == "ZeroDivisionError: two lines"
    assert lines[2]["error"].startswith("no video came out")
    assert "ZeroDivisionError" in caplog.text  # a fault that nobody expected keeps its trace
    batch(tmp_path, *({"id": name} for name in "abcde"))
    mended = run(path)
    assert (mended.made, mended.skipped, mended.exit_code) == (3, 2, 0)
    assert not (tmp_path / "out" / "failed.jsonl").exists()


def test_ranks_share_the_work(tmp_path: Path) -> None:
    one, many = batch(tmp_path / "one", *seeds(5)), batch(tmp_path / "many", *seeds(5))
    run(one)
    (tmp_path / "many" / "out").mkdir()
    (tmp_path / "many" / "out" / "failed.jsonl").write_text("of an earlier run with one rank")
    made = [run(many, rank=rank, world_size=3).made for rank in (2, 0, 1)]
    assert made == [1, 2, 2]
    assert tree(tmp_path / "one" / "out") == tree(tmp_path / "many" / "out")
    items = read(many)
    assert [item.id for item in share_of(items, 1, 3)] == ["clip_1", "clip_4"]
    for rank, size in ((3, 3), (-1, 3), (0, 0)):
        with pytest.raises(InputError, match=f"no such rank; got rank {rank} of {size}; expected"):
            share_of(items, rank, size)


def test_each_rank_has_its_own_list_of_failures(tmp_path: Path) -> None:
    path = batch(tmp_path, {"id": "a", "fail": "input"}, {"id": "b", "fail": "input"})
    for rank in (0, 1):
        run(path, rank=rank, world_size=2)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["failed.0-of-2.jsonl", "failed.1-of-2.jsonl"]


def test_a_killed_batch_goes_on_to_the_same_files(tmp_path: Path) -> None:
    requests = seeds(4)
    requests[2]["kill"] = True
    whole, killed = batch(tmp_path / "whole", *requests), batch(tmp_path / "killed", *requests)
    run(whole)
    command = [sys.executable, "-m", "tests.generate.batch_work", str(killed), str(killed.parent / "out")]
    ended = subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"})
    assert ended.returncode == -signal.SIGKILL
    left = {path.name for path in (killed.parent / "out").iterdir()}
    assert {"clip_0.mp4", "clip_0.mp4.json", "clip_0.mp4.frames", "clip_1.mp4.json"} <= left
    assert {"clip_2.mp4", "clip_3.mp4"}.isdisjoint(left)
    assert any(name.endswith(".partial") for name in left)
    report = run(killed)
    assert (report.made, report.skipped) == (2, 2)
    assert tree(whole.parent / "out") == tree(killed.parent / "out")
    assert {path.name for path in (killed.parent / "out").iterdir()} == {
        f"clip_{i}.mp4{end}" for i in range(4) for end in ("", ".json", ".frames")}  # fmt: skip


def test_a_manifest_for_another_video_is_no_proof(tmp_path: Path) -> None:
    path = batch(tmp_path, {"id": "a"}, {"id": "b"})
    run(path)
    out = tmp_path / "out"
    (out / "b.mp4.json").write_bytes((out / "a.mp4.json").read_bytes())
    assert run(path).made == 1
    assert not is_done(read(path)[0])  # without the hash of what was asked


def test_the_bar_counts_and_says_what_is_left(tmp_path: Path) -> None:
    shown = io.StringIO()
    run(batch(tmp_path, *seeds(2), {"id": "x", "fail": "input"}), console=Console(file=shown, force_terminal=True))
    assert "3/3" in shown.getvalue()
    assert "left" in shown.getvalue()
    assert "1 failed" in shown.getvalue()


def test_a_pipeline_that_cannot_be_built_ends_the_run(tmp_path: Path) -> None:
    path = batch(tmp_path, *seeds(2))
    with pytest.raises(InputError, match="no pipeline here"):
        run_batch(read(path), build_fails, tmp_path / "out")
    assert isinstance(_Worker(build_fails).start(), InputError)  # crosses from a Ray worker as a value
    with pytest.raises(InputError, match=r"there must be a worker; got 0 workers.*; expected 1 or more"):
        run(path, workers=0)


@pytest.mark.slow
def test_ray_workers_make_the_same_files(tmp_path: Path) -> None:
    ray = pytest.importorskip("ray")
    requests = [*seeds(3), {"id": "bad", "fail": "input"}, {"id": "dies", "kill": True}, {"id": "last", "seed": 9}]
    here, there = batch(tmp_path / "here", *requests), batch(tmp_path / "there", *requests)
    run(here)
    try:
        report = run_batch(read(there), partial(build, True), there.parent / "out", engine="ray", workers=2)
    finally:
        ray.shutdown()
    assert sorted(one.id for one in report.failed) == ["bad", "dies"]
    assert "the worker that made it died" in next(one.error for one in report.failed if one.id == "dies")
    assert report.made == 4
    assert run(there).made == 1  # what killed its worker, made here
    assert {k: v for k, v in tree(here.parent / "out").items() if k != "failed.jsonl"} == {
        k: v for k, v in tree(there.parent / "out").items() if k != "failed.jsonl"}  # fmt: skip
