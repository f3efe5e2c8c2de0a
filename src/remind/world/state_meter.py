"""The state meter: analysis by synthesis, from frames back to the hidden state.

Our choice (the paper lets judges look at videos): a scene is rendered at every state of a grid, and the state is the
place on the path through these images that lies nearest to the frame. Candidates depend on scene and cameras alone,
so one meter serves every model.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, UInt8
from torch import Tensor
from torch.nn.functional import max_pool2d

from remind.clip import Cameras
from remind.errors import InputError
from remind.world.renderer import distinct_cameras
from remind.world.scenes import Scene

GRID_AT_REST, GRID_MOVING = 97, 49  # states per camera: steps of a quarter and half a pixel of a 32-pixel frame
DEPENDS = 6 / 255  # a pixel depends on the state if its brightest and darkest renderings differ by more
AMBIGUOUS_STATES = 0.1  # two states this far apart that look alike make a frame unobservable
ALIKE = 0.5  # distance of two 32 x 32 frames (norm over pixels, channels): ten times a codec's noise along it


@dataclass(frozen=True)
class StateReading:
    """What a meter read off a clip.

    Args:
        state: 0..1; periodic: the phase in turns, 0 <= phase < 1. Meaningless where not observable.
        observable: False where other states far away would look the same (object out of view).
        residual: RMS difference (0..1 of the sRGB range) to the best explanation, over the object's own outline or
            over all pixels the state can reach, whichever is worse. 0 where nothing depends on the state.
        explained: share of the mean squared difference to a random state that the best state takes away, <= 1.
    """

    state: Float[Tensor, " t"]
    observable: Bool[Tensor, " t"]
    residual: Float[Tensor, " t"]
    explained: Float[Tensor, " t"]


@dataclass(frozen=True)
class _Candidates:
    """One camera's renderings at every state, at the pixels that depend on it."""

    pixels: Bool[Tensor, "h w"]
    images: Float[Tensor, "g p"]
    weights: Float[Tensor, " p"]
    identifiable: Bool[Tensor, " g"]


class StateMeter:
    """Reads the hidden state of a known scene off any frames that claim to show it.

    Args:
        scene: what the frames claim to show.
        cameras: one per frame, the ones asked of the generator; None = the scene's own.
        grid: number of candidate states, >= 8; None = 97 for a camera at rest, 49 for a moving one.
        samples: rays a pixel along each axis.

    Raises:
        InputError: a grid too coarse to have neighbours.
    """

    def __init__(self, scene: Scene, cameras: Cameras | None = None, *, grid: int | None = None, samples: int = 2):
        self.scene = scene
        self.cameras = scene.cameras if cameras is None else cameras
        firsts, self._run_of_frame = distinct_cameras(self.cameras)
        self._grid = grid or (GRID_AT_REST if len(firsts) <= 4 else GRID_MOVING)
        if self._grid < 8:
            raise InputError("the state grid is too coarse", got=self._grid, expected=">= 8")
        self._states = scene.probe_states(self._grid)
        views: dict[bytes, int] = {}
        keys = [c2w.numpy().tobytes() + k.numpy().tobytes()
                for c2w, k in zip(self.cameras.c2w[firsts], self.cameras.intrinsics_px[firsts], strict=True)]
        view_of_run = torch.tensor([views.setdefault(key, len(views)) for key in keys])
        self._view_of_frame = view_of_run[self._run_of_frame]
        self._candidates = [self._render(int(firsts[keys.index(key)]), samples) for key in views]

    def _render(self, frame: int, samples: int) -> _Candidates:
        cameras = self.cameras[torch.full((self._grid,), frame)]
        images = self.scene.render_rgb(self._states, cameras, samples=samples).float() / 255
        pixels = (images.amax(0) - images.amin(0)).amax(-1) > DEPENDS
        images = images[:, pixels].double()
        weights = (images - images.mean(0)).square().mean(0).sqrt().mean(-1)
        flat = images.flatten(1)
        apart = (self._states[:, None] - self._states[None]).abs()
        if self.scene.periodic:
            apart = torch.minimum(apart, 1 - apart)
        height, width = self.cameras.hw
        alike = torch.cdist(flat, flat) < ALIKE * (height * width) ** 0.5 / 32
        identifiable = ~(alike & (apart > AMBIGUOUS_STATES)).any(1)
        return _Candidates(pixels, flat, weights.repeat_interleave(3), identifiable)

    def measure(self, rgb: UInt8[Tensor, "t h w 3"]) -> StateReading:
        """Read every frame by itself.

        Raises:
            InputError: frames that do not fit the cameras.
        """
        if rgb.shape[:3] != (len(self.cameras), *self.cameras.hw):
            raise InputError("frames do not fit the meter's cameras", got=tuple(rgb.shape),
                             expected=(len(self.cameras), *self.cameras.hw, 3))
        reading = torch.zeros(4, len(rgb), dtype=torch.float64)
        for view, candidates in enumerate(self._candidates):
            chosen = self._view_of_frame == view
            frames = rgb[chosen][:, candidates.pixels].flatten(1).double() / 255
            if frames.shape[1]:
                reading[:, chosen] = self._explain(frames, candidates)
        state, observable, residual, explained = reading
        return StateReading(state.float(), observable > 0, residual.float(), explained.float())

    def _explain(self, frames: Float[Tensor, "t p"], candidates: _Candidates) -> Float[Tensor, "4 t"]:
        """Project frames on the path through the candidates: the best grid state, then the best point beside it."""
        images, root = candidates.images, candidates.weights.sqrt()
        cost = torch.cdist(frames * root, images * root).square()
        best = cost.argmin(1)
        nearest, position, error = best, best.double(), frames - images[best]
        least = cost.gather(1, best[:, None])[:, 0]
        for step in (-1, 1):
            beside = best + step
            beside = beside % self._grid if self.scene.periodic else beside.clamp(0, self._grid - 1)
            along = images[beside] - images[best]
            share = ((frames - images[best]) * along * candidates.weights).sum(1)
            share = (share / (along.square() * candidates.weights).sum(1).clamp_min(1e-12)).clamp(0, 1)
            left = frames - images[best] - share[:, None] * along
            here = (left.square() * candidates.weights).sum(1)
            better = here < least
            least = torch.where(better, here, least)
            position = torch.where(better, best + step * share, position)
            error = torch.where(better[:, None], left, error)
        state = (position / self._grid) % 1 if self.scene.periodic else position / (self._grid - 1)
        outline = (images - images.mean(0)).abs()[nearest]
        own = (error.square() * outline).sum(1) / outline.sum(1).clamp_min(1e-12)
        reach = least / candidates.weights.sum()
        residual = torch.maximum(own, reach).sqrt()
        explained = 1 - least / cost.mean(1).clamp_min(1e-12)
        return torch.stack([state, candidates.identifiable[best].double(), residual, explained])


def unwrap_phase(phase: Float[Tensor, " t"], reference: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """The unwrapped phase nearest to a reference trajectory, both in turns."""
    return phase + torch.round(reference - phase)


def state_error(scene: Scene, measured: Float[Tensor, " t"], truth: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Signed error of a reading in units of the state's range; for periodic scenes the shorter way round, in turns."""
    return (unwrap_phase(measured, truth) if scene.periodic else measured) - truth


def background_mask(scene: Scene, cameras: Cameras | None = None, *, grid: int = 25,
                    margin_px: int = 1) -> Bool[Tensor, "t h w"]:
    """Pixels that depend on no state, per frame.

    Args:
        scene: whose state.
        cameras: one per frame; None = the scene's own. At rest all frames' masks are the same.
        grid: states to try, >= 2.
        margin_px: also leave out this border around dependent pixels, which a blurry frame smears into.
    """
    cameras = scene.cameras if cameras is None else cameras
    firsts, run_of_frame = distinct_cameras(cameras)
    states = scene.probe_states(grid)
    masks = []
    for first in firsts.tolist():
        images = scene.render_rgb(states, cameras[torch.full((grid,), first)])
        depends = (images.amax(0).int() - images.amin(0).int()).amax(-1) > 255 * DEPENDS
        grown = max_pool2d(depends[None].float(), 2 * margin_px + 1, stride=1, padding=margin_px)[0]
        masks.append(grown == 0)
    return torch.stack(masks)[run_of_frame]
