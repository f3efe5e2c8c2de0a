"""One clip through a session, stopped where the view returns, so that several futures of one past can be compared.

What a memory does is measured on forks: the same past, the same noise, one memory less. A knock-out is `rebuild`, for
later entries have absorbed the chunk that is taken out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Unpack

import torch
from jaxtyping import UInt8
from torch import Tensor

from remind.clip import Cameras
from remind.data.world_clips import WorldClip
from remind.errors import InputError
from remind.frame_graph import Schedule, frames_of_chunk
from remind.inference.glance import Glance
from remind.inference.options import HowToGenerate
from remind.inference.pipeline import RemindPipeline
from remind.inference.session import CHUNK_FRAMES, FIRST_FRAMES, Session
from remind.prompt_schedule import chunk_prompts


@dataclass(frozen=True)
class Script:
    """What a model is given of a clip, and what it is asked for.

    Args:
        rgb: the clip; what is given is cut from it.
        cameras: of the clip.
        prompts: one per chunk of the clip.
        schedule: gives chunks their roles; None = they are read off frames.
        frontier: the clip's chunk from which on futures are compared; before it frames are given, or, from an image,
            made once for all futures.
        image: only the first frame is given (I2V).
        offset: the clip's chunk with which the video begins. Above 0 what came before is known by references alone.
        references: what is put into memory, each of 9 frames, the first at position 0.
    """

    rgb: UInt8[Tensor, "t h w 3"]
    cameras: Cameras
    prompts: tuple[str, ...]
    schedule: Schedule | None
    frontier: int
    image: bool = False
    offset: int = 0
    references: tuple[UInt8[Tensor, "9 h w 3"], ...] = ()

    def frames(self, chunk: int) -> slice:
        """The clip's frames that a chunk of the video stands for: the video's first chunk is three frames shorter."""
        of_video = frames_of_chunk(chunk - self.offset)
        return slice(CHUNK_FRAMES * self.offset + of_video.start, CHUNK_FRAMES * self.offset + of_video.stop)


def interrupted(case: WorldClip, *, image: bool = False) -> Script:
    """The clip as it was seen, with the prompts that announce its interruption."""
    return Script(case.degraded.rgb, _cameras(case.degraded.cameras),
                  chunk_prompts(case.clean.caption, case.schedule), case.schedule, _frontier(case), image)  # fmt: skip


def uninterrupted(case: WorldClip, *, image: bool = False) -> Script:
    """The same scene, cut at the same chunk, with nothing in between: what is looked at when nothing must be recalled.

    Its prompts are the caption alone.
    """
    return Script(case.clean.rgb, _cameras(case.clean.cameras), (case.clean.caption,) * case.graph.num_chunks, None,
                  _frontier(case), image)  # fmt: skip


def from_reference(case: WorldClip, *, offset: int) -> Script:
    """The clip from a chunk on, of whose past nothing is known but its first 9 frames, put into memory as a reference.

    The video stands `offset` chunks after the reference, as in the clip: a position says how much time has passed.

    Args:
        case: clear for its first 9 frames and hidden from before frame 12 `offset` to its frontier.
        offset: from 1 to the frontier; at the frontier nothing is given beside the reference.

    Raises:
        InputError: the video would begin in view, or after the frontier.
    """
    frontier, first = _frontier(case), CHUNK_FRAMES * offset
    given = range(first, frames_of_chunk(frontier).start)
    if not 1 <= offset <= frontier or case.schedule.interruptions[0].start < FIRST_FRAMES \
            or not case.schedule.hidden_frames().issuperset(given):  # fmt: skip
        raise InputError("between reference and recovery everything must be hidden", got=f"a video from chunk {offset}",
                         expected=f"at most {frontier}, and hidden from there")  # fmt: skip
    return Script(case.degraded.rgb, _cameras(case.degraded.cameras),
                  chunk_prompts(case.clean.caption, case.schedule), None, frontier, offset=offset,
                  references=(case.clean.rgb[:FIRST_FRAMES],))  # fmt: skip


def _cameras(cameras: Cameras | None) -> Cameras:
    assert cameras is not None  # world clips always have them
    return cameras


def _frontier(case: WorldClip) -> int:
    frontier = case.graph.frontier
    assert frontier is not None  # a fixed clip is interrupted
    return frontier


class Continuation:
    """A script as far as its frontier; `future` goes on from there, as often as one likes.

    Args:
        pipe: whose model.
        script: what is given and asked for.
        glance: called in every denoising pass up to the frontier.
        how: see `RemindPipeline.stream`.

    Raises:
        InputError: a memory that will not suffice, before anything is made.
    """

    def __init__(
        self, pipe: RemindPipeline, script: Script, *, glance: Callable[[Glance], None] | None = None,
        **how: Unpack[HowToGenerate],
    ):  # fmt: skip
        self.script = script
        self._with_cameras = pipe.model.config.camera_mode != "none"
        first, total = script.offset, len(script.prompts) - script.offset
        start = script.frames(first).start
        self.session = pipe.start(
            script.prompts[0], image=script.rgb[start] if script.image else None, schedule=script.schedule,
            references=script.references, reference_gap=script.offset if script.references else None,
            allow_camera_jumps=True, horizon=total, **how,
        )  # fmt: skip
        self.session.rollout.check_reach(total)
        self.memory = self.session.memory
        self._past: Tensor = script.rgb[:start]
        if script.image:
            self._past = self._go_on(self.session, script.frontier, glance)
        elif script.frontier > first:
            stop = script.frames(script.frontier).start
            self.session.give(script.rgb[start:stop], prompts=script.prompts[first : script.frontier],
                              camera=self._camera(slice(start, stop)))  # fmt: skip
            self._past = script.rgb[:stop]

    def future(
        self, *, forget: Sequence[int] = (), glance: Callable[[Glance], None] | None = None
    ) -> UInt8[Tensor, "t h w 3"]:
        """The whole clip: what was given, then what is made. The past is left as it is for further futures.

        `memory` shows what was remembered at the end of the last one.

        Args:
            forget: chunks that are knocked out by `rebuild` before anything is made; references are -R .. -1.
            glance: called in every denoising pass.

        Raises:
            InputError: a chunk that is not there.
        """
        session = self.session.fork()
        for chunk in forget:
            session.knock_out(chunk, "rebuild")
        self.memory = session.memory
        return self._go_on(session, len(self.script.prompts), glance)

    def _go_on(self, session: Session, stop: int, glance: Callable[[Glance], None] | None) -> Tensor:
        """What was there before the frontier, and what the session makes up to a chunk."""
        made = [self._past]
        for chunk in range(session.num_chunks + self.script.offset, stop):
            frames = session.step(self.script.prompts[chunk], self._camera(self.script.frames(chunk)), glance=glance)
            made.append(frames)
        return torch.cat(made)

    def _camera(self, frames: slice) -> Cameras | None:
        return self.script.cameras[frames] if self._with_cameras else None
