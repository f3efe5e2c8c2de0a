"""The embedded procedural world: scenes with one hidden state, exact geometry and an exact state meter."""

from remind.world.camera_loop import interrupt_camera_loop
from remind.world.families import FAMILIES, HELD_OUT_FAMILIES, Family
from remind.world.renderer import Rendering
from remind.world.scenes import Scene, sample_scene
from remind.world.state_meter import StateMeter, StateReading, background_mask, state_error, unwrap_phase

__all__ = ["FAMILIES", "HELD_OUT_FAMILIES", "Family", "Rendering", "Scene", "StateMeter", "StateReading",
           "background_mask", "interrupt_camera_loop", "sample_scene", "state_error", "unwrap_phase"]
