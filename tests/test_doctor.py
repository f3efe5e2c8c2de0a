"""The doctor: what it finds, and what blocks the demo or only a job."""

from __future__ import annotations

import importlib.util
import io
import json
from importlib import metadata
from pathlib import Path

import pytest
import torch
from rich.console import Console

from remind import doctor
from remind.doctor import Diagnosis, Finding
from remind.inference.pipeline import SHIPPED


def _with_weights(root: Path, *names: str) -> Path:
    (root / "models" / "weights").mkdir(parents=True)
    (root / "models" / "weights" / "codec-world.safetensors").write_bytes(b"x")
    (root / "assets").mkdir()
    (root / "assets" / "calibration-32.json").write_text("{}")
    for name in names:
        folder = root / "assets" / "checkpoints" / name
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(b"x")
        (folder / "config.json").write_text(json.dumps({"steps_done": 1600}))
    return root


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine on which everything is there, without measuring."""
    root = _with_weights(tmp_path / "package", *doctor.SHIPPED_CHECKPOINTS)
    monkeypatch.setattr(doctor.resources, "files", lambda package: root)
    monkeypatch.setattr(doctor, "measure_rates", lambda: {"fp32": 100.0, "bf16": 1.0})
    monkeypatch.setenv("REMIND_CACHE", str(tmp_path / "cache"))
    return root


def _text(diagnosis: Diagnosis) -> str:
    out = io.StringIO()
    doctor.show(diagnosis, Console(file=out, width=200))
    return out.getvalue()


def test_a_whole_machine_can_run_the_demo(quick: Path, capsys: pytest.CaptureFixture[str]) -> None:
    diagnosis = doctor.diagnose()
    assert diagnosis.can_demo, diagnosis.blockers
    text = _text(diagnosis)
    wanted = (torch.__version__, "libx264", "use fp32", "nano-matched (1600 steps)", "The demo can run")
    for expected in wanted:
        assert expected in text
    assert doctor.main() == 0
    assert "The demo can run" in capsys.readouterr().out


def test_missing_weights_are_named_and_block_the_demo(
    quick: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (quick / "assets" / "checkpoints" / "nano-base" / "model.safetensors").unlink()
    (blocker,) = doctor.diagnose().blockers
    assert blocker.text == "not in the package: nano-base"
    assert "--from-scratch" in blocker.fix
    assert doctor.main() == 1
    assert "The demo cannot run" in capsys.readouterr().out


def test_damaged_weights_are_told_from_missing_ones(quick: Path) -> None:
    (quick / "assets" / "checkpoints" / "nano" / "config.json").write_text("{")
    (blocker,) = doctor.diagnose().blockers
    assert "nano (damaged config.json)" in blocker.text


@pytest.mark.parametrize(
    ("file", "subject"),
    [("models/weights/codec-world.safetensors", "Codec"), ("assets/calibration-32.json", "Calibration")],
)
def test_other_files_that_the_demo_reads_block_it_too(quick: Path, file: str, subject: str) -> None:
    (quick / file).unlink()
    assert [f.subject for f in doctor.diagnose().blockers] == [subject]


def test_a_job_that_lacks_a_package_is_named_but_the_demo_goes_on(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    without = {"scenedetect": None}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: without.get(name, find(name)))
    diagnosis = doctor.diagnose()
    (finding,) = [f for f in diagnosis.findings if f.subject == "For remind data build"]
    assert (finding.status, finding.text) == ("missing", "without scenedetect")
    assert "[data]" in _text(diagnosis)  # not swallowed as markup
    assert diagnosis.can_demo


def test_a_required_package_that_is_not_installed_blocks(
    quick: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version = metadata.version

    def without_scipy(name: str) -> str:
        if name == "scipy":
            raise metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(metadata, "version", without_scipy)
    (blocker,) = doctor.diagnose().blockers
    assert blocker.fix == "pip install scipy"


def test_a_missing_encoder_blocks(quick: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import av

    def refuse(name: str, mode: str) -> None:
        raise ValueError(name)

    monkeypatch.setattr(av, "Codec", refuse)
    assert [f.subject for f in doctor.diagnose().blockers] == ["Video"]


def test_a_cache_that_cannot_be_written_blocks_training_only(
    quick: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    monkeypatch.setenv("REMIND_CACHE", str(in_the_way / "cache"))
    diagnosis = doctor.diagnose()
    (finding,) = [f for f in diagnosis.findings if f.subject == "Cache"]
    assert finding.status == "missing"
    assert "REMIND_CACHE" in finding.fix
    assert diagnosis.can_demo


def test_rates_are_measured_within_a_budget_and_threads_are_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "GEMM_SIZES", (16, 32))
    monkeypatch.setattr(doctor, "GEMM_BUDGET_S", 0.002)
    before = torch.get_num_threads()
    rates = doctor.measure_rates()
    assert set(rates) == {"fp32", "bf16"}
    assert all(0 < rate < 1e6 for rate in rates.values())
    assert torch.get_num_threads() == before


def test_a_slow_dtype_is_not_tried_at_the_large_size(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[tuple[int, torch.dtype]] = []

    def rate(size: int, dtype: torch.dtype, *, budget_s: float) -> float:
        tried.append((size, dtype))
        return 100.0 if dtype == torch.float32 else 0.3

    monkeypatch.setattr(doctor, "gemm_gflops", rate)
    doctor.measure_rates()
    assert tried == [(256, torch.float32), (1024, torch.float32), (256, torch.bfloat16)]


@pytest.mark.parametrize(("bf16", "expected"), [(1.0, "fp32"), (110.0, "fp32"), (800.0, "bf16")])
def test_bf16_is_advised_only_where_it_is_clearly_faster(bf16: float, expected: str) -> None:
    assert doctor.better_dtype({"fp32": 100.0, "bf16": bf16}) == expected


def test_findings_are_shown_as_they_are() -> None:
    text = _text(Diagnosis((Finding("X", "broken", "got [bold] and [/]", "pip install 'a[b]'"),)))
    assert "got [bold] and [/]" in text
    assert "pip install 'a[b]'" in text


def test_it_looks_for_the_checkpoints_that_the_pipeline_ships() -> None:
    assert doctor.SHIPPED_CHECKPOINTS == SHIPPED
