"""The launch files do what they say: run with stand-ins for torchrun and Slurm, which are not here, that note the words
they are given; the words then meet the real command line."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from remind.cli_overrides import TrainCommand, read_command

LAUNCH = Path(__file__).parents[2] / "launch"
NOTE = '#!/usr/bin/env bash\nprintf "%s\\n" "$@" > "$NOTED"\n'
REMIND = """#!/usr/bin/env bash
printf "%s\\n" "$@" > "$NOTED.$RANK"
printf "%s\\n" "$RANK" "$LOCAL_RANK" "$WORLD_SIZE" "$MASTER_ADDR" "$MASTER_PORT" > "$NOTED.$RANK.place"
trap 'mkdir -p "$RUN/checkpoints/step-00000007"; exit 0' USR1
touch "$NOTED.$RANK.started"
if [[ -n "${FAIL:-}" ]]; then exit 3; fi
if [[ -n "${DONE:-}" ]]; then exit 0; fi
while :; do sleep 0.05; done
"""
SRUN = """#!/usr/bin/env bash
while [[ "$1" == --* ]]; do shift; done
for rank in 0 1; do
    SLURM_PROCID=$rank SLURM_LOCALID=$rank SLURM_NTASKS=2 SLURM_NTASKS_PER_NODE=2 "$@" & tasks[$rank]=$!
done
trap 'kill -USR1 "${tasks[@]}"' USR1
status=0
for task in "${tasks[@]}"; do
    while :; do
        wait "$task" && code=0 || code=$?
        kill -0 "$task" 2> /dev/null || break
    done
    [[ $code == 0 || $code == 138 ]] || status=$code
done
exit $status
"""
SCONTROL = """#!/usr/bin/env bash
if [[ $1 == show ]]; then printf 'node-%d\\n' {0..20000}; else echo "$@" > "$NOTED.requeue"; fi
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with stand-ins first on the path."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, text in (("torchrun", NOTE), ("remind", REMIND), ("srun", SRUN), ("scontrol", SCONTROL)):
        (tools / name).write_text(text)
        (tools / name).chmod(0o755)
    for name in ("RECIPE", "GPUS", "NODES", "HEAD", "FAIL", "DONE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", f"{tools}:{os.environ['PATH']}")
    monkeypatch.setenv("NOTED", str(tmp_path / "noted"))
    monkeypatch.setenv("RUN", str(tmp_path / "run"))
    monkeypatch.setenv("SLURM_JOB_ID", "123456")
    monkeypatch.setenv("SLURM_JOB_NODELIST", "node-[a-b]")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def command_in(words: list[str]) -> TrainCommand:
    """What comes after `-m remind train`, as the real command line reads it."""
    start = words.index("train") + 1
    assert words[:start][-3:] in (["-m", "remind", "train"], ["train"])
    return read_command(words[start:])


def noted(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_torchrun_meets_locally_or_at_the_head_and_resumes_by_itself(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(*words: str) -> list[str]:
        done = subprocess.run(["bash", LAUNCH / "torchrun.sh", *words], capture_output=True, text=True, timeout=30)
        assert done.returncode == 0, done.stderr
        return noted(place / "noted")

    words = run()
    assert words[:3] == ["--standalone", "--nproc-per-node", "gpu"]
    command = command_in(words)
    assert (command.config.recipe, command.out, command.resume) == ("wan_v2v", place / "run", False)
    assert (place / "run" / "logs").is_dir()
    (place / "run" / "checkpoints" / "step-00000200").mkdir(parents=True)
    for name, value in (("RECIPE", "nano"), ("GPUS", "2"), ("NODES", "4"), ("HEAD", "node-0:29500")):
        monkeypatch.setenv(name, value)
    words = run("--execution.device", "cpu", "--seed", "3")
    assert words[: words.index("--nproc-per-node")] == [
        "--nnodes", "4", "--rdzv-backend", "c10d", "--rdzv-endpoint", "node-0:29500", "--rdzv-id",
        str(place / "run").replace("/", "-"),
    ]  # fmt: skip
    command = command_in(words)
    assert (command.config.recipe, command.config.seed, command.resume) == ("nano", 3, True)
    assert command.config.execution.device == "cpu"


def test_torchrun_takes_the_options_that_it_is_given(place: Path) -> None:
    subprocess.run(["bash", LAUNCH / "torchrun.sh"], check=True, timeout=30)
    from torch.distributed.run import get_args_parser

    words = noted(place / "noted")
    read = get_args_parser().parse_args(words)
    assert (read.module, read.training_script, read.standalone) == (True, "remind", True)
    assert read.local_ranks_filter == "0"


def wait_for(path: Path) -> None:
    for _ in range(400):
        if path.exists():
            return
        time.sleep(0.05)
    raise AssertionError(f"{path.name} did not appear")


def slurm(*words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(["bash", LAUNCH / "slurm.sbatch", *words], text=True, stderr=subprocess.PIPE)


def test_slurm_saves_before_its_time_is_up_queues_again_and_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = slurm("--learning-rate", "1e-5")
    for rank in "01":
        wait_for(place / f"noted.{rank}.started")
    assert noted(place / "noted.1.place") == ["1", "1", "2", "node-0", "23456"]
    command = command_in(noted(place / "noted.0"))
    assert (command.config.recipe, command.config.learning_rate, command.resume) == ("wan_v2v", 1e-5, False)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(timeout=30) == 0
    assert noted(place / "noted.requeue") == ["requeue 123456"]
    (place / "noted.requeue").unlink()
    monkeypatch.setenv("DONE", "yes")
    again = slurm()
    assert again.wait(timeout=30) == 0
    assert command_in(noted(place / "noted.0")).resume
    assert not (place / "noted.requeue").exists()


def test_slurm_passes_a_failure_on(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAIL", "yes")
    job = slurm()
    assert job.wait(timeout=30) == 3
    assert not (place / "noted.requeue").exists()


def test_slurms_own_lines_are_options_of_sbatch() -> None:
    lines = re.findall(r"^#SBATCH (--[a-z-]+)(=\S+)?$", (LAUNCH / "slurm.sbatch").read_text(), flags=re.M)
    known = {"--job-name", "--nodes", "--ntasks-per-node", "--gpus-per-node", "--cpus-per-task", "--time", "--output",
             "--open-mode", "--requeue", "--signal"}  # fmt: skip
    assert {name for name, _ in lines} == known


def test_skypilot_runs_torchrun_on_every_node_with_the_recipe(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())
    assert {"name", "num_nodes", "resources", "envs", "workdir", "volumes", "setup", "run"} == set(task)
    assert task["envs"]["RUN"].startswith(next(iter(task["volumes"])) + "/")
    given = {"RUN": str(place / "run"), "SKYPILOT_NUM_NODES": "4", "SKYPILOT_NODE_RANK": "1",
             "SKYPILOT_NUM_GPUS_PER_NODE": "8", "SKYPILOT_NODE_IPS": "10.0.0.1\n10.0.0.2"}  # fmt: skip
    for name, value in {**task["envs"], **given}.items():
        monkeypatch.setenv(name, value)
    (place / "run" / "checkpoints" / "step-00000100").mkdir(parents=True)
    script = task["run"].replace("cd /shared", f"cd {place}")
    subprocess.run(["bash", "-e", "-c", script], check=True, timeout=30)
    words = noted(place / "noted")
    assert words[words.index("--master-addr") + 1] == "10.0.0.1"
    assert words[words.index("--node-rank") + 1] == "1"
    command = command_in(words)
    assert (command.config.recipe, command.resume) == ("wan_v2v", True)
    assert command.config.execution.checkpoint_every == 100


@pytest.mark.parametrize("name", ["torchrun.sh", "slurm.sbatch"])
def test_scripts_parse_and_name_existing_commands_in_their_comments(name: str) -> None:
    subprocess.run(["bash", "-n", LAUNCH / name], check=True, timeout=30)
    text = (LAUNCH / name).read_text()
    for option in re.findall(r"^#   .*?(--[\w.-]+ [\w.-]+)$", text, flags=re.M):
        read_command(["nano", *option.split()])
