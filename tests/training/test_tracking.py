"""Trackers: what is told can be read back, a resumed run shows nothing twice, and a failure ends no training."""

from __future__ import annotations

import json
import logging
import resource
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from remind.errors import InputError
from remind.training.tracking import make_tracker

# TensorBoard's own thread ends with the error of the full disk, and pytest may notice that some tests later.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")

PICTURE = np.random.default_rng(0).integers(256, size=(32, 48, 3), dtype=np.uint8)


def events(out: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(out / "tensorboard")).Reload()


def told(out: Path, name: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(out).Scalars(name)]


def test_tensorboard_gives_back_what_it_was_told(tmp_path: Path) -> None:
    tracker = make_tracker(tmp_path, ("tensorboard",))
    for step in (1, 2, 3):
        tracker.scalars(step, {"loss": 1 / step, "flow/regime/node_drop": 2.0 * step})
    tracker.picture(3, "clip 0", PICTURE)
    tracker.close()
    assert told(tmp_path, "loss") == [(1, 1.0), (2, 0.5), (3, pytest.approx(1 / 3))]
    assert told(tmp_path, "flow/regime/node_drop") == [(1, 2.0), (2, 4.0), (3, 6.0)]
    (picture,) = events(tmp_path).Images("clip 0")
    assert (picture.step, picture.height, picture.width) == (3, 32, 48)
    from PIL import Image

    (tmp_path / "back.png").write_bytes(picture.encoded_image_string)
    assert np.array_equal(np.asarray(Image.open(tmp_path / "back.png")), PICTURE)


def test_steps_after_the_checkpoint_show_once_after_a_resume(tmp_path: Path) -> None:
    """Killed after step 5 with a checkpoint of step 3; then killed again, before any new checkpoint."""
    for first, last, value in ((1, 5, 1.0), (4, 7, 2.0), (4, 6, 3.0)):
        tracker = make_tracker(tmp_path, ("tensorboard",), step=first - 1)
        for step in range(first, last + 1):
            tracker.scalars(step, {"loss": value})
        tracker.close()
    assert told(tmp_path, "loss") == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 3.0), (5, 3.0), (6, 3.0)]


def test_a_run_that_starts_again_shows_nothing_of_the_one_before(tmp_path: Path) -> None:
    for value in (1.0, 2.0):
        tracker = make_tracker(tmp_path, ("tensorboard",))
        tracker.scalars(0, {"validation": value})
        tracker.scalars(1, {"validation": value})
        tracker.close()
    assert told(tmp_path, "validation") == [(0, 2.0), (1, 2.0)]


def test_a_record_cut_short_by_a_kill_hides_nothing_else(tmp_path: Path) -> None:
    tracker = make_tracker(tmp_path, ("tensorboard",))
    for step in (1, 2, 3):
        tracker.scalars(step, {"loss": 1.0})
    tracker.close()
    (file,) = (tmp_path / "tensorboard").iterdir()
    file.write_bytes(file.read_bytes()[:-5])
    tracker = make_tracker(tmp_path, ("tensorboard",), step=2)
    tracker.scalars(3, {"loss": 2.0})
    tracker.close()
    assert told(tmp_path, "loss") == [(1, 1.0), (2, 1.0), (3, 2.0)]


def test_a_full_disk_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A limit on the size of files is a full disk as far as a writer can tell."""
    tracker = make_tracker(tmp_path, ("tensorboard",))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2048, hard))
    try:
        with caplog.at_level(logging.WARNING, "remind"):
            for step in range(300):  # many: TensorBoard writes in a thread of its own
                tracker.scalars(step, {"loss": 1.0})
                tracker.picture(step, "clip", PICTURE)
            tracker.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    (record,) = caplog.records
    assert "tensorboard is given up, training goes on: OSError" in record.getMessage()


def test_a_tracker_that_cannot_even_start_costs_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "tensorboard").write_text("a file where the folder should be")
    with caplog.at_level(logging.WARNING, "remind"):
        tracker = make_tracker(tmp_path, ("tensorboard",))
        tracker.scalars(1, {"loss": 1.0})
        tracker.close()
    assert len(caplog.records) == 1


def test_no_tracker_is_a_tracker(tmp_path: Path) -> None:
    tracker = make_tracker(tmp_path, ())
    tracker.scalars(1, {"loss": 1.0})
    tracker.picture(1, "clip", PICTURE)
    tracker.close()
    assert not list(tmp_path.iterdir())


def test_bad_names_and_missing_packages_say_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=r"unknown tracker; got mlflow; expected tensorboard or wandb"):
        make_tracker(tmp_path, ("tensorboard", "mlflow"))
    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    (tmp_path / "wandb").mkdir()  # what W&B leaves behind in a folder that it ran in; Python takes it for a package
    with pytest.raises(InputError, match=r"wandb is not installed. Fix: pip install wandb"):
        make_tracker(tmp_path, ("wandb",))


@dataclass
class StandInRun:
    """W&B's side of the border: remembers what it is told."""

    step: int
    calls: list[tuple[Any, ...]] = field(default_factory=list)

    def log(self, values: dict[str, Any], step: int) -> None:
        self.calls.append((step, *values))

    def finish(self) -> None:
        self.calls.append(("finish",))


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A module in the place of `wandb`: only the calls that cross the border are looked at."""
    seen = SimpleNamespace(init=[], run=StandInRun(0), error=None)

    class UsageError(Exception):
        pass

    def init(**arguments: Any) -> StandInRun:
        seen.init.append(arguments)
        if seen.error is not None:
            raise seen.error
        return seen.run

    module = ModuleType("wandb")
    module.__spec__ = SimpleNamespace(origin="stand-in")  # type: ignore[assignment]
    vars(module).update(init=init, Image=lambda rgb: rgb, Settings=lambda **settings: settings,
                        errors=SimpleNamespace(UsageError=UsageError))
    monkeypatch.setitem(sys.modules, "wandb", module)
    seen.UsageError = UsageError
    return seen


def test_wandb_continues_its_run_and_is_told_no_step_twice(tmp_path: Path, stand_in: SimpleNamespace) -> None:
    tracker = make_tracker(tmp_path, ("wandb",))
    tracker.scalars(1, {"loss": 1.0})
    tracker.picture(1, "clip", PICTURE)
    tracker.close()
    assert stand_in.run.calls == [(1, "loss"), (1, "clip"), ("finish",)]
    stand_in.run = StandInRun(6)  # as W&B says after steps up to 5
    tracker = make_tracker(tmp_path, ("wandb",), step=3)
    for step in range(4, 8):
        tracker.scalars(step, {"loss": 1.0})
    assert [call[0] for call in stand_in.run.calls] == [6, 7]
    first, second = stand_in.init
    assert first["id"] == second["id"] == json.loads((tmp_path / "wandb-run.json").read_text())["id"]
    assert (first["resume"], second["resume"]) == (None, "allow")
    make_tracker(tmp_path, ("wandb",))
    assert stand_in.init[2]["id"] != first["id"]  # a run that starts again is another run
    assert all(call["settings"][name] for call in stand_in.init for name in ("disable_git", "x_disable_meta"))


def test_wandb_without_a_login_says_so_and_a_broken_server_ends_nothing(
    tmp_path: Path, stand_in: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    stand_in.error = stand_in.UsageError("no API key configured")
    with pytest.raises(InputError, match=r"no API key configured. Fix: wandb login, or WANDB_MODE=offline"):
        make_tracker(tmp_path, ("wandb",))
    stand_in.error = ConnectionError("nobody answers\nat all")
    with caplog.at_level(logging.WARNING, "remind"):
        tracker = make_tracker(tmp_path, ("wandb",))
        tracker.scalars(1, {"loss": 1.0})
    (record,) = caplog.records
    assert record.getMessage() == "wandb is given up, training goes on: ConnectionError: nobody answers at all"


def test_wandb_offline_keeps_all_in_the_run_folder_and_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The real W&B in its offline mode; skipped where it is not installed."""
    pytest.importorskip("wandb")
    key = "f00dface" * 5
    for name, value in {"WANDB_MODE": "offline", "WANDB_API_KEY": key, "HOME": str(tmp_path / "home")}.items():
        monkeypatch.setenv(name, value)
    for step in (0, 3):
        tracker = make_tracker(tmp_path, ("wandb",), step=step)
        tracker.scalars(step + 1, {"flow/role/recovery": 0.25})
        tracker.picture(step + 1, "clip 0", PICTURE)
        tracker.close()
        time.sleep(1.1)  # W&B names its folders by the second
    run_id = json.loads((tmp_path / "wandb-run.json").read_text())["id"]
    records = list(tmp_path.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"))
    assert len(records) == 2
    assert all(b"flow/role/recovery" in record.read_bytes() for record in records)
    assert len(list(tmp_path.glob("wandb/offline-run-*/files/media/images/*.png"))) == 2
    for file in (tmp_path / "wandb").rglob("*"):
        if file.is_file():
            assert key.encode() not in file.read_bytes()
