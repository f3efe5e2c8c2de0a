"""A dry run as tables for the terminal, which say where the numbers come from."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from remind.models.amounts import number_text as _number
from remind.models.amounts import seconds_text as _seconds
from remind.models.amounts import size_text as _size
from remind.training.estimate import RANKS_PER_NODE, Estimate, Time
from remind.training.training_memory import MOMENTS


def render(found: Estimate, console: Console) -> None:
    """Print all tables and what they assume."""
    config, execution = found.config, found.config.execution
    console.print(f"[bold]{config.recipe}[/bold] ({config.arm}): {config.steps:,} steps of {config.batch_size} clips "
                  f"of {config.num_frames} frames, {config.hw[0]}x{config.hw[1]} px, {config.precision}, on "
                  f"{found.world_size} x {found.device.name}")  # fmt: skip
    console.print(f"each rank: {found.memory.passes} pass(es) of {found.memory.clips} clip(s) a step; recompute "
                  f"{'on' if execution.recompute else 'off'}; weights sharded over "
                  f"{found.world_size // execution.replicate}, sequences over {execution.sequence_parallel}")
    for table in (_parameters(found), _sequences(found), _work(found), _memory(found), _time(found)):
        console.print(table)
    _say_fit(found, console)
    disk, here = found.disk, min(found.world_size, RANKS_PER_NODE)
    host = max(disk.host_start, disk.host_running)
    console.print(f"Disk: {_size(disk.checkpoint)} a checkpoint, {_size(disk.weights)} the weights for users, at most "
                  f"{_size(disk.most)} at once.")  # fmt: skip
    console.print(f"Main memory: {_size(disk.host_start)} a process when it starts, {_size(disk.host_running)} at "
                  f"work; {_size(here * host + disk.host_first)} for {here} on one machine, with what the first needs "
                  "to write weights. Libraries take about 1 GB a process more.")  # fmt: skip


def _parameters(found: Estimate) -> Table:
    whole, block = found.parameters.whole, found.parameters.block
    table = Table(title="Parameters", title_justify="left", show_header=False)
    counts = {"total": whole.total, "trained": whole.trainable, "cameras": whole.camera, "adapters": whole.adapters,
              "moved by Muon": whole.muon, "of one block": block.total}  # fmt: skip
    for name, count in counts.items():
        table.add_row(name, Text(f"{count:,}", justify="right"))
    return table


def _sequences(found: Estimate) -> Table:
    table = Table(title="Sequences: clean history, then noised targets; means over drawn plans", title_justify="left",
                  show_footer=True)  # fmt: skip
    mean = sum(r.share * r.flops_per_step for r in found.regimes)
    for name, footer in (
        ("regime", "mean"), ("share of the run", ""), ("chunks", ""), ("each sees", ""), ("tokens a clip", ""),
        ("tokens a step", _number(found.tokens_per_step)), ("FLOPs a step", _number(mean)),
    ):  # fmt: skip
        table.add_column(name, footer=footer, justify="left" if name == "regime" else "right",
                         no_wrap=name == "regime")  # fmt: skip
    for r in found.regimes:
        table.add_row(r.regime, f"{r.share:.1%}", f"{r.entries:.1f}", f"{r.seen:.1f}", f"{r.tokens_per_clip:,.0f}",
                      _number(r.tokens_per_step), _number(r.flops_per_step))  # fmt: skip
    return table


def _work(found: Estimate) -> Table:
    table = Table(title="FLOPs of a mean step, all ranks", title_justify="left", show_footer=True)
    total = found.flops_per_step
    columns = {"forward": "forward", "backward": "backward", "recomputed": "again"}
    table.add_column("part", footer="sum")
    for name, field in columns.items():
        table.add_column(name, justify="right", footer=_number(sum(getattr(w, field) for w in found.work.values())))
    table.add_column("share", justify="right", footer=_number(total))
    for part, work in found.work.items():
        if work.total:
            table.add_row(part, *(_number(getattr(work, field)) for field in columns.values()),
                          f"{work.total / total:.1%}")  # fmt: skip
    return table


def _memory(found: Estimate) -> Table:
    memory = found.memory
    table = Table(title="Memory of one rank, by moments of a step", title_justify="left", show_footer=True,
                  caption=f"allocator's slack, assumed {memory.slack:.0%} of the peak: "
                          f"{_size(memory.peak * memory.slack)}; in all {_size(memory.total)} of "
                          f"{_size(found.device.memory_bytes)}", caption_justify="left")  # fmt: skip
    table.add_column("", footer="sum")
    for moment in MOMENTS:
        table.add_column(moment, footer=_size(memory.live(moment)), justify="right",
                         style="bold" if moment == memory.peak_moment else "")  # fmt: skip
    for part in dict.fromkeys(name for parts in memory.parts.values() for name in parts):
        values = [memory.parts[moment].get(part, 0.0) for moment in MOMENTS]
        if any(values):
            table.add_row(part, *(_size(value) if value else "" for value in values))
    return table


def _time(found: Estimate) -> Table:
    table = Table(
        title=f"Time, if {found.utilisation:.0%} of the peak rate is reached (MFU {found.model_flops_utilisation:.0%})",
        title_justify="left", caption_justify="left",
        caption="Not counted: waiting for data and for other ranks, validation, checkpoints, starting.",
    )  # fmt: skip
    for name in ("device", "peak, FLOP/s", "memory", "fits", "a step", "the run", "device-h"):
        table.add_column(name, justify="left" if name == "device" else "right")
    for time in (found.time, *found.elsewhere):
        device = time.device
        table.add_row(device.name, _number(device.peak_flops(found.config.precision)), _size(device.memory_bytes),
                      "yes" if time.fits else "no", _seconds(time.step_s), _hours(time), f"{time.device_h:,.2f}",
                      style="bold" if time is found.time else "")  # fmt: skip
    return table


def _say_fit(found: Estimate, console: Console) -> None:
    if found.fits:
        console.print(f"It fits: {_size(found.memory.total)} of {_size(found.device.memory_bytes)}, fullest at "
                      f"\"{found.memory.peak_moment}\".")  # fmt: skip
        return
    console.print(f"[bold]It does not fit[/bold]: {_size(found.memory.total)} needed, "
                  f"{_size(found.device.memory_bytes)} there; fullest at \"{found.memory.peak_moment}\".")  # fmt: skip
    if not found.remedies:
        console.print("None of recomputation, smaller passes, sequence parallelism and four times the ranks would do.")
    for remedy in found.remedies:
        console.print(f"  {remedy.change}: {_size(remedy.memory_bytes)}")


def _hours(time: Time) -> str:
    return f"{time.run_h:,.1f} h" if time.run_h >= 1 else f"{60 * time.run_h:.1f} min"
