"""What is installed, which device is there, how fast it multiplies, and what is missing for which job."""

from __future__ import annotations

import importlib.util
import json
import os
import platform
import re
import shutil
import time
from dataclasses import dataclass
from importlib import metadata, resources
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # doctor must be able to say that these are missing
    import torch
    from rich.console import Console

Status = Literal["ok", "note", "missing", "broken"]
"""ok: as it should be. note: worth knowing. missing: one job cannot be done. broken: the demo cannot run."""

DISTRIBUTION = "remind-video"
SHIPPED_CHECKPOINTS = ("nano", "nano-base", "nano-matched")
GEMM_SIZES = (256, 1024)
GEMM_BUDGET_S = 0.3  # per size and dtype: two of each stay under 2 s
BF16_MUST_WIN_BY = 1.2  # our choice: below that, the loss of precision buys nothing
MIN_FREE_BYTES = 2 * 2**30  # world banks of nano and tiny, twice


@dataclass(frozen=True)
class OptionalPackage:
    """A package that one job needs and the demo does not.

    Args:
        module: what is imported.
        job: what cannot be done without it.
        fix: how to get it.
    """

    module: str
    job: str
    fix: str


_DATA, _DEV = "pip install 'remind-video[data]'", "pip install -e '.[dev]', or `make test`"
_WAN = "pip install 'remind-video[wan]'"
OPTIONAL_PACKAGES = (
    OptionalPackage("scenedetect", "remind data build", _DATA),
    OptionalPackage("cv2", "remind data build", _DATA),
    OptionalPackage("httpx2", "remind data build --vlm-url", _DATA),
    OptionalPackage("pycolmap", "remind data build --cameras colmap", "pip install 'remind-video[camera]'"),
    OptionalPackage("ray", "remind data build --engine ray", "pip install 'remind-video[ray]'"),
    OptionalPackage("diffusers", "Wan VAE and text encoder", _WAN),
    OptionalPackage("transformers", "Wan VAE and text encoder", _WAN),
    OptionalPackage("pytest", "tests", _DEV),
    OptionalPackage("hypothesis", "tests", _DEV),
    OptionalPackage("beartype", "tests", _DEV),
    OptionalPackage("xdist", "tests", _DEV),
    OptionalPackage("diffusers", "tests", _DEV),
    OptionalPackage("accelerate", "tests", _DEV),
    OptionalPackage("mlcroissant", "tests", _DEV),
    OptionalPackage("ruff", "lint", _DEV),
    OptionalPackage("mypy", "lint", _DEV),
    OptionalPackage("importlinter", "lint", _DEV),
)


@dataclass(frozen=True)
class Finding:
    """One line of the diagnosis.

    Args:
        subject: what was looked at.
        status: see `Status`.
        text: what was found.
        fix: what to do about it; empty if nothing.
    """

    subject: str
    status: Status
    text: str
    fix: str = ""


@dataclass(frozen=True)
class Diagnosis:
    """All findings, in the order in which they are shown."""

    findings: tuple[Finding, ...]

    @property
    def blockers(self) -> tuple[Finding, ...]:
        """Why the demo cannot run."""
        return tuple(f for f in self.findings if f.status == "broken")

    @property
    def can_demo(self) -> bool:
        return not self.blockers


def diagnose() -> Diagnosis:
    """Look at everything; takes about two seconds. Nothing is written and nothing is downloaded."""
    findings = [_python(), *_required_packages()]
    if importlib.util.find_spec("torch") is not None:
        try:
            findings += _torch()
        except (ImportError, OSError, RuntimeError) as error:  # a build for another platform or driver
            findings.append(Finding("torch", "broken", f"cannot be used: {_first_line(error)}",
                                    "install torch again, see pytorch.org"))
    findings += [_video(), *_shipped_weights(), _cache(), *_optional_packages(), _torchvision()]
    return Diagnosis(tuple(findings))


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


def _python() -> Finding:
    return Finding("Python", "ok", f"{platform.python_version()}, {platform.system()} {platform.machine()}")


def _required_packages() -> list[Finding]:
    """The dependencies that the installed distribution declares itself."""
    try:
        declared = metadata.requires(DISTRIBUTION) or []
        version = metadata.version(DISTRIBUTION)
    except metadata.PackageNotFoundError:
        return [Finding("remind", "broken", "is not installed", "pip install -e .")]
    names = [re.split(r"[\s\[<>=!~;(]", line, maxsplit=1)[0] for line in declared if "extra ==" not in line]
    missing = [name for name in names if not _has_distribution(name)]
    if missing:
        return [Finding("remind", "broken", f"{version}, without {', '.join(missing)}",
                        f"pip install {' '.join(missing)}")]
    return [Finding("remind", "ok", f"{version}, all {len(names)} packages it needs")]


def _has_distribution(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def _torch() -> list[Finding]:
    import torch

    build = (f"CUDA {torch.version.cuda}" if torch.version.cuda else
             f"ROCm {torch.version.hip}" if torch.version.hip else "without CUDA and ROCm")
    return [
        Finding("torch", "ok", f"{torch.__version__}, built {build}"),
        _device(),
        Finding("Threads", "ok", f"{torch.get_num_threads()} for torch, {_usable_cores()} cores usable"),
        _speed(),
    ]


def _device() -> Finding:
    """0.1 computes on the CPU; another device is named, so that nobody waits for it to be used."""
    import torch

    cpu = f"CPU, {_cpu_name()}, {_gib(_memory_bytes())} of memory"
    if torch.cuda.is_available():
        kind = "ROCm" if torch.version.hip else "CUDA"
        free, total = torch.cuda.mem_get_info()
        other = f"{kind} device {torch.cuda.get_device_name()}, {_gib(free)} of {_gib(total)} free"
    elif torch.backends.mps.is_available():
        other = "Apple GPU (MPS)"
    else:
        return Finding("Device", "ok", cpu)
    return Finding("Device", "note", f"{cpu}; {other} is there, but version 0.1 computes on the CPU")


def _cpu_name() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory_bytes() -> int:
    """Physical memory, or less where a container is given less."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    try:
        return min(physical, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no control groups, or "max"
        return physical


def _gib(num_bytes: int) -> str:
    return f"{num_bytes / 2**30:.1f} GiB"


def gemm_gflops(size: int, dtype: torch.dtype, *, budget_s: float) -> float:
    """Rate of square matrix products on the CPU, in GFLOP/s: the best of as many runs as fit, one at least.

    Args:
        size: rows and columns, > 0.
        budget_s: when to stop, s; a single run is not cut short.
    """
    import torch

    a = torch.ones(size, size, dtype=dtype)
    fastest, started = float("inf"), time.perf_counter()
    while True:
        before = time.perf_counter()
        a @ a
        after = time.perf_counter()
        fastest = min(fastest, after - before)
        if after - started + fastest > budget_s:
            return 2 * size**3 / max(fastest, 1e-9) / 1e9


def measure_rates() -> dict[str, float]:
    """Best GFLOP/s of one core in fp32 and bf16.

    One core, because several that wait for each other on a busy machine measure the waiting. A large product
    is skipped where the small one says that it would take too long (bf16 without hardware for it).
    """
    import torch

    best: dict[str, float] = {}
    num_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        for name, dtype in (("fp32", torch.float32), ("bf16", torch.bfloat16)):
            for size in GEMM_SIZES:
                if name in best and 2 * size**3 / (best[name] * 1e9) > GEMM_BUDGET_S:
                    break
                best[name] = max(best.get(name, 0.0), gemm_gflops(size, dtype, budget_s=GEMM_BUDGET_S))
    finally:
        torch.set_num_threads(num_threads)
    return best


def better_dtype(rates: dict[str, float]) -> Literal["fp32", "bf16"]:
    """bf16 where it is clearly faster, else fp32."""
    return "bf16" if rates["bf16"] > BF16_MUST_WIN_BY * rates["fp32"] else "fp32"


def _speed() -> Finding:
    """0.1 computes in fp32; where the CPU has hardware for bf16 that is said."""
    rates = measure_rates()
    text = ", ".join(f"{name} {rate:.0f}" for name, rate in rates.items())
    advice = "use fp32"
    if better_dtype(rates) == "bf16":
        advice = "bf16 would pay here, but version 0.1 computes in fp32"
    return Finding("Matrix products", "ok", f"GFLOP/s of one core: {text}; {advice}")


def _video() -> Finding:
    try:
        import av

        ffmpeg = ".".join(map(str, av.library_versions["libavcodec"]))
        av.Codec("libx264", "w")
    except ImportError as error:
        return Finding("Video", "broken", f"PyAV cannot be imported: {_first_line(error)}", "pip install av")
    except ValueError:  # PyAV's error for an encoder that is not there is one
        return Finding("Video", "broken", f"PyAV {av.__version__} has no encoder libx264: no mp4",
                       "pip install --force-reinstall --only-binary av av")
    return Finding("Video", "ok", f"PyAV {av.__version__}, libavcodec {ffmpeg}, encoder libx264")


def _shipped_weights() -> list[Finding]:
    package = resources.files("remind")
    files = {
        "Codec": package / "models" / "weights" / "codec-world.safetensors",
        "Calibration": package / "assets" / "calibration-32.json",
    }
    findings = [Finding(name, "broken", f"{file.name} is not in the package", "install remind again")
                for name, file in files.items() if not file.is_file()]
    absent, trained = [], []
    for name in SHIPPED_CHECKPOINTS:
        folder = package / "assets" / "checkpoints" / name
        if (folder / "model.safetensors").is_file() and (folder / "config.json").is_file():
            try:
                steps_done = json.loads((folder / "config.json").read_text())["steps_done"]
                trained.append(f"{name} ({steps_done} steps)")
            except (ValueError, KeyError, TypeError, OSError):
                absent.append(f"{name} (damaged config.json)")
        else:
            absent.append(name)
    if absent:
        findings.append(Finding("Weights", "broken", f"not in the package: {', '.join(absent)}",
                                "install remind again, or train with `remind demo --from-scratch`"))
    else:
        findings.append(Finding("Weights", "ok", ", ".join(trained)))
    return findings


def _cache() -> Finding:
    try:
        from remind.data.dataset import default_cache_dir
    except ImportError as error:
        return Finding("Cache", "note", f"unknown: {_first_line(error)}")
    folder = default_cache_dir()
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    text, fix = f"{folder}, {_gib(free)} free", "set REMIND_CACHE to another folder"
    if not os.access(existing, os.W_OK) or not existing.is_dir():
        return Finding("Cache", "missing", f"{text}, not writable: no training", fix)
    if free < MIN_FREE_BYTES:
        return Finding("Cache", "missing", f"{text}, training may need {_gib(MIN_FREE_BYTES)}", fix)
    return Finding("Cache", "ok", text)


def _optional_packages() -> list[Finding]:
    """One line a job: what it still lacks."""
    findings = []
    for job in dict.fromkeys(package.job for package in OPTIONAL_PACKAGES):
        packages = [p for p in OPTIONAL_PACKAGES if p.job == job]
        absent = [p for p in packages if importlib.util.find_spec(p.module) is None]
        if absent:
            names = ", ".join(p.module for p in absent)
            findings.append(Finding(f"For {job}", "missing", f"without {names}", absent[0].fix))
        else:
            findings.append(Finding(f"For {job}", "ok", ", ".join(p.module for p in packages)))
    return findings


def _torchvision() -> Finding:
    there = importlib.util.find_spec("torchvision") is not None
    return Finding("torchvision", "note" if there else "ok",
                   "there, and never used" if there else "not there, and never needed")


_SIGNS: dict[Status, str] = {"ok": "[green]ok[/]", "note": "[cyan]note[/]", "missing": "[yellow]missing[/]",
                             "broken": "[bold red]broken[/]"}


def show(diagnosis: Diagnosis, console: Console) -> None:
    """Print a table, and below it whether the demo can run."""
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for finding in diagnosis.findings:
        text = escape(finding.text) + (f"\n[dim]Fix: {escape(finding.fix)}[/]" if finding.fix else "")
        table.add_row(_SIGNS[finding.status], finding.subject, text)
    console.print(table)
    if diagnosis.can_demo:
        console.print("\nThe demo can run: [bold]remind demo --out demo[/]")
    for blocker in diagnosis.blockers:
        console.print(f"\n[bold red]The demo cannot run.[/] {escape(f'{blocker.subject}: {blocker.text}')}")


def main() -> int:
    """Diagnose and print; 0 if the demo can run, 1 if not."""
    diagnosis = diagnose()
    try:
        from rich.console import Console
    except ImportError:  # then this is the finding
        for finding in diagnosis.findings:
            print(f"{finding.status:8s}{finding.subject}: {finding.text}")
        return 1
    show(diagnosis, Console())
    return 0 if diagnosis.can_demo else 1
