"""A closed-form ray caster: boxes, ellipsoids and cylinders in a textured room, for all frames of a clip at once.

Our choice throughout (the paper films real things; we need exact ground truth). Per ray only + - * / and sqrt are
used, which IEEE rounds the same everywhere, so a frame's bits depend on nothing but its own scene, state and camera.
Textures are waves of a few pixels and more, because a coarse codec must be able to hold them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float, Int16, UInt8
from torch import Tensor

from remind.clip import Cameras
from remind.errors import InputError

Shape = Literal["box", "ellipsoid", "cylinder"]

FRAMES_PER_BLOCK = 16  # blocks of rays that stay in the cache of one core
AMBIENT = 0.58
TO_LIGHT = (-0.40, -0.75, -0.53)  # up, left and towards the camera of the stage; y points down
ROOM_INSTANCE, PROP_INSTANCE, ACTOR_INSTANCE = 0, 1, 2  # walls; what stands still; what the state moves


@dataclass(frozen=True)
class Texture:
    """Two colours mixed by one wave or the product of two: plain, stripes, soft checks or a gradient.

    Args:
        first: sRGB, 0..1, one or one per frame.
        second: sRGB, 0..1, the colour at the crest of the wave.
        waves: per wave turns along the local x, y, z (-1..1 inside a shape) and a phase in turns.
    """

    first: Float[Tensor, "n 3"]
    second: Float[Tensor, "m 3"]
    waves: tuple[tuple[float, float, float, float], ...] = ()


@dataclass(frozen=True)
class Primitive:
    """One convex solid: the unit shape, scaled by `half`, turned by `rotation`, moved to `centre`.

    Args:
        shape: cylinders stand along their local y.
        centre: in stage units; one row, or one per frame.
        half: half extents along the local axes, > 0.
        rotation: local-to-stage.
        texture: colours over the surface.
        glow: 0 = lit by the lamp, 1 = shines by itself.
    """

    shape: Shape
    centre: Float[Tensor, "n 3"]
    half: Float[Tensor, "m 3"]
    rotation: Float[Tensor, "k 3 3"]
    texture: Texture
    glow: float = 0.0


@dataclass(frozen=True)
class Room:
    """The inside of an axis-aligned box with a texture per face, in the order -x, +x, -y, +y, -z, +z."""

    centre: tuple[float, float, float]
    half: tuple[float, float, float]
    textures: tuple[Texture, ...]

    def __post_init__(self) -> None:
        if len(self.textures) != 6 or any(len(t.waves) > 2 for t in self.textures):
            raise InputError("a room has six faces with at most two waves each", got=len(self.textures), expected=6)


@dataclass(frozen=True)
class Rendering:
    """What a camera sees.

    Args:
        rgb: sRGB, averaged over the rays of a pixel.
        depth: z-depth of the ray through the pixel's centre.
        instances: what that ray hits: ROOM_, PROP_ or ACTOR_INSTANCE.
    """

    rgb: UInt8[Tensor, "t h w 3"]
    depth: Float[Tensor, "t h w"]
    instances: Int16[Tensor, "t h w"]


@dataclass
class _Layer:
    """Nearest hits so far, one entry a ray; colour channels lead so that each is one contiguous image."""

    depth: Float[Tensor, "t h w"]
    rgb: list[Tensor] = field(default_factory=list)
    instances: Tensor | None = None

    def frames(self, index: Tensor | slice) -> _Layer:
        ids = None if self.instances is None else self.instances[index].clone()
        return _Layer(self.depth[index].clone(), [c[index].clone() for c in self.rgb], ids)


@dataclass(frozen=True)
class _Rays:
    """Rays of distinct cameras: direction R (u, v, 1), so that the ray parameter is the z-depth."""

    rotation: Float[Tensor, "t 3 3"]
    origin: Float[Tensor, "t 3"]
    u: Float[Tensor, "t 1 w"]
    v: Float[Tensor, "t h 1"]
    samples: int
    intrinsics_px: Float[Tensor, "t 4"]

    def __getitem__(self, index: Tensor | slice) -> _Rays:
        return _Rays(self.rotation[index], self.origin[index], self.u[index], self.v[index], self.samples,
                     self.intrinsics_px[index])

    def affine(self, towards: Float[Tensor, "t 3"], rect: tuple[int, int, int, int]) -> Float[Tensor, "t h w"]:
        """(towards . direction) for every ray in a rectangle; `towards` is in camera axes."""
        top, bottom, left, right = rect
        c = towards.float()[:, :, None, None]
        return c[:, 0] * self.u[:, :, left:right] + (c[:, 1] * self.v[:, top:bottom] + c[:, 2])


def _dot(a: Tensor, b: Tensor) -> Tensor:
    """Sum over the last axis of length 3 in a fixed order (a reduction kernel may pick another)."""
    p = a * b
    return (p[..., 0] + p[..., 1]) + p[..., 2]


def matmul3(a: Float[Tensor, "*#t 3 3"], b: Float[Tensor, "*#t 3 3"]) -> Float[Tensor, "*s 3 3"]:
    """3x3 products in a fixed order of additions."""
    return _dot(a[..., :, None, :], b.transpose(-1, -2)[..., None, :, :])


def _rays(cameras: Cameras, stage_from_reference: Float[Tensor, "4 4"], samples: int) -> _Rays:
    """Sub-pixel rays on a regular grid of samples x samples per pixel."""
    height, width = cameras.hw
    stage = stage_from_reference.double()
    rotation = matmul3(stage[:3, :3].expand(len(cameras), 3, 3), cameras.c2w[:, :3, :3])
    origin = _dot(stage[:3, :3], cameras.c2w[:, None, :3, 3]) + stage[:3, 3]
    fx, fy, cx, cy = (p[:, None] for p in cameras.intrinsics_px.unbind(-1))
    x = (torch.arange(width * samples, dtype=torch.float64) + 0.5) / samples
    y = (torch.arange(height * samples, dtype=torch.float64) + 0.5) / samples
    return _Rays(rotation, origin, ((x - cx) / fx).float()[:, None], ((y - cy) / fy).float()[..., None], samples,
                 cameras.intrinsics_px)


def _corners(prim: Primitive) -> Float[Tensor, "n 8 3"]:
    """Corners of the box around a primitive, in stage coordinates."""
    signs = torch.tensor([[i, j, k] for i in (-1, 1) for j in (-1, 1) for k in (-1, 1)], dtype=torch.float64)
    offsets = _dot(prim.rotation.double()[:, None], (signs * prim.half.double()[:, None])[:, :, None])
    return prim.centre.double()[:, None] + offsets


def corners(prim: Primitive, stage_from_reference: Float[Tensor, "4 4"]) -> Float[Tensor, "n 8 3"]:
    """Corners of the box around a primitive, in the axes of the first camera."""
    stage = stage_from_reference.double()
    return _dot(stage[:3, :3].T, (_corners(prim) - stage[:3, 3])[:, :, None])


def outside_view(corners: Float[Tensor, "n 8 3"], cameras: Cameras) -> Bool[Tensor, "t n"]:
    """Whether a box lies wholly beyond one side of the view (so it is certainly not seen)."""
    relative = corners[None] - cameras.c2w[:, None, None, :3, 3]
    x, y, z = _dot(cameras.c2w[:, None, None, :3, :3].transpose(-1, -2), relative[:, :, :, None]).unbind(-1)
    fx, fy, cx, cy = (p[:, None, None] for p in cameras.intrinsics_px.unbind(-1))
    height, width = cameras.hw
    sides = (z < 0, fx * x < -cx * z, fx * x > (width - cx) * z, fy * y < -cy * z, fy * y > (height - cy) * z)
    return torch.stack([side.all(-1) for side in sides]).any(0)


def _rectangles(prim: Primitive, rays: _Rays) -> list[tuple[int, int, int, int]]:
    """Per frame the rows and columns of rays that may hit a primitive; empty when it is out of view."""
    relative = _corners(prim) - rays.origin[:, None]
    x, y, z = _dot(rays.rotation.transpose(1, 2)[:, None], relative[:, :, None]).unbind(-1)
    fx, fy, cx, cy = (p[:, None] for p in rays.intrinsics_px.unbind(-1))
    behind, ahead = (z < 1e-3).any(-1), (z > 1e-3).any(-1)
    z = z.clamp_min(1e-3)
    height, width = rays.v.shape[1], rays.u.shape[2]

    def bounds(p: Tensor, size: int) -> tuple[Tensor, Tensor]:
        low = torch.where(behind, 0, torch.floor(p.amin(-1) * rays.samples - 1)).clamp(0, size)
        high = torch.where(behind, size, torch.ceil(p.amax(-1) * rays.samples + 1)).clamp(0, size)
        return low, torch.where(ahead, high, low)

    rows, columns = bounds(y / z * fy + cy, height), bounds(x / z * fx + cx, width)
    return [tuple(r) for r in torch.stack([*rows, *columns], -1).int().tolist()]


def _wave(turns: Tensor) -> Tensor:
    """A sine's parabolic stand-in, period 1, range -1..1: exact arithmetic, where sin's last bit is the library's."""
    u = turns - torch.round(turns)
    return u * (8 - 16 * u.abs())


@dataclass(frozen=True)
class _Hit:
    depth: Float[Tensor, "t h w"]
    hit: Bool[Tensor, "t h w"]
    light: Float[Tensor, "t h w"]


def _column(x: Tensor) -> Tensor:
    return x.float()[:, None, None]


def _slab(origin: Tensor, direction: Tensor) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave |coordinate| <= 1."""
    inverse = 1 / direction
    middle, reach = -origin * inverse, inverse.abs()
    return middle - reach, middle + reach


def _sum(parts: Sequence[Tensor]) -> Tensor:
    """Add from left to right."""
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


def _mixture(waves: Sequence[Tensor]) -> Tensor | None:
    """The product of all waves, -1..1; None without any."""
    mix = None
    for turns in waves:
        mix = _wave(turns) if mix is None else mix * _wave(turns)
    return mix


def _curved(origin: list[Tensor], direction: list[Tensor]) -> tuple[Tensor, Tensor]:
    """Where rays enter and leave the unit ball (three axes) or the endless unit cylinder (two); NaN if never."""
    a = _sum([d * d for d in direction])
    middle = -_sum([o * d for o, d in zip(origin, direction, strict=True)]) / a
    closest = [o + middle * d for o, d in zip(origin, direction, strict=True)]
    reach = torch.sqrt((1 - _sum([q * q for q in closest])) / a)  # stable for far cameras, unlike b^2 - ac
    return middle - reach, middle + reach


def _curved_light(o: list[Tensor], d: list[Tensor], depth: Tensor, half: list[Tensor], light: list[Tensor]) -> Tensor:
    """Cosine to the light on a curved unit surface."""
    normal = [(oi + depth * di) / hi for oi, di, hi in zip(o, d, half, strict=True)]
    cosine = _sum([n * li for n, li in zip(normal, light, strict=True)])
    return cosine / torch.sqrt(_sum([n * n for n in normal]))


def _intersect(prim_shape: Shape, o: list[Tensor], d: list[Tensor], half: list[Tensor], light: list[Tensor]) -> _Hit:
    """First hit of rays with the unit shape, in local coordinates."""
    if prim_shape == "ellipsoid":
        near, _ = _curved(o, d)
        return _Hit(near, near > 0, _curved_light(o, d, near, half, light))
    if prim_shape == "cylinder":
        side, side_out = _curved([o[0], o[2]], [d[0], d[2]])
        cap, cap_out = _slab(o[1], d[1])
        near = torch.maximum(side, cap)
        hit = (near <= torch.minimum(side_out, cap_out)) & (near > 0)
        on_side = _curved_light([o[0], o[2]], [d[0], d[2]], near, [half[0], half[2]], [light[0], light[2]])
        on_cap = torch.where(d[1] > 0, -light[1], light[1])
        return _Hit(near, hit, torch.where(side > cap, on_side, on_cap))
    enters, leaves = zip(*(_slab(oi, di) for oi, di in zip(o, d, strict=True)), strict=True)
    near = torch.maximum(torch.maximum(enters[0], enters[1]), enters[2])
    far = torch.minimum(torch.minimum(leaves[0], leaves[1]), leaves[2])
    faces = [torch.where(di > 0, -li, li) for di, li in zip(d, light, strict=True)]
    cosine = torch.where(enters[0] == near, faces[0], torch.where(enters[1] == near, faces[1], faces[2]))
    return _Hit(near, (near <= far) & (near > 0), cosine)


def _draw(layer: _Layer, prim: Primitive, rays: _Rays, rect: tuple[int, int, int, int],
          instance: int) -> None:
    """Composite one primitive into a layer, inside a rectangle of rays."""
    top, bottom, left, right = rect
    to_local = prim.rotation.double().transpose(1, 2)
    half = prim.half.double()
    local_from_camera = matmul3(to_local, rays.rotation) / half[..., None]
    local_origin = _dot(to_local, (rays.origin - prim.centre.double())[:, None]) / half
    local_light = _dot(to_local, torch.tensor(TO_LIGHT, dtype=torch.float64))
    o = [_column(x) for x in local_origin.unbind(-1)]
    d = [rays.affine(row, rect) for row in local_from_camera.unbind(1)]
    halves, light = [_column(x) for x in half.unbind(-1)], [_column(x) for x in local_light.unbind(-1)]
    found = _intersect(prim.shape, o, d, halves, light)

    depth = layer.depth[:, top:bottom, left:right]
    closer = found.hit & (found.depth < depth)
    torch.where(closer, found.depth, depth, out=depth)
    if layer.instances is not None:
        layer.instances[:, top:bottom, left:right].masked_fill_(closer, instance)
    if not layer.rgb:
        return
    shade = (AMBIENT + (1 - AMBIENT) * found.light.clamp_min(0)) * (1 - prim.glow) + prim.glow
    mix = _mixture([(wx * o[0] + wy * o[1] + wz * o[2] + phase) + found.depth * (wx * d[0] + wy * d[1] + wz * d[2])
                    for wx, wy, wz, phase in prim.texture.waves])
    for c, image in enumerate(layer.rgb):
        first, second = _column(prim.texture.first[:, c]), _column(prim.texture.second[:, c])
        colour = first if mix is None else (first + second) * 0.5 + mix * ((second - first) * 0.5)
        view = image[:, top:bottom, left:right]
        torch.where(closer, colour * shade, view, out=view)


def _room_layer(room: Room, rays: _Rays, *, colour: bool, instances: bool) -> _Layer:
    """The inside of the room: every ray hits it."""
    rect = (0, rays.v.shape[1], 0, rays.u.shape[2])
    half = torch.tensor(room.half, dtype=torch.float64)
    o = [_column(x) for x in ((rays.origin - torch.tensor(room.centre, dtype=torch.float64)) / half).unbind(-1)]
    d = [rays.affine(row, rect) for row in (rays.rotation / half[:, None]).unbind(1)]
    leaves = [_slab(oi, di)[1] for oi, di in zip(o, d, strict=True)]
    depth = torch.fmin(torch.fmin(leaves[0], leaves[1]), leaves[2])  # fmin: a ray along a wall has no exit there
    ids = torch.zeros(depth.shape, dtype=torch.int16) if instances else None
    if not colour:
        return _Layer(depth, [], ids)
    outward = [(di > 0).int() for di in d]
    face = torch.where(leaves[0] == depth, outward[0],
                       torch.where(leaves[1] == depth, 2 + outward[1], 4 + outward[2]))
    table = torch.tensor([[c for w in (*t.waves, (0, 0, 0, 0.25), (0, 0, 0, 0.25))[:2] for c in w]
                          for t in room.textures], dtype=torch.float32)
    point = [oi + depth * di for oi, di in zip(o, d, strict=True)]
    mix = _mixture([_sum([*(point[i] * table[:, k + i][face] for i in range(3)), table[:, k + 3][face]])
                    for k in (0, 4)])
    assert mix is not None  # two waves, always
    lit = []
    for index in range(6):
        inward = (1.0 if index % 2 == 0 else -1.0) * TO_LIGHT[index // 2]
        lit.append(AMBIENT + (1 - AMBIENT) * (0.5 + 0.5 * inward))  # softer than Lambert: no face goes flat
    first = torch.stack([t.first[0] * s for t, s in zip(room.textures, lit, strict=True)])
    second = torch.stack([t.second[0] * s for t, s in zip(room.textures, lit, strict=True)])
    mean, swing = (first + second) * 0.5, (second - first) * 0.5
    return _Layer(depth, [mean[:, c][face] + mix * swing[:, c][face] for c in range(3)], ids)


def _rows(prim: Primitive, index: Tensor | slice) -> Primitive:
    """The rows of a primitive for some frames; what is constant stays one row."""

    def pick(x: Tensor) -> Tensor:
        return x if x.shape[0] == 1 else x[index]

    texture = Texture(pick(prim.texture.first), pick(prim.texture.second), prim.texture.waves)
    return Primitive(prim.shape, pick(prim.centre), pick(prim.half), pick(prim.rotation), texture, prim.glow)


def _draw_all(layer: _Layer, prims: Sequence[Primitive], rays: _Rays, instance: int) -> None:
    """Composite primitives, each only where it can appear in these frames."""
    for prim in prims:
        seen = [r for r in _rectangles(prim, rays) if r[0] < r[1] and r[2] < r[3]]
        if seen:
            rect = (min(r[0] for r in seen), max(r[1] for r in seen),
                    min(r[2] for r in seen), max(r[3] for r in seen))
            _draw(layer, prim, rays, rect, instance)


def distinct_cameras(cameras: Cameras) -> tuple[Tensor, Tensor]:
    """Index of the first frame of every run of equal cameras, and each frame's run."""
    key = torch.cat([cameras.c2w.reshape(len(cameras), -1), cameras.intrinsics_px], -1)
    new = torch.ones(len(cameras), dtype=torch.bool)
    new[1:] = (key[1:] != key[:-1]).any(-1)
    return new.nonzero()[:, 0], torch.cumsum(new.int(), 0) - 1


def _cast(room: Room, fixed: Sequence[Primitive], moving: Sequence[Primitive], cameras: Cameras,
          stage_from_reference: Tensor, *, samples: int, colour: bool, instances: bool) -> _Layer:
    """Trace one set of rays a pixel: what stands still once a camera, what moves once a frame."""
    firsts, run_of_frame = distinct_cameras(cameras)
    rays = _rays(cameras[firsts], stage_from_reference, samples)
    still: list[_Layer] = []
    for start in range(0, len(firsts), FRAMES_PER_BLOCK):
        block = rays[start : start + FRAMES_PER_BLOCK]
        layer = _room_layer(room, block, colour=colour, instances=instances)
        _draw_all(layer, fixed, block, PROP_INSTANCE)
        still.append(layer)
    background = _concatenate(still)
    done: list[_Layer] = []
    for start in range(0, len(cameras), FRAMES_PER_BLOCK):
        window = slice(start, start + FRAMES_PER_BLOCK)
        runs = run_of_frame[window]
        layer = background.frames(runs)
        _draw_all(layer, [_rows(p, window) for p in moving], rays[runs], ACTOR_INSTANCE)
        done.append(layer)
    return _concatenate(done)


def _concatenate(layers: list[_Layer]) -> _Layer:
    if len(layers) == 1:
        return layers[0]
    ids = [x.instances for x in layers if x.instances is not None]
    colours = [torch.cat([x.rgb[c] for x in layers]) for c in range(len(layers[0].rgb))]
    return _Layer(torch.cat([x.depth for x in layers]), colours, torch.cat(ids) if ids else None)


def _to_uint8(channels: list[Tensor], samples: int) -> UInt8[Tensor, "t h w 3"]:
    """Average the rays of each pixel, let the lens spread it, and round."""
    frames, height, width = channels[0].shape
    out = torch.empty(frames, height // samples, width // samples, 3, dtype=torch.uint8)
    for c, image in enumerate(channels):
        total = _sum([image[:, i::samples, j::samples] for i in range(samples) for j in range(samples)])
        spread = _lens(total * (255 / samples**2)) if samples > 1 else total * 255
        out[..., c] = (spread + 0.5).clamp(0, 255).to(torch.uint8)
    return out


def _lens(image: Float[Tensor, "t h w"]) -> Float[Tensor, "t h w"]:
    """Spread every pixel over its neighbours, [1 2 1] / 4 along both axes.

    Our choice: the optical low-pass filter of a real camera. It puts an edge's sub-pixel place into grey levels,
    where the state meter reads it, and takes off the band that no 48-fold codec can keep (+3.5 dB at 32x32 px).
    Part of supersampling; one ray a pixel (`samples` = 1) stays a bare ray.
    """
    for axis in (1, 2):
        first, last = image.narrow(axis, 0, 1), image.narrow(axis, -1, 1)
        size = image.shape[axis]
        padded = torch.cat([first, image, last], axis)
        image = torch.add(padded.narrow(axis, 0, size), padded.narrow(axis, 2, size)).add_(image, alpha=2).mul_(0.25)
    return image


def render_rgb(room: Room, fixed: Sequence[Primitive], moving: Sequence[Primitive], cameras: Cameras, *,
               stage_from_reference: Float[Tensor, "4 4"], samples: int = 2) -> UInt8[Tensor, "t h w 3"]:
    """Render colours only; see `render`."""
    if samples < 1:
        raise InputError("a pixel needs at least one ray", got=samples, expected=">= 1")
    layer = _cast(room, fixed, moving, cameras, stage_from_reference, samples=samples, colour=True, instances=False)
    return _to_uint8(layer.rgb, samples)


def render(room: Room, fixed: Sequence[Primitive], moving: Sequence[Primitive], cameras: Cameras, *,
           stage_from_reference: Float[Tensor, "4 4"], samples: int = 2) -> Rendering:
    """Render colours, z-depth and instances of a stage.

    Args:
        room: the box around everything, cameras included.
        fixed: primitives with one row.
        moving: primitives with one row or one per camera.
        cameras: one per frame; equal neighbours share the work of everything that stands still.
        stage_from_reference: pose of the first camera on the stage; `cameras` are relative to it.
        samples: rays a pixel along each axis, >= 1, averaged in sRGB.

    Raises:
        InputError: no rays.
    """
    if samples < 1:
        raise InputError("a pixel needs at least one ray", got=samples, expected=">= 1")
    stage = stage_from_reference
    layer = _cast(room, fixed, moving, cameras, stage, samples=samples, colour=True, instances=samples == 1)
    rgb = _to_uint8(layer.rgb, samples)
    if samples > 1:
        layer = _cast(room, fixed, moving, cameras, stage, samples=1, colour=False, instances=True)
    assert layer.instances is not None
    return Rendering(rgb, layer.depth, layer.instances)
