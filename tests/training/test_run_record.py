"""The record says all that a result depends on, once; a session's lines survive kills and say no secrets."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from remind.errors import InputError
from remind.recipes import recipe
from remind.training.run_record import (
    EVERY_S,
    RECORD,
    SESSIONS,
    SessionLog,
    append_session,
    read_sessions,
    without_secrets,
    write_record,
)

CONFIG = recipe("nano")
DATA = {"sha256": "ab12", "clips": 7}


def record(out: Path, **changes: object) -> dict[str, object]:
    options = {"command": ["remind", "train", "nano"], "data": DATA, "world_size": 2, **changes}
    return write_record(out, CONFIG, **options)  # type: ignore[arg-type]


def test_the_record_holds_what_a_result_depends_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("WANDB_API_KEY", "very-secret")
    monkeypatch.setenv("SOME_VARIABLE", "something")
    record(tmp_path)
    text = (tmp_path / RECORD).read_text()
    found = json.loads(text)
    assert found["config"] == json.loads(json.dumps(CONFIG.to_json(), default=str))
    assert found["versions"]["torch"] == torch.__version__
    assert found["data"] == DATA
    assert (found["world_size"], found["seed"], found["command"]) == (2, CONFIG.seed, "remind train nano")
    assert found["commit"]
    assert found["machine"]["threads"] == torch.get_num_threads()
    assert found["environment"]["OMP_NUM_THREADS"] == "1"
    assert "very-secret" not in text
    assert "SOME_VARIABLE" not in text


def test_a_resumed_run_keeps_its_record_and_its_session_says_what_differs(tmp_path: Path) -> None:
    SessionLog(tmp_path, record(tmp_path), step=0, tokens=0, device="cpu", devices=2)
    before = (tmp_path / RECORD).read_bytes()
    other = replace(CONFIG, execution=replace(CONFIG.execution, micro_batch=4))
    facts = write_record(tmp_path, other, command=["remind", "train", "nano"], data=DATA, world_size=1, resumed=True)
    SessionLog(tmp_path, facts, step=100, tokens=9, device="cpu", devices=1)
    assert (tmp_path / RECORD).read_bytes() == before
    first, second = read_sessions(tmp_path)
    assert (first["session"], second["session"]) == (1, 2)
    assert "differs" not in first
    assert second["differs"].keys() == {"config", "world_size"}
    assert second["differs"]["config"].keys() == {"execution"}
    assert second["differs"]["config"]["execution"]["micro_batch"] == 4


def test_a_new_run_in_the_folder_of_a_dead_one_keeps_both_records(tmp_path: Path) -> None:
    record(tmp_path, world_size=1)
    record(tmp_path, world_size=2)
    record(tmp_path, world_size=3)
    sizes = [json.loads((tmp_path / name).read_text())["world_size"] for name in ("run.1.json", "run.2.json", RECORD)]
    assert sizes == [1, 2, 3]


def test_a_line_after_one_that_was_cut_in_half_is_whole(tmp_path: Path) -> None:
    append_session(tmp_path, {"session": 1, "event": "start"})
    with (tmp_path / SESSIONS).open("a") as file:
        file.write('{"session": 1, "event": "go')
    append_session(tmp_path, {"session": 2, "event": "start"})
    append_session(tmp_path, {"session": 2, "event": "end"})
    assert [(line["session"], line["event"]) for line in read_sessions(tmp_path)] == [
        (1, "start"), (2, "start"), (2, "end"),
    ]  # fmt: skip


def test_steps_write_a_line_only_now_and_then(tmp_path: Path) -> None:
    now = 0.0
    log = SessionLog(tmp_path, record(tmp_path), step=0, tokens=0, device="cpu", devices=1, seconds_before=5.0,
                     clock=lambda: now)  # fmt: skip
    for step in range(1, 101):
        now = step * EVERY_S / 10
        log.step(step, 10 * step)
    log.saved(100, 1000)
    lines = read_sessions(tmp_path)
    assert [line["step"] for line in lines] == [0, *range(10, 101, 10), 100]
    assert lines[-1]["seconds"] == pytest.approx(5.0 + 10 * EVERY_S)
    assert lines[0]["seconds"] == 5.0


def test_commands_lose_their_secrets() -> None:
    kept = without_secrets(
        ["remind", "train", "--api-key", "abc", "--wandb-token=abc", "--data", "https://me:abc@host/x", "--seed", "3"]
    )
    assert "abc" not in " ".join(kept)
    assert kept[-2:] == ["--seed", "3"]
    assert kept[2:5] == ["--api-key", "***", "--wandb-token=***"]
    assert kept[6] == "https://***@host/x"


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        record(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written"):
        append_session(tmp_path / "nowhere", {})
