"""One camera loop: a clip of a store is rendered along a trajectory, looked at, and becomes a clip of its own."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from remind.clip import Cameras, Clip
from remind.curation.blobs import Blobs
from remind.curation.build_report import Dropped
from remind.curation.camera_check import check_cameras
from remind.curation.estimators.estimate import rotation_angle_deg
from remind.curation.estimators.neoverse import FPS, HW, NUM_FRAMES, closure_psnr_db, cover
from remind.curation.loop_nodes import NoLoop, find_camera_loop
from remind.curation.loop_options import LoopOptions
from remind.curation.loop_trajectories import LoopKind, fields_of_view_deg, loop_trajectory
from remind.curation.outcome import PackedClip
from remind.curation.stages import Memo, Stage
from remind.data.clip_members import encode_members
from remind.data.clip_records import Event, Provenance
from remind.data.clip_store import ClipStore
from remind.data.interrupt import Event as RecipeEvent
from remind.data.interrupt import GivenStyle, InterruptionRecipe
from remind.data.memory_clip import MemoryClip
from remind.data.store_format import ClipFacts
from remind.data.video_io import decode_all, encode_mp4
from remind.errors import StoreError, VideoError
from remind.frame_graph import FrameGraph, Interruption, Schedule
from remind.geometry import intrinsics_from_fov
from remind.prompt_schedule import chunk_prompts

RENDER = Stage("render", 1, "a clip, a trajectory", "a video along it, and how well it follows",
               ("seed", "check_cameras"), "model")  # fmt: skip
LOOP = Stage("loop", 1, "a render", "the clip's files", ("hw", "crf", "scene_depth"))
_RENDER_CRF = 10  # what the store is made of: encoded once more, and its loss must not show
_GRAVITY = ("contradicted", "decided", "ambiguous", "undecided")


@runtime_checkable
class LoopRenderer(Protocol):
    """Renders a clip along a trajectory: `NeoVerse`."""

    def version(self) -> str:
        """What it is, for keys: another version renders anew."""
        ...

    def render_loop(
        self, clip: Clip, c2w: Float[Tensor, "t 4 4"], *, prompt: str = "", seed: int = 0, clip_id: str = ""
    ) -> tuple[Clip, dict[str, str | float]]: ...


@dataclass(frozen=True)
class PlannedLoop:
    """A loop to be rendered.

    Args:
        number: of the source clip in its store.
        clip_id: of the new clip.
        c2w: the trajectory.
        intrinsics_px: of the renderer's pictures.
        loop: when the camera leaves, what it hides and when it is back.
    """

    number: int
    clip_id: str
    kind: LoopKind
    c2w: Float[Tensor, "t 4 4"]
    intrinsics_px: Float[Tensor, " 4"]
    loop: Interruption

    @property
    def graph(self) -> FrameGraph:
        return FrameGraph(Schedule(len(self.c2w), (self.loop,)))


def plan_loop(store: ClipStore, number: int, j: int, options: LoopOptions) -> PlannedLoop | Dropped:
    """The j-th loop of a clip, a pure function of the clip, j and the options; or why there is none.

    Raises:
        StoreError: a damaged clip.
    """
    row = store.row(number)
    source, kind = row["clip_id"], options.kinds[(number + j) % len(options.kinds)]
    unit = f"{source}#{j}"
    if (row["num_frames"], row["fps"]) != (NUM_FRAMES, FPS):
        return Dropped(unit, "plan", f"{row['num_frames']} frames at {row['fps']:g} fps, not {NUM_FRAMES} at {FPS:g}")
    cameras = _cameras(store, number, options)
    if cameras is None:
        return Dropped(unit, "plan", "no intrinsics, and no field of view is assumed")
    blank = torch.zeros(1, *cameras.hw, 3, dtype=torch.uint8)
    intrinsics = cover(blank, cameras)[1][0]
    name = int.from_bytes(hashlib.sha256(source.encode()).digest()[:8], "big")
    rng = np.random.default_rng([options.seed, 7, name, j])
    view = fields_of_view_deg(intrinsics, HW)
    if not all(5 <= angle <= 120 for angle in view):
        return Dropped(unit, "plan", f"no trajectory for fields of view of {view[0]:.0f} and {view[1]:.0f} degrees")
    c2w = loop_trajectory(kind, NUM_FRAMES, rng, fov_deg=view, scene_depth=options.scene_depth)
    path = Cameras(c2w, intrinsics.repeat(NUM_FRAMES, 1), HW, torch.ones(NUM_FRAMES, dtype=torch.bool))
    loop = find_camera_loop(path, scene_depth=options.scene_depth)
    if isinstance(loop, NoLoop):
        return Dropped(unit, "plan", f"{kind}: {loop.reason}")
    clip_id = f"{source[:60]}-{kind}-{j:02d}" if len(source) <= 60 else f"{name:016x}-{kind}-{j:02d}"
    return PlannedLoop(number, clip_id, kind, c2w, intrinsics, loop)


def make_loop(
    plan: PlannedLoop, store: ClipStore, renderer: LoopRenderer, version: str, options: LoopOptions, blobs: Blobs,
    memo: Memo, unit: str,
) -> tuple[PackedClip | Dropped, set[str]]:  # fmt: skip
    """Render and pack a planned loop, or take what is remembered; and the digests of all blobs that it points at.

    Raises:
        Failed: the renderer or the source clip failed.
        EstimatorSetupError: the renderer is missing, so that no loop will work.
    """
    caption = store.records(plan.number).caption
    asked = [store.sha256(plan.number), hashlib.sha256(plan.c2w.numpy().tobytes()).hexdigest(),
             caption if options.prompted else "", options.assumed_fov_deg, version]  # fmt: skip
    rendered = memo.run(RENDER, unit, asked, lambda: _render(plan, store, renderer, options, blobs),
                        lambda payload: blobs.has(payload["mp4"]))  # fmt: skip
    used = {str(rendered["mp4"])}
    if rendered["first_view_db"] < options.min_first_view_db:
        return Dropped(unit, RENDER.name, f"its first frame is not the clip's: {rendered['first_view_db']:.1f} dB, "
                       f"needs {options.min_first_view_db:g}"), used  # fmt: skip
    if rendered["camera_check"] == "contradicted":
        return Dropped(unit, RENDER.name, f"it does not follow its trajectory: {rendered['camera_reason']}"), used
    packed = memo.run(LOOP, unit, [asked, rendered], lambda: _pack(plan, store, rendered, version, options, blobs),
                      lambda payload: all(blobs.has(d) for d in payload["members"].values()))  # fmt: skip
    used |= set(packed["members"].values())
    return PackedClip(packed["clip_id"], packed["members"], ClipFacts.from_row(packed["facts"])), used


def _cameras(store: ClipStore, number: int, options: LoopOptions) -> Cameras | None:
    """Intrinsics of a clip, as cameras at rest: the renderer is told no more of them."""
    stored, row = store.cameras(number), store.row(number)
    hw = (row["height"], row["width"])
    if stored is not None and bool(stored.cameras.valid[0]):
        intrinsics, hw = stored.cameras.intrinsics_px[:1], stored.cameras.hw
    elif options.assumed_fov_deg is not None:
        intrinsics = intrinsics_from_fov(options.assumed_fov_deg, hw, 1)
    else:
        return None
    still = torch.eye(4, dtype=torch.float64).repeat(NUM_FRAMES, 1, 1)
    return Cameras(still, intrinsics.repeat(NUM_FRAMES, 1), hw, torch.ones(NUM_FRAMES, dtype=torch.bool))


def _render(
    plan: PlannedLoop, store: ClipStore, renderer: LoopRenderer, options: LoopOptions, blobs: Blobs
) -> dict[str, Any]:
    try:
        clean, cameras = store.read(plan.number, depth=False).clean, _cameras(store, plan.number, options)
    except StoreError as error:  # this clip's fault, and not a full disk's
        raise VideoError(error.what, got=error.got) from None
    assert cameras is not None
    source = Clip(clean.rgb, clean.fps, cameras, caption=clean.caption, clip_id=clean.clip_id)
    clip, facts = renderer.render_loop(source, plan.c2w, prompt=clean.caption if options.prompted else "",
                                       seed=options.seed, clip_id=plan.clip_id)  # fmt: skip
    first = torch.stack([cover(clean.rgb[:1], cameras)[0][0], clip.rgb[0]])
    assert clip.cameras is not None
    follows, reason = _follows(clip, plan.loop) if options.check_cameras else ("not checked", "")
    return {"mp4": blobs.put(encode_mp4(clip.rgb, Fraction(FPS), crf=_RENDER_CRF)), "facts": facts,
            "first_view_db": closure_psnr_db(first), "closure_db": closure_psnr_db(clip.rgb),
            "camera_check": follows, "camera_reason": reason}  # fmt: skip


def _follows(clip: Clip, loop: Interruption) -> tuple[str, str]:
    """Whether a render moves as its trajectory says: an outcome of `camera_check`, and its reason.

    Looked at are the frames in which the camera moves and something of the first view is in sight: on the way out, and
    on the way back. One way that contradicts is enough.
    """
    assert clip.cameras is not None
    said: list[tuple[str, str]] = []
    for frames in (slice(loop.start - 1, loop.hidden_start + 1), slice(loop.hidden_stop - 1, loop.stop + 1)):
        verdict = check_cameras(clip.rgb[frames], clip.cameras[frames])
        other_reading = verdict.outcome in ("decided", "ambiguous") and "c2w" not in verdict.fits
        at_rest = verdict.reason.startswith("too little motion") and verdict.num_pairs == 0  # and it should turn
        said.append(("contradicted" if other_reading or at_rest else verdict.outcome, verdict.reason))
    return min(said, key=lambda outcome_and_reason: _GRAVITY.index(outcome_and_reason[0]))


def _pack(
    plan: PlannedLoop, store: ClipStore, rendered: dict[str, Any], version: str, options: LoopOptions, blobs: Blobs
) -> dict[str, Any]:
    row, records = store.row(plan.number), store.records(plan.number)
    hw = options.hw or (row["height"], row["width"])
    valid = torch.ones(NUM_FRAMES, dtype=torch.bool)
    path = Cameras(plan.c2w, plan.intrinsics_px.repeat(NUM_FRAMES, 1), HW, valid)
    rgb, intrinsics = cover(decode_all(blobs.get(rendered["mp4"])), path, hw)
    clean = Clip(rgb, FPS, Cameras(plan.c2w, intrinsics, hw, valid), caption=records.caption, clip_id=plan.clip_id)
    recipe = InterruptionRecipe(events=(RecipeEvent(interruption=plan.loop, style=GivenStyle(), seed=0, also=()),))
    memory_clip = MemoryClip(
        clean, recipe, chunk_prompts(records.caption, recipe.schedule(NUM_FRAMES)),
        _provenance(plan, row, records.provenance, rendered, version, options),
        # Nobody has looked at the render: its labels are those of the clip that it was made of, and no more is claimed.
        Event(types=records.event.types, groups=records.event.groups), scale_kind="relative",
    )  # fmt: skip
    members = encode_members(memory_clip, crf=options.crf)
    digests = {name: blobs.put(data) for name, data in members.items()}
    return {"clip_id": plan.clip_id, "members": digests, "facts": memory_clip.facts.to_row()}


def _provenance(plan: PlannedLoop, row: dict[str, Any], source: Provenance, rendered: dict[str, Any], version: str,
                options: LoopOptions) -> Provenance:  # fmt: skip
    """The source video's, so that lists and licences that name it reach this clip too; and what was made of it."""
    turns = plan.c2w[:, :3, :3]
    made = {f"renderer_{name}": value for name, value in rendered["facts"].items()}
    facts = {**source.facts, **made, "source_clip": row["clip_id"], "source_clip_sha256": row["sha256"],
             "trajectory": plan.kind, "render_seed": float(options.seed),
             "farthest_turn_deg": float(rotation_angle_deg(turns, turns[:1]).max())}  # fmt: skip
    follows = f"asked of the renderer; {rendered['camera_check']}: {rendered['camera_reason']}"
    return source.model_copy(update={
        "facts": facts, "tool_versions": {**source.tool_versions, "renderer": version},
        "scores": {"first_view_db": rendered["first_view_db"], "closure_db": rendered["closure_db"]},
        "verdicts": {"cameras": follows[:2000]},
    })  # fmt: skip
