"""Hidden frames must not tell the state: exactly, and to a regressor that reads it easily elsewhere."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from remind.data.world_clips import HIDING_KINDS, TRAIN_SEEDS
from remind.evaluation.case_meter import CaseMeter
from remind.evaluation.controls import render_states
from tests.evaluation.conftest import RAMPS, at_rest, find, make_world_clip

CLIPS = 50
FAMILY = {"light_toggle": "rolling_ball", "occluder": "filling", "camera_loop": "curtain"}


def cross_validated_r2(features: np.ndarray, target: np.ndarray, folds: int = 5, ridge: float = 1.0) -> float:
    """R^2 of ridge regression on held-out folds, against the mean of the training folds."""
    error, spread = 0.0, 0.0
    for k in range(folds):
        test = np.arange(len(target)) % folds == k
        mean, scale = features[~test].mean(0), features[~test].std(0) + 1e-6
        x, z = (features[~test] - mean) / scale, (features[test] - mean) / scale
        y = target[~test] - target[~test].mean()
        gram = x @ x.T / x.shape[1]
        predicted = z @ x.T / x.shape[1] @ np.linalg.solve(gram + ridge * np.eye(len(y)), y)
        error += float(((target[test] - target[~test].mean() - predicted) ** 2).sum())
        spread += float(((target[test] - target[~test].mean()) ** 2).sum())
    return 1 - error / spread


def pooled(frames: torch.Tensor) -> np.ndarray:
    small = torch.nn.functional.avg_pool2d(frames.permute(0, 3, 1, 2).float(), 4)
    return small.flatten().double().numpy()


def test_hidden_frames_are_the_same_whatever_the_state():
    for case in find(TRAIN_SEEDS.start, 12, families=RAMPS, eligible=False):
        hidden = sorted(case.schedule.hidden_frames())
        for states in (torch.zeros(len(case.clean)), torch.ones(len(case.clean))):
            assert torch.equal(render_states(case, states)[hidden], case.degraded.rgb[hidden])


@pytest.mark.parametrize("kind", HIDING_KINDS)
def test_a_regressor_learns_nothing_from_hidden_frames(kind):
    hidden, visible, target = [], [], []
    seed = TRAIN_SEEDS.start
    while len(target) < CLIPS:
        case = make_world_clip(seed, hw=(32, 32), family=FAMILY[kind], kind=kind)
        seed += 1
        if not at_rest(case):
            continue
        event = case.schedule.interruptions[0]
        middle = (event.hidden_start + event.hidden_stop) // 2
        hidden.append(pooled(case.degraded.rgb[[event.hidden_start, middle, event.hidden_stop - 1]]))
        visible.append(pooled(case.clean.rgb[[event.hidden_start, middle, event.hidden_stop - 1]]))
        target.append(float(case.scene.states[middle]))
    assert cross_validated_r2(np.stack(hidden), np.array(target)) <= 0.05
    assert cross_validated_r2(np.stack(visible), np.array(target)) >= 0.3  # the same regressor can see


def test_a_dark_frame_is_never_read():
    case = find(TRAIN_SEEDS.start, 1, families=RAMPS)[0]
    reading = CaseMeter(case).read(case.degraded.rgb)
    assert torch.isnan(reading.state[sorted(case.schedule.degraded_frames())]).all()
    assert not torch.isnan(reading.state[0])
