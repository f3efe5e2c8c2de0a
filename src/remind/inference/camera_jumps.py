"""Jumps of a camera path: steps from one frame to the next that no camera takes. A model would have to cut there."""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from remind.errors import CameraError

MAX_TURN_DEG = 30.0
"""Our choice: 480 degrees a second at 16 fps. Half of the usual view is new from one frame to the next."""
FAR_BEYOND = 20.0
"""Our choice: a step is a jump if it is this many times as long as the path's usual one. The makers' smooth starts and
one estimated track of a real camera stay below 5."""
_LEAST_TURN_DEG = 5.0  # a smaller turn is no jump, however still the rest
_LEAST_SHIFT = 1e-6  # below this, nothing moves: as in `geometry.context_scale`
_FEWEST_STEPS = 8  # of a path in which one step can stand out as half of the whole way
_NEIGHBOURS = 4


def turns_deg(a: Float[Tensor, "t 4 4"], b: Float[Tensor, "t 4 4"]) -> Float[Tensor, " t"]:
    """The angle of the rotation between two cameras, 0..180 degrees; exact for small angles too."""
    chord = (a[:, :3, :3] - b[:, :3, :3]).flatten(1).norm(dim=-1) / (2 * 2**0.5)
    return 2 * torch.rad2deg(torch.asin(chord.clamp(max=1)))


def check_jumps(
    c2w: Float[Tensor, "t 4 4"],
    valid: Bool[Tensor, " t"],
    *,
    max_turn_deg: int | float = MAX_TURN_DEG,
    fps: int | float = 16,
    first_frame: int = 0,
    goes_on: bool = False,
) -> None:
    """Refuse a path that jumps between two frames whose poses are known.

    A jump is a turn beyond `max_turn_deg`, or a turn or shift of `FAR_BEYOND` times the usual step: the median of those
    frames that move, or of the neighbours if that is more; or, where nearly nothing else moves, more than half of the
    whole way in one frame.

    Args:
        max_turn_deg: from one frame to the next, > 0.
        fps: for the message.
        first_frame: the number of the first pose, for the message.
        goes_on: more is to come, so that one step may be all of the way so far.

    Raises:
        CameraError: it names the first such frame.
    """
    known = valid[1:] & valid[:-1]
    turn = turns_deg(c2w[:-1], c2w[1:]).where(known, torch.zeros(()).double())
    shift = (c2w[1:, :3, 3] - c2w[:-1, :3, 3]).norm(dim=-1).where(known, torch.zeros(()).double())
    for steps, least, limit, unit in (
        (turn, _LEAST_TURN_DEG, max_turn_deg, "degrees"), (shift, _LEAST_SHIFT, float("inf"), "units"),
    ):  # fmt: skip
        usual = _usual(steps, _LEAST_SHIFT)
        stands_out = steps > FAR_BEYOND * usual
        if len(steps) >= _FEWEST_STEPS and not goes_on:
            stands_out |= steps > 0.5 * steps.sum()
        jumps = ((stands_out & (steps > least)) | (steps > limit)).nonzero()
        if len(jumps):
            step = int(jumps[0])
            frame, far = first_frame + step + 1, float(steps[step])
            word = "turns" if unit == "degrees" else "moves"
            often = far > 2 * float(usual[step])
            usually = f"about {float(usual[step]):.2g}, as elsewhere" if often else "small steps, as elsewhere"
            raise CameraError(
                f"the camera jumps at frame {frame} ({frame / fps:.2f} s)",
                got=f"it {word} by {far:.3g} {unit} from frame {frame - 1} to frame {frame}",
                expected=f"at most {limit:g} degrees" if far > limit else usually,
                fix="give the path more frames, or allow jumps (--allow-camera-jumps)",
            )


def _usual(steps: Float[Tensor, " s"], still: float) -> Float[Tensor, " s"]:
    """Per step the median of all that move, or that of its neighbours where it is larger."""
    if not len(steps):
        return steps
    moving = steps[steps > still]
    overall = moving.median() if len(moving) else steps.new_zeros(())
    padded = torch.nn.functional.pad(steps[None, None], (_NEIGHBOURS, _NEIGHBOURS), mode="replicate")[0, 0]
    return torch.maximum(padded.unfold(0, 2 * _NEIGHBOURS + 1, 1).median(-1).values, overall)
