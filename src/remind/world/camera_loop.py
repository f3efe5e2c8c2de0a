"""Camera loops: look away from a scene and come back, with true geometry (ReMind F.2, camera loops)."""

from __future__ import annotations

from remind.clip import Cameras
from remind.errors import InputError
from remind.frame_graph import Interruption
from remind.geometry import away_and_back
from remind.world.scenes import Scene, turn


def interrupt_camera_loop(scene: Scene, interruption: Interruption) -> Cameras:
    """Cameras that leave the object, stay away and are back; render the scene again with them.

    Args:
        scene: whose cameras to interrupt; outside [start, stop) they stay bit for bit.
        interruption: of kind `camera_loop`; on [hidden_start, hidden_stop) the object's whole path is out of view.

    Raises:
        InputError: an interruption of another kind, or one that ends after the clip.
    """
    if interruption.kind != "camera_loop":
        raise InputError("only a camera loop moves the camera", got=interruption.kind, expected="camera_loop")
    if interruption.stop > len(scene):
        raise InputError("the interruption ends after the clip", got=interruption.stop, expected=f"<= {len(scene)}")
    away = away_and_back(len(scene), start=interruption.start, hidden_start=interruption.hidden_start,
                         hidden_stop=interruption.hidden_stop, stop=interruption.stop)
    turned = turn(scene.cameras, away * scene.lookaway_yaw_deg)
    c2w = turned.c2w.where((away > 0)[:, None, None], scene.cameras.c2w)
    return Cameras(c2w, scene.cameras.intrinsics_px, scene.cameras.hw, scene.cameras.valid)
