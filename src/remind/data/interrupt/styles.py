"""How an interruption looks: one validated style for each kind. Times are not in here, see `recipe.Event`.

Source: ReMind F.2 for the families; parameters and their ranges are our choice.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_serializer

Side = Literal["left", "right", "top", "bottom"]
Texture = Literal["plain", "stripes", "checker", "grain"]
Byte = Annotated[int, Field(ge=0, le=255)]
Rgb = tuple[Byte, Byte, Byte]
Pan = Annotated[float, Field(ge=-0.8, le=0.8)]
Turn = Annotated[float, Field(ge=-120, le=120)]


class Strict(BaseModel):
    """Read from outside: nothing extra, nothing coerced, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class LightStyle(Strict):
    """Linear-light dimming to exactly black.

    Args:
        curve: exponent on the share of light that is left, 0.5 (late) to 4 (early).
    """

    kind: Literal["light_toggle"] = "light_toggle"
    curve: float = Field(1.0, ge=0.5, le=4)


class FlickerStyle(Strict):
    """Lights that stutter on their way out to exactly black and on their way back. Held out.

    Args:
        curve: as in `LightStyle`.
        depth: largest share of the light that a stutter takes, 0.2..0.9.
    """

    kind: Literal["flicker"] = "flicker"
    curve: float = Field(1.0, ge=0.5, le=4)
    depth: float = Field(0.7, ge=0.2, le=0.9)


class OccluderStyle(Strict):
    """A textured panel that slides in front of the camera.

    Args:
        side: where it comes from.
        leaves: on through the opposite side, or back where it came from.
        colors: the two colours of the texture, sRGB.
        period: length of one period of the texture as a share of the frame, 0.05..1.
        shading: strength of the soft light across the panel, 0..0.6.
        softness: width of the blur at its edges, a panel near the lens, as a share of the frame, 0..0.3.
    """

    kind: Literal["occluder"] = "occluder"
    side: Side = "left"
    leaves: Literal["through", "back"] = "through"
    texture: Texture = "stripes"
    colors: tuple[Rgb, Rgb] = ((172, 134, 92), (110, 76, 48))
    period: float = Field(0.25, ge=0.05, le=1)
    shading: float = Field(0.3, ge=0, le=0.6)
    softness: float = Field(0.0, ge=0, le=0.3)

    @model_serializer(mode="wrap")
    def _as_before(self, handler: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """A sharp panel is written as it was before softness existed: caches are keyed by that text."""
        return {k: v for k, v in handler(self).items() if k != "softness" or v != 0}


class CardboardStyle(Strict):
    """A sheet of corrugated cardboard, held at a slant, that is put before the lens and taken away. Held out.

    Args:
        side: where it comes from and goes back to.
        slant: how far its edge leans, as a share of the frame, -0.5..0.5.
        color: sRGB.
        flutes: corrugations across the frame, 8..60.
    """

    kind: Literal["cardboard"] = "cardboard"
    side: Side = "left"
    slant: float = Field(0.2, ge=-0.5, le=0.5)
    color: Rgb = (176, 138, 98)
    flutes: int = Field(24, ge=8, le=60)


class CurtainStyle(Strict):
    """Cloth with folds that falls from above, or closes from both sides, and opens the same way. Held out.

    Args:
        comes: from where.
        color: sRGB.
        folds: across the frame, 4..20.
        shading: strength of the folds' shadows, 0.2..0.8.
    """

    kind: Literal["curtain"] = "curtain"
    comes: Literal["above", "sides"] = "sides"
    color: Rgb = (120, 40, 44)
    folds: int = Field(9, ge=4, le=20)
    shading: float = Field(0.5, ge=0.2, le=0.8)


class BlinkStyle(Strict):
    """The view closes to exactly black, as an iris or as eyelids, and opens again. Held out.

    Args:
        shape: a circle that shrinks, or two lids with curved edges that meet.
    """

    kind: Literal["blink"] = "blink"
    shape: Literal["iris", "lids"] = "lids"


class ZoomStyle(Strict):
    """A crop that closes in and opens again, upsampled to the full frame.

    Args:
        peak_scale: magnification at the closest moment, 1..4.
        pan: where the crop goes within the room that it has, right and down, -0.8..0.8.
        shake: amplitude of a hand's tremor within the same room, 0..0.2.
    """

    kind: Literal["zoom"] = "zoom"
    peak_scale: float = Field(1.6, gt=1, le=4)
    pan: tuple[Pan, Pan] = (0.0, 0.0)
    shake: float = Field(0.0, ge=0, le=0.2)


class LookawayStyle(Strict):
    """The recipe's view turns away within a wider stored clip and back.

    Args:
        turn_deg: farthest turn from rest, to the right and up, degrees, -120..120.
    """

    kind: Literal["lookaway"] = "lookaway"
    turn_deg: tuple[Turn, Turn] = (30.0, 0.0)


class CameraLoopStyle(Strict):
    """A look away and back that is rendered; how far it must turn depends on the scene, so the world decides."""

    kind: Literal["camera_loop"] = "camera_loop"


class GivenStyle(Strict):
    """A camera loop that the clip's own camera makes: it has its times, and changes no pixel."""

    kind: Literal["given"] = "given"


AnyStyle = (
    LightStyle | FlickerStyle | OccluderStyle | CardboardStyle | CurtainStyle | BlinkStyle | ZoomStyle
    | LookawayStyle | CameraLoopStyle | GivenStyle
)  # fmt: skip
Style = Annotated[AnyStyle, Field(discriminator="kind")]
