"""Prompt embeddings on disk: the bits of the encoder, each prompt once, and nothing stale, lost or left over."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from torch import Tensor

from remind.data.text_build import build_text, missing_prompts
from remind.data.text_cache import CachedText, StorableTextEncoder
from remind.errors import StoreError
from remind.models.text import TextEncoder, WordHashEncoder
from remind.models.umt5 import UMT5Encoder
from tests.models.make_wan import TEXT_DIM, make_text_encoder, make_tokenizer

JUG = "the red jug fills slowly"
PROMPTS = (JUG, f"{JUG}, the lights go off", "", "lights come back", "jug " * 40)


@pytest.fixture
def words() -> WordHashEncoder:
    return WordHashEncoder(8, 16)


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wan")
    make_text_encoder(folder / "text_encoder")
    make_tokenizer(folder / "tokenizer")
    return folder


class Counting:
    """An encoder that says what it was asked."""

    def __init__(self, encoder: StorableTextEncoder):
        self.encoder, self.dim, self.text_len, self.digest = encoder, encoder.dim, encoder.text_len, encoder.digest
        self.asked: list[str] = []

    def __call__(self, prompts: Sequence[str]) -> Tensor:
        self.asked += prompts
        return self.encoder(prompts)


def num_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in (folder / "shards").iterdir())


# --- the same bits -------------------------------------------------------------------------------------------------


def test_umt5_from_disk_is_umt5_bit_for_bit(pipeline: Path, tmp_path: Path) -> None:
    encoder = UMT5Encoder.from_pretrained(pipeline)
    report = build_text(PROMPTS, encoder, tmp_path)
    cached = CachedText.open(tmp_path)
    assert isinstance(cached, TextEncoder)
    assert (cached.dim, cached.text_len, cached.digest) == (TEXT_DIM, 512, encoder.digest)
    out = cached((*PROMPTS, PROMPTS[0]))
    assert out.shape == (6, 512, TEXT_DIM)
    for row, prompt in enumerate((*PROMPTS, PROMPTS[0])):
        assert torch.equal(out[row], encoder([prompt])[0])
    tokens = sum(len(encoder.tokenizer(prompt).input_ids) for prompt in PROMPTS)
    assert sum(pq.read_table(tmp_path / "index.parquet")["num_tokens"].to_pylist()) == tokens  # no padding on disk
    assert report.num_bytes == num_bytes(tmp_path) < 512 * TEXT_DIM * 4


def test_what_a_bfloat16_encoder_gave_takes_half_the_room_and_loses_nothing(pipeline: Path, tmp_path: Path) -> None:
    prompts = [f"the red jug {'fills ' * i}slowly" for i in range(40)]
    sizes = {}
    for dtype in (torch.float32, torch.bfloat16):
        encoder = UMT5Encoder.from_pretrained(pipeline, dtype=dtype)
        folder = tmp_path / str(dtype)
        build_text(prompts, encoder, folder)
        assert torch.equal(CachedText.open(folder)(prompts[3:5]), torch.cat([encoder([p]) for p in prompts[3:5]]))
        sizes[dtype] = num_bytes(folder)
    assert sizes[torch.bfloat16] < 0.6 * sizes[torch.float32]


def test_the_word_hash_from_disk_is_the_word_hash(words: WordHashEncoder, tmp_path: Path) -> None:
    build_text(PROMPTS, words, tmp_path, batch_size=3)
    cached = pickle.loads(pickle.dumps(CachedText.open(tmp_path)))
    assert torch.equal(cached(PROMPTS), words(PROMPTS))
    assert cached([]).shape == (0, 16, 8)
    assert len(cached) == len(PROMPTS)


def test_digests_tell_encoders_apart(pipeline: Path, tmp_path: Path) -> None:
    make_text_encoder(tmp_path / "text_encoder", num_layers=1)
    make_tokenizer(tmp_path / "tokenizer")
    make_text_encoder(tmp_path / "words" / "text_encoder")
    make_tokenizer(tmp_path / "words" / "tokenizer", ("a", "jug"))
    encoders = [UMT5Encoder.from_pretrained(pipeline), UMT5Encoder.from_pretrained(pipeline, dtype=torch.bfloat16),
                UMT5Encoder.from_pretrained(pipeline, text_len=64), UMT5Encoder.from_pretrained(tmp_path),
                UMT5Encoder.from_pretrained(tmp_path / "words"), WordHashEncoder(8, 16),
                WordHashEncoder(8, 17), WordHashEncoder(9, 16)]  # fmt: skip
    assert len({encoder.digest for encoder in encoders}) == len(encoders)
    assert UMT5Encoder.from_pretrained(pipeline).digest == encoders[0].digest


# --- building ------------------------------------------------------------------------------------------------------


def test_each_prompt_is_embedded_once_and_a_second_build_does_nothing(words: WordHashEncoder, tmp_path: Path) -> None:
    encoder, told = Counting(words), []
    first = build_text([*PROMPTS, PROMPTS[1]], encoder, tmp_path, progress=lambda *n: told.append(n))
    assert sorted(encoder.asked) == sorted(PROMPTS)
    assert told == [(i, 5) for i in range(1, 6)]
    assert (first.embedded, first.kept, first.removed) == (5, 0, 0)
    again = build_text(PROMPTS, encoder, tmp_path)
    assert len(encoder.asked) == 5
    assert (again.embedded, again.kept, again.removed) == (0, 5, 0)
    assert missing_prompts([*PROMPTS, "new"], words.digest, tmp_path) == ("new",)


def test_killed_in_the_middle_it_goes_on_where_it_was(words: WordHashEncoder, tmp_path: Path) -> None:
    class Killed(Exception):
        pass

    def kill(done: int, total: int) -> None:
        if done == 2:
            raise Killed

    first, second = Counting(words), Counting(words)
    with pytest.raises(Killed):
        build_text(PROMPTS, first, tmp_path, shard_bytes=1, progress=kill)
    with pytest.raises(StoreError, match="there are no prompt embeddings"):
        CachedText.open(tmp_path)
    (tmp_path / "shards" / ".text-0000000000000000.safetensors.1.partial").write_bytes(b"half")
    build_text(PROMPTS, second, tmp_path)
    assert sorted(first.asked + second.asked) == sorted(PROMPTS)
    assert torch.equal(CachedText.open(tmp_path)(PROMPTS), words(PROMPTS))
    assert not list((tmp_path / "shards").glob(".*"))


def test_prompts_that_nobody_asks_for_leave_the_disk(words: WordHashEncoder, tmp_path: Path) -> None:
    build_text(PROMPTS, words, tmp_path)
    one = words([PROMPTS[3]])[0, :3].numpy().tobytes()
    rest = (*PROMPTS[:3], PROMPTS[4])
    assert any(one in path.read_bytes() for path in (tmp_path / "shards").iterdir())
    encoder = Counting(words)
    report = build_text(rest, encoder, tmp_path)
    assert (report.embedded, report.kept, report.removed, encoder.asked) == (0, 4, 1, [])
    assert not any(one in path.read_bytes() for path in (tmp_path / "shards").iterdir())
    assert torch.equal(CachedText.open(tmp_path)(rest), words(rest))


def test_another_encoder_replaces_everything(words: WordHashEncoder, tmp_path: Path) -> None:
    build_text(PROMPTS, words, tmp_path)
    other = WordHashEncoder(12, 20)
    report = build_text(PROMPTS, other, tmp_path)
    assert (report.embedded, report.removed) == (5, 5)
    assert torch.equal(CachedText.open(tmp_path)(PROMPTS), other(PROMPTS))


# --- what is wrong -------------------------------------------------------------------------------------------------


def test_a_missing_prompt_is_named_with_the_fix(words: WordHashEncoder, tmp_path: Path) -> None:
    build_text(PROMPTS, words, tmp_path)
    cached = CachedText.open(tmp_path)
    message = r"never embedded; got 'a new thing'.*Fix: run `remind data latents \.\.\. --text \.\.\.` again"
    with pytest.raises(StoreError, match=message):
        cached([PROMPTS[0], "a new thing"])
    with pytest.raises(StoreError, match=r"never embedded; got 'x' and 1 more"):
        cached.check([PROMPTS[0], "x", "y", "x"])
    cached.check(PROMPTS)


def test_damage_is_noticed(words: WordHashEncoder, tmp_path: Path) -> None:
    build_text(PROMPTS, words, tmp_path)
    cached = CachedText.open(tmp_path)
    (shard,) = (path for path in (tmp_path / "shards").iterdir() if cached(PROMPTS[:1])[0, :5].numpy().tobytes()
                in path.read_bytes())  # fmt: skip
    data = bytearray(shard.read_bytes())
    data[data.index(words([PROMPTS[0]])[0, :5].numpy().tobytes())] ^= 1
    shard.write_bytes(data)
    with pytest.raises(StoreError, match="another checksum"):
        cached(PROMPTS[:1])
    shard.write_bytes(data[:-7])
    with pytest.raises(StoreError, match="cannot be read"):
        cached(PROMPTS[:1])
    shard.unlink()
    with pytest.raises(StoreError, match="cannot be read"):
        cached(PROMPTS[:1])
    assert build_text(PROMPTS, words, tmp_path).embedded > 0
    assert torch.equal(CachedText.open(tmp_path)(PROMPTS), words(PROMPTS))


def test_an_index_that_leads_out_of_the_cache_or_says_nonsense_is_refused(
    words: WordHashEncoder, tmp_path: Path
) -> None:
    build_text(PROMPTS, words, tmp_path)
    path = tmp_path / "index.parquet"
    table = pq.read_table(path)
    rows, about = table.to_pylist(), dict(table.schema.metadata)

    def write(meta: dict[bytes, bytes] | None = None, **fields: object) -> None:
        changed = [{**row, **fields} for row in rows]
        pq.write_table(table.from_pylist(changed, schema=table.schema.with_metadata({**about, **(meta or {})})), path)

    for fields, words_of_error in (
        ({"shard": "../../etc/passwd"}, "outside of the cache"), ({"key": "z" * 64}, "a key that is none"),
        ({"crc32": None}, "empty fields"),
    ):  # fmt: skip
        write(**fields)
        with pytest.raises(StoreError, match=words_of_error):
            CachedText.open(tmp_path)
    for meta, words_of_error in (({b"dim": b"-3"}, "damaged.*sizes"), ({b"remind.text": b"9"}, "another format")):
        write(meta)
        with pytest.raises(StoreError, match=words_of_error):
            CachedText.open(tmp_path)
    write(num_tokens=10**6)
    with pytest.raises(StoreError, match="1000000 tokens"):
        CachedText.open(tmp_path)(PROMPTS[:1])
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(StoreError, match="index of prompts is damaged"):
        CachedText.open(tmp_path)


def test_embeddings_that_are_not_finite_are_never_written(words: WordHashEncoder, tmp_path: Path) -> None:
    class Broken(Counting):
        def __call__(self, prompts: Sequence[str]) -> Tensor:
            out = super().__call__(prompts)
            return out / 0 if PROMPTS[3] in prompts else out

    with pytest.raises(StoreError, match=r"not finite; got 'lights come back'"):
        build_text(PROMPTS, Broken(words), tmp_path)
    second = Counting(words)
    build_text(PROMPTS, second, tmp_path)
    assert sorted(second.asked) == sorted(PROMPTS[3:])  # what was done stays done
