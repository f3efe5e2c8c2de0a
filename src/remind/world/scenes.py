"""Scenes: a room, an actor with one hidden state, cameras and a caption, all drawn from a seed.

Our choice (the paper's clips are real): everything that changes over time is a function of one scalar, so that what
a model should remember is a number.
"""

from __future__ import annotations

import math
import re
import zlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from remind.clip import Cameras, Clip
from remind.errors import InputError
from remind.geometry import intrinsics_from_fov, rigid, rotation_yaw, smoothstep
from remind.world import renderer
from remind.world.families import FAMILIES, HELD_OUT_FAMILIES, Family, Group
from remind.world.renderer import Rendering, Room
from remind.world.stage import Actor, sample_eye, sample_room, wall_colour

BASE_FRAMES = 81  # the paper's clip length; discrete events scale with the clip from here
START_RANGE = (0.03, 0.97)  # the state stays inside, so it never saturates within a clip
CHANGE_RANGE = (0.50, 0.80)  # of the state's range over one clip
TURN_FRAMES_RANGE = (28.0, 60.0)  # frames a turn: never aliased by a stride of four frames
TRIGGER_SHARE = 0.75
TRIGGER_FRAMES = (8, 18)
OPENING_FRAMES = (20, 28)
DRIFT_SHARE = 0.15
VISIBLE_DIFFERENCE = 8  # of 255, in some pixel
_PACES = (("slowly", "gently"), ("steadily", "evenly"), ("quickly", "fast"))


@dataclass(frozen=True)
class Scene:
    """One drawn scene; `render` is a pure function of it, the states and the cameras.

    Args:
        family: see `FAMILIES`.
        group: tag group of ReMind Table 7.
        seed: what it was drawn from.
        hw: height and width in pixels.
        fps: frames per second.
        states: the hidden state per frame, 0..1; periodic: turns, unwrapped; discrete: 0 = shut, 1 = open.
        cameras: the scene's own, relative to the first.
        caption: object, state variable, direction and pace; never a final state of a moving quantity.
        trigger_frame: first frame whose state is not 0 (discrete scenes with an event), else None.
        periodic: the state is a phase.
        discrete: the state rests at 0 or 1.
        actor: what is on the stage.
        room: what is around it.
        stage_from_reference: pose of the first camera on the stage.
        turns_right: which way the camera looks away.
    """

    family: str
    group: Group
    seed: int
    hw: tuple[int, int]
    fps: float
    states: Float[Tensor, " t"]
    cameras: Cameras
    caption: str
    trigger_frame: int | None
    periodic: bool
    discrete: bool
    actor: Actor
    room: Room
    stage_from_reference: Float[Tensor, "4 4"]
    turns_right: bool

    def __len__(self) -> int:
        return self.states.shape[0]

    @property
    def scene_id(self) -> str:
        return f"{self.family}-{self.seed}"

    def _checked(self, states: Tensor | None, cameras: Cameras | None) -> tuple[Tensor, Cameras]:
        states = self.states if states is None else states
        cameras = self.cameras if cameras is None else cameras
        if len(states) != len(cameras):
            raise InputError("states and cameras differ in length", got=(len(states), len(cameras)),
                             expected="one camera per state", fix="pass cameras together with states")
        return states.double(), cameras

    def render(self, states: Float[Tensor, " t"] | None = None, cameras: Cameras | None = None, *,
               samples: int = 2) -> Rendering:
        """Render colours, depth and instances.

        Args:
            states: one per frame, or None for the scene's own.
            cameras: one per frame, relative to the scene's first, or None for the scene's own.
            samples: rays a pixel along each axis, >= 1.

        Raises:
            InputError: states and cameras of different lengths.
        """
        s, cameras = self._checked(states, cameras)
        return renderer.render(self.room, self.actor.fixed(), self.actor.moving(s), cameras,
                               stage_from_reference=self.stage_from_reference, samples=samples)

    def render_rgb(self, states: Float[Tensor, " t"] | None = None, cameras: Cameras | None = None, *,
                   samples: int = 2) -> UInt8[Tensor, "t h w 3"]:
        """The colours of `render` alone, faster."""
        s, cameras = self._checked(states, cameras)
        return renderer.render_rgb(self.room, self.actor.fixed(), self.actor.moving(s), cameras,
                                   stage_from_reference=self.stage_from_reference, samples=samples)

    def clip(self, cameras: Cameras | None = None, *, samples: int = 2) -> Clip:
        """The scene as a clip with cameras, depth and caption; `cameras` replaces the scene's own."""
        rendering = self.render(None, cameras, samples=samples)
        return Clip(rendering.rgb, self.fps, self.cameras if cameras is None else cameras, rendering.depth,
                    self.caption, self.scene_id)

    def probe_states(self, count: int) -> Float[Tensor, " n"]:
        """States that span the whole range (a whole turn for a periodic scene), evenly."""
        if self.periodic:
            return torch.arange(count, dtype=torch.float64) / count
        return torch.linspace(0, 1, count, dtype=torch.float64)

    def object_visible(self, states: Float[Tensor, " t"] | None = None,
                       cameras: Cameras | None = None) -> Bool[Tensor, " t"]:
        """Whether some other state would look different from these cameras: the object in view and not covered."""
        states, cameras = self._checked(states, cameras)
        frames = self.render_rgb(states, cameras, samples=1)
        probes = self.probe_states(9)
        firsts, run_of_frame = renderer.distinct_cameras(cameras)
        repeated = cameras[firsts.repeat_interleave(len(probes))]
        others = self.render_rgb(probes.repeat(len(firsts)), repeated, samples=1)
        others = others.reshape(len(firsts), len(probes), *others.shape[1:]).int()
        visible = [(others[run] - frame.int()).abs().max() > VISIBLE_DIFFERENCE
                   for frame, run in zip(frames, run_of_frame.tolist(), strict=True)]
        return torch.stack(visible)

    @cached_property
    def lookaway_yaw_deg(self) -> float:
        """Yaw (to the right if positive) that takes the object's whole path out of the frame, with 4 degrees spare.

        Raises:
            InputError: no turn of up to 150 degrees does.
        """
        probes = self.probe_states(32)
        corners = torch.cat([renderer.corners(p, self.stage_from_reference).reshape(-1, 8, 3)
                             for p in self.actor.moving(probes)])
        firsts, _ = renderer.distinct_cameras(self.cameras)
        some = self.cameras[firsts[:: max(1, len(firsts) // 8)]]
        sign = 1 if self.turns_right else -1
        for yaw in np.arange(30.0, 150.0, 2.5):
            turned = turn(some, torch.full((len(some),), sign * (yaw - 4.0)))
            if renderer.outside_view(corners, turned).all():
                return float(sign * yaw)
        raise InputError("the camera cannot look away from this object", got=self.scene_id)


def turn(cameras: Cameras, yaw_deg: Float[Tensor, " t"]) -> Cameras:
    """Turn each camera on the spot to its right by `yaw_deg`."""
    c2w = cameras.c2w.clone()
    c2w[:, :3, :3] = renderer.matmul3(cameras.c2w[:, :3, :3], rotation_yaw(yaw_deg))
    return Cameras(c2w, cameras.intrinsics_px, cameras.hw, cameras.valid)


def _sample_cameras(rng: np.random.Generator, num_frames: int, hw: tuple[int, int]) -> Cameras:
    """Mostly at rest; some drift sideways while they keep the stage in the middle."""
    fov_deg = rng.uniform(53, 57)
    drifts, sideways, forward = rng.random() < DRIFT_SHARE, rng.uniform(-0.35, 0.35), rng.uniform(-0.1, 0.15)
    progress = smoothstep(torch.linspace(0, 1, num_frames, dtype=torch.float64)) * float(drifts)
    zero = torch.zeros_like(progress)
    position = torch.stack([sideways * progress, zero, forward * progress], -1)
    yaw_deg = -torch.rad2deg(torch.atan2(position[:, 0], 3.3 - position[:, 2]))
    return Cameras(rigid(rotation_yaw(yaw_deg), position), intrinsics_from_fov(fov_deg, hw, num_frames), hw,
                   torch.ones(num_frames, dtype=torch.bool))


def _sample_discrete(rng: np.random.Generator, num_frames: int) -> tuple[Tensor, int | None, int]:
    """Shut until the trigger, then opening at a constant rate, then open."""
    stretch = num_frames / BASE_FRAMES
    happens, trigger = rng.random() < TRIGGER_SHARE, rng.integers(TRIGGER_FRAMES[0], TRIGGER_FRAMES[1] + 1)
    opening = rng.uniform(*OPENING_FRAMES)
    pace = 2 - min(2, int(3 * (opening - OPENING_FRAMES[0]) / (OPENING_FRAMES[1] - OPENING_FRAMES[0])))
    if not happens:
        return torch.zeros(num_frames), None, pace
    first = max(1, round(int(trigger) * stretch))
    t = torch.arange(num_frames, dtype=torch.float64)
    return ((t - first + 1) / (opening * stretch)).clamp(0, 1).float(), first, pace


def _sample_phase(rng: np.random.Generator, num_frames: int, rising: bool) -> tuple[Tensor, int]:
    """A constant turn; running backwards it starts late enough to stay positive."""
    log_low, log_high = (math.log(f) for f in TURN_FRAMES_RANGE)
    place = rng.random()
    turn_frames = math.exp(log_low + (log_high - log_low) * place)
    start, t = rng.random(), torch.arange(num_frames, dtype=torch.float64)
    if rising:
        return (start + t / turn_frames).float(), 2 - int(3 * place)
    whole = math.ceil((num_frames - 1) / turn_frames)
    return (start + whole - t / turn_frames).float(), 2 - int(3 * place)


def _sample_ramp(rng: np.random.Generator, num_frames: int, rising: bool) -> tuple[Tensor, int]:
    """A constant rate from a varied start."""
    place, low = rng.random(), rng.random()
    change = CHANGE_RANGE[0] + (CHANGE_RANGE[1] - CHANGE_RANGE[0]) * place
    low = START_RANGE[0] + (START_RANGE[1] - START_RANGE[0] - change) * low
    progress = torch.linspace(0, 1, num_frames, dtype=torch.float64)
    states = low + change * (progress if rising else 1 - progress)
    return states.float(), int(3 * place)


def _sample_states(rng: np.random.Generator, family: Family, num_frames: int) -> tuple[Tensor, bool, int | None, int]:
    """States, whether they rise (discrete: whether it happens), the trigger's frame and the pace 0..2."""
    rising = bool(rng.random() < 0.5) if family.reversible else True
    if family.discrete:
        states, trigger, pace = _sample_discrete(rng, num_frames)
        return states, trigger is not None, trigger, pace
    states, pace = (_sample_phase if family.periodic else _sample_ramp)(rng, num_frames, rising)
    return states, rising, None, pace


def sample_scene(seed: int, *, family: str | None = None, num_frames: int = 81, hw: tuple[int, int] = (64, 64),
                 fps: float = 16.0) -> Scene:
    """Draw a scene; the same seed and family give the same scene at every size, length and on every machine.

    Args:
        seed: >= 0.
        family: a name of `FAMILIES` or `HELD_OUT_FAMILIES`; None draws one of the former by the seed.
        num_frames: >= 2; the rate scales with it, except for periodic scenes.
        hw: height and width in pixels, square pixels.
        fps: frames per second.

    Raises:
        InputError: an unknown family, a negative seed or too few frames.
    """
    if seed < 0:
        raise InputError("a seed must not be negative", got=seed, expected=">= 0")
    if num_frames < 2:
        raise InputError("a scene needs time to change", got=f"{num_frames} frames", expected=">= 2")
    if family is None:
        family = list(FAMILIES)[int(np.random.default_rng([seed, 0]).integers(len(FAMILIES)))]
    known = FAMILIES | HELD_OUT_FAMILIES
    if family not in known:
        raise InputError("unknown scene family", got=family, expected=f"one of {', '.join(FAMILIES)}")
    kind = known[family]
    look, time = (np.random.default_rng([seed, zlib.crc32(family.encode()), k]) for k in (1, 2))
    wall = wall_colour(look)
    actor, room, eye = kind.sample(look, wall), sample_room(look, wall), sample_eye(look)
    states, rising, trigger, pace = _sample_states(time, kind, num_frames)
    cameras = _sample_cameras(time, num_frames, hw)
    wordings = actor.captions(rising)
    caption = wordings[int(time.integers(len(wordings)))].replace("{pace}", str(time.choice(_PACES[pace])))
    caption = re.sub(r"\ba (?=[aeiou])", "an ", caption)
    return Scene(family, kind.group, seed, hw, fps, states, cameras, caption, trigger, kind.periodic, kind.discrete,
                 actor, room, eye, bool(time.random() < 0.5))
