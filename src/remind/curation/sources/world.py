"""The embedded world as a source: scenes listed by seed, rendered when their turn comes, all exactly known."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from remind.clip import Clip
from remind.curation.item import SourceItem, WorldMedia
from remind.data.world_clips import TEST_SEEDS, TRAIN_SEEDS, VALIDATION_SEEDS
from remind.errors import InputError
from remind.world import FAMILIES, Scene, sample_scene

LICENCE = "Apache-2.0"
_SPLITS = {"train": TRAIN_SEEDS, "validation": VALIDATION_SEEDS, "test": TEST_SEEDS}

FAMILY_EVENTS: dict[str, tuple[str, str]] = {
    "rolling_ball": ("ball_rolling", "ball_rolling"),
    "walker": ("person_walking", "person_walking"),
    "train": ("train_passing", "train_passing"),
    "filling": ("vessel_filling", "vessel_draining"),
    "melting": ("ice_melting", "ice_melting"),
    "burning_down": ("candle_burning_down", "candle_burning_down"),
    "growing": ("plant_growing", "plant_growing"),
    "inflating": ("balloon_inflating", "balloon_deflating"),
    "squashing": ("object_squashed", "foam_springing_back"),
    "curtain": ("curtain_drawn", "curtain_drawn"),
    "sun_patch": ("sunlight_patch_moving", "sunlight_patch_moving"),
    "sunset": ("sunset", "sunrise"),
    "snow": ("snow_piling_up", "snow_melting_away"),
    "pushing": ("pushing_object", "pushing_object"),
    "hoisting": ("hoisting_load", "hoisting_load"),
    "seesaw": ("seesaw_tipping", "seesaw_tipping"),
    "windmill": ("windmill_turning", "windmill_turning"),
    "clock": ("clock_hand_turning", "clock_hand_turning"),
    "carousel": ("carousel_turning", "carousel_turning"),
    "door": ("door_opening", "door_opening"),
    "barrier": ("barrier_rising", "barrier_rising"),
    "chest": ("lid_opening", "lid_opening"),
}
"""Event types of each family: while its state rises, and while it falls."""


@dataclass(frozen=True)
class WorldSource:
    """Scenes of the embedded world, one for each seed from `first_seed` on.

    Args:
        first_seed: >= 0; all seeds lie in one of the ranges for training, choosing and reporting.
        count: scenes, >= 1.
        hw: height and width in pixels, 16..2048 each.
        num_frames: 2..100000; rates scale with it.
        families: names to take in turn; None draws each by its seed, as `data.world_clips` does.

    Raises:
        InputError: any of these out of its range.
    """

    first_seed: int
    count: int
    hw: tuple[int, int]
    num_frames: int
    families: tuple[str, ...] | None = None
    name: str = "world"

    def __post_init__(self) -> None:
        if self.count < 1:
            raise InputError("a world source needs scenes", got=f"count {self.count}", expected=">= 1")
        if not all(16 <= side <= 2048 for side in self.hw):
            raise InputError("scenes of this size cannot be rendered", got=self.hw, expected="16..2048 px a side")
        if not 2 <= self.num_frames <= 100_000:
            raise InputError("scenes of this length cannot be rendered", got=f"{self.num_frames} frames",
                             expected="2..100000")  # fmt: skip
        unknown = [family for family in self.families or () if family not in FAMILIES]
        if unknown or self.families == ():
            raise InputError("unknown scene families", got=", ".join(unknown) or "none at all",
                             expected=f"of {', '.join(FAMILIES)}")  # fmt: skip
        if (first := _split(self.first_seed)) != (last := _split(self.first_seed + self.count - 1)):
            raise InputError("seeds of two splits in one source", got=f"{first} and {last}", expected="one split",
                             fix="make two sources")  # fmt: skip

    def items(self) -> Iterator[SourceItem]:
        """All scenes in order of their seeds; nothing is rendered."""
        for seed in range(self.first_seed, self.first_seed + self.count):
            family = None if self.families is None else self.families[seed % len(self.families)]
            scene = sample_scene(seed, family=family, num_frames=self.num_frames, hw=self.hw)
            yield SourceItem(
                item_id=scene.scene_id,
                source=self.name,
                media=WorldMedia(seed, scene.family, self.hw, self.num_frames),
                caption=scene.caption,
                tags=event_tags(scene),
                licence=LICENCE,
                facts={"split": _split(seed)},
            )


def event_tags(scene: Scene) -> tuple[str, ...]:
    """The event type that happens in a scene; none if its trigger never comes."""
    if scene.discrete and scene.trigger_frame is None:
        return ()
    rising, falling = FAMILY_EVENTS[scene.family]
    return (rising if scene.states[-1] > scene.states[0] else falling,)


def render_world_item(media: WorldMedia) -> Clip:
    """The clip of a scene with exact cameras, depth and caption.

    Raises:
        InputError: an unknown family, a negative seed or too few frames.
    """
    return _scene(media).clip()


def world_states(media: WorldMedia) -> Float[Tensor, " t"]:
    """The true hidden state of every frame, 0..1; in turns, unwrapped, for periodic families.

    Raises:
        InputError: as `render_world_item`.
    """
    return _scene(media).states


def _scene(media: WorldMedia) -> Scene:
    return sample_scene(media.seed, family=media.family, num_frames=media.num_frames, hw=media.hw)


def _split(seed: int) -> str:
    for name, seeds in _SPLITS.items():
        if seed in seeds:
            return name
    raise InputError("no split has this seed", got=seed, expected=f"0..{TEST_SEEDS.stop - 1}")
