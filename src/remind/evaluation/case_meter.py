"""What one case tells without any model: its phases, state meter and background, built once for all."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from torch import Tensor

from remind.data.world_clips import WorldClip
from remind.errors import InputError
from remind.frame_graph import FRAMES_PER_LATENT, frames_of_chunk
from remind.world.state_meter import StateMeter, background_mask, state_error

MAX_PSNR_DB = 60.0  # our choice: identical pictures would be infinitely good, and no mean survives that
MIN_BACKGROUND_SHARE = 0.05  # our choice: fewer pixels say nothing about a room
SMOOTH_FRAMES = 5  # odd; one latent frame and a bit
STRIDE_FRAMES = 4  # speeds are measured over one latent frame


@dataclass(frozen=True)
class VideoReading:
    """What a case's meter read off one video, on the clear frames of the schedule.

    Args:
        state: per frame of the clip, NaN where degraded by the schedule or not observable; unwrapped towards
            the truth in periodic scenes.
        error: signed difference to the truth, NaN likewise.
        residual: RMS difference (0..1) to the best explanation, NaN likewise.
        explained: share of the frame's difference to a random state that `state` takes away, <= 1, NaN likewise.
        background_mse: per settled frame, mean squared difference (0..1) to the truth outside the object;
            None if the scene has no background.
        background_jump: RMS change of that difference from each settled frame to the next.
    """

    state: Float[Tensor, " t"]
    error: Float[Tensor, " t"]
    residual: Float[Tensor, " t"]
    explained: Float[Tensor, " t"]
    background_mse: Float[Tensor, " a"] | None
    background_jump: Float[Tensor, " j"] | None

    @property
    def background_psnr_db(self) -> float | None:
        """PSNR over all settled frames, capped at `MAX_PSNR_DB`."""
        if self.background_mse is None:
            return None
        return min(MAX_PSNR_DB, float(-10 * torch.log10(self.background_mse.mean().clamp_min(1e-12))))


class CaseMeter:
    """Phases, state meter and background of one case.

    Our choice: only frames that the schedule leaves clear are read. A dark or covered frame shows no state,
    whatever lies nearest to it. Residual, background and speed are judged on the *settled* frames,
    whole latent frames after the interruption: a codec smears those that share a latent with degraded ones.

    Args:
        case: a world clip with one interruption or more.

    Raises:
        InputError: a clip without an interruption, or with nothing after it.
    """

    def __init__(self, case: WorldClip):
        if not case.schedule.interruptions:
            raise InputError(
                "a case needs an interruption", got="an uninterrupted clip", expected="one or more"
            )
        self.case = case
        num_frames = len(case.clean)
        degraded = case.schedule.degraded_frames()
        clear = torch.tensor([f not in degraded for f in range(num_frames)])
        self.start = case.schedule.interruptions[0].start
        self.stop = case.schedule.interruptions[-1].stop
        if self.stop >= num_frames:
            raise InputError(
                "a case needs frames after its interruption", got=self.stop, expected=f"< {num_frames}"
            )
        self.clear: Int64[Tensor, " c"] = clear.nonzero()[:, 0]
        self.before = slice(0, self.start)
        self.after = slice(self.stop, num_frames)
        # Whole clear latent frames: a codec smears the frames that share a latent with degraded ones.
        self.settled = slice(self.stop + (1 - self.stop) % FRAMES_PER_LATENT, num_frames)
        self.true_state: Float[Tensor, " t"] = case.scene.states
        assert case.degraded.cameras is not None  # world clips always have them
        self._cameras = case.degraded.cameras
        self._meter = StateMeter(case.scene, self._cameras[self.clear])

    @property
    def first_generated_v2v(self) -> int:
        """First frame that a video-to-video model generates: where chunk `graph.frontier` begins."""
        frontier = self.case.graph.frontier
        assert frontier is not None
        return frames_of_chunk(frontier).start

    @property
    def last_seen_state(self) -> float:
        """s_b: the true state at the last fully visible frame."""
        return float(self.true_state[self.start - 1])

    @property
    def true_hidden_change(self) -> float:
        """Signed change of the true state from the last clear frame before to the first clear frame after."""
        return float(self.true_state[self.stop] - self.true_state[self.start - 1])

    @cached_property
    def background(self) -> Bool[Tensor, "a h w"] | None:
        """Pixels of the settled frames that depend on no state; None if the whole picture does (a sunset)."""
        mask = background_mask(self.case.scene, self._cameras[self.settled])
        return mask if mask.float().mean() >= MIN_BACKGROUND_SHARE and mask.flatten(1).any(1).all() else None

    def read(self, rgb: UInt8[Tensor, "t h w 3"]) -> VideoReading:
        """Measure a full-length video.

        Args:
            rgb: given prefix and generated suffix.

        Raises:
            InputError: a video of another size or length.
        """
        truth = self.case.degraded.rgb
        if rgb.shape != truth.shape:
            raise InputError(
                "a video does not fit its case",
                got=tuple(rgb.shape),
                expected=tuple(truth.shape),
                fix="pass the given prefix and the generated suffix as one video",
            )
        found = self._meter.measure(rgb[self.clear])
        seen = self.clear[found.observable]
        state, error, residual, explained = (torch.full((len(rgb),), torch.nan) for _ in range(4))
        error[seen] = state_error(self.case.scene, found.state, self.true_state[self.clear]).float()[
            found.observable
        ]
        state[seen] = self.true_state[seen].float() + error[seen]
        residual[seen] = found.residual[found.observable]
        explained[seen] = found.explained[found.observable]
        if self.background is None:
            return VideoReading(state, error, residual, explained, None, None)
        keep = self.background[..., None].float()
        difference = (rgb[self.settled].float() - truth[self.settled].float()) / 255 * keep
        count = 3 * keep.sum((1, 2, 3))
        mse = difference.square().sum((1, 2, 3)) / count
        both = torch.minimum(count[1:], count[:-1])
        jump = (difference.diff(dim=0).square().sum((1, 2, 3)) / both).sqrt()
        return VideoReading(state, error, residual, explained, mse, jump)

    def speed_excess(self, state: Float[Tensor, " t"], *, times: float) -> float:
        """By how much a measured state moves further than `times` the true rate allows, in units of its
        range.

        The reading is smoothed over five frames and compared over one latent frame within the
        settled frames, and once across the interruption. Not positive = never too fast.

        Args:
            state: measured, NaN where unknown.
            times: how much faster than the truth is still allowed.
        """
        steps = self.true_state.diff().abs()
        rate = float(steps.max()) if len(steps) else 0.0
        after = smooth(state[self.settled])
        excess = (
            [
                float(torch.nan_to_num((after[STRIDE_FRAMES:] - after[:-STRIDE_FRAMES]).abs(), nan=0.0).max())
                - times * rate * STRIDE_FRAMES
            ]
            if len(after) > STRIDE_FRAMES
            else []
        )
        known = (~torch.isnan(after)).nonzero()[:, 0]
        if len(known):
            first = int(known[0])
            away = self.settled.start + first - (self.start - 1)
            excess.append(abs(float(after[first]) - self.last_seen_state) - times * rate * away)
        return max(excess, default=0.0)


def smooth(state: Float[Tensor, " t"]) -> Float[Tensor, " t"]:
    """Running median of the known values over `SMOOTH_FRAMES`; NaN where none is known."""
    half = SMOOTH_FRAMES // 2
    padded = torch.nn.functional.pad(state, (half, half), value=torch.nan)
    return padded.unfold(0, SMOOTH_FRAMES, 1).nanmedian(-1).values
