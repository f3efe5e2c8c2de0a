"""The UMT5 encoder at tiny size: zeros after the end, equal prompts alike, long prompts and wrong files said aloud."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import sys
from pathlib import Path

import pytest
import torch

from remind.errors import CheckpointError, InputError
from remind.models.text import TextEncoder, WordHashEncoder
from remind.models.umt5 import UMT5Encoder, clean_prompt
from tests.models.make_wan import TEXT_DIM, make_t5_tokenizer, make_text_encoder, make_tokenizer

PROMPTS = ["the red jug fills slowly", "lights go off", ""]


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wan")
    make_text_encoder(folder / "text_encoder")
    make_tokenizer(folder / "tokenizer")
    return folder


@pytest.fixture(scope="module")
def encoder(pipeline: Path) -> UMT5Encoder:
    return UMT5Encoder.from_pretrained(pipeline)


def copy_of(pipeline: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(pipeline, tmp_path / "wan"))


def test_512_positions_with_zeros_after_the_end(encoder: UMT5Encoder) -> None:
    out = encoder(PROMPTS)
    assert out.shape == (3, 512, TEXT_DIM)
    assert out.dtype == torch.float32
    for row, num_tokens in enumerate((6, 4, 1)):  # words, and the end token
        assert (out[row, :num_tokens].abs().amax(-1) > 0).all()
        assert (out[row, num_tokens:] == 0).all()


def test_prompts_do_not_see_each_other(encoder: UMT5Encoder) -> None:
    together = encoder(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        torch.testing.assert_close(encoder([prompt])[0], together[row], atol=1e-6, rtol=0)
    assert not torch.allclose(together[0], together[1])


def test_equal_prompts_are_equal_and_in_order(encoder: UMT5Encoder) -> None:
    out = encoder([PROMPTS[1], PROMPTS[0], " lights  go\toff\n", PROMPTS[0]])
    assert torch.equal(out[0], out[2])
    assert torch.equal(out[1], out[3])
    torch.testing.assert_close(out[:2], encoder([PROMPTS[1], PROMPTS[0]]), atol=1e-6, rtol=0)
    assert encoder([]).shape == (0, 512, TEXT_DIM)


def test_word_order_matters(encoder: UMT5Encoder) -> None:
    a, b = encoder(["the jug", "jug the"])
    assert (a - b.flip(0)).abs().max() > 1e-3
    assert (a[0] - b[1]).abs().max() > 1e-3


def test_both_encoders_are_text_encoders(encoder: UMT5Encoder) -> None:
    for one in (encoder, WordHashEncoder(TEXT_DIM, 512)):
        assert isinstance(one, TextEncoder)
        assert one(PROMPTS).shape == (3, one.text_len, one.dim) == (3, 512, TEXT_DIM)


def test_a_long_prompt_loses_its_end_and_a_warning_says_so(
    pipeline: Path, caplog: pytest.LogCaptureFixture
) -> None:
    short = UMT5Encoder.from_pretrained(pipeline, text_len=6)
    with caplog.at_level(logging.WARNING):
        fits = short(["a red jug fills slowly"])
        assert not caplog.records
        cut = short(["a red jug fills slowly back back back"])
    assert "9 tokens, of which 6 are kept: a red jug" in caplog.text
    assert torch.equal(cut, fits)  # five words and the end token


def test_prompts_are_cleaned() -> None:
    assert clean_prompt("  the\n red \t jug ") == "the red jug"
    assert clean_prompt("a &amp;amp; x &lt; the") == "a & x < the"
    assert clean_prompt("it’s") == "it’s"  # ftfy would straighten it


def test_bf16_runs_and_gives_float32(pipeline: Path, encoder: UMT5Encoder) -> None:
    half = UMT5Encoder.from_pretrained(pipeline, dtype=torch.bfloat16)
    assert half.model.dtype == torch.bfloat16
    out = half(PROMPTS)
    assert out.dtype == torch.float32
    torch.testing.assert_close(out, encoder(PROMPTS), atol=0.1, rtol=0)


# --- files ---------------------------------------------------------------------------------------------------------


def test_missing_parts_are_named(pipeline: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no UMT5EncoderModel in this folder.*text_encoder"):
        UMT5Encoder.from_pretrained(tmp_path)
    folder = copy_of(pipeline, tmp_path)
    shutil.rmtree(folder / "tokenizer")
    with pytest.raises(CheckpointError, match=r"no tokenizer.*tokenizer"):
        UMT5Encoder.from_pretrained(folder)


def test_another_network_is_refused(pipeline: Path, tmp_path: Path) -> None:
    folder = copy_of(pipeline, tmp_path)
    path = folder / "text_encoder" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "model_type": "t5"}))
    with pytest.raises(CheckpointError, match=r"model_type = t5; expected umt5"):
        UMT5Encoder.from_pretrained(folder)


def test_damaged_weights_and_pickles_are_refused(pipeline: Path, tmp_path: Path, encoder: UMT5Encoder) -> None:
    folder = copy_of(pipeline, tmp_path)
    weights = folder / "text_encoder" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:2000])
    with pytest.raises(CheckpointError, match=r"missing or damaged.*text_encoder"):
        UMT5Encoder.from_pretrained(folder)
    weights.unlink()
    torch.save(encoder.model.state_dict(), weights.with_name("pytorch_model.bin"))
    with pytest.raises(CheckpointError, match=r"missing or damaged.*text_encoder"):
        UMT5Encoder.from_pretrained(folder)


def test_weights_that_do_not_fit_are_named(pipeline: Path, tmp_path: Path, encoder: UMT5Encoder) -> None:
    from safetensors.torch import save_file

    folder = copy_of(pipeline, tmp_path)
    state = {k: v.clone() for k, v in encoder.model.state_dict().items() if k != "encoder.embed_tokens.weight"}
    del state["encoder.block.1.layer.0.SelfAttention.q.weight"]
    save_file(state, str(folder / "text_encoder" / "model.safetensors"), {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"do not fit.*block\.1\.layer\.0\.SelfAttention\.q"):
        UMT5Encoder.from_pretrained(folder)


def test_wans_published_files_load(pipeline: Path, tmp_path: Path, encoder: UMT5Encoder) -> None:
    """Several files, one copy of the token embeddings, and a config that says they are not tied."""
    folder = copy_of(pipeline, tmp_path)
    shutil.rmtree(folder / "text_encoder")
    encoder.model.save_pretrained(folder / "text_encoder", max_shard_size="20KB")
    assert len(list((folder / "text_encoder").glob("*.safetensors"))) > 1
    path = folder / "text_encoder" / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tie_word_embeddings": False}))
    assert torch.equal(UMT5Encoder.from_pretrained(folder)(PROMPTS), encoder(PROMPTS))
    next((folder / "text_encoder").glob("*-00002-of-*")).unlink()
    with pytest.raises(CheckpointError, match="missing or damaged"):
        UMT5Encoder.from_pretrained(folder)


def test_token_embeddings_that_were_left_behind_are_noticed(pipeline: Path) -> None:
    """Some releases of transformers load Wan's files so, and the prompt's words would not matter."""
    encoder = UMT5Encoder.from_pretrained(pipeline)
    encoder.model.encoder.embed_tokens = torch.nn.Embedding(40, TEXT_DIM)
    with pytest.raises(CheckpointError, match=r"not tied.*update transformers"):
        UMT5Encoder(encoder.model, encoder.tokenizer)


def test_a_tokenizer_of_another_model_is_refused(pipeline: Path, tmp_path: Path, encoder: UMT5Encoder) -> None:
    too_many = make_tokenizer(tmp_path / "many", tuple(f"w{i}" for i in range(50)))
    with pytest.raises(CheckpointError, match=r"53 tokens; expected .* at most 40"):
        UMT5Encoder(encoder.model, too_many)
    left = make_tokenizer(tmp_path / "left", padding_side="left")
    with pytest.raises(CheckpointError, match="left"):
        UMT5Encoder(encoder.model, left)


def test_wans_tokenizer_class_loads(encoder: UMT5Encoder, pipeline: Path, tmp_path: Path) -> None:
    folder = copy_of(pipeline, tmp_path)
    shutil.rmtree(folder / "tokenizer")
    make_t5_tokenizer(folder / "tokenizer")
    pieces = UMT5Encoder.from_pretrained(folder)
    assert type(pieces.tokenizer).__name__.startswith("T5Tokenizer")
    assert pieces.tokenizer("the red jug x").input_ids == [3, 4, 5, 6, 30, 1]
    assert (pieces(["the red jug x"])[0].abs().amax(-1) > 0).sum() == 6


def test_a_tokenizer_without_its_words_is_refused(pipeline: Path, tmp_path: Path) -> None:
    """transformers makes an empty tokenizer of such a folder and every word is unknown to it."""
    folder = copy_of(pipeline, tmp_path)
    (folder / "tokenizer" / "tokenizer.json").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer.*tokenizer\.json or spiece\.model"):
        UMT5Encoder.from_pretrained(folder)


def test_a_missing_sentencepiece_is_named(
    pipeline: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    folder = copy_of(pipeline, tmp_path)
    (folder / "tokenizer" / "tokenizer.json").rename(folder / "tokenizer" / "spiece.model")
    with pytest.raises(InputError, match=r"sentencepiece.*pip install sentencepiece"):
        UMT5Encoder.from_pretrained(folder)


def test_a_damaged_tokenizer_is_named(pipeline: Path, tmp_path: Path) -> None:
    folder = copy_of(pipeline, tmp_path)
    (folder / "tokenizer" / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"tokenizer cannot be read.*tokenizer: "):
        UMT5Encoder.from_pretrained(folder)


def test_without_transformers_the_error_says_what_to_install(
    pipeline: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(InputError, match=r"transformers.*pip install 'remind-video\[wan\]'"):
        UMT5Encoder.from_pretrained(pipeline)


def test_loading_opens_no_connection(pipeline: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: object) -> None:
        raise AssertionError(f"a connection was tried: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    UMT5Encoder.from_pretrained(pipeline)
