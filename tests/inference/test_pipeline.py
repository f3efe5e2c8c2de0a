"""The pipeline: a checkpoint folder in, clips out; what was seen comes back bit for bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from remind.clip import Clip
from remind.data.interrupt import InterruptionRecipe, LightStyle, apply_interruption
from remind.data.world_clips import make_world_clip
from remind.errors import CheckpointError, InputError
from remind.frame_graph import Interruption, Schedule, frames_of_chunk
from remind.inference.pipeline import RecoveryTask, RemindPipeline
from remind.inference.rollout import Glance
from remind.inference.samplers import Sampler
from remind.models.checkpoint import save_checkpoint
from remind.models.codec import LinearCodec

from ..make_memory import TINY, filled_model

HW, FRAMES = (16, 16), 69
FAST = Sampler(steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("checkpoint")
    model = filled_model()
    about = {"train": {"hw": list(HW)}, "codec": LinearCodec.load().digest}
    save_checkpoint(out, TINY, model.state_dict(), about)
    return out


@pytest.fixture(scope="module")
def pipeline(folder: Path) -> RemindPipeline:
    return RemindPipeline.from_pretrained(folder)


@pytest.fixture(scope="module")
def clip() -> Clip:
    return make_world_clip(0, hw=HW, num_frames=FRAMES).clean


def task(clip: Clip, times: tuple[int, int, int, int], seed: int) -> RecoveryTask:
    recipe = InterruptionRecipe(interruption=Interruption("light_toggle", *times), style=LightStyle())
    return RecoveryTask(apply_interruption(clip, recipe), recipe.schedule(FRAMES), seed)


@pytest.fixture(scope="module")
def tasks(clip: Clip) -> list[RecoveryTask]:
    """Two of one group, one of another frontier, one of that frontier with other anchors: three batches."""
    times = [(22, 24, 33, 35), (34, 36, 45, 48), (24, 26, 33, 34), (22, 24, 45, 47)]
    made = [task(clip, t, seed) for seed, t in enumerate(times)]
    assert [(t.graph.frontier, len(t.graph.anchors)) for t in made] == [(3, 2), (4, 3), (3, 2), (4, 2)]
    return made


def given_frames(t: RecoveryTask) -> int:
    return frames_of_chunk(t.graph.frontier).start


def test_the_prefix_comes_back_bitwise_and_the_suffix_is_generated(
    pipeline: RemindPipeline, tasks: list[RecoveryTask]
) -> None:
    results = pipeline.recover(tasks, sampler=FAST)
    assert len(results) == len(tasks)
    for t, video in zip(tasks, results, strict=True):
        given = given_frames(t)
        assert video.shape == t.degraded.rgb.shape
        assert video.dtype == torch.uint8
        assert torch.equal(video[:given], t.degraded.rgb[:given])
        assert not torch.equal(video[given:], t.degraded.rgb[given:])


def test_frames_from_the_frontier_on_are_not_read(pipeline: RemindPipeline, tasks: list[RecoveryTask]) -> None:
    (truth,) = pipeline.recover(tasks[:1], sampler=FAST)
    rgb = tasks[0].degraded.rgb.clone()
    rgb[given_frames(tasks[0]) :] = 0
    (blind,) = pipeline.recover([replace(tasks[0], degraded=tasks[0].degraded.with_rgb(rgb))], sampler=FAST)
    assert torch.equal(blind, truth)


def test_results_come_in_the_order_of_the_tasks_whatever_their_batches(
    pipeline: RemindPipeline, tasks: list[RecoveryTask]
) -> None:
    at_once = pipeline.recover(tasks, sampler=FAST)
    done: list[int] = []
    one_by_one = pipeline.recover(tasks[::-1], sampler=FAST, max_batch=1, progress=done.append)[::-1]
    assert done == [1] * len(tasks)
    for a, b in zip(at_once, one_by_one, strict=True):
        assert (a.int() - b.int()).abs().max() <= 1  # a rounding of the last bit, at most


def test_the_seed_decides(pipeline: RemindPipeline, tasks: list[RecoveryTask]) -> None:
    seeded = [replace(tasks[0], seed=seed) for seed in (5, 5, 6)]
    first, same, other = pipeline.recover(seeded, sampler=FAST)
    assert (first.int() - same.int()).abs().max() <= 1
    assert (first.int() - other.int()).abs().max() > 5


def test_each_group_has_its_own_anchors_knocked_out(pipeline: RemindPipeline, tasks: list[RecoveryTask]) -> None:
    seen: dict[int, set[int]] = {}

    def look(members: list[int], glance: Glance) -> None:
        for i in members:
            seen.setdefault(i, set()).update(entry.chunk for entry in glance.entries)

    for how in ("rebuild", "direct"):
        seen.clear()
        pipeline.recover(tasks, sampler=FAST, knock_out_anchors=how, glance=look)
        for i, t in enumerate(tasks):
            assert seen[i] == set(range(t.graph.num_chunks)) - set(t.graph.witnesses)


def test_a_glance_names_the_tasks_it_is_of(pipeline: RemindPipeline, tasks: list[RecoveryTask]) -> None:
    chunks: dict[int, set[int]] = {i: set() for i in range(len(tasks))}

    def look(members: list[int], glance: Glance) -> None:
        assert glance.lse[0].shape[0] == len(members)
        for i in members:
            chunks[i].add(glance.chunk)

    pipeline.recover(tasks, sampler=FAST, glance=look)
    for i, t in enumerate(tasks):
        assert chunks[i] == set(range(t.graph.frontier, t.graph.num_chunks))


def test_image_to_video_keeps_the_image(pipeline: RemindPipeline, tasks: list[RecoveryTask]) -> None:
    videos = pipeline.image_to_video(tasks[:2], sampler=FAST)
    for t, video in zip(tasks, videos, strict=False):
        assert video.shape == t.degraded.rgb.shape
        assert torch.equal(video[0], t.degraded.rgb[0])
        assert not torch.equal(video[1:], t.degraded.rgb[1:])


def test_the_prompt_schedule_reaches_the_model(pipeline: RemindPipeline, tasks: list[RecoveryTask]) -> None:
    (before,) = pipeline.image_to_video(tasks[:1], sampler=FAST)
    later = Schedule(FRAMES, ())
    (without,) = pipeline.image_to_video([replace(tasks[0], schedule=later)], sampler=FAST)
    start = min(tasks[0].schedule.degraded_frames())
    untouched = next(frames_of_chunk(k).start for k in range(6) if start in frames_of_chunk(k))
    assert torch.equal(before[:untouched], without[:untouched])  # not yet announced
    assert not torch.equal(before[untouched:], without[untouched:])


def test_a_clip_of_another_size_is_refused(pipeline: RemindPipeline, tasks: list[RecoveryTask]) -> None:
    larger = Clip(torch.zeros(FRAMES, 24, 24, 3, dtype=torch.uint8), 16.0)
    with pytest.raises(InputError, match=r"another size.*\(24, 24\).*\(16, 16\)"):
        pipeline.recover([replace(tasks[0], degraded=larger)])


def test_a_clip_without_an_interruption_is_refused(pipeline: RemindPipeline, tasks: list[RecoveryTask]) -> None:
    with pytest.raises(InputError, match="nothing is interrupted"):
        pipeline.recover([replace(tasks[0], schedule=Schedule(FRAMES))])


def test_a_checkpoint_of_another_codec_or_none_at_all_is_refused(folder: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path, TINY, filled_model().state_dict(), {"train": {"hw": list(HW)}, "codec": "f" * 16})
    with pytest.raises(CheckpointError, match="another codec"):
        RemindPipeline.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"no such checkpoint.*nano-base"):
        RemindPipeline.from_pretrained("nanoo")
