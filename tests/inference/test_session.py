"""Sessions: the same bits however calls are cut, forked, saved or knocked about; and what they refuse."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from remind.clip import Cameras
from remind.errors import CameraError, CheckpointError, InputError
from remind.inference.camera_path import camera_path
from remind.inference.memory_policy import Anchors
from remind.inference.pipeline import RemindPipeline
from remind.inference.samplers import Sampler
from remind.inference.session import Session

from ..models.make_pipeline import make_pipeline
from .make_session import FAST, PROMPT, clean, nano, same, start, world


@pytest.fixture(scope="module")
def wan(tmp_path_factory: pytest.TempPathFactory) -> RemindPipeline:
    """Real Wan parts at tiny size; the codec's stream looks back, the model has no cameras."""
    folder = tmp_path_factory.mktemp("wan") / "pipeline"
    make_pipeline(folder)
    return RemindPipeline.from_pretrained(folder, hw=(16, 32))


# --- however calls are cut -------------------------------------------------------------------------------------------


def test_how_many_chunks_a_call_asks_for_changes_no_bit() -> None:
    at_once = start().step(num_chunks=5)
    session = start()
    cut = torch.cat([session.step(), session.step(num_chunks=3), session.step()])
    assert at_once.shape == (57, 32, 32, 3)
    assert at_once.dtype == torch.uint8
    assert torch.equal(at_once, cut)
    assert (session.num_chunks, session.num_frames) == (5, 57)


def test_a_pipeline_of_wan_streams_its_vae(wan: RemindPipeline) -> None:
    asked: dict[str, Any] = {"seed": 4, "sampler": Sampler(steps=2)}
    whole = wan(PROMPT, num_chunks=3, **asked).frames
    session = wan.start(PROMPT, **asked)
    assert torch.equal(whole, torch.cat([session.step(num_chunks=2), session.step()]))
    assert torch.equal(whole, wan.codec.decode(torch.cat([past.latents for past in session.rollout.past], 1))[0])


def test_the_seed_the_prompt_and_when_it_changes_matter() -> None:
    first, same_seed, other_seed, other_words = (
        start(prompt, seed=seed).step() for prompt, seed in ((PROMPT, 1), (PROMPT, 1), (PROMPT, 2), ("a red jug", 1))
    )
    assert torch.equal(first, same_seed)
    assert not torch.equal(first, other_seed)
    assert not torch.equal(first, other_words)
    lit, dark = start(), start()
    assert torch.equal(lit.step(), dark.step())
    assert not torch.equal(lit.step(), dark.step("a tank fills slowly, the lights go off"))
    assert dark.prompt.endswith("off")
    assert not same(lit, dark)  # it holds until something else is said


# --- cameras ---------------------------------------------------------------------------------------------------------


def test_a_camera_at_once_is_that_camera_chunk_by_chunk() -> None:
    path = camera_path("right-6, left-2", num_frames=33, hw=(32, 32))
    at_once, cut = start(), start()
    whole = at_once.step(camera=path, num_chunks=3)
    parts = [cut.step(camera=path[slice(*span)]) for span in ((0, 9), (9, 21), (21, 33))]
    assert torch.equal(whole, torch.cat(parts))
    assert torch.equal(at_once.walk.cameras.c2w, path.c2w)
    spoken = start()
    spoken.step(camera="right-2")
    spoken.step(camera="right-3")
    spoken.step(camera="right-1, left-2")
    torch.testing.assert_close(spoken.walk.cameras.c2w, path.c2w)


def test_the_camera_matters_and_stays_where_it_is() -> None:
    still, turned = start(), start()
    assert not torch.equal(still.step(), turned.step(camera="right-2"))
    turned.step()
    assert turned.walk.cameras.valid.all()
    torch.testing.assert_close(turned.walk.cameras.c2w[9:], turned.walk.cameras.c2w[8].expand(12, 4, 4))
    once_more = start()
    once_more.step(camera="right-2")
    once_more.step()
    assert torch.equal(once_more.step(num_chunks=2), torch.cat([turned.step(), turned.step()]))
    still.step()
    assert not still.walk.cameras.valid.any()


def test_a_camera_that_cannot_be_followed_leaves_the_session_as_it_was() -> None:
    session, other = start(), start()
    session.step(camera="right-2")
    other.step(camera="right-2")
    here = session.walk.cameras[slice(8, 9)]
    behind = here.c2w[0] @ torch.diag(torch.tensor([-1.0, 1, -1, 1], dtype=torch.float64))
    jump = Cameras(behind.repeat(12, 1, 1), here.intrinsics_px.repeat(12, 1), here.hw, here.valid.repeat(12))
    with pytest.raises(CameraError, match="jumps at frame 9"):
        session.step("something else", camera=jump)
    with pytest.raises(CameraError, match=r"another number of frames.*got 9; expected 12"):
        session.step(camera=session.walk.cameras)
    assert (session.prompt, session.num_frames, len(session.walk)) == (PROMPT, 9, 9)
    assert same(session, other)


def test_a_model_without_cameras_says_so(wan: RemindPipeline) -> None:
    with pytest.raises(InputError, match=r"knows no cameras.*'right-3'.*leave the camera out"):
        wan.start(PROMPT).step(camera="right-3")


# --- two futures -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [{}, {"guidance": 2.0}, {"memory": "retrieve:2", "memory_budget": 1_000_000}])
def test_forks_share_a_past_and_nothing_else(how: dict[str, Any]) -> None:
    alone, session = start(**how), start(**how)
    alone.step(camera="right-2", num_chunks=1)
    session.step(camera="right-2", num_chunks=1)
    fork = session.fork()
    fork.step("the lights go off", camera="left-3")
    fork.protect(0)
    fork.knock_out(1)
    assert same(session, alone, num_chunks=2, camera="right-6")
    assert session.prompt == PROMPT
    twin = session.fork()
    assert same(twin, session, num_chunks=2)
    assert not torch.equal(fork.step(), session.step())


def test_a_fork_before_the_first_chunk_has_its_image_too(wan: RemindPipeline) -> None:
    for pipeline in (nano(), wan):
        image = torch.randint(0, 255, (*pipeline.hw, 3), dtype=torch.uint8)
        session = pipeline.start(PROMPT, image=image, sampler=Sampler(steps=2))
        fork = session.fork()
        made = session.step(num_chunks=2)
        assert torch.equal(made, fork.step(num_chunks=2))
        assert torch.equal(made[0], image)
        twin = session.fork()
        assert same(session, twin)


# --- saved and loaded ------------------------------------------------------------------------------------------------

HOW: dict[str, dict[str, Any]] = {
    "full": {},
    "window": {"memory": "window:2"},
    "sink_window": {"memory": "sink_window:1+1"},
    "anchors": {"memory": "anchors:1"},
    "retrieve": {"memory": "retrieve:2"},
    "guidance": {"guidance": 3.0, "negative_prompt": "blurred"},
    "noise": {"memory_noise": 0.2},
    "int8": {"memory_storage": "int8", "memory_budget": 1_000_000},
    "unipc": {"sampler": Sampler(steps=3, kind="unipc")},
    "few_step": {"sampler": Sampler(levels=(1.0, 0.5), kind="few_step")},
    "one_pass_each": {"chunks_per_pass": 1},
}


def restarted(session: Session, file: Path) -> Session:
    session.save(file)
    return nano().load_session(file)


@pytest.mark.parametrize("name", HOW)
def test_a_saved_session_goes_on_bit_for_bit(name: str, tmp_path: Path) -> None:
    how = HOW[name] if "sampler" in HOW[name] else FAST | HOW[name]
    session = nano().start(PROMPT, seed=7, **how)
    session.give(clean(21), camera="right-5")
    session.step("the lights go off", camera="right-3")
    loaded = restarted(session, tmp_path / "a.session")
    assert (loaded.prompt, loaded.num_chunks, loaded.roles) == (session.prompt, 3, session.roles)
    assert loaded.options.policy == session.options.policy
    assert loaded.memory.table() == session.memory.table()
    assert same(loaded, session, num_chunks=2, camera="left-6")
    assert loaded.memory.table() == session.memory.table()
    assert same(restarted(session, tmp_path / "a.session"), loaded)


def test_references_a_schedule_and_a_knocked_out_chunk_are_saved(tmp_path: Path) -> None:
    clip = world()
    session = start(references=[clean(1), clean(9)], reference_gap=3, schedule=clip.schedule, memory="retrieve:3",
                    fov_deg=70, allow_camera_jumps=True)  # fmt: skip
    session.give(clip.degraded.rgb[:33])
    session.knock_out(1)
    loaded = restarted(session, tmp_path / "a.session")
    assert loaded.roles == session.roles == clip.graph.roles[:3]
    assert loaded.walk.fov_deg == 70
    for _ in range(5):  # beyond the schedule
        assert same(loaded, session)
    assert loaded.roles == session.roles
    assert loaded.memory.table() == session.memory.table()


def test_what_was_seen_as_clean_is_saved(tmp_path: Path) -> None:
    session = start()
    session.give(world().degraded.rgb[:33])
    loaded = restarted(session, tmp_path / "a.session")
    assert session.tracker.clean is not None
    assert loaded.tracker.clean is not None
    assert torch.equal(loaded.tracker.clean.light, session.tracker.clean.light)
    assert loaded.tracker.roles == session.tracker.roles
    assert loaded.tracker._run == session.tracker._run


def test_a_session_of_wan_parts_is_decoded_on(wan: RemindPipeline, tmp_path: Path) -> None:
    session = wan.start(PROMPT, sampler=Sampler(steps=2), guidance=2.0)
    session.step(num_chunks=2)
    session.save(tmp_path / "a.session")
    assert same(wan.load_session(tmp_path / "a.session"), session, num_chunks=2)


def test_a_session_without_a_chunk_is_not_saved(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nothing to save"):
        start().save(tmp_path / "a.session")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("saved") / "a.session"
    session = start()
    session.step(camera="right-2")
    session.save(file)
    return file


def test_a_session_of_another_checkpoint_is_refused(saved: Path) -> None:
    with pytest.raises(CheckpointError, match=r"checkpoint") as refused:
        RemindPipeline.from_pretrained("nano-base").load_session(saved)
    assert len(str(refused.value).splitlines()) == 1


def changed_about(saved: Path, out: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    with safe_open(str(saved), framework="pt") as opened:
        facts = json.loads(opened.metadata()["remind"])
    change(facts["about"])
    save_file(load_file(saved), str(out), {"remind": json.dumps(facts)})
    return out


@pytest.mark.parametrize(
    "change",
    [
        lambda about: about.clear(),
        lambda about: about.update(more=1),
        lambda about: about.update(fov_deg=0),
        lambda about: about.update(prompt=3),
        lambda about: about.update(num_frames=80),
        lambda about: about.update(num_frames=33, interruptions=[
            {"kind": "light_toggle", "start": 9, "hidden_start": 12, "hidden_stop": 30, "stop": 90}]),
        lambda about: about.update(clean_light=[0.5]),
        lambda about: about.update(clean_light=["x"]),
    ],
)  # fmt: skip
def test_facts_that_make_no_session_are_refused(
    saved: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    with pytest.raises(CheckpointError, match="no session"):
        nano().load_session(changed_about(saved, tmp_path / "b.session", change))


def test_cameras_that_make_no_walk_are_refused(saved: Path, tmp_path: Path) -> None:
    tensors = load_file(saved)
    tensors["view.c2w"][5] = torch.diag(torch.tensor([-1.0, 1, -1, 1]))
    with safe_open(str(saved), framework="pt") as opened:
        save_file(tensors, str(tmp_path / "b.session"), opened.metadata())
    with pytest.raises(CheckpointError, match="no session"):
        nano().load_session(tmp_path / "b.session")


def test_damaged_files_are_refused(saved: Path, tmp_path: Path) -> None:
    whole = saved.read_bytes()
    for data in (b"", b"words", whole[: len(whole) // 2], whole[:-1]):
        (tmp_path / "b.session").write_bytes(data)
        with pytest.raises(CheckpointError):
            nano().load_session(tmp_path / "b.session")
    with pytest.raises(CheckpointError, match="no such"):
        nano().load_session(tmp_path / "nowhere")


# --- what is remembered ----------------------------------------------------------------------------------------------


def test_a_memory_that_is_knocked_out_is_missed() -> None:
    session = start()
    session.give(clean(33))
    direct, rebuilt = session.fork(), session.fork()
    direct.knock_out(0, "direct")
    rebuilt.knock_out(0)
    futures = [s.step() for s in (session, direct, rebuilt)]
    assert not torch.equal(futures[0], futures[1])
    assert not torch.equal(futures[1], futures[2])  # later entries have absorbed it
    assert {row.chunk for row in rebuilt.memory.table()} == {1, 2, 3}
    with pytest.raises(InputError, match="knocked out"):
        rebuilt.knock_out(0)
    with pytest.raises(InputError, match="no such chunk"):
        rebuilt.protect(9)


def test_a_view_that_is_lost_after_an_anchor_was_knocked_out() -> None:
    """What is clean before it turns into anchors, but for what is not to be remembered."""
    session = start()
    session.give(clean(21), camera="right-5")
    session.knock_out(0)
    session.step(camera="right-3", num_chunks=1)
    session.step(camera="right-9", num_chunks=3)
    assert session.roles[1] == "anchor"
    assert "degraded" in session.roles
    assert {row.chunk for row in session.memory.table() if row.protected} >= {1}
    assert 0 not in {row.chunk for row in session.memory.table()}


def test_the_table_shows_what_is_remembered() -> None:
    session = start(memory="window:2", references=[clean(1)])
    session.step(num_chunks=4)
    rows = session.memory.table()
    assert [row.chunk for row in rows if row.slot is None] == [3]
    assert {row.chunk for row in rows} == {-1, 1, 2, 3}  # what chunk 3 saw, and itself
    assert all(row.nbytes > 0 for row in rows if row.slot is not None)
    assert {row.position for row in rows if row.chunk == 3} == {12}


def test_protected_chunks_stay() -> None:
    plain, kept = start(memory="window:2"), start(memory="window:2")
    for session in (plain, kept):
        session.step()
    kept.protect(0)
    for session in (plain, kept):
        session.step(num_chunks=4)
    assert 0 not in {row.chunk for row in plain.memory.table()}
    assert 0 in {row.chunk for row in kept.memory.table() if row.protected}


def test_roles_are_read_off_frames() -> None:
    clip = world()
    session = start(memory=Anchors(1))
    session.give(clip.degraded.rgb[:33])
    session.step(num_chunks=2)
    seen = clip.graph.roles[:3]
    assert session.roles[:3] == seen
    protected = {row.chunk for row in session.memory.table() if row.protected}
    assert protected >= {chunk for chunk, role in enumerate(seen) if role == "anchor"} != set()


def test_references_stand_before_everything_at_their_gap() -> None:
    near, far = start(references=[clean(9)]), start(references=[clean(9)], reference_gap=4)
    assert [(row.chunk, row.position, row.role) for row in near.memory.table()] == [(-1, 0, "reference")]
    assert not torch.equal(near.step(), start().step())
    far.step()
    assert {row.chunk: row.position for row in near.memory.table()} == {-1: 0, 0: 3}
    assert {row.chunk: row.position for row in far.memory.table()} == {-1: 0, 0: 12}
    assert (near.num_chunks, near.roles) == (1, ("clean",))


def test_a_picture_is_a_reference_that_stands_still() -> None:
    still = clean(1).expand(9, -1, -1, -1)
    assert same(start(references=[clean(1)]), start(references=[still]))


def test_attention_beyond_training_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    session = start(references=[clean(1)], reference_gap=7)
    with caplog.at_level(logging.WARNING):
        session.step(num_chunks=3)
    said = [record.message for record in caplog.records if "farther than in training" in record.message]
    assert said == ["chunk 0 looks 23 latent frames back, farther than in training (20)"]
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        start().step(num_chunks=7)
    assert not caplog.records


# --- what goes wrong -------------------------------------------------------------------------------------------------


def test_an_error_in_the_second_chunk_leaves_a_session_that_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    session, other = start(), start()
    calls: list[int] = []

    def fail(_: Any) -> None:
        calls.append(1)
        if len(calls) > 1:  # a pass a chunk
            raise MemoryError("full")

    with pytest.raises(MemoryError):
        session.step(camera="right-8", num_chunks=3, glance=fail)
    assert (session.num_chunks, session.num_frames, len(session.walk)) == (1, 9, 9)
    other.step(camera=camera_path("right-8", num_frames=33, hw=(32, 32))[:9])
    assert torch.equal(session.walk.cameras.c2w, other.walk.cameras.c2w)
    assert same(session, other, num_chunks=2, camera="right-6")


def test_pictures_of_another_size_are_refused_and_nothing_has_happened() -> None:
    small, odd = torch.zeros(9, 16, 16, 3, dtype=torch.uint8), clean(10)
    with pytest.raises(InputError, match=r"model's size; got torch.uint8 \(1, 16, 16, 3\); expected uint8"):
        nano().start(image=small[0])
    with pytest.raises(InputError, match="model's size"):
        nano().start(references=[small])
    with pytest.raises(InputError, match=r"1, or 9 and more"):
        nano().start(references=[clean(5)])
    session = start()
    with pytest.raises(InputError, match="model's size"):
        session.give(small)
    with pytest.raises(InputError, match=r"whole chunks; got 10 frames; expected 12k - 3, e.g. 9"):
        session.give(odd)
    with pytest.raises(InputError, match=r"every chunk has one prompt; got 1; expected 2"):
        session.give(clean(21), prompts=["a"])
    with pytest.raises(CameraError):
        session.give(clean(21), camera=camera_path("right-5", num_frames=20, hw=(32, 32)))
    session.give(clean(21))
    assert len(session.walk) == session.num_frames == 21
    with pytest.raises(InputError, match="a known video comes first"):
        session.give(clean(21))
    with pytest.raises(InputError, match="a known video comes first"):
        nano().start(image=clean(1)[0]).give(clean(9))
    with pytest.raises(InputError, match=r"at least one chunk; got 0"):
        session.step(num_chunks=0)


def test_gaps_that_do_not_fit_are_refused() -> None:
    for references, gap in (([clean(1)] * 2, 1), ([], 3), ([clean(1)], 0), ([clean(1)], -1)):
        with pytest.raises(InputError, match=rf"gap of {gap} chunks, {len(references)} references.*at least as many"):
            nano().start(references=references, reference_gap=gap)


def test_a_budget_too_small_says_how_much_is_needed() -> None:
    with pytest.raises(InputError, match=r"too small for one chunk and an anchor; got 1000 bytes; .* least \d+"):
        nano().start(memory_budget=1000)
    with pytest.raises(InputError, match=r"memory of policy full is used up at chunk 4; .*larger budget"):
        start(memory_budget=300_000).step(num_chunks=7)


def test_tensors_of_another_kind_are_refused() -> None:
    rgb: Tensor = clean(9)
    for wrong in (rgb.float(), rgb[..., :1], rgb[0]):
        session = start()
        with pytest.raises(Exception, match=r"size|Type-check"):
            session.give(wrong)
