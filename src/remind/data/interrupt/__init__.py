"""Interruptions of a clip: darkness, something before the camera, a zoom, a look away. Recipes applied on load.

Source: ReMind F.2. Every kind moves on one clock, `geometry.away_and_back`; frames outside [start, stop) come back bit
for bit. Camera loops need true geometry: `remind.world` renders them, or the clip's own camera makes them.
"""

from remind.data.interrupt.apply import apply_interruption, clean_view
from remind.data.interrupt.light import linear_to_srgb, srgb_to_linear
from remind.data.interrupt.lookaway_plan import HIDDEN_OVERLAP, LookawayPlan, plan_lookaway
from remind.data.interrupt.panel import PANEL_COLORS
from remind.data.interrupt.recipe import Event, InterruptionRecipe, View
from remind.data.interrupt.sampling import (
    HELD_OUT,
    RecipeDistribution,
    Window,
    sample_composition,
    sample_recipe,
)
from remind.data.interrupt.styles import (
    BlinkStyle,
    CameraLoopStyle,
    CardboardStyle,
    CurtainStyle,
    FlickerStyle,
    GivenStyle,
    LightStyle,
    LookawayStyle,
    OccluderStyle,
    Rgb,
    Side,
    Style,
    Texture,
    ZoomStyle,
)
from remind.data.interrupt.virtual_camera import view_overlap

__all__ = [
    "HELD_OUT", "HIDDEN_OVERLAP", "PANEL_COLORS", "BlinkStyle", "CameraLoopStyle", "CardboardStyle", "CurtainStyle",
    "Event", "FlickerStyle", "GivenStyle", "InterruptionRecipe", "LightStyle", "LookawayPlan", "LookawayStyle",
    "OccluderStyle", "RecipeDistribution", "Rgb", "Side", "Style", "Texture", "View", "Window", "ZoomStyle",
    "apply_interruption", "clean_view", "linear_to_srgb", "plan_lookaway", "sample_composition", "sample_recipe",
    "srgb_to_linear", "view_overlap",
]  # fmt: skip
