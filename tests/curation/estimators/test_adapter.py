"""A tool in another process may hang, crash, lie or babble: each ends in one line, and the next clip goes on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from remind.curation.estimators import contract
from remind.curation.estimators.adapter import Request, WorkerTool
from remind.curation.estimators.contract import (
    ArraySpec,
    EstimatorError,
    EstimatorSetupError,
    Handshake,
    ResultInfo,
    parse,
    read_arrays,
    read_file,
)
from remind.curation.estimators.workers import worker_loop
from remind.errors import InputError, RemindError
from tests.curation.estimators.make_geometry import stand_in, write_truth

RGB = np.random.default_rng(0).integers(0, 255, (4, 6, 8, 3), dtype=np.uint8)
SPECS = {"depth": ArraySpec("float32", (4, None, None), 10**5), "w2c": ArraySpec("float64", (4, 3, 4))}


@pytest.fixture(scope="session")
def truth_bytes(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("truth") / "truth.npz"
    write_truth(path)
    return path.read_bytes()


@pytest.fixture
def truth(tmp_path: Path, truth_bytes: bytes) -> Path:
    (tmp_path / "work").mkdir()
    (tmp_path / "truth.npz").write_bytes(truth_bytes)
    return tmp_path / "truth.npz"


@pytest.fixture
def tools(truth: Path) -> Iterator[list[WorkerTool]]:
    """Tools that a test opens; all are closed, and none may leave a request's folder behind."""
    opened: list[WorkerTool] = []
    yield opened
    for tool in opened:
        tool.close()
    assert not list((truth.parent / "work").iterdir())


def tool_of(tools: list[WorkerTool], truth: Path, behaviour: str, *, timeout_s: float = 20.0) -> WorkerTool:
    tool = WorkerTool(stand_in(truth, behaviour), timeout_s=timeout_s, start_timeout_s=20.0,
                      work_dir=truth.parent / "work")  # fmt: skip
    tools.append(tool)
    return tool


def ask(tool: WorkerTool) -> tuple[dict[str, np.ndarray], ResultInfo]:
    request = Request("geometry", {"model": "m"}, rgb=RGB)
    return tool.run(request, lambda folder, info: (read_arrays(folder, SPECS), info))


def is_gone(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"


def test_both_sides_speak_the_same_version() -> None:
    assert worker_loop.CONTRACT == contract.CONTRACT


def test_one_worker_answers_many_requests(tools: list[WorkerTool], truth: Path) -> None:
    tool = tool_of(tools, truth, "good")
    assert tool.handshake() == Handshake(contract=1, tool="stand_in", tool_version="1.0", tasks=("geometry",))
    for _ in range(3):
        arrays, info = ask(tool)
        with np.load(truth) as archive:
            assert (arrays["depth"] == archive["depth"]).all()
            assert (arrays["w2c"] == archive["w2c"]).all()
    assert (info.weights, info.weights_licence, info.tool_version) == ("truth", "CC0", "1.0")
    assert json.loads(str(info.facts["parameters"])) == {"model": "m"}
    assert truth.with_suffix(".starts").read_text() == "x"


def test_the_contract_can_be_asked_for_by_hand(truth: Path) -> None:
    done = subprocess.run([*stand_in(truth, "good"), "--contract"], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == {"contract": 1, "tool": "stand_in", "tool_version": "1.0", "tasks": ["geometry"]}


def test_a_worker_leaves_when_its_input_ends(truth: Path) -> None:
    done = subprocess.run([*stand_in(truth, "good"), "--serve"], input="", capture_output=True, text=True, timeout=20)
    assert done.returncode == 0


def test_what_a_library_prints_does_not_disturb(tools: list[WorkerTool], truth: Path) -> None:
    arrays, _ = ask(tool_of(tools, truth, "prints"))
    assert arrays["depth"].shape[0] == 4


def test_our_python_path_is_not_handed_on(
    tools: list[WorkerTool], truth: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    poison = truth.parent / "poison"
    poison.mkdir()
    (poison / "numpy.py").write_text("raise ImportError('this is the wrong numpy')")
    monkeypatch.setenv("PYTHONPATH", str(poison))
    ask(tool_of(tools, truth, "good"))


@pytest.mark.parametrize(
    ("behaviour", "line"),
    [
        ("crash_midway", "died while answering.*exit code 139.*out of memory"),
        ("exception", "could not do it.*too dark"),
        ("garbage_on_stdout", "not what the contract says.*hello"),
        ("flood_on_stdout", "without an end"),
        ("answers_twice", "not what the contract says"),
        ("other_folder", "out of step"),
        ("frame_missing", r"'depth'.*float32\[3, 42, 70\], not float32\[4, \?, \?\]"),
        ("w2c_missing", "lacks an array"),
        ("double_depth", "float64"),
        ("fortran_depth", "Fortran"),
        ("pickled", "pickled"),
        ("endless_array", "numbers, more than 100000"),
        ("short_array", "damaged.*ends early"),
        ("no_archive", "damaged"),
        ("link", "no readable result.npz"),
    ],
)
def test_each_misbehaviour_has_its_line_and_the_tool_lives_on(
    tools: list[WorkerTool], truth: Path, behaviour: str, line: str
) -> None:
    tool = tool_of(tools, truth, behaviour)
    for _ in range(2):
        with pytest.raises(EstimatorError, match=line) as caught:
            ask(tool)
        assert not isinstance(caught.value, EstimatorSetupError)
        assert "\n" not in str(caught.value)
    assert not truth.with_suffix(".owned").exists()


@pytest.mark.parametrize(
    ("behaviour", "line"),
    [
        ("older", "got 0; expected 1. Fix: update the worker"),
        ("newer", "got 2; expected 1. Fix: update ReMind"),
        ("chatty_start", "not what the contract says.*Welcome"),
        ("dies_at_start", "died while starting.*libcudart"),
        ("other_task", "does not know this task.*something_else"),
        ("no_weights", "no such weights"),
    ],
)
def test_what_no_clip_can_survive_is_told_apart(
    tools: list[WorkerTool], truth: Path, behaviour: str, line: str
) -> None:
    with pytest.raises(EstimatorSetupError, match=line):
        ask(tool_of(tools, truth, behaviour))


def test_stderr_is_kept_with_the_error(tools: list[WorkerTool], truth: Path) -> None:
    with pytest.raises(EstimatorError) as caught:
        ask(tool_of(tools, truth, "crash_midway"))
    assert caught.value.stderr_tail.splitlines() == ["looking at 4 pictures", "CUDA error: out of memory"]


def test_a_hanging_tool_is_killed_with_its_children(tools: list[WorkerTool], truth: Path) -> None:
    tool = tool_of(tools, truth, "hang", timeout_s=1.0)
    tool.handshake()
    begin = time.monotonic()
    with pytest.raises(EstimatorError, match="stopped while answering; got nothing for 1 s"):
        ask(tool)
    assert time.monotonic() - begin < 10
    assert is_gone(int(truth.with_suffix(".pid").read_text()))


def test_a_tool_that_never_starts_is_given_up(tools: list[WorkerTool], truth: Path) -> None:
    tool = WorkerTool(stand_in(truth, "sleeps_at_start"), start_timeout_s=0.5)
    tools.append(tool)
    with pytest.raises(EstimatorSetupError, match="stopped while starting"):
        ask(tool)


def test_a_crashed_worker_is_started_again(tools: list[WorkerTool], truth: Path) -> None:
    tool = tool_of(tools, truth, "crash_first")
    with pytest.raises(EstimatorError, match=r"died while answering.*exit code -9"):
        ask(tool)
    arrays, _ = ask(tool)
    assert arrays["depth"].shape == (4, 42, 70)
    assert truth.with_suffix(".starts").read_text() == "xx"


def test_a_closed_tool_leaves_no_process(tools: list[WorkerTool], truth: Path) -> None:
    tool = tool_of(tools, truth, "good")
    tool.handshake()
    assert tool._process is not None
    pid = tool._process._child.pid
    tool.close()
    assert is_gone(pid)


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ([], "must be a list"),
        (["/no/such/python", "worker.py"], "cannot be started.*No such file"),
        ([sys.executable, "/no/worker"], "died while starting.*exit code 2"),
    ],
)
def test_a_command_that_is_none_is_refused(command: list[str], line: str) -> None:
    with pytest.raises((InputError, EstimatorSetupError), match=line):
        WorkerTool(command).handshake()


@pytest.mark.parametrize("data", [b"", b"[]", b"[" * 60_000, b'{"contract": "1"}', b'{"contract": 1}', b"\xff"])
def test_messages_are_not_trusted(data: bytes) -> None:
    with pytest.raises(EstimatorError, match="not what the contract says"):
        parse(Handshake, data, what="the worker")


def test_a_later_version_with_other_fields_is_still_called_a_version() -> None:
    with pytest.raises(EstimatorSetupError, match="update ReMind"):
        parse(Handshake, b'{"contract": 7, "colour": "blue"}', what="the worker")


def test_only_regular_files_of_bounded_size_are_read(tmp_path: Path) -> None:
    (tmp_path / "good").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "good")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    assert read_file(tmp_path, "good", max_bytes=5) == b"12345"
    for name in ("link", "folder", "pipe", "absent"):
        with pytest.raises(RemindError, match=name):
            read_file(tmp_path, name, max_bytes=5)
    with pytest.raises(EstimatorError, match="5 bytes"):
        read_file(tmp_path, "good", max_bytes=4)
