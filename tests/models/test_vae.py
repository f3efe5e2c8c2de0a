"""The Wan VAE at tiny size: shapes, causality, streams without seams, files that are not what they should be."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from remind.errors import CheckpointError, InputError
from remind.models.vae import WanVAE
from tests.models.make_wan import make_vae, random_latents, random_video


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wan")
    make_vae(folder / "vae")
    return folder


@pytest.fixture(scope="module")
def vae(pipeline: Path) -> WanVAE:
    return WanVAE.from_pretrained(pipeline)


def copy_of(pipeline: Path, tmp_path: Path, **changed_config: object) -> Path:
    """A VAE folder of one's own to damage."""
    folder = tmp_path / "vae"
    shutil.copytree(pipeline / "vae", folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, **changed_config}))
    return folder


# --- coding --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "latents"), [(1, 1), (5, 2), (9, 3), (21, 6)])
def test_1_plus_4k_frames_are_1_plus_k_latents(vae: WanVAE, frames: int, latents: int) -> None:
    z = vae.encode(random_video(frames, batch=2))
    assert z.shape == (2, latents, 16, 2, 3)
    assert z.dtype == torch.float32
    assert vae.decode(z).shape == (2, frames, 16, 24, 3)


def test_frames_do_not_hide_near_grey(vae: WanVAE) -> None:
    """What the other tests compare must have something to differ in."""
    frames = vae.decode(random_latents(6)).float()
    assert frames.std() > 20
    assert (frames[:, 1:] - frames[:, :-1]).abs().mean() > 2


def test_normalisation_has_an_inverse_and_the_published_numbers(vae: WanVAE) -> None:
    z = random_latents(3)
    mu = vae.denormalise(z)
    torch.testing.assert_close(vae.normalise(mu), z, atol=1e-6, rtol=0)
    assert vae.denormalise(torch.zeros(1, 1, 16, 1, 1)).flatten()[0].item() == pytest.approx(-0.7571)
    assert vae.denormalise(torch.ones(1, 1, 16, 1, 1)).flatten()[0].item() == pytest.approx(-0.7571 + 2.8184)


@pytest.mark.parametrize("latent", [1, 4])
def test_later_frames_change_no_earlier_latent(vae: WanVAE, latent: int) -> None:
    video = random_video(21)
    changed = video.clone()
    changed[:, 4 * latent - 3 :] = 255 - changed[:, 4 * latent - 3 :]
    before, after = vae.encode(video), vae.encode(changed)
    assert torch.equal(before[:, :latent], after[:, :latent])
    assert (before[:, latent:] - after[:, latent:]).abs().amax((0, 2, 3, 4)).min() > 1e-3


# --- streams -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cuts", [[3, 3, 3], [1] * 9, [2, 7], [1, 4, 4], [5, 3, 1]])
def test_decoding_piece_by_piece_leaves_no_seam(vae: WanVAE, cuts: list[int]) -> None:
    latents = random_latents(9)
    stream = vae.stream()
    parts = [stream.push_unrounded(part) for part in latents.split(cuts, 1)]
    assert [p.shape[1] for p in parts] == [4 * c - 3 * (i == 0) for i, c in enumerate(cuts)]
    assert torch.equal(torch.cat(parts, 1), vae.stream().push_unrounded(latents))


@pytest.mark.parametrize("cuts", [[9, 12, 12], [1, 4, 28], [33], [5, 8, 20]])
def test_encoding_piece_by_piece_leaves_no_seam(vae: WanVAE, cuts: list[int]) -> None:
    video = random_video(33)
    stream = vae.encode_stream()
    parts = torch.cat([stream.push(part) for part in video.split(cuts, 1)], 1)
    assert torch.equal(parts, vae.encode(video))


def test_a_chunk_decoded_alone_would_have_a_seam(vae: WanVAE) -> None:
    """The state matters: without it the second chunk starts as a clip does, and differs."""
    latents = random_latents(6)
    whole = vae.stream().push_unrounded(latents)
    alone = vae.stream().push_unrounded(latents[:, 3:])
    assert alone.shape[1] == 9
    assert (alone - whole[:, -9:]).abs().max() > 0.05


def test_interleaved_streams_do_not_mix(vae: WanVAE) -> None:
    a, b = random_latents(6, seed=1), random_latents(6, seed=2, batch=2)
    stream_a, stream_b, encoder = vae.stream(), vae.stream(), vae.encode_stream()
    video = random_video(9)
    got_a, got_b, got_z = [], [], []
    for i in range(3):
        got_a.append(stream_a.push_unrounded(a[:, 2 * i : 2 * i + 2]))
        got_z.append(encoder.push(video[:, :1] if i == 0 else video[:, 4 * i - 3 : 4 * i + 1]))
        got_b.append(stream_b.push_unrounded(b[:, 2 * i : 2 * i + 2]))
        vae.decode(a)  # nor with a whole clip in between
    assert torch.equal(torch.cat(got_a, 1), vae.stream().push_unrounded(a))
    assert torch.equal(torch.cat(got_b, 1), vae.stream().push_unrounded(b))
    assert torch.equal(torch.cat(got_z, 1), vae.encode(video))


# --- options -------------------------------------------------------------------------------------------------------


def test_bf16_runs_and_stays_near(pipeline: Path, vae: WanVAE) -> None:
    half = WanVAE.from_pretrained(pipeline, dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    video = random_video(9)
    z = half.encode(video)
    assert z.dtype == torch.float32
    assert (z - vae.encode(video)).abs().max() < 0.1
    stream = half.stream()
    parts = torch.cat([stream.push_unrounded(part) for part in z.split(1, 1)], 1)
    assert torch.equal(parts, half.stream().push_unrounded(z))
    assert (parts - vae.stream().push_unrounded(z)).abs().mean() < 0.05


def test_larger_tiles_are_nearer_and_frames_that_fit_are_exact(vae: WanVAE) -> None:
    video = random_video(5, hw=(96, 112))
    latents = vae.encode(video)
    frames = vae.decode(latents).float()
    errors = []
    for tile_px in (32, 64, 128):
        tiled = WanVAE(vae.module, tile_px=tile_px)
        z, rgb = tiled.encode(video), tiled.decode(latents)
        assert (z.shape, rgb.shape) == (latents.shape, video.shape)
        errors.append(((z - latents).abs().mean().item(), (rgb.float() - frames).abs().mean().item()))
    assert errors[0][0] > 2 * errors[1][0] > 0
    assert errors[0][1] > 1.5 * errors[1][1] > 0
    assert errors[2][0] < 1e-6
    assert errors[2][1] < 0.01


def test_what_tiles_cannot_do_is_refused(pipeline: Path, vae: WanVAE) -> None:
    tiled = WanVAE.from_pretrained(pipeline, tile_px=64)
    for stream in (tiled.stream, tiled.encode_stream):
        with pytest.raises(InputError, match=r"tiled VAE does not stream.*tile_px=None"):
            stream()
    for size in (0, -32, 40):
        with pytest.raises(InputError, match="multiple of 32"):
            WanVAE(vae.module, tile_px=size)
    with pytest.raises(InputError, match="1 \\+ 4k"):
        tiled.encode(random_video(4))


def test_the_digest_is_of_all_that_changes_latents(pipeline: Path, vae: WanVAE, tmp_path: Path) -> None:
    assert WanVAE.from_pretrained(pipeline / "vae").digest == vae.digest
    others = [
        WanVAE.from_pretrained(pipeline, dtype=torch.bfloat16),
        WanVAE.from_pretrained(pipeline, tile_px=64),
        WanVAE.from_pretrained(copy_of(pipeline, tmp_path, latents_mean=[0.0] * 16)),
    ]
    one_weight = WanVAE.from_pretrained(pipeline)
    one_weight.module.encoder.conv_in.weight[0, 0, 0, 0, 0] += 1e-6
    assert len({vae.digest, one_weight.digest, *(other.digest for other in others)}) == 5


# --- errors --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("frames", [0, 2, 4, 80])
def test_frames_that_are_not_1_plus_4k_are_refused(vae: WanVAE, frames: int) -> None:
    with pytest.raises(InputError, match=rf"got {frames} frames; expected 1 \+ 4k"):
        vae.encode(random_video(frames))


def test_other_bad_tensors_are_named(vae: WanVAE) -> None:
    with pytest.raises(InputError, match=r"\(16, 20\).*multiples of 8"):
        vae.encode(random_video(5, hw=(16, 20)))
    with pytest.raises(InputError, match="no latents"):
        vae.decode(random_latents(0))
    encoder, decoder = vae.encode_stream(), vae.stream()
    encoder.push(random_video(5))
    with pytest.raises(InputError, match="got 5 frames; expected 4k"):
        encoder.push(random_video(5))
    with pytest.raises(InputError, match=r"one batch of one size.*\(1, 8, 8\)"):
        encoder.push(random_video(4, hw=(8, 8)))
    decoder.push(random_latents(1))
    with pytest.raises(InputError, match=r"one batch of one size.*\(2, 2, 3\)"):
        decoder.push(random_latents(1, batch=2))


def test_a_folder_without_a_vae_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no AutoencoderKLWan in this folder.*config\.json"):
        WanVAE.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="no AutoencoderKLWan"):
        WanVAE.from_pretrained(tmp_path / "nowhere")


def test_another_network_is_refused(pipeline: Path, tmp_path: Path) -> None:
    folder = copy_of(pipeline, tmp_path, _class_name="AutoencoderKL")
    with pytest.raises(CheckpointError, match=r"_class_name = AutoencoderKL; expected AutoencoderKLWan"):
        WanVAE.from_pretrained(folder)
    for text in ("{", "[]"):
        (folder / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match=r"config\.json"):
            WanVAE.from_pretrained(folder)


def test_a_vae_with_other_strides_or_channels_is_refused(tmp_path: Path) -> None:
    for i, change in enumerate(({"dim_mult": [1, 1, 1], "temperal_downsample": [True, True]},
                                {"temperal_downsample": [False, False, True]},
                                {"z_dim": 4, "latents_mean": [0.0] * 4, "latents_std": [1.0] * 4})):
        make_vae(tmp_path / str(i), **change)
        with pytest.raises(CheckpointError, match=r"not a VAE of the Wan2\.1 family"):
            WanVAE.from_pretrained(tmp_path / str(i))
    make_vae(tmp_path / "flat", latents_std=[0.0] * 16)
    with pytest.raises(CheckpointError, match="cannot be normalised"):
        WanVAE.from_pretrained(tmp_path / "flat")


def test_damaged_and_missing_weights_are_named(pipeline: Path, tmp_path: Path) -> None:
    folder = copy_of(pipeline, tmp_path)
    weights = folder / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match=r"missing or damaged.*vae"):
        WanVAE.from_pretrained(folder)
    weights.unlink()
    with pytest.raises(CheckpointError, match=r"missing or damaged.*vae"):
        WanVAE.from_pretrained(folder)


def test_pickles_are_not_opened(pipeline: Path, tmp_path: Path, vae: WanVAE) -> None:
    folder = copy_of(pipeline, tmp_path)
    (folder / "diffusion_pytorch_model.safetensors").unlink()
    torch.save(vae.module.state_dict(), folder / "diffusion_pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"missing or damaged"):
        WanVAE.from_pretrained(folder)


def test_weights_that_do_not_fit_are_named(pipeline: Path, tmp_path: Path, vae: WanVAE) -> None:
    """diffusers alone would fill a missing weight with random numbers and log it."""
    from safetensors.torch import save_file

    folder = copy_of(pipeline, tmp_path)
    state = vae.module.state_dict()
    state["surplus.weight"] = state.pop("decoder.conv_out.bias").clone()
    save_file(state, str(folder / "diffusion_pytorch_model.safetensors"), {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"do not fit.*decoder\.conv_out\.bias.*surplus\.weight"):
        WanVAE.from_pretrained(folder)


def test_without_diffusers_the_error_says_what_to_install(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(InputError, match=r"diffusers.*pip install 'remind-video\[wan\]'"):
        WanVAE.from_pretrained(pipeline)


def test_loading_opens_no_connection(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError(f"a connection was tried: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    WanVAE.from_pretrained(pipeline)


def test_importing_the_module_does_not_import_the_libraries() -> None:
    code = ("import sys, remind.models.vae, remind.models.umt5\n"
            "print({'diffusers', 'transformers'} & set(sys.modules))")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
