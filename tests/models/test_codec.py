"""The embedded codec: faithful on clips it has not seen, causal, streamable, and exactly a PCA of blocks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from remind.data.world_clips import VALIDATION_SEEDS, make_world_clip
from remind.errors import CheckpointError, GraphError, InputError
from remind.models.codec import CHANNELS, LinearCodec, psnr_db


@pytest.fixture(scope="module")
def codec() -> LinearCodec:
    return LinearCodec.load()


def held_out(size: int, num: int = 12) -> Tensor:
    """Clips that the codec was not fitted on."""
    return torch.stack([make_world_clip(VALIDATION_SEEDS[i], hw=(size, size)).clean.rgb for i in range(num)])


@pytest.fixture(scope="module")
def videos_32() -> Tensor:
    return held_out(32)


def random_video(frames: int, seed: int = 0, size: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (1, frames, size, size, 3), dtype=torch.uint8, generator=generator)


def test_81_frames_become_21_latent_frames_of_16_channels(codec: LinearCodec) -> None:
    latents = codec.encode(random_video(81, size=24))
    assert latents.shape == (1, 21, CHANNELS, 3, 3)
    assert codec.decode(latents).shape == (1, 81, 24, 24, 3)
    assert codec.encode(random_video(1)).shape == (1, 1, CHANNELS, 2, 2)


def test_held_out_clips_at_32_px_keep_27_db(codec: LinearCodec, videos_32: Tensor) -> None:
    assert psnr_db(codec.decode(codec.encode(videos_32)), videos_32) >= 27


def test_held_out_clips_at_64_px_keep_27_db(codec: LinearCodec) -> None:
    videos = held_out(64)
    assert psnr_db(codec.decode(codec.encode(videos)), videos) >= 27


def test_latents_of_held_out_clips_have_near_unit_variance(codec: LinearCodec, videos_32: Tensor) -> None:
    latents = codec.encode(videos_32)
    assert 0.7 < latents.var().item() < 1.4
    per_channel = latents.transpose(1, 2).transpose(0, 1).flatten(1)
    assert (per_channel.var(1) > 0.2).all()
    assert (per_channel.var(1) < 4).all()
    assert per_channel.mean(1).abs().max() < 0.6


@pytest.mark.parametrize("latent", [1, 7, 20])
def test_frame_4k_plus_1_changes_nothing_before_latent_k_plus_1(codec: LinearCodec, latent: int) -> None:
    video = random_video(81)
    changed = video.clone()
    changed[:, 4 * latent - 3 :] = 255 - changed[:, 4 * latent - 3 :]
    before, after = codec.encode(video), codec.encode(changed)
    assert torch.equal(before[:, :latent], after[:, :latent])
    assert (before[:, latent:] - after[:, latent:]).abs().amax((0, 2, 3, 4)).min() > 0.1


def test_each_latent_frame_holds_its_own_four_frames(codec: LinearCodec) -> None:
    video = random_video(81)
    changed = video.clone()
    changed[:, 25:29] = 0  # latent frame 7
    moved = (codec.encode(video) - codec.encode(changed)).abs().amax((0, 2, 3, 4))
    assert moved.nonzero().flatten().tolist() == [7]


@pytest.mark.parametrize("cuts", [[3] * 7, [1, 20], [1, 1, 1, 18]])
def test_streaming_decode_equals_decoding_at_once_bitwise(
    codec: LinearCodec, videos_32: Tensor, cuts: list[int]
) -> None:
    latents = codec.encode(videos_32[:2])
    parts = [codec.decode(part, starts_clip=i == 0) for i, part in enumerate(latents.split(cuts, 1))]
    assert torch.equal(torch.cat(parts, 1), codec.decode(latents))


@pytest.mark.parametrize("size", [8, 16, 40])
@pytest.mark.parametrize("cuts", [[3] * 7, [1] * 21, [2, 7, 12], [20, 1]])
def test_streams_do_not_show_where_they_are_cut(codec: LinearCodec, size: int, cuts: list[int]) -> None:
    """At 8 px a latent frame is one row, and a product of one row rounds otherwise than one of many."""
    video = random_video(81, size=size)
    frames = [4 * latents - 3 * (i == 0) for i, latents in enumerate(cuts)]
    encoder, decoder = codec.encode_stream(), codec.stream()
    latents = torch.cat([encoder.push(part) for part in video.split(frames, 1)], 1)
    assert torch.equal(latents, codec.encode(video))
    assert torch.equal(torch.cat([decoder.push(part) for part in latents.split(cuts, 1)], 1), codec.decode(latents))


def test_streams_of_one_codec_do_not_mix_and_know_their_shape(codec: LinearCodec) -> None:
    video = random_video(9)
    first, second = codec.encode_stream(), codec.encode_stream()
    first.push(video[:, :1])
    assert torch.equal(second.push(video), codec.encode(video))
    assert torch.equal(first.push(video[:, 1:]), codec.encode(video)[:, 1:])
    with pytest.raises(InputError, match="got 3 frames; expected 4k"):
        first.push(video[:, :3])
    with pytest.raises(InputError, match=r"one batch of one size.*\(1, 24, 24\)"):
        first.push(random_video(4, size=24))
    with pytest.raises(InputError, match="no latents"):
        codec.stream().push(codec.encode(video)[:, :0])


def test_what_was_decoded_encodes_to_the_same_latents(codec: LinearCodec) -> None:
    """Up to 8-bit rounding; latents small enough that no value is clipped."""
    latents = 0.3 * torch.randn(1, 5, CHANNELS, 2, 2, generator=torch.Generator().manual_seed(0))
    video = codec.decode(latents)
    assert video.min() > 0
    assert video.max() < 255
    again = codec.encode(video)
    assert (again - latents).abs().mean() < 0.05
    assert (codec.decode(again).int() - video.int()).abs().max() <= 1


# --- fitting -------------------------------------------------------------------------------------------------------


def low_rank_videos(num: int = 120) -> Tensor:
    """Random clips whose blocks are a few random patterns of clearly different strength, plus a little noise."""
    rng = np.random.default_rng(0)

    def blocks(size: int, count: int) -> np.ndarray:
        patterns = np.linalg.qr(rng.standard_normal((size, 20)))[0] * size**0.5
        strength = 30 * 0.82 ** np.arange(20)
        return 120 + rng.standard_normal((count, 20)) * strength @ patterns.T / 20**0.5

    first = blocks(192, num * 4).reshape(num, 2, 2, 1, 8, 8, 3)
    rest = blocks(768, num * 4).reshape(num, 2, 2, 4, 8, 8, 3)
    video = np.concatenate([first, rest], 3).transpose(0, 3, 1, 4, 2, 5, 6).reshape(num, 5, 16, 16, 3)
    return torch.from_numpy(np.clip(np.round(video), 0, 255).astype(np.uint8))


def numpy_pca(videos: Tensor, frames: slice) -> tuple[np.ndarray, np.ndarray]:
    """Mean and projection matrix on the 16 strongest directions of the blocks of some frames."""
    x = videos.numpy()[:, frames].astype(np.float64) / 127.5 - 1
    n, t = x.shape[:2]
    x = x.reshape(n, t, 2, 8, 2, 8, 3).transpose(0, 2, 4, 1, 3, 5, 6).reshape(n * 4, -1)
    _, _, directions = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return x.mean(0), directions[:CHANNELS].T @ directions[:CHANNELS]


@pytest.mark.parametrize("whitening", [1.0, 0.5, 0.0])
def test_a_fitted_codec_is_the_pca_of_its_blocks_whatever_the_whitening(whitening: float) -> None:
    videos = low_rank_videos()
    fitted = LinearCodec.fit(iter(videos.split(50)), whitening=whitening)
    for part, frames in (("first", slice(0, 1)), ("rest", slice(1, 5))):
        mean, projection = numpy_pca(videos, frames)
        decode, encode = (fitted.tensors[f"{part}.{name}"].double().numpy() for name in ("decode", "encode"))
        np.testing.assert_allclose(fitted.tensors[f"{part}.mean"].numpy(), mean, atol=1e-5)
        np.testing.assert_allclose(decode @ encode, projection, atol=2e-3)
        np.testing.assert_allclose(encode @ decode, np.eye(CHANNELS), atol=1e-3)


def test_every_channel_has_unit_variance_at_any_whitening() -> None:
    videos = low_rank_videos()
    for whitening in (1.0, 0.5):
        latents = LinearCodec.fit([videos], whitening=whitening).encode(videos)
        for part in (latents[:, :1], latents[:, 1:]):
            channels = part.transpose(1, 2).transpose(0, 1).flatten(1)
            torch.testing.assert_close(channels.var(1), torch.ones(CHANNELS), atol=0.02, rtol=0)
            torch.testing.assert_close(channels.mean(1), torch.zeros(CHANNELS), atol=1e-3, rtol=0)


def test_whitening_below_1_keeps_part_of_the_spread() -> None:
    """At 0 the latents are an orthogonal map of the pixels: distances keep their proportions; at 1 they do not."""
    videos = low_rank_videos()

    def spread(whitening: float) -> float:
        latents = LinearCodec.fit([videos], whitening=whitening).encode(videos)[:, 1:]
        eigenvalues = torch.linalg.eigvalsh(latents.transpose(1, 2).transpose(0, 1).flatten(1).cov())
        return (eigenvalues[-1] / eigenvalues[0]).item()

    assert spread(1.0) == pytest.approx(1, abs=0.1)
    assert spread(0.5) == pytest.approx(spread(0.0) ** 0.5, rel=0.05)
    assert spread(0.0) > 50


# --- files and errors ----------------------------------------------------------------------------------------------


def test_a_saved_codec_is_the_same_codec(codec: LinearCodec, tmp_path: Path) -> None:
    path = tmp_path / "mine.safetensors"
    codec.save(path, {"fitted_on": "nothing new"})
    again = LinearCodec.load(path)
    assert again.digest == codec.digest
    video = random_video(9)
    assert torch.equal(again.encode(video), codec.encode(video))


def test_the_digest_sees_every_weight(codec: LinearCodec) -> None:
    tensors = {k: v.clone() for k, v in codec.tensors.items()}
    tensors["rest.mean"][3] += 1e-6
    assert LinearCodec(tensors).digest != codec.digest


def test_bad_files_are_named(codec: LinearCodec, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no such codec.*moon"):
        LinearCodec.load("moon")
    path = tmp_path / "cut.safetensors"
    codec.save(path, {})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"damaged.*cut.safetensors"):
        LinearCodec.load(path)
    with pytest.raises(CheckpointError, match=r"rest\.encode"):
        LinearCodec({k: v for k, v in codec.tensors.items() if k != "rest.encode"})
    with pytest.raises(CheckpointError, match=r"first\.mean"):
        LinearCodec({**codec.tensors, "first.mean": torch.zeros(5)})


def test_bad_videos_are_named(codec: LinearCodec) -> None:
    with pytest.raises(GraphError, match=r"1 \+ 4k frames"):
        codec.encode(random_video(80))
    with pytest.raises(InputError, match="multiples of 8"):
        codec.encode(random_video(5, size=20))


def test_psnr() -> None:
    black = torch.zeros(4, 4, dtype=torch.uint8)
    assert psnr_db(black, black) == float("inf")
    assert psnr_db(black, black + 255) == pytest.approx(0)
    assert psnr_db(black, black + 1) == pytest.approx(48.13, abs=0.01)
