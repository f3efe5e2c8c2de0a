"""The word-hash encoder: the same everywhere, a word is a word, and long prompts keep their event."""

from __future__ import annotations

import subprocess
import sys

import torch

from remind.models.text import WordHashEncoder

PROMPTS = ["A red jug fills slowly, the lights go off", ""]


def test_another_process_gives_the_same_numbers() -> None:
    code = (
        "import hashlib; from remind.models.text import WordHashEncoder\n"
        f"print(hashlib.sha256(WordHashEncoder(16, 12)({PROMPTS!r}).numpy().tobytes()).hexdigest())"
    )
    import hashlib

    mine = hashlib.sha256(WordHashEncoder(16, 12)(PROMPTS).numpy().tobytes()).hexdigest()
    theirs = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                            env={"PYTHONHASHSEED": "7"})  # fmt: skip
    assert theirs.stdout.strip() == mine


def test_short_prompts_are_padded_with_zeros() -> None:
    out = WordHashEncoder(16, 12)(PROMPTS)
    assert out.shape == (2, 12, 16)
    assert out.dtype == torch.float32
    assert (out[0, :9].abs().amax(-1) > 0).all()
    assert (out[0, 9:] == 0).all()
    assert (out[1] == 0).all()


def test_a_word_is_its_letters_alone() -> None:
    encode = WordHashEncoder(16, 4)
    assert torch.equal(encode(["The DOOR, opens!"]), encode(["the door opens"]))
    out = encode(["door door window"])[0]
    assert torch.equal(out[0], out[1])
    assert not torch.allclose(out[0], out[2])


def test_different_words_are_nearly_orthogonal() -> None:
    words = WordHashEncoder(256, 6)(["filling melting inflating burning walking swinging"])[0]
    cosine = torch.nn.functional.normalize(words, dim=-1) @ torch.nn.functional.normalize(words, dim=-1).T
    assert (cosine - torch.eye(6)).abs().max() < 0.3


def test_long_prompts_keep_their_first_and_last_words() -> None:
    for text_len, kept in ((4, "a b i j"), (5, "a b c i j"), (1, "a"), (10, "a b c d e f g h i j")):
        encode = WordHashEncoder(16, text_len)
        assert torch.equal(encode(["a b c d e f g h i j"]), encode([kept]))
