"""The meter's accuracy, family by family, on clean and on coarsely coded frames, and when it must not answer."""

from __future__ import annotations

import pytest
import torch

from remind.errors import InputError
from remind.models.codec import LinearCodec
from remind.world import (
    FAMILIES,
    HELD_OUT_FAMILIES,
    Scene,
    StateMeter,
    background_mask,
    sample_scene,
    state_error,
    unwrap_phase,
)
from remind.world.scenes import turn

EVERY_FAMILY = pytest.mark.parametrize("family", [*FAMILIES, *HELD_OUT_FAMILIES])
SEEDS = (700, 701)


def _scenes(family: str) -> list[Scene]:
    """Held-out scenes; among the discrete ones, those that open."""
    found = (sample_scene(s, family=family, hw=(32, 32)) for s in range(SEEDS[0], SEEDS[0] + 100))
    eventful = (s for s in found if not s.discrete or s.trigger_frame is not None)
    return [next(eventful) for _ in SEEDS]


def _frames_to_read(scene: Scene) -> slice:
    """All of them under a camera at rest; a drifting camera has candidates per frame, so a tenth will do."""
    return slice(None) if torch.equal(scene.cameras.c2w[0], scene.cameras.c2w[-1]) else slice(0, None, 10)


@pytest.fixture(scope="module")
def codec() -> LinearCodec:
    return LinearCodec.load("world")


@EVERY_FAMILY
def test_error_on_clean_and_coded_frames(family: str, codec: LinearCodec) -> None:
    clean, coded = [], []
    for scene in _scenes(family):
        rgb, some = scene.render_rgb(), _frames_to_read(scene)
        meter, truth = StateMeter(scene, scene.cameras[some]), scene.states[some]
        reading = meter.measure(rgb[some])
        clean.append(state_error(scene, reading.state, truth).abs())
        assert reading.observable.all()
        assert reading.explained.median() > 0.97
        lossy = meter.measure(codec.decode(codec.encode(rgb[None]))[0][some])
        coded.append(state_error(scene, lossy.state, truth).abs())
        assert lossy.observable.all()
    clean_error, coded_error = torch.cat(clean), torch.cat(coded)
    assert clean_error.median() <= 0.01
    assert clean_error.quantile(0.95) <= 0.02
    assert coded_error.median() <= 0.03
    assert coded_error.quantile(0.95) <= 0.08


@pytest.mark.parametrize("family", ["filling", "carousel", "door"])
def test_a_frame_is_read_by_itself(family: str) -> None:
    scene = next(s for s in _scenes(family) if _frames_to_read(s) == slice(None))
    meter, rgb = StateMeter(scene), scene.render_rgb()
    backwards = meter.measure(rgb.flip(0))
    torch.testing.assert_close(backwards.state.flip(0), meter.measure(rgb).state, atol=1e-5, rtol=0)


@pytest.mark.parametrize("family", ["rolling_ball", "inflating", "windmill", "barrier"])
def test_where_nothing_depends_on_the_state_there_is_no_answer(family: str) -> None:
    scene = _scenes(family)[0]
    some = _frames_to_read(scene)
    away = turn(scene.cameras[some], torch.full((len(scene.states[some]),), scene.lookaway_yaw_deg))
    reading = StateMeter(scene, away, grid=17).measure(scene.render_rgb(scene.states[some], away))
    assert not reading.observable.any()


@pytest.mark.parametrize("family", ["rolling_ball", "train", "walker", "sun_patch"])
def test_a_vanished_object_is_explained_badly(family: str, codec: LinearCodec) -> None:
    scene = _scenes(family)[0]
    rgb, some = scene.render_rgb(), _frames_to_read(scene)
    meter = StateMeter(scene, scene.cameras[some])
    candidates = scene.render_rgb(scene.probe_states(33), scene.cameras[torch.zeros(33, dtype=torch.long)])
    vanished = candidates.float().median(0).values.to(torch.uint8).expand_as(rgb)
    coded = meter.measure(codec.decode(codec.encode(rgb[None]))[0][some])
    assert meter.measure(vanished[some]).residual.median() > 1.2 * coded.residual.quantile(0.95)


def test_moving_cameras_have_candidates_of_their_own() -> None:
    scene = sample_scene(705, family="melting", hw=(32, 32))
    cameras = turn(scene.cameras, torch.linspace(-8, 8, len(scene), dtype=torch.float64))
    some = torch.arange(0, 81, 8)
    reading = StateMeter(scene, cameras[some], grid=33).measure(scene.render_rgb(scene.states[some], cameras[some]))
    assert state_error(scene, reading.state, scene.states[some]).abs().max() < 0.02


def test_phase_unwraps_to_the_nearest_turn() -> None:
    torch.testing.assert_close(unwrap_phase(torch.tensor([0.95, 0.05]), torch.tensor([2.05, 1.98])),
                               torch.tensor([1.95, 2.05]))


def test_background_never_changes_with_the_state() -> None:
    scene = sample_scene(707, family="walker", hw=(32, 32))
    mask = background_mask(scene)
    assert mask.shape == (81, 32, 32)
    assert 0.3 < mask.float().mean() < 0.95
    other = scene.render_rgb(1 - scene.states, scene.cameras)
    difference = (other.int() - scene.render_rgb().int()).abs().amax(-1)
    assert difference[mask].max() <= 6


def test_frames_must_fit() -> None:
    scene = sample_scene(0, hw=(32, 32))
    with pytest.raises(InputError, match="do not fit"):
        StateMeter(scene, grid=9).measure(torch.zeros(81, 16, 16, 3, dtype=torch.uint8))
    with pytest.raises(InputError, match="too coarse"):
        StateMeter(scene, grid=3)
