"""RUN/metrics.jsonl: no record of a step that is done again, none lost, and a full disk is said."""

from __future__ import annotations

from pathlib import Path

import pytest

from remind.errors import InputError
from remind.training.metrics_file import MetricsFile

from .make_run import room_for


@pytest.mark.parametrize("end", ['{"step": 4, "lo', "[1]\n", "\0\0\0\n", '{"loss": 1}\n'])
def test_records_after_the_checkpoint_and_what_a_power_cut_left_are_cut_away(tmp_path: Path, end: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1}\n{"step": 2}\n{"step": 3}\n' + end)
    file = MetricsFile(path, 2)
    file.write({"step": 3, "loss": 0.5})
    assert path.read_text() == '{"step": 1}\n{"step": 2}\n{"step": 3, "loss": 0.5}\n'  # on its way already
    file.close()
    MetricsFile(path, 9).close()
    assert path.read_text().count("\n") == 3


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "metrics.jsonl", 0)
    with room_for(10), pytest.raises(InputError, match="cannot be written"):
        file.write({"step": 1, "loss": 0.123456789})
    file.close()
