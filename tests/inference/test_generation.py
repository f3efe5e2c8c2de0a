"""One video from words, an image or a video: `pipe(...)`, its stream and its sessions are the same thing."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from remind.errors import CameraError, InputError
from remind.frame_graph import Schedule, frames_of_chunk
from remind.inference.camera_path import camera_path
from remind.inference.pipeline import MadeChunk, RecoveryTask
from remind.inference.samplers import Sampler
from remind.prompt_schedule import PromptSchedule, chunk_prompts

from .make_session import FAST, PROMPT, clean, nano, world

TWO_STEPS = Sampler(steps=2)


def cut_session(given: dict[str, Any], asked: dict[str, Any], told: list[str]) -> torch.Tensor:
    """The same video from a session, one chunk a call."""
    session = nano().start(told[0], **given, **asked)
    frames = [] if given.get("video") is None else [given["video"]]
    while session.num_chunks < len(told):
        frames.append(session.step(told[session.num_chunks]))
    return torch.cat(frames)


@pytest.mark.parametrize("mode", ["t2v", "i2v", "v2v"])
def test_a_call_is_its_stream_and_its_session(mode: str) -> None:
    given: dict[str, Any] = {"t2v": {}, "i2v": {"image": clean(1)[0]}, "v2v": {"video": clean(21)}}[mode]
    told = PromptSchedule.of({"2": "the lights go off"}, base=PROMPT)
    made = nano()(told, num_chunks=4, seed=5, **given, **FAST)
    assert made.frames.shape == (45, 32, 32, 3)
    assert made.first_generated_frame == {"t2v": 0, "i2v": 1, "v2v": 21}[mode]
    seen: list[MadeChunk] = []
    again = nano()(told, num_chunks=4, seed=5, progress=seen.append, **given, **FAST)
    assert torch.equal(made.frames, again.frames)
    assert [(one.chunk, one.given) for one in seen] == [(k, mode == "v2v" and k < 2) for k in range(4)]
    assert torch.equal(torch.cat([one.frames for one in seen]), made.frames)
    assert torch.equal(made.frames, cut_session(given, {"seed": 5, **FAST}, list(told.per_chunk(4))))
    kept = made.first_generated_frame
    assert torch.equal(made.frames[:kept], clean(kept))
    assert not torch.equal(made.frames[kept : kept + 1], clean(kept + 1)[kept:])
    assert len(made.roles) == len(made.chunk_seconds) == 4
    assert len(made.cameras) == 45
    assert {row.chunk for row in made.memory} == {0, 1, 2, 3}


def test_frames_are_handed_over_as_they_are_made() -> None:
    stream = nano().stream(PROMPT, num_chunks=2_000, memory="window:1", **FAST)
    assert next(stream).frames.shape == (9, 32, 32, 3)
    second = next(stream)
    assert second.session.rollout.cache_nbytes < 10 * 73728  # not of 2,000 chunks
    assert (second.chunk, second.session.num_chunks) == (1, 2)


def test_a_video_is_continued_by_at_least_a_chunk() -> None:
    whole = nano()(PROMPT, video=clean(81), steps=1)
    assert (len(whole.frames), whole.first_generated_frame) == (93, 81)


# --- as the benchmark does it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["light_toggle", "camera_loop"])
def test_an_interrupted_clip_is_continued_as_recover_does_it(kind: Any) -> None:
    clip = world(kind=kind)
    (expected,) = nano().recover([RecoveryTask(clip.degraded, clip.schedule, 9)], sampler=TWO_STEPS)
    given = frames_of_chunk(clip.graph.frontier or 0).start
    told = PromptSchedule.of_interruption(clip.clean.caption, clip.schedule)
    assert told.per_chunk(7) == chunk_prompts(clip.clean.caption, clip.schedule)
    made = nano()(told, video=clip.degraded.rgb[:given], cameras=clip.degraded.cameras, schedule=clip.schedule,
                  num_chunks=7, seed=9, sampler=TWO_STEPS)  # fmt: skip
    assert torch.equal(made.frames, expected)
    assert made.roles == clip.graph.roles


@pytest.mark.parametrize("kind", ["light_toggle", "camera_loop"])
def test_an_image_becomes_the_clip_that_image_to_video_makes(kind: Any) -> None:
    clip = world(kind=kind)
    (expected,) = nano().image_to_video([RecoveryTask(clip.degraded, clip.schedule, 9)], sampler=TWO_STEPS)
    told = PromptSchedule.of_interruption(clip.clean.caption, clip.schedule)
    made = nano()(told, image=clip.degraded.rgb[0], cameras=clip.degraded.cameras, schedule=clip.schedule,
                  num_chunks=7, seed=9, sampler=TWO_STEPS)  # fmt: skip
    assert torch.equal(made.frames, expected)
    assert made.roles == clip.graph.roles


def test_without_a_schedule_roles_come_from_what_is_seen() -> None:
    clip = world()
    given = frames_of_chunk(clip.graph.frontier or 0).start
    made = nano()(clip.clean.caption, video=clip.degraded.rgb[:given], memory="anchors:1", num_chunks=7, **FAST)
    frontier = clip.graph.frontier or 0
    assert made.roles[:frontier] == clip.graph.roles[:frontier]
    anchors = {chunk for chunk, role in enumerate(made.roles[:frontier]) if role == "anchor"}
    assert len(anchors) > 1
    assert {row.chunk for row in made.memory if row.protected} >= anchors  # none was forgotten before it got dark


# --- what is refused, before anything is made ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"image": clean(1)[0], "video": clean(9)}, "an image or a video, not both"),
        ({"video": clean(21), "num_chunks": 2}, r"nothing is left.* got 2 chunks in all, 2 given; expected at least 3"),
        ({"video": clean(10)}, r"whole chunks; got 10 frames; expected 12k - 3, e.g. 9"),
        ({"video": clean(5)}, r"whole chunks; got 5 frames; expected 12k - 3, e.g. 9"),
        ({"num_chunks": 0}, r"at least one chunk; got 0"),
        ({"num_chunks": -3}, r"at least one chunk; got -3"),
        ({"num_chunks": 2, "schedule": world().schedule}, r"schedule is longer.*got 81 frames.*21"),
        ({"guidance": -1.0}, "guidance"),
        ({"negative_prompt": "blurred"}, "without guidance"),
        ({"memory": "elephant"}, "elephant"),
        ({"memory_budget": 1000}, "too small"),
        ({"memory_budget": 300_000}, "policy full is used up"),
        ({"memory_noise": 1.0}, "noise level"),
        ({"steps": 0}, "at least one step"),
        ({"shift": -1.0}, "shift"),
        ({"sampler": Sampler(), "steps": 3}, "its own steps"),
        ({"seed": -1}, "seed"),
        ({"chunks_per_pass": 0}, "at least one chunk"),
        ({"references": [clean(1)], "reference_gap": 0}, "gap"),
        ({"fov_deg": 2.0}, "field of view"),
        ({"fov_deg": 2.0, "cameras": "right-5"}, "field of view"),
    ],
)  # fmt: skip
def test_what_cannot_be_followed_is_said_before_anything_is_made(asked: dict[str, Any], said: str) -> None:
    with pytest.raises((InputError, CameraError), match=said) as refused:
        nano().stream(PROMPT, **asked)
    assert len(str(refused.value).splitlines()) == 1


def test_cameras_of_another_length_or_with_a_jump_are_refused() -> None:
    path = camera_path("right-20", num_frames=81, hw=(32, 32))
    with pytest.raises(CameraError, match=r"another length.*got a path of 81 frames; expected 33"):
        nano().stream(PROMPT, cameras=path, num_chunks=3)
    jump = path.c2w.clone()
    jump[40:, 0, 3] += 5
    with pytest.raises(CameraError, match=r"jumps at frame 40 \(2.50 s\).*allow jumps"):
        nano().stream(PROMPT, cameras=type(path)(jump, path.intrinsics_px, path.hw, path.valid))
    made = nano()(PROMPT, cameras=type(path)(jump, path.intrinsics_px, path.hw, path.valid), allow_camera_jumps=True,
                  steps=1)  # fmt: skip
    assert torch.equal(made.cameras.c2w, jump)


def test_prompts_beyond_the_video_are_refused_with_both_numbers() -> None:
    told = PromptSchedule.of({"7": "the lights go off"}, base=PROMPT)
    with pytest.raises(InputError, match=r"7.*") as refused:
        nano().stream(told, num_chunks=5)
    assert "5" in str(refused.value)


def test_a_misspelt_argument_is_named() -> None:
    with pytest.raises(TypeError, match="unexpected keyword arguments: imgae"):
        nano().stream(PROMPT, imgae=clean(1)[0])  # type: ignore[call-arg]


def test_schedules_without_an_interruption_are_all_clean() -> None:
    made = nano()(PROMPT, num_chunks=2, schedule=Schedule(21), **FAST)
    assert set(made.roles) <= {"clean", "anchor"}


def test_a_budget_is_taken_as_far_as_a_video_needs_it() -> None:
    made = next(nano().stream("a ball rolls", num_chunks=3, memory_budget=10**8))
    assert len(made.session.memory.cache.slots) == 3
    open_ended = nano().start("a ball rolls", memory_budget=10**6)
    assert 10**6 * 0.9 < open_ended.rollout.cache_nbytes <= 10**6
