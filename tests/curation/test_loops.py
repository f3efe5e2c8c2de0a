"""Camera loops end to end, through NeoVerse's worker and a stand-in that turns the clip's own pictures."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from remind.cli_data import loops
from remind.clip import Cameras, Clip
from remind.curation.build_report import BuildReport, read_report
from remind.curation.estimators.colmap import WORKERS
from remind.curation.estimators.contract import EstimatorSetupError
from remind.curation.estimators.neoverse import HW, NeoVerse, cover
from remind.curation.explain import explain
from remind.curation.ledger import LEDGER, Ledger
from remind.curation.loop_options import LoopOptions
from remind.curation.loops import build_loops, plan_loops
from remind.curation.pipeline import retry
from remind.curation.takedown import Takedown, keep_list
from remind.data.clip_records import Event
from remind.data.clip_store import ClipStore
from remind.data.clip_store_writer import ClipStoreWriter
from remind.data.interrupt import sample_recipe
from remind.data.memory_clip import MemoryClip
from remind.data.store_check import verify
from remind.errors import InputError, StoreError
from remind.geometry import intrinsics_from_fov, yaw_trajectory
from remind.prompt_schedule import chunk_prompts
from tests.curation.estimators.make_geometry import STAND_INS
from tests.data.make_store import damage, provenance_of

WORKER = [sys.executable, str(WORKERS / "neoverse_worker.py")]
SMALL, STORED = (42, 70), (168, 280)
OPTIONS = LoopOptions(kinds=("lookaway",), hw=SMALL)
CAPTIONS = ("a disc moves right", "crash", "mirrored", "at rest", "elsewhere")


def picture_clip(number: int, caption: str, *, cameras: bool = True, frames: int = 81) -> Clip:
    """A picture full of corners, at rest, with a red disc that moves across its middle."""
    noise = gaussian_filter(np.random.default_rng(number).normal(size=STORED), 3.0)
    still = np.clip(110 + 600 * noise, 20, 200).astype(np.uint8)[..., None].repeat(3, -1)
    y, x = np.mgrid[: STORED[0], : STORED[1]]
    rgb = np.stack([still] * frames)
    for t in range(frames):
        rgb[t, (y - 84) ** 2 + (x - 80 - 1.5 * t) ** 2 < 200] = (255, 0, 0)
    c2w = yaw_trajectory(torch.zeros(frames))
    known = Cameras(c2w, intrinsics_from_fov(60.0, STORED, frames), STORED, torch.ones(frames, dtype=torch.bool))
    return Clip(torch.from_numpy(rgb), 16.0, known if cameras else None, caption=caption, clip_id=f"clip-{number}")


def write_store(root: Path, clips: list[Clip]) -> Path:
    with ClipStoreWriter(root) as writer:
        for i, clip in enumerate(clips):
            recipe = sample_recipe("light_toggle", len(clip), np.random.default_rng(i))
            about = provenance_of(i, licence="CC BY 4.0", author=f"author {i}")
            writer.add(MemoryClip(clip, recipe, chunk_prompts(clip.caption, recipe.schedule(len(clip))), about,
                                  Event(types=("door_opening",), groups=("discrete",))))  # fmt: skip
    return root


def neoverse() -> NeoVerse:
    return NeoVerse(WORKER, root=STAND_INS / "neoverse_warp", timeout_s=120.0)


def nothing() -> NeoVerse:
    """A renderer that answers and cannot render: whoever asks it for anything fails."""
    return NeoVerse(WORKER, root=STAND_INS / "neoverse")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    clips = [picture_clip(i, caption) for i, caption in enumerate(CAPTIONS)]
    clips += [picture_clip(5, "no cameras", cameras=False), picture_clip(6, "short", frames=57)]
    return write_store(tmp_path_factory.mktemp("source") / "store", clips)


@pytest.fixture(scope="module")
def built(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, BuildReport]:
    out = tmp_path_factory.mktemp("loops") / "store"
    return out, build_loops(source, out, neoverse, OPTIONS)


def test_what_follows_its_trajectory_is_kept_and_the_rest_is_listed(built: tuple[Path, BuildReport]) -> None:
    _, report = built
    assert report.kept == 1
    failed = {f.item: f"{f.stage}: {f.reason}" for f in report.failed}
    dropped = {d.item: f"{d.stage}: {d.reason}" for d in report.dropped}
    assert "exit code 1 and no video" in failed.pop("clip-1#0")
    assert failed == {}
    assert "does not follow its trajectory: residuals in px" in dropped["clip-2#0"]
    assert "does not follow its trajectory: too little motion" in dropped["clip-3#0"]
    assert "first frame is not the clip's" in dropped["clip-4#0"]
    assert dropped["clip-5#0"] == "plan: no intrinsics, and no field of view is assumed"
    assert dropped["clip-6#0"] == "plan: 57 frames at 16 fps, not 81 at 16"


def test_a_loop_is_a_memory_clip_of_the_same_scene(built: tuple[Path, BuildReport], source: Path) -> None:
    out, _ = built
    (plan, *_) = plan_loops(source, out, OPTIONS).loops
    clip, original = ClipStore.open(out)[0], ClipStore.open(source)[0]
    assert clip.clean.clip_id == plan.clip_id == "clip-0-lookaway-00"
    assert clip.clean.hw == SMALL
    assert clip.graph.draw() == plan.graph.draw()
    assert clip.recipe.kinds == ("camera_loop",)
    assert torch.equal(clip.degraded().rgb, clip.clean.rgb)  # its own camera makes the loop
    assert clip.clean.cameras is not None
    assert torch.equal(clip.clean.cameras.c2w, plan.c2w)
    torch.testing.assert_close(clip.clean.cameras.intrinsics_px[0],
                               intrinsics_from_fov(60.0, SMALL, 1)[0].float().double())  # fmt: skip
    shown = cover(original.clean.rgb, original.clean.cameras, SMALL)[0]  # type: ignore[arg-type]

    def differs(frame: int) -> float:
        return (clip.clean.rgb[frame].float() - shown[frame].float()).abs().mean().item()

    loop = plan.loop
    assert differs(0) < 6
    assert differs(80) < 6  # back at the first view, where the disc has moved on meanwhile
    assert (shown[80].float() - shown[0].float()).abs().mean() > 2 * differs(80)
    assert differs((loop.hidden_start + loop.hidden_stop) // 2) > 25


def test_its_provenance_is_that_of_the_video_with_what_was_made_of_it(
    built: tuple[Path, BuildReport], source: Path
) -> None:
    records, of = ClipStore.open(built[0]).records(0), ClipStore.open(source)
    about, theirs = records.provenance, of.records(0).provenance
    for name in ("source", "item_id", "sha256", "start_pts", "stop_pts", "licence", "author"):
        assert getattr(about, name) == getattr(theirs, name)
    assert about.facts["source_clip"] == "clip-0"
    assert about.facts["source_clip_sha256"] == of.sha256(0)
    assert about.facts["trajectory"] == "lookaway"
    assert about.facts["renderer_tool"] == "neoverse"
    assert about.facts["renderer_weights_licence"] == "unknown"
    assert about.facts["farthest_turn_deg"] > 35  # type: ignore[operator]
    assert about.tool_versions["renderer"] == "neoverse unknown"
    assert about.verdicts["cameras"].startswith("asked of the renderer; ")
    assert about.scores["first_view_db"] > 25
    assert (records.event.types, records.event.groups) == (("door_opening",), ("discrete",))
    assert records.event.judged_by == "no_vlm"  # nobody looked at the render
    assert Takedown(("clip-0",)).matches("clip-0-lookaway-00", about)
    assert verify(built[0]).exit_code == 0


def test_a_rerun_renders_nothing_and_a_failure_waits_to_be_asked_for(
    built: tuple[Path, BuildReport], source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "store"
    shutil.copytree(built[0], out)
    index = (out / "index.parquet").read_bytes()
    again = build_loops(source, out, nothing, OPTIONS)
    assert again.to_json() == built[1].to_json()
    assert (out / "index.parquet").read_bytes() == index
    assert "exit code 1" in explain(out, "clip-1").lines[0]
    with Ledger.read(out / LEDGER) as ledger:
        assert len(ledger.failed()) == 1
    tried = build_loops(source, out, neoverse, OPTIONS, again=True)
    assert [f.item for f in tried.failed] == ["clip-1#0"]
    larger = build_loops(source, out, nothing, replace(OPTIONS, hw=(84, 140)))  # from the renders that are there
    assert larger.kept == 1
    assert ClipStore.open(out)[0].clean.hw == (84, 140)
    with pytest.raises(InputError, match=r"another command.*loops \.\.\. --retry"):
        retry(out)


def test_a_kill_costs_the_render_at_hand(source: Path, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    class Twice(NeoVerse):
        """Ends as a kill would, before the second render."""

        renders = 0

        def render_loop(self, *args: object, **options: object) -> object:  # type: ignore[override]
            Twice.renders += 1
            if Twice.renders == 2:
                raise Killed
            return super().render_loop(*args, **options)  # type: ignore[arg-type]

    store = write_store(tmp_path / "two", [picture_clip(i, "good") for i in range(2)])
    out = tmp_path / "store"
    options = replace(OPTIONS, check_cameras=False)
    with pytest.raises(Killed):
        build_loops(store, out, lambda: Twice(WORKER, root=STAND_INS / "neoverse_warp"), options)
    assert not (out / "index.parquet").exists()
    report = build_loops(store, out, lambda: Twice(WORKER, root=STAND_INS / "neoverse_warp"), options)
    assert report.kept == 2
    assert Twice.renders == 3


def test_plans_need_no_renderer_and_write_nothing(
    source: Path, built: tuple[Path, BuildReport], tmp_path: Path
) -> None:
    more = replace(OPTIONS, per_clip=2, assumed_fov_deg=60.0, kinds=("pan", "orbit"))
    plan = plan_loops(source, tmp_path / "out", more)
    assert len(plan.loops) == 12
    assert len(plan.dropped) == 2
    assert {loop.kind for loop in plan.loops} == {"pan", "orbit"}
    assert len({loop.clip_id for loop in plan.loops}) == 12
    assert not (tmp_path / "out").exists()
    assert plan.rendered == 0
    assert plan_loops(source, built[0], OPTIONS).rendered == 4  # one crashed
    other = plan_loops(source, tmp_path / "out", replace(OPTIONS, seed=1))
    assert not torch.equal(other.loops[0].c2w, plan_loops(source, tmp_path / "out", OPTIONS).loops[0].c2w)


def test_the_command_says_what_it_would_do_and_what_it_did(
    source: Path, built: tuple[Path, BuildReport], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    checkout = STAND_INS / "neoverse_warp"
    loops(source, out=tmp_path / "out", neoverse=tmp_path, kinds=("pan",), hw=SMALL, dry_run=True)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"5 loops of {source}; 0 renders are there; 2 left out"
    assert said[1].startswith("  clip-0-pan-00  A")
    assert not (tmp_path / "out").exists()
    out = tmp_path / "store"
    shutil.copytree(built[0], out)
    with pytest.raises(SystemExit) as caught:
        loops(source, out=out, neoverse=checkout, kinds=("lookaway",), hw=SMALL)
    assert caught.value.code == 3
    streams = capsys.readouterr()
    assert "kept 1 clips; dropped 5 (render 3, plan 2); failed 1 (render 1)" in streams.out
    assert "--retry" in streams.err


def test_damage_a_takedown_and_a_missing_tool(tmp_path: Path) -> None:
    root = write_store(tmp_path / "source", [picture_clip(i, "good") for i in range(3)])
    damage(root, 1)
    out = tmp_path / "out"
    out.mkdir()
    keep_list(out, Takedown(("author 2",)))
    report = build_loops(root, out, neoverse, replace(OPTIONS, check_cameras=False))
    assert report.kept == 1
    assert [(f.item, f.stage) for f in report.failed] == [("clip-1#0", "render")]
    assert [(d.item, d.stage) for d in report.dropped] == [("clip-2#0", "takedown")]
    with pytest.raises(EstimatorSetupError, match=r"no inference\.py"):
        build_loops(root, tmp_path / "no-checkout", lambda: NeoVerse(WORKER, root=tmp_path), OPTIONS)
    with pytest.raises(EstimatorSetupError, match="cannot be started"):
        build_loops(root, tmp_path / "no-python", lambda: NeoVerse(["/no/such/python"], root=tmp_path), OPTIONS)


def test_what_is_in_the_way_stays(source: Path, built: tuple[Path, BuildReport], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="made of itself"):
        build_loops(source, source, nothing, OPTIONS)
    other = tmp_path / "other"
    shutil.copytree(built[0], other)
    written = json.loads((other / "report.json").read_text())
    written["source"]["kind"] = "local"
    (other / "report.json").write_text(json.dumps(written))
    with pytest.raises(StoreError, match="another store is in the way"):
        build_loops(source, other, nothing, OPTIONS)
    assert read_report(other) is not None
    with pytest.raises(StoreError, match="not a clip store"):
        build_loops(tmp_path, tmp_path / "out", nothing, OPTIONS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("wrong", [{"kinds": ()}, {"per_clip": 0}, {"seed": -1},
                                   {"scene_depth": 0.0}, {"hw": (8, 70)}, {"assumed_fov_deg": 170.0}])  # fmt: skip
def test_options_out_of_range_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InputError):
        LoopOptions(**wrong)  # type: ignore[arg-type]


def test_frames_are_those_of_the_renderer(built: tuple[Path, BuildReport]) -> None:
    assert HW == (336, 560)
    clip = ClipStore.open(built[0])[0].clean
    assert (len(clip), clip.fps) == (81, 16.0)
