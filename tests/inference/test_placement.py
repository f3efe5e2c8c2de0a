"""Placement: which device, which type, parts that visit the device. A second device is recorded, not computed on."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from remind.errors import InputError
from remind.inference.components import load_components
from remind.inference.placement import Placement, part_of
from remind.models.codec import LinearCodec
from remind.models.text import WordHashEncoder
from remind.models.umt5 import UMT5Encoder
from remind.models.vae import DecodeStream, WanVAE

from ..models.make_pipeline import make_base
from ..models.make_wan import random_latents, random_video

ALL = frozenset({"vae", "text"})


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_base(tmp_path_factory.mktemp("wan"))


@pytest.fixture(scope="module")
def vae(base: Path) -> WanVAE:
    return WanVAE.from_pretrained(base)


@pytest.fixture(scope="module")
def text(base: Path) -> UMT5Encoder:
    return UMT5Encoder.from_pretrained(base)


def have(monkeypatch: pytest.MonkeyPatch, *, cuda: int = 0, mps: bool = False) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    """Where real parts were sent, in order; a GPU that this machine does not have is the CPU."""
    have(monkeypatch, cuda=1)
    seen: list[tuple[str, str]] = []

    def recorded(cls: type) -> Any:
        real = cls.to

        def to(self: Any, device: torch.device) -> Any:
            seen.append((cls.__name__, torch.device(device).type))
            return real(self, "cpu")

        return to

    for cls in (WanVAE, UMT5Encoder, DecodeStream, torch.nn.Linear):
        monkeypatch.setattr(cls, "to", recorded(cls))
    return seen


# --- which device, which type --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("there", "device", "dtype"), [
    ({"cuda": 1, "mps": True}, "cuda", torch.bfloat16),
    ({"mps": True}, "mps", torch.float32),
    ({}, "cpu", torch.float32),
])  # fmt: skip
def test_auto_takes_the_best_there_is(
    there: dict[str, Any], device: str, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    have(monkeypatch, **there)
    assert Placement("auto").target.type == device
    assert Placement("auto").weights_dtype == dtype
    assert Placement("auto", dtype="fp32").weights_dtype == torch.float32
    assert Placement("cpu").target.type == "cpu"


def test_bf16_on_a_cpu_is_done_and_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    assert Placement("cpu", dtype="bf16").weights_dtype == torch.bfloat16
    assert "bf16 on a CPU" in caplog.text
    caplog.clear()
    assert Placement("cpu").weights_dtype == torch.float32
    assert not caplog.text


def test_a_device_that_is_not_there_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    have(monkeypatch, cuda=2)
    assert Placement("cuda:1").target == torch.device("cuda", 1)
    with pytest.raises(InputError, match=r"got cuda:2; expected an index below 2"):
        _ = Placement("cuda:2").target
    with pytest.raises(InputError, match=r"no such device.*got mps; expected cuda \| cpu"):
        _ = Placement("mps").target
    have(monkeypatch)
    with pytest.raises(InputError, match=r"no such device.*got cuda; expected cpu. Fix: use device auto"):
        load_components("nano", placement=Placement("cuda"))


@pytest.mark.parametrize("wrong", [{"device": "tpu"}, {"device": "cuda:x"}, {"device": "cuda:"}, {"dtype": "fp16"},
                                   {"offload": frozenset({"model"})}])  # fmt: skip
def test_words_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(Exception, match=r"unknown device|Type-check error"):  # beartype sees some before we do
        Placement(**wrong)


# --- offloading ----------------------------------------------------------------------------------------------------


def test_a_part_is_on_the_device_only_while_it_is_used(
    vae: WanVAE, text: UMT5Encoder, moves: list[tuple[str, str]]
) -> None:
    placement = Placement("cuda", offload=ALL)
    for part in (vae, text):
        placement.put(part)
    assert moves == [("WanVAE", "cpu"), ("UMT5Encoder", "cpu")]
    moves.clear()
    with placement.using(text):
        moves.append(("encode", "text"))
        text(["a red jug"])
    with placement.using(vae):
        moves.append(("encode", "video"))
        vae.encode(random_video(5))
    assert moves == [("UMT5Encoder", "cuda"), ("encode", "text"), ("UMT5Encoder", "cpu"),
                     ("WanVAE", "cuda"), ("encode", "video"), ("WanVAE", "cpu")]  # fmt: skip


def test_a_streams_state_goes_with_its_codec(vae: WanVAE, moves: list[tuple[str, str]]) -> None:
    placement, stream, latents = Placement("cuda", offload=frozenset({"vae"})), vae.stream(), random_latents(6)
    parts = []
    for piece in latents.split(3, 1):
        with placement.using(vae, stream):
            parts.append(stream.push(piece))
    assert moves == [("WanVAE", "cuda"), ("DecodeStream", "cuda"), ("DecodeStream", "cpu"), ("WanVAE", "cpu")] * 2
    assert torch.equal(torch.cat(parts, 1), vae.decode(latents))


def test_a_part_that_stays_does_not_move_again(vae: WanVAE, text: UMT5Encoder, moves: list[tuple[str, str]]) -> None:
    placement = Placement("cuda", offload=frozenset({"text"}))
    placement.put(vae)
    with placement.using(vae):
        pass
    assert moves == [("WanVAE", "cuda")]
    moves.clear()
    with placement.using(text, vae):
        pass
    assert moves == [("UMT5Encoder", "cuda"), ("UMT5Encoder", "cpu")]


def test_a_part_leaves_the_device_after_an_error_too(vae: WanVAE, moves: list[tuple[str, str]]) -> None:
    with pytest.raises(InputError, match="no latents"), Placement("cuda", offload=ALL).using(vae):
        vae.decode(random_latents(0))
    assert moves == [("WanVAE", "cuda"), ("WanVAE", "cpu")]


def test_parts_without_weights_and_models_are_never_offloaded(moves: list[tuple[str, str]]) -> None:
    placement, model = Placement("cuda", offload=ALL), torch.nn.Linear(2, 2)
    for part in (LinearCodec.load(), WordHashEncoder(4, 3), model):
        placement.put(part)
        with placement.using(part):
            pass
    assert moves == [("Linear", "cuda")]


def test_on_a_cpu_nothing_is_offloaded(vae: WanVAE, moves: list[tuple[str, str]]) -> None:
    placement = Placement("cpu", offload=ALL)
    placement.put(vae)
    with placement.using(vae):
        pass
    assert moves == [("WanVAE", "cpu")]
    assert not placement.waits("vae")


def test_parts_are_told_apart(vae: WanVAE, text: UMT5Encoder) -> None:
    assert [part_of(p) for p in (vae, vae.stream(), text, LinearCodec.load(), WordHashEncoder(4, 3))] == [
        "vae", "vae", "text", "vae", "text"]  # fmt: skip
    assert part_of(torch.nn.Linear(1, 1)) == "model"


def test_loading_puts_every_part_where_it_belongs(
    base: Path, moves: list[tuple[str, str]], caplog: pytest.LogCaptureFixture
) -> None:
    """The order of a load, by its moves: the text encoder never touches the device if it is offloaded."""
    from remind.models.dit import CausalVideoDiT

    from ..models.make_checkpoints import random_model, write_wan
    from ..models.make_pipeline import WAN

    write_wan(base / "it", WAN, random_model(WAN).state_dict())
    real = CausalVideoDiT.to
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(CausalVideoDiT, "to", lambda self, where: real(self, where) if isinstance(where, torch.dtype)
                      else moves.append(("CausalVideoDiT", where.type)))  # fmt: skip
        with caplog.at_level(logging.INFO):
            parts = load_components(base / "it", base=base, placement=Placement("auto", offload=frozenset({"text"})))
    sent = [move for move in moves if move[0] in ("CausalVideoDiT", "WanVAE", "UMT5Encoder")]
    assert [move for move in sent if move[1] != "cpu"] == [("WanVAE", "cuda"), ("CausalVideoDiT", "cuda")]
    assert parts.model.dtype == torch.bfloat16
    assert next(parts.text.model.parameters()).dtype == torch.bfloat16
    assert parts.codec.module.dtype == torch.float32
