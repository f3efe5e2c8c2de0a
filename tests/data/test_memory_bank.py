"""Banks come back from the cache as they were rendered, and cameras in their gauge."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from remind.clip import Cameras
from remind.data import memory_bank
from remind.data.memory_bank import MemoryBank, WorldBankSpec
from remind.data.world_clips import make_world_clip
from remind.errors import InputError
from remind.frame_graph import Schedule
from remind.geometry import intrinsics_from_fov, rigid, rotation_yaw
from remind.models.camera_conditions import camera_conditions
from remind.models.codec import LinearCodec
from remind.models.text import WordHashEncoder
from remind.prompt_schedule import chunk_prompts
from remind.world import FAMILIES

SPEC = WorldBankSpec(size=4, hw=(16, 16), num_frames=57)


@pytest.fixture(scope="module")
def codec() -> LinearCodec:
    return LinearCodec.load()


@pytest.fixture
def encoder() -> WordHashEncoder:
    return WordHashEncoder(8, 16)


@pytest.fixture
def two_families(monkeypatch: pytest.MonkeyPatch) -> None:
    """A key renders a clip of each family; two of them are enough to see what it depends on."""
    monkeypatch.setattr(memory_bank, "FAMILIES", sorted(FAMILIES)[:2])


# --- banks ---------------------------------------------------------------------------------------------------------


def same_samples(a: MemoryBank, b: MemoryBank) -> bool:
    return len(a) == len(b) and all(
        torch.equal(getattr(x, name), getattr(y, name))
        for x, y in ((a[i], b[i]) for i in range(len(a)))
        for name in (
            "clean",
            "degraded",
            "clean_cameras",
            "degraded_cameras",
            "degraded_valid",
            "prompts",
        )
    )


def test_a_world_bank_comes_back_from_the_cache_as_it_was_rendered(
    codec: LinearCodec, encoder: WordHashEncoder, tmp_path: Path, two_families: None
) -> None:
    told: list[tuple[int, int]] = []
    first = MemoryBank.world(SPEC, codec, encoder, cache_dir=tmp_path, progress=lambda *n: told.append(n))
    (path,) = (p for p in tmp_path.iterdir() if p.suffix != ".lock")  # one file, and nothing half-written beside it
    assert path.name == f"world-bank-{SPEC.key(codec)}.safetensors"
    assert told == [(4, 4)]
    written = path.stat().st_mtime_ns
    again = MemoryBank.world(SPEC, codec, encoder, cache_dir=tmp_path, progress=lambda *n: told.append(n))
    assert told == [(4, 4)]
    assert path.stat().st_mtime_ns == written
    assert same_samples(first, again)
    assert first.recipes == again.recipes

    clips = [make_world_clip(seed, hw=(16, 16), num_frames=57) for seed in range(4)]
    by_hand = MemoryBank.from_clips(iter([(c.clean, c.degraded, c.recipe) for c in clips]), codec, encoder)
    # Pixels are the same bits in every process; a matrix product in another one may round its last bit otherwise.
    for name, tensor in first.tensors.items():
        torch.testing.assert_close(tensor, by_hand.tensors[name], atol=1e-5, rtol=0)
    for i, clip in enumerate(clips):
        sample = first[i]
        torch.testing.assert_close(sample.clean, codec.encode(clip.clean.rgb[None])[0], atol=1e-5, rtol=0)
        torch.testing.assert_close(sample.degraded, codec.encode(clip.degraded.rgb[None])[0], atol=1e-5, rtol=0)
        assert sample.graph == clip.graph
        for told, schedule in ((sample.degraded_prompts, clip.schedule), (sample.clean_prompts, Schedule(57))):
            assert torch.equal(sample.prompts[list(told)], encoder(chunk_prompts(clip.clean.caption, schedule)))
        assert sample.clean_prompts != sample.degraded_prompts
        assert len(sample.prompts.unique(dim=0)) == len(sample.prompts)  # at Wan size each takes 8 MB


def test_of_two_that_want_a_bank_one_renders_and_the_other_waits(
    codec: LinearCodec, encoder: WordHashEncoder, tmp_path: Path, two_families: None
) -> None:
    told: list[str] = []

    def ask(who: str) -> MemoryBank:
        return MemoryBank.world(SPEC, codec, encoder, cache_dir=tmp_path, progress=lambda *_: told.append(who))

    with ThreadPoolExecutor(2) as pool:  # locks are of open files, so threads exclude each other as processes do
        first, second = pool.map(ask, ("a", "b"))
    assert len(told) == 1
    assert same_samples(first, second)
    assert first.content == second.content == SPEC.key(codec)


def test_the_key_of_a_world_bank_follows_its_spec_and_codec(codec: LinearCodec, two_families: None) -> None:
    tensors = {k: v.clone() for k, v in codec.tensors.items()}
    tensors["first.mean"][0] += 1e-5
    keys = [SPEC.key(codec), SPEC.key(LinearCodec(tensors))]
    keys += [
        replace(SPEC, **change).key(codec) for change in ({"size": 5}, {"first_seed": 1}, {"num_frames": 69})
    ]
    assert len(set(keys)) == 5
    assert replace(SPEC).key(LinearCodec.load()) == keys[0]


def test_a_bank_of_nothing_is_refused(codec: LinearCodec, encoder: WordHashEncoder) -> None:
    with pytest.raises(InputError, match="no clips to train on"):
        MemoryBank.from_clips(iter([]), codec, encoder)


# --- cameras -------------------------------------------------------------------------------------------------------


def moving_cameras(num_frames: int = 45, step: float = 0.5) -> Cameras:
    yaw = torch.arange(num_frames).double()
    translation = torch.zeros(num_frames, 3, dtype=torch.float64)
    translation[:, 0] = step * torch.arange(num_frames)
    return Cameras(rigid(rotation_yaw(yaw), translation), intrinsics_from_fov(60.0, (16, 16), num_frames), (16, 16),
                   torch.ones(num_frames, dtype=torch.bool))  # fmt: skip


def with_poses(cameras: Cameras, c2w: Tensor, valid: Tensor | None = None) -> Cameras:
    return Cameras(c2w, cameras.intrinsics_px, cameras.hw, cameras.valid if valid is None else valid)


def test_latent_frame_i_has_the_camera_of_pixel_frame_4i() -> None:
    cameras = moving_cameras()
    descriptors, valid = camera_conditions(cameras, 45)
    assert descriptors.shape == (12, 14)
    assert valid.all()
    for i in range(12):
        torch.testing.assert_close(descriptors[i, :9], cameras.c2w[4 * i, :3, :3].flatten().float())
    changed = cameras.c2w.clone()
    changed[17] = changed[40]  # no latent frame's camera
    assert torch.equal(camera_conditions(with_poses(cameras, changed), 45)[0], descriptors)


def test_translations_are_measured_in_the_context_and_later_cameras_change_nothing_before() -> None:
    cameras = moving_cameras()
    descriptors, _ = camera_conditions(cameras, 45)
    assert descriptors[2, 9].item() == pytest.approx(1.0)  # frame 8 is the farthest of the first chunk
    assert descriptors[4, 9].item() == pytest.approx(2.0)
    later = cameras.c2w.clone()
    later[9:, :3, 3] *= 100
    changed, _ = camera_conditions(with_poses(cameras, later), 45)
    assert torch.equal(changed[:3], descriptors[:3])
    assert changed[4, 9].item() == pytest.approx(200.0)
    doubled = camera_conditions(moving_cameras(step=1.0), 45)[0]  # the unit of the world does not matter
    torch.testing.assert_close(doubled, descriptors)


def test_a_clip_without_cameras_is_invalid_throughout() -> None:
    descriptors, valid = camera_conditions(None, 45)
    assert descriptors.shape == (12, 14)
    assert (descriptors == 0).all()
    assert not valid.any()


@pytest.mark.parametrize("junk", [float("nan"), 1e6])
def test_poses_that_are_not_valid_do_not_set_the_unit(junk: float) -> None:
    cameras = moving_cameras()
    truth, _ = camera_conditions(cameras, 45)
    c2w, ok = cameras.c2w.clone(), cameras.valid.clone()
    c2w[5], ok[5] = junk, False  # no latent frame's camera, but in the context
    c2w[20], ok[20] = junk, False
    got, valid = camera_conditions(with_poses(cameras, c2w, ok), 45)
    assert valid.tolist() == [i != 5 for i in range(12)]
    assert torch.equal(got[valid], truth[valid])
    assert (got[5] == 0).all()
