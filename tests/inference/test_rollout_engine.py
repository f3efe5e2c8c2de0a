"""The engine, chunk by chunk: what it takes, what it refuses, and that nothing but seed and chunk decides its noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from remind.errors import InputError
from remind.inference.memory_policy import Retrieve, Window
from remind.inference.noise import chunk_noise, purpose_noise
from remind.inference.past import ChunkConditions
from remind.inference.rollout import Conditions, rollout
from remind.inference.samplers import Sampler
from remind.models.dit import CausalVideoDiT

from ..make_memory import filled_model
from .make_rollout import FAST, ask, clean_latents, engine, run


@pytest.fixture(scope="module")
def model() -> CausalVideoDiT:
    return filled_model()


def test_the_function_is_the_engine_asked_chunk_by_chunk(model: CausalVideoDiT) -> None:
    asked = [ask(k) for k in range(5)]
    together = Conditions(
        torch.stack([a.text for a in asked], 1), torch.cat([a.cameras for a in asked], 1),
        torch.cat([a.camera_valid for a in asked], 1), tuple(a.role for a in asked), (1, 2),
    )
    by_hand = engine(model)
    by_hand.give(clean_latents(2), asked[:2])
    expected = run(by_hand, 3)
    assert torch.equal(rollout(model, clean_latents(2), together, sampler=FAST)[:, 6:], expected)


def test_purposes_chunks_passes_and_seeds_have_noise_of_their_own() -> None:
    shape = (3, 4, 2, 2)
    drawn = [chunk_noise((7,), 3, shape)]
    drawn += [
        purpose_noise((seed,), chunk, purpose, shape, index=index)
        for seed in (7, 8) for chunk in (-1, 0, 3) for purpose in ("context", "fresh") for index in (0, 1)
    ]
    for i, one in enumerate(drawn):
        assert all((one - other).abs().max() > 0.1 for other in drawn[:i])
    both = purpose_noise((7, 8), 3, "fresh", shape, index=1)
    assert torch.equal(both[1:], purpose_noise((8,), 3, "fresh", shape, index=1))


SAMPLERS = [Sampler(steps=3), Sampler(kind="few_step", levels=(1.0, 0.6, 0.3)), Sampler(steps=1)]


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: f"{s.kind}-{s.steps}")
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_every_sampler_writes_together_what_it_writes_apart(
    model: CausalVideoDiT, sampler: Sampler, guidance: float
) -> None:
    options: dict[str, Any] = {"sampler": sampler, "guidance": guidance, "context_noise": 0.1}
    apart = run(engine(model, chunks_per_pass=1, **options), 4)
    torch.testing.assert_close(run(engine(model, **options), 4), apart, atol=1e-4, rtol=1e-4)


def test_a_distilled_sampler_draws_the_same_for_a_sample_in_any_batch(model: CausalVideoDiT) -> None:
    sampler = Sampler(kind="few_step", levels=(1.0, 0.6, 0.3))
    both = engine(model, sampler=sampler)
    second = engine(model, sampler=sampler, seeds=(2,))

    def only(asked: ChunkConditions) -> ChunkConditions:
        return replace(asked, text=asked.text[1:], cameras=asked.cameras[1:], camera_valid=asked.camera_valid[1:])

    for k in range(3):
        torch.testing.assert_close(
            second.generate(only(ask(k))), both.generate(ask(k))[1:], atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: f"{s.kind}-{s.steps}")
def test_a_given_first_frame_stays(model: CausalVideoDiT, sampler: Sampler) -> None:
    image = clean_latents(1)[:, :1]
    made = engine(model, sampler=sampler, guidance=2.0).generate(ask(0, guided=True), first_frame=image)
    assert torch.equal(made[:, :1], image)
    assert (made[:, 1:] - image).abs().min() > 0


def test_an_interrupted_chunk_can_be_asked_for_again(model: CausalVideoDiT) -> None:
    class Stop(Exception):
        pass

    def stop(glance: object) -> None:
        raise Stop

    for policy in (Window(2), Retrieve(2)):
        expected, broken = engine(model, policy=policy), engine(model, policy=policy)
        run(expected, 3)
        run(broken, 3)
        with pytest.raises(Stop):
            broken.generate(ask(3), glance=stop)
        assert (broken.num_chunks, broken.memory.cache.num_open) == (3, 0)
        torch.testing.assert_close(run(broken, 3), run(expected, 3), atol=1e-4, rtol=1e-4)


def test_what_the_caller_does_to_its_tensors_later_does_not_matter(model: CausalVideoDiT) -> None:
    spoiled, kept = engine(model, policy=Retrieve(2)), engine(model, policy=Retrieve(2))
    for k in range(6):
        asked = ask(k)
        made = spoiled.generate(asked)
        assert torch.equal(made, kept.generate(ask(k)))
        for tensor in (made, asked.text, asked.cameras):
            assert isinstance(tensor, Tensor)
            tensor.fill_(float("nan"))


def test_equal_prompts_are_encoded_once_and_kept_once(model: CausalVideoDiT, monkeypatch: pytest.MonkeyPatch) -> None:
    encoded = []
    encode = model.encode_prompt
    monkeypatch.setattr(model, "encode_prompt", lambda text: encoded.append(text) or encode(text))
    made = engine(model, guidance=2.0)
    for k in range(4):
        text = ask(0, guided=True)
        made.generate(replace(ask(k, guided=True), text=text.text, negative=text.negative))
    assert len(encoded) == 2
    assert len({id(p.conditions.text) for p in made.past}) == 1


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"seeds": (1,), "batch": 2}, r"every sample needs a seed; got \[1\]; expected 2"),
        ({"seeds": (-1, 2)}, "every sample needs a seed"),
        ({"chunks_per_pass": 0}, "at least one chunk"),
        ({"context_noise": 1.0}, "noise level; got 1.0"),
        ({"context_noise": float("nan")}, "noise level"),
        ({"first_position": -1}, "starts at a time"),
        ({"guidance": float("inf")}, "guidance"),
        ({"latent_hw": (3, 2)}, "patches"),
    ],
)
def test_choices_out_of_range_are_refused(model: CausalVideoDiT, change: dict[str, Any], error: str) -> None:
    with pytest.raises(InputError, match=error):
        engine(model, **change)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"negative": torch.zeros(2, 6, 8)}, "negative prompt goes with guidance"),
        ({"text": torch.zeros(2, 5, 8)}, r"text does not fit; got \(2, 5, 8\); expected \(2, 6, 8\)"),
        ({"cameras": None}, "all chunks of a rollout have cameras"),
    ],
)
def test_conditions_that_do_not_fit_are_refused(model: CausalVideoDiT, change: dict[str, Any], error: str) -> None:
    rollout = engine(model)
    run(rollout, 1)
    with pytest.raises(InputError, match=error):
        rollout.generate(replace(ask(1), **change))
    with pytest.raises(InputError, match=error):
        rollout.give(clean_latents(1), [replace(ask(1), **change)])
    run(rollout, 1)


def test_conditions_of_another_batch_are_refused_from_the_first_chunk_on(model: CausalVideoDiT) -> None:
    with pytest.raises(InputError, match=r"text does not fit; got \(1, 6, 8\)"):
        engine(model).generate(ask(0, batch=1))


def test_a_guided_rollout_needs_negative_prompts(model: CausalVideoDiT) -> None:
    with pytest.raises(InputError, match=r"negative prompt goes with guidance.*that of no words"):
        engine(model, guidance=2.0).generate(ask(0))


def test_latents_and_frames_that_do_not_fit_are_refused(model: CausalVideoDiT) -> None:
    rollout = engine(model)
    for wrong in (clean_latents(2), clean_latents(1)[:, :2], clean_latents(1)[:1], clean_latents(1)[..., :1]):
        with pytest.raises(InputError, match="whole chunks"):
            rollout.give(wrong, [ask(0)])
    with pytest.raises(InputError, match="first frame has another size"):
        rollout.generate(ask(0), first_frame=clean_latents(1)[:1, :1])
    run(rollout, 1)
    with pytest.raises(InputError, match=r"only the first chunk.*chunk 1"):
        rollout.generate(ask(1), first_frame=clean_latents(1)[:, :1])
