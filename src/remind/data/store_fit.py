"""Whether a store fits a run, from its index and its smallest files: said before anything is decoded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection

from remind.data.clip_store import ClipStore
from remind.errors import GraphError, InputError, StoreError
from remind.frame_graph import FrameGraph


def check_fit(
    store: ClipStore, *, hw: tuple[int, int], num_frames: int, skip: Collection[str] = ()
) -> list[FrameGraph]:
    """Refuse a store whose clips a run cannot read; the graphs of those it can.

    Clips that are damaged are passed over: whoever reads them says so.

    Args:
        hw: size that the model expects, px.
        num_frames: pixel frames that it expects.
        skip: ids of clips that will not be read.

    Raises:
        InputError: no clips, clips of another length or size, or camera loops that only the world can render.
    """
    numbers = [number for number, clip_id in enumerate(store.clip_ids) if clip_id not in skip]
    if not numbers:
        raise InputError("the store has no clip to train on", got=f"{len(store)} clips, all left out", expected="one",
                         fix="build it again and read its report.json")  # fmt: skip
    columns = store.index.select(["num_frames", "height", "width"]).take(numbers).to_pydict()
    lengths = Counter(columns["num_frames"])
    if set(lengths) != {num_frames}:
        raise InputError("the store's clips have another length than the recipe's", got=_counted(lengths, "frames"),
                         expected=f"{num_frames} frames",
                         fix="build a store of clips of one length, or change num_frames")  # fmt: skip
    sizes: Counter[tuple[int, int]] = Counter()
    loops: list[str] = []
    graphs: list[FrameGraph] = []
    for number, stored in zip(numbers, zip(columns["height"], columns["width"], strict=True), strict=True):
        try:
            recipe = store.recipe(number)
            graphs.append(FrameGraph(recipe.schedule(num_frames)))
        except (StoreError, GraphError):
            continue
        sizes[stored if recipe.view is None else recipe.view.hw] += 1
        if any(style.kind == "camera_loop" for event in recipe.events for style in event.styles):
            loops.append(store.clip_ids[number])
    if set(sizes) - {hw}:
        raise InputError("the store's clips have another size than the recipe's",
                         got=", ".join(f"{n} of {h}x{w}" for (h, w), n in sizes.most_common(4)),
                         expected=f"{hw[0]}x{hw[1]} px", fix=f"remind data build ... --hw {hw[0]} {hw[1]}")  # fmt: skip
    if loops:
        raise InputError("camera loops of the store cannot be rendered from finished frames",
                         got=f"{len(loops)} clips, e.g. {loops[0]}", expected="loops of the clip's own camera",
                         fix="build the store again with other interruptions")  # fmt: skip
    return graphs


def _counted(counts: Counter[int], unit: str) -> str:
    return ", ".join(f"{number} of {value} {unit}" for value, number in counts.most_common(4))
