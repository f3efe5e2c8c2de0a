"""A dry run of generating as tables for the terminal, which say where the numbers come from."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from remind.inference.generation_plan import SLACK, GenerationPlan
from remind.models.amounts import number_text, seconds_text, size_text

_SHORT_S = 0.01


def render(plan: GenerationPlan, console: Console) -> None:
    """Print all tables and what they assume."""
    made = plan.num_chunks - plan.given_chunks
    console.print(f"[bold]{plan.source}[/bold]: {plan.num_chunks} chunks of {plan.hw[0]}x{plan.hw[1]} px, of which "
                  f"{made} are generated, {plan.batch} sample(s), {plan.precision}, on {plan.kind}")  # fmt: skip
    console.print(f"memory: {plan.slots} chunk(s) in {plan.branches} cache(s); {plan.passes:,} passes of the "
                  "transformer")  # fmt: skip
    console.print(_memory(plan))
    console.print(_work(plan))
    if plan.times:
        console.print(_time(plan))
    where = "main memory" if plan.kind == "cpu" else "the device"
    console.print(f"Fullest at \"{plan.peak_moment}\": {size_text(plan.peak)} on {where}.")
    if plan.host_bytes:
        parts = ", ".join(f"{name} {size_text(size)}" for name, size in plan.host_bytes.items())
        console.print(f"Main memory: {size_text(sum(plan.host_bytes.values()))} ({parts}).")
    console.print(f"While networks are read: {size_text(plan.host_loading_bytes)} of main memory. Libraries take about "
                  "1 GB more.")  # fmt: skip


def _memory(plan: GenerationPlan) -> Table:
    title = "Main memory" if plan.kind == "cpu" else "Memory of the device"
    table = Table(title=f"{title}, by moments", title_justify="left", show_footer=True, caption_justify="left",
                  caption="traced on the real networks; not seen: workspaces inside of operators")  # fmt: skip
    table.add_column("", footer="sum")
    for moment in plan.device_bytes:
        table.add_column(moment, footer=size_text(plan.live(moment)), justify="right",
                         style="bold" if moment == plan.peak_moment else "")  # fmt: skip
    for part in dict.fromkeys(name for parts in plan.device_bytes.values() for name in parts):
        values = [parts.get(part, 0.0) for parts in plan.device_bytes.values()]
        if any(values):
            table.add_row(part, *(size_text(value) if value else "" for value in values))
    return table


def _work(plan: GenerationPlan) -> Table:
    total = sum(plan.flops.values())
    table = Table(title="FLOPs of the whole", title_justify="left", show_footer=True)
    table.add_column("part", footer="sum")
    table.add_column("FLOPs", justify="right", footer=number_text(total))
    table.add_column("share", justify="right")
    for part, flops in plan.flops.items():
        if flops:
            table.add_row(part, number_text(flops), f"{flops / total:.1%}")
    return table


def _time(plan: GenerationPlan) -> Table:
    notes = ["Not counted: starting, moving offloaded parts, writing files."]
    if min(time.seconds for time in plan.times) / plan.passes < _SHORT_S:
        notes.append("Passes this short take longer: their calls decide, not their products.")
    if plan.kind != "cpu":
        notes.append(f"Fits with {SLACK:.0%} of slack for the allocator.")
    table = Table(title=f"Time, if {plan.utilisation:.0%} of the peak rate is reached", title_justify="left",
                  caption_justify="left", caption=" ".join(notes))
    for name in ("device", "memory", "fits", "last chunk", "the whole"):
        table.add_column(name, justify="left" if name == "device" else "right")
    for time in plan.times:
        table.add_row(time.device.name, size_text(time.device.memory_bytes), "yes" if time.fits else "no",
                      seconds_text(time.seconds_per_chunk), seconds_text(time.seconds))  # fmt: skip
    return table
