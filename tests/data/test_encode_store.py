"""A store through a real (tiny, random) Wan VAE and UMT5, once: what training then reads is what they give live."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from rich.console import Console

from remind.data.clip_store import ClipStore
from remind.data.encode_store import EncodeRequest, encode_store
from remind.data.interrupt import apply_interruption
from remind.errors import InputError
from remind.frame_graph import Schedule
from remind.models.umt5 import UMT5Encoder
from remind.models.vae import WanVAE
from remind.prompt_schedule import chunk_prompts
from remind.recipes.arms import arm_settings
from remind.training.config import DataPart, TrainConfig
from remind.training.data_source import open_data
from tests.data.make_store import FRAMES, HW, damage, make_store
from tests.make_memory import TINY
from tests.models.make_wan import TEXT_DIM, make_text_encoder, make_tokenizer, make_vae

QUIET = Console(quiet=True)


@pytest.fixture(scope="module")
def request_(tmp_path_factory: pytest.TempPathFactory) -> EncodeRequest:
    folder = tmp_path_factory.mktemp("encode")
    make_vae(folder / "wan" / "vae")
    make_text_encoder(folder / "wan" / "text_encoder")
    make_tokenizer(folder / "wan" / "tokenizer", ("square", "moves", "lights", "panel", "the"))
    store = make_store(folder / "store", 2)
    return EncodeRequest(store, folder / "latents", variants=1, vae=folder / "wan", text=folder / "wan")


def said(request: EncodeRequest, **options: bool) -> list[str]:
    with redirect_stdout(io.StringIO()) as out:
        assert encode_store(request, QUIET, **options) == {}
    return out.getvalue().splitlines()


def test_a_run_reads_what_the_encoders_give_live(request_: EncodeRequest) -> None:
    predicted = said(request_, dry_run=True)
    assert predicted[0].startswith("4 of 4 tracks to encode")
    assert not request_.out.exists()
    lines = said(request_)
    assert lines[1].startswith("encoded 4, kept 0")
    count = int(lines[2].split()[0])
    assert lines[2] == f"{count} of {count} prompts to embed"
    assert lines[3].startswith(f"embedded {count}, kept 0")
    again = said(request_)
    assert again[1].startswith("encoded 0, kept 4")
    assert again[3].startswith(f"embedded 0, kept {count}")

    model = replace(TINY, text_dim=TEXT_DIM, text_len=512)
    config = TrainConfig("by_hand", "remind", model, HW, FRAMES, batch_size=2, bank_size=0,
                         data=(DataPart(request_.store, latents=request_.out),), encoders="wan",
                         **arm_settings("remind"))  # fmt: skip
    source = open_data(config, QUIET, workers=0)
    vae = WanVAE.from_pretrained(request_.vae)  # type: ignore[arg-type]
    text = UMT5Encoder.from_pretrained(request_.text, dtype=torch.bfloat16)  # type: ignore[arg-type]
    assert source.facts["encoders"] == {"latents": vae.digest, "text": text.digest}
    store = ClipStore.open(request_.store)
    for number in range(2):
        sample, clip = source.mixture.banks[0][number], store[number]
        assert torch.equal(sample.clean, vae.encode(clip.clean.rgb[None])[0])
        assert torch.equal(sample.degraded, vae.encode(apply_interruption(clip.clean, clip.recipe).rgb[None])[0])
        for got, schedule in ((sample.clean_prompts, Schedule(FRAMES)), (sample.degraded_prompts, clip.graph.schedule)):
            prompts = chunk_prompts(clip.clean.caption, schedule)
            assert torch.equal(sample.prompts[list(got)], torch.cat([text([prompt]) for prompt in prompts]))


def test_what_cannot_be_read_is_quarantined_and_its_prompts_are_left_out(tmp_path: Path) -> None:
    store = make_store(tmp_path / "store", 3)
    damage(store, 1)
    failed = encode_store(EncodeRequest(store, tmp_path / "latents"), QUIET)
    assert list(failed) == ["clip-1"]
    assert "clip-1" in (store / "quarantine.json").read_text()


def test_a_batch_of_nothing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds one or more"):
        encode_store(EncodeRequest(tmp_path, tmp_path, text_batch=0), QUIET)
