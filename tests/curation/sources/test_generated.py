"""Generators that work, fail, hang, lie and are killed: real programs that write real videos."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from remind.curation.generator_prompts import Prompt, save_prompts
from remind.curation.item import FileMedia
from remind.curation.outside_command import CommandEnd
from remind.curation.sources.generated import (
    GeneratedSource,
    GenerationReport,
    Generator,
    declare_generator,
    run_generator,
)
from remind.data.video_io import decode_all, encode_mp4
from remind.errors import InputError
from tests.data.make_video import moving_square

TINY = Generator(name="tiny-gen", version="1", url="https://example.org/tiny", licence="CC0-1.0")
PROMPTS = tuple(Prompt(prompt_id=f"sunset-{i}", event_type="sunset", prompt=f"sunset number {i}", seed=i)
                for i in range(4))  # fmt: skip
IDS = tuple(p.prompt_id for p in PROMPTS)

# A small generator with habits: the third argument says which.
PROGRAM = '''
import json, os, pathlib, sys, time
import av, numpy as np

def write(path, seed):
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=16, options={"crf": "18"})
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for t in range(9):
            image = np.full((32, 48, 3), 40 + 20 * seed, np.uint8)
            image[:, 4 * t : 4 * t + 8] = 250
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))

prompts, out, habit = sys.argv[1], pathlib.Path(sys.argv[2]), sys.argv[3]
rows = [json.loads(line) for line in open(prompts)]
with open(out.parent.parent / "asked.log", "a") as log:
    log.write(" ".join(row["prompt_id"] for row in rows) + "\\n")
if habit == "silent":
    sys.exit(0)
for number, row in enumerate(rows):
    path = out / (row["prompt_id"] + ".mp4")
    write(path, row["seed"])
    if habit == "fails" and number == 1:
        sys.exit("out of memory")
    if habit == "lies":
        path.write_text("<html>quota exceeded</html>")
    if habit == "cut" and number == 2:
        path.write_bytes(path.read_bytes()[:-200])
    if habit == "link":
        path.rename(out.parent / path.name)
        path.symlink_to(out.parent / path.name)
    if habit == "more":
        (out / "notes.txt").write_text("settings")
        (out / "other").mkdir(exist_ok=True)
        write(out / "unasked.mp4", 1)
    if habit == "hangs" and number == 1:
        path.write_bytes(path.read_bytes()[:700])
        (out.parent / "pid").write_text(str(os.getpid()))
        time.sleep(60)
'''


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    (tmp_path / "generate.py").write_text(PROGRAM)
    path = tmp_path / "prompts.jsonl"
    save_prompts(PROMPTS, path)
    return path


def generate(prompts: Path, habit: str = "works", timeout_s: float = 60.0) -> GenerationReport:
    command = [sys.executable, str(prompts.parent / "generate.py"), "{prompts}", "{out}", habit]
    return run_generator(command, prompts, prompts.parent / "out", timeout_s, generator=TINY)


def asked(prompts: Path) -> list[list[str]]:
    """Which prompts each run of the program was given."""
    return [line.split() for line in (prompts.parent / "out" / "asked.log").read_text().splitlines()]


def clips(prompts: Path) -> list[str]:
    return sorted(p.name for p in (prompts.parent / "out").glob("*.mp4"))


def test_a_generator_makes_clips_once(prompts: Path) -> None:
    report = generate(prompts)
    assert report == GenerationReport((), IDS, {}, (), (), CommandEnd(0, False, ""))
    assert report.complete
    assert report.summary() == "4 made"
    assert clips(prompts) == [f"{i}.mp4" for i in IDS]
    assert all(len(decode_all(p)) == 9 for p in (prompts.parent / "out").glob("*.mp4"))
    again = generate(prompts)
    assert again == GenerationReport(IDS, (), {}, (), (), None)
    assert again.summary() == "0 made, 4 already there"
    (prompts.parent / "out" / "sunset-2.mp4").unlink()
    assert generate(prompts).made == ("sunset-2",)
    assert asked(prompts) == [list(IDS), ["sunset-2"]]


def test_the_source_lists_what_was_made(prompts: Path) -> None:
    generate(prompts)
    out = prompts.parent / "out"
    items = list(GeneratedSource(out, prompts).items())
    assert [i.item_id for i in items] == [f"{i}.mp4" for i in IDS]
    first = items[0]
    assert first.media == FileMedia(str(out / "sunset-0.mp4"))
    assert (first.source, first.caption, first.tags) == ("generated", "sunset number 0", ("sunset",))
    assert (first.author, first.licence, first.url) == ("tiny-gen", "CC0-1.0", "https://example.org/tiny")
    assert first.facts["generator"] == "tiny-gen"
    assert first.facts["seed"] == 0


def test_a_generator_that_fails_keeps_what_it_made(prompts: Path) -> None:
    report = generate(prompts, "fails")
    assert report.made == IDS[:2]
    assert report.missing == IDS[2:]
    assert not report.complete
    assert report.summary() == "2 made, 2 missing; the command ended with 1: out of memory"
    assert generate(prompts).made == IDS[2:]
    assert asked(prompts) == [list(IDS), list(IDS[2:])]


def test_success_without_clips_is_not_believed(prompts: Path) -> None:
    report = generate(prompts, "silent")
    assert (report.made, report.missing, report.complete) == ((), IDS, False)


@pytest.mark.parametrize(("habit", "line"), [("lies", "not a video"), ("link", "not a plain file")])
def test_files_that_are_no_videos_are_not_accepted(prompts: Path, habit: str, line: str) -> None:
    report = generate(prompts, habit)
    assert report.made == report.missing == ()
    assert report.damaged.keys() == set(IDS)
    assert all(line in reason for reason in report.damaged.values())
    assert not report.complete
    assert clips(prompts) == []
    assert sorted(p.stem for p in (prompts.parent / "out" / "rejected").iterdir()) == list(IDS)
    assert generate(prompts).made == IDS


def test_a_clip_cut_short_is_not_accepted(prompts: Path) -> None:
    report = generate(prompts, "cut")
    assert report.damaged.keys() == {"sunset-2"}
    assert report.made == ("sunset-0", "sunset-1", "sunset-3")
    assert report.summary().startswith("3 made, 1 damaged")
    assert generate(prompts).made == ("sunset-2",)


def test_files_nobody_asked_for_are_reported_and_put_aside(prompts: Path) -> None:
    for _ in range(2):  # the second time they lie in `rejected` already
        report = generate(prompts, "more")
        assert report.extra == ("notes.txt", "other", "unasked.mp4")
        assert report.made == IDS
        assert report.complete
        assert sorted(p.name for p in (prompts.parent / "out" / "rejected").iterdir()) == list(report.extra)
        for name in clips(prompts):
            (prompts.parent / "out" / name).unlink()


def test_clips_put_there_by_hand_need_a_prompt(prompts: Path) -> None:
    generate(prompts)
    (prompts.parent / "out" / "holiday.MP4").write_bytes(b"")
    assert generate(prompts).extra == ("holiday.MP4",)
    with pytest.raises(InputError, match=r"no prompt asked for; got 1, the first holiday\.MP4"):
        list(GeneratedSource(prompts.parent / "out", prompts).items())


def test_when_time_is_up_whole_clips_are_kept(prompts: Path) -> None:
    report = generate(prompts, "hangs", timeout_s=6.0)
    assert report.end is not None
    assert report.end.timed_out
    assert report.made == ("sunset-0",)
    assert report.damaged.keys() == {"sunset-1"}
    assert report.missing == ("sunset-2", "sunset-3")
    assert "ran out of time" in report.summary()


def test_being_killed_midway_loses_no_whole_clip(prompts: Path) -> None:
    """We are killed with SIGKILL while the generator is at work; it lives on, and holds the folder until it ends."""
    code = (
        "import sys; from pathlib import Path; from remind.curation.sources.generated import *\n"
        "program, prompts, out = sys.argv[1:]\n"
        "run_generator([sys.executable, program, '{prompts}', '{out}', 'hangs'], Path(prompts), Path(out), 60.0,\n"
        "              generator=Generator(**" + repr(TINY.model_dump()) + "))"
    )
    out = prompts.parent / "out"
    us = subprocess.Popen([sys.executable, "-c", code, prompts.parent / "generate.py", prompts, out])
    pid_file = out / ".generating" / "pid"
    deadline = time.monotonic() + 50
    while not (pid_file.exists() and pid_file.read_text()) and time.monotonic() < deadline:
        time.sleep(0.05)
    us.kill()
    us.wait()
    assert clips(prompts) == []  # nothing half-done is in sight
    with pytest.raises(InputError, match="a generator is at work in this folder"):
        generate(prompts)
    os.kill(int(pid_file.read_text()), signal.SIGKILL)
    while True:
        try:
            report = generate(prompts)
            break
        except InputError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    assert report.complete
    assert report.made[0] == "sunset-0"  # taken over
    assert set(report.made) == set(IDS)
    assert report.damaged == {}
    assert asked(prompts) == [list(IDS), list(IDS[1:])]
    assert (out / "rejected" / "sunset-1.mp4").stat().st_size == 700


def test_a_folder_belongs_to_one_generator(prompts: Path) -> None:
    generate(prompts)
    out = prompts.parent / "out"
    with pytest.raises(InputError, match="another generator, version or licence"):
        run_generator(["true", "{prompts}{out}"], prompts, out, 1.0, generator=Generator(name="other"))
    declare_generator(out, TINY)
    (out / "generator.json").write_text('{"name": 1}')
    with pytest.raises(InputError, match=r"generator\.json: not as expected; got name"):
        list(GeneratedSource(out, prompts).items())


def test_clips_made_elsewhere_are_a_source_once_declared(prompts: Path, tmp_path: Path) -> None:
    out = tmp_path / "veo"
    with pytest.raises(InputError, match="does not say which generator"):
        list(GeneratedSource(out, prompts).items())
    declare_generator(out, Generator(name="veo", licence="terms of the service"))
    (out / "sunset-1.mp4").write_bytes(encode_mp4(moving_square(9), 16))
    items = list(GeneratedSource(out, prompts).items())
    assert len(items) == 4  # missing ones are listed too, and fail when they are read
    assert {i.author for i in items} == {"veo"}


def test_placeholders_are_replaced_wherever_they_stand(prompts: Path) -> None:
    code = "import sys, json; print(json.dumps(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "--in={prompts}", "a{out}b{other}{}", "$(x) ;"]
    report = run_generator(command, prompts, prompts.parent / "out", 30.0, generator=TINY)
    assert report.end is not None
    work = prompts.parent / "out" / ".generating"
    assert json.loads(report.end.log_tail) == [
        f"--in={work / 'prompts.jsonl'}",
        f"a{work / 'clips'}b{{other}}{{}}",
        "$(x) ;",
    ]


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("gen {prompts} {out}", "must be a list"),
        ([], "with {prompts}"),
        (["gen", "{prompts}"], "with {out}"),
        (["gen", "{out}"], "with {prompts}"),
    ],
)
def test_commands_that_cannot_do_it_are_refused(prompts: Path, command: list[str], line: str) -> None:
    with pytest.raises(InputError, match=line):
        run_generator(command, prompts, prompts.parent / "out", 1.0, generator=TINY)
    assert not (prompts.parent / "out").exists()


def test_places_and_programs_that_are_not_there_are_refused(prompts: Path, tmp_path: Path) -> None:
    command = ["/no/such/program", "{prompts}", "{out}"]
    with pytest.raises(InputError, match="cannot be started"):
        run_generator(command, prompts, tmp_path / "out", 1.0, generator=TINY)
    with pytest.raises(InputError, match="cannot be used"):
        run_generator(command, prompts, tmp_path / "absent" / "out", 1.0, generator=TINY)
    with pytest.raises(InputError, match="cannot be used"):
        run_generator(command, prompts, prompts, 1.0, generator=TINY)
    with pytest.raises(InputError, match="cannot read the prompts"):
        run_generator(command, tmp_path / "none.jsonl", tmp_path / "out", 1.0, generator=TINY)
