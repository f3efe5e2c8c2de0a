"""UMT5Encoder against transformers called directly, one prompt at a time and without any padding."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from remind.models.umt5 import UMT5Encoder
from tests.models.make_wan import TEXT_DIM, make_text_encoder, make_tokenizer

PROMPTS = ["the red jug fills slowly the lights go off", "a jug", "", "the lights come back " * 100]


@pytest.mark.parametrize("config", [{}, {"num_layers": 3, "d_kv": 4}])
def test_embeddings_are_the_librarys_without_padding(config: dict[str, int], tmp_path: Path) -> None:
    """Padding to 512 with a mask must not show in any position that is kept, and nothing else is kept."""
    model = make_text_encoder(tmp_path / "text_encoder", **config)
    tokenizer = make_tokenizer(tmp_path / "tokenizer")
    got = UMT5Encoder.from_pretrained(tmp_path)(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        ids = tokenizer(prompt, return_tensors="pt").input_ids
        assert ids[0, -1] == 1
        with torch.no_grad():
            alone = model(input_ids=ids).last_hidden_state[0]
        expected = torch.zeros(512, TEXT_DIM)
        expected[: len(alone)] = alone
        assert (got[row] - expected).abs().max() <= 1e-5


def test_512_tokens_are_kept_of_a_longer_prompt(tmp_path: Path) -> None:
    model = make_text_encoder(tmp_path / "text_encoder")
    make_tokenizer(tmp_path / "tokenizer")
    got = UMT5Encoder.from_pretrained(tmp_path)(["jug " * 700])[0]
    ids = torch.tensor([[6] * 511 + [1]])  # "jug" is the fourth word after three special tokens
    with torch.no_grad():
        expected = model(input_ids=ids).last_hidden_state[0]
    assert (got - expected).abs().max() <= 1e-5
