"""The ray caster against closed forms worked out by hand, and what its bits may depend on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from remind.clip import Cameras
from remind.errors import InputError
from remind.geometry import intrinsics_from_fov, rigid, rotation_yaw
from remind.world import sample_scene
from remind.world.renderer import (
    ACTOR_INSTANCE,
    PROP_INSTANCE,
    ROOM_INSTANCE,
    Primitive,
    Rendering,
    Room,
    Shape,
    Texture,
    render,
)

HW = (48, 64)
AT_REST = torch.eye(4, dtype=torch.float64)
WHITE, RED = torch.tensor([[0.9, 0.9, 0.9]]), torch.tensor([[0.9, 0.1, 0.1]])
ROOM = Room((0.0, 0.0, 2.0), (4.0, 2.0, 5.0), (Texture(WHITE, WHITE),) * 6)


def _cameras(num_frames: int = 1, yaw_deg: float = 0.0, position: tuple[float, float, float] = (0, 0, 0)) -> Cameras:
    yaw = torch.full((num_frames,), yaw_deg, dtype=torch.float64)
    place = torch.tensor([position], dtype=torch.float64).repeat(num_frames, 1)
    return Cameras(rigid(rotation_yaw(yaw), place), intrinsics_from_fov(70.0, HW, num_frames), HW,
                   torch.ones(num_frames, dtype=torch.bool))


def _tilt() -> Tensor:
    a, b = 0.5, -0.7
    about_y = torch.tensor([[math.cos(a), 0, math.sin(a)], [0, 1, 0], [-math.sin(a), 0, math.cos(a)]])
    about_x = torch.tensor([[1, 0, 0], [0, math.cos(b), -math.sin(b)], [0, math.sin(b), math.cos(b)]])
    return (about_y @ about_x).double()[None]


def _solid(shape: Shape, half: tuple[float, float, float] = (0.7, 0.9, 0.5), *, tilted: bool = True) -> Primitive:
    turn = _tilt() if tilted else torch.eye(3, dtype=torch.float64)[None]
    return Primitive(shape, torch.tensor([[0.3, -0.2, 3.0]]), torch.tensor([half]), turn, Texture(RED, RED))


def _render(solid: Primitive, cameras: Cameras, samples: int = 1) -> Rendering:
    return render(ROOM, [], [solid], cameras, stage_from_reference=AT_REST, samples=samples)


def _points(rendering: Rendering, cameras: Cameras) -> Tensor:
    """Lift the depth image to world points, by the definition of z-depth and of the pixel centre."""
    y, x = torch.meshgrid(torch.arange(HW[0]) + 0.5, torch.arange(HW[1]) + 0.5, indexing="ij")
    fx, fy, cx, cy = cameras.intrinsics_px[0]
    z = rendering.depth[0].double()
    in_camera = torch.stack([(x - cx) / fx * z, (y - cy) / fy * z, z], -1)
    return in_camera @ cameras.c2w[0, :3, :3].T + cameras.c2w[0, :3, 3]


def test_depth_of_a_sphere_is_the_root_of_its_quadratic() -> None:
    cameras, centre, radius = _cameras(), torch.tensor([0.3, -0.2, 3.0], dtype=torch.float64), 0.8
    rendering = _render(_solid("ellipsoid", (radius,) * 3, tilted=False), cameras)
    y, x = torch.meshgrid(torch.arange(HW[0]) + 0.5, torch.arange(HW[1]) + 0.5, indexing="ij")
    fx, fy, cx, cy = cameras.intrinsics_px[0]
    ray = torch.stack([(x - cx) / fx, (y - cy) / fy, torch.ones_like(x)], -1)
    a, b, c = (ray * ray).sum(-1), (ray * centre).sum(-1), centre @ centre - radius**2
    inside = b * b - a * c > 1e-3
    expected = (b - (b * b - a * c).clamp_min(0).sqrt()) / a
    assert inside.sum() > 100
    assert (rendering.instances[0][inside] == ACTOR_INSTANCE).all()
    torch.testing.assert_close(rendering.depth[0][inside].double(), expected[inside], atol=2e-5, rtol=0)


def test_depth_of_the_wall_ahead_is_its_distance() -> None:
    rendering = _render(_solid("box", (1e-3,) * 3), _cameras())
    ahead = rendering.depth[0, HW[0] // 2 - 4 : HW[0] // 2 + 4, 40:44]
    torch.testing.assert_close(ahead, torch.full_like(ahead, 7.0), atol=1e-5, rtol=0)
    assert rendering.instances[0, 0, 0] == ROOM_INSTANCE


@pytest.mark.parametrize("shape", ["box", "ellipsoid", "cylinder"])
@pytest.mark.parametrize("yaw_deg", [0.0, 17.0])
def test_lifted_depth_lies_on_the_surface(shape: Shape, yaw_deg: float) -> None:
    solid, cameras = _solid(shape), _cameras(yaw_deg=yaw_deg, position=(0.2, 0.1, -0.4))
    rendering = _render(solid, cameras)
    hit = rendering.instances[0] == ACTOR_INSTANCE
    local = (_points(rendering, cameras)[hit] - solid.centre[0].double()) @ solid.rotation[0] / solid.half[0].double()
    x, y, z = local.unbind(-1)
    surface = {"box": local.abs().amax(-1), "ellipsoid": local.norm(dim=-1),
               "cylinder": torch.maximum((x * x + z * z).sqrt(), y.abs())}[shape]
    assert hit.sum() > 100
    torch.testing.assert_close(surface, torch.ones_like(surface), atol=1e-3, rtol=0)


def test_every_other_point_lies_on_the_walls() -> None:
    cameras = _cameras(yaw_deg=-40.0)
    rendering = _render(_solid("box"), cameras)
    room = rendering.instances[0] == ROOM_INSTANCE
    local = (_points(rendering, cameras)[room] - torch.tensor(ROOM.centre)) / torch.tensor(ROOM.half)
    torch.testing.assert_close(local.abs().amax(-1), torch.ones_like(local[:, 0]), atol=1e-5, rtol=0)


def _place(cameras: Cameras) -> tuple[float, float]:
    rows, columns = (_render(_solid("ellipsoid"), cameras).instances[0] == ACTOR_INSTANCE).nonzero().double().mean(0)
    return rows.item(), columns.item()


def test_camera_convention() -> None:
    row, column = _place(_cameras())
    assert _place(_cameras(position=(0.3, 0, 0)))[1] < column - 2, "a camera that moves right sees things go left"
    assert _place(_cameras(yaw_deg=8.0))[1] < column - 2, "a camera that turns right sees things go left"
    assert _place(_cameras(position=(0, 0.3, 0)))[0] < row - 2, "y points down: a camera that sinks sees things rise"


def test_a_thing_behind_the_camera_is_not_drawn() -> None:
    assert (_render(_solid("box"), _cameras(position=(0.3, -0.2, 4.5))).instances == ROOM_INSTANCE).all()


def test_depth_and_instances_come_from_the_pixel_centre_at_any_sampling() -> None:
    once, more = (_render(_solid("cylinder"), _cameras(), samples) for samples in (1, 3))
    torch.testing.assert_close(once.depth, more.depth, atol=0, rtol=0)
    assert torch.equal(once.instances, more.instances)


def test_fixed_things_are_props() -> None:
    rendering = render(ROOM, [_solid("box")], [], _cameras(2), stage_from_reference=AT_REST)
    assert set(rendering.instances.unique().tolist()) == {ROOM_INSTANCE, PROP_INSTANCE}


@pytest.mark.parametrize("family", ["walker", "growing", "squashing", "sunset", "seesaw", "carousel", "chest"])
@pytest.mark.parametrize("moving_camera", [False, True])
def test_a_frame_is_bitwise_the_same_in_any_company(family: str, moving_camera: bool) -> None:
    scene = sample_scene(11, family=family, num_frames=41, hw=(24, 40))
    cameras = scene.cameras
    if moving_camera:
        yaw = torch.linspace(0, 30, 41, dtype=torch.float64)
        cameras = Cameras(cameras.c2w @ rigid(rotation_yaw(yaw), torch.zeros(41, 3, dtype=torch.float64)),
                          cameras.intrinsics_px, cameras.hw, cameras.valid)
    together = scene.render(scene.states, cameras)
    order = torch.tensor([40, 3, 17, 18, 19])
    for chosen in (order, order[:1], order[2:3]):
        alone = scene.render(scene.states[chosen], cameras[chosen])
        assert torch.equal(alone.rgb, together.rgb[chosen])
        assert torch.equal(alone.depth, together.depth[chosen])
        assert torch.equal(alone.instances, together.instances[chosen])


def test_no_rays_no_picture() -> None:
    with pytest.raises(InputError, match="at least one ray"):
        _render(_solid("box"), _cameras(), 0)
