"""Generation through the cache: what is given stays, the seed decides, and hiding a memory is exact."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from remind.errors import InputError
from remind.inference.rollout import Conditions, Glance, chunk_noise, rollout
from remind.inference.samplers import Sampler
from remind.models.attention import ChunkMask
from remind.models.dit import CausalVideoDiT

from ..make_memory import TINY, filled_model, random_cameras

CHUNKS, HW = 5, (2, 2)
ROLES = ("anchor", "anchor", "degraded", "recovery", "clean")
FAST = Sampler(steps=3, shift=2.0)


@pytest.fixture(scope="module")
def model() -> CausalVideoDiT:
    return filled_model()


def make_conditions(seeds: tuple[int, ...] = (1, 2)) -> Conditions:
    generator, b = torch.Generator().manual_seed(9), len(seeds)
    return Conditions(
        torch.randn(b, CHUNKS, 6, TINY.text_dim, generator=generator),
        random_cameras(b, 3 * CHUNKS, generator),
        torch.rand(b, 3 * CHUNKS, generator=generator) > 0.2,
        ROLES,
        seeds,
    )


def make_prefix(chunks: int = 3, batch: int = 2) -> Tensor:
    return torch.randn(batch, 3 * chunks, 16, *HW, generator=torch.Generator().manual_seed(4))


def pick(conditions: Conditions, rows: list[int]) -> Conditions:
    """The same requests in another batch."""
    return Conditions(conditions.text[rows], conditions.cameras[rows], conditions.camera_valid[rows],
                      conditions.roles, tuple(conditions.seeds[i] for i in rows))  # fmt: skip


def full_pass(model: CausalVideoDiT, latents: Tensor, sigmas: Tensor, c: Conditions, mask: ChunkMask) -> Tensor:
    """One pass over whole chunks from 0 on, without a cache."""
    b, t = sigmas.shape
    return model(latents, sigmas, torch.arange(float(t)).expand(b, -1), c.text[:, : t // 3], c.cameras[:, :t],
                 camera_valid=c.camera_valid[:, :t], attention=mask)  # fmt: skip


def in_one_step(model: CausalVideoDiT, prefix: Tensor, c: Conditions, masks: list[ChunkMask]) -> Tensor:
    """Chunk by chunk, one Euler step from pure noise, the whole past recomputed each time."""
    x = prefix
    for k, mask in enumerate(masks, start=prefix.shape[1] // 3):
        noise = chunk_noise(c.seeds, k, (3, 16, *HW))
        sigmas = torch.zeros(len(c.seeds), 3 * (k + 1))
        sigmas[:, 3 * k :] = 1
        with torch.no_grad():
            velocity = full_pass(model, torch.cat([x, noise], 1), sigmas, c, mask)[:, 3 * k :]
        x = torch.cat([x, noise - velocity], 1)
    return x


def test_noise_is_a_function_of_seed_and_chunk_alone() -> None:
    both = chunk_noise((7, 8), 3, (3, 4, 2, 2))
    assert torch.equal(both[1:], chunk_noise((8,), 3, (3, 4, 2, 2)))
    assert torch.equal(both.flip(0), chunk_noise((8, 7), 3, (3, 4, 2, 2)))
    assert not torch.equal(both[0], both[1])
    assert not torch.equal(both[0], chunk_noise((7,), 4, (3, 4, 2, 2))[0])
    many = chunk_noise(range(200), 0, (3, 16, 1, 1))
    assert many.mean().item() == pytest.approx(0, abs=0.03)
    assert many.std().item() == pytest.approx(1, abs=0.03)


def test_the_same_seed_gives_the_same_bits_and_another_seed_does_not(model: CausalVideoDiT) -> None:
    first, second = (rollout(model, make_prefix(), make_conditions(), sampler=FAST) for _ in range(2))
    assert torch.equal(first, second)
    other = rollout(model, make_prefix(), make_conditions((1, 3)), sampler=FAST)
    assert torch.equal(other[0], first[0])
    assert (other[1, 9:] - first[1, 9:]).abs().max() > 0.1


def test_a_sample_does_not_depend_on_its_batch(model: CausalVideoDiT) -> None:
    prefix, conditions = make_prefix(), make_conditions()
    together = rollout(model, prefix, conditions, sampler=FAST)
    swapped = rollout(model, prefix[[1, 0]], pick(conditions, [1, 0]), sampler=FAST)
    alone = rollout(model, prefix[1:], pick(conditions, [1]), sampler=FAST)
    torch.testing.assert_close(swapped[[1, 0]], together, atol=1e-4, rtol=0)
    torch.testing.assert_close(alone[0], together[1], atol=1e-4, rtol=0)  # up to the kernels' order of sums


@pytest.mark.parametrize("chunks", [0, 1, 3, 4])
def test_what_is_given_is_returned_untouched(model: CausalVideoDiT, chunks: int) -> None:
    prefix = make_prefix(chunks)
    out = rollout(model, prefix, make_conditions(), sampler=FAST)
    assert out.shape == (2, 3 * CHUNKS, 16, *HW)
    assert torch.equal(out[:, : 3 * chunks], prefix)
    assert out.isfinite().all()


@pytest.mark.parametrize("chunks", [0, 2])
def test_streaming_equals_recomputing_the_whole_past(model: CausalVideoDiT, chunks: int) -> None:
    prefix, conditions = make_prefix(chunks), make_conditions()
    streamed = rollout(model, prefix, conditions, sampler=Sampler(steps=1))
    truth = in_one_step(model, prefix, conditions, [ChunkMask.causal(k + 1) for k in range(chunks, CHUNKS)])
    torch.testing.assert_close(streamed, truth, atol=1e-4, rtol=1e-4)


def test_the_future_is_not_read(model: CausalVideoDiT) -> None:
    conditions = make_conditions()
    before = rollout(model, make_prefix(), conditions, sampler=FAST)
    cameras, text = conditions.cameras.clone(), conditions.text.clone()
    cameras[:, 12:], text[:, 4] = cameras[:, :3], -text[:, 4]
    after = rollout(model, make_prefix(), replace(conditions, cameras=cameras, text=text), sampler=FAST)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.allclose(before[:, 12:], after[:, 12:])


@pytest.mark.parametrize("together", [1, 2, 3, 5])
@pytest.mark.parametrize("given", [0, 1, 3])
def test_writing_in_the_next_chunks_first_pass_is_writing_in_a_pass_of_its_own(
    model: CausalVideoDiT, together: int, given: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    run = model.forward
    monkeypatch.setattr(model, "forward", lambda x, *a, **k: passes.append(x.shape[1] // 3) or run(x, *a, **k))
    seen: dict[int, list[Glance]] = {1: [], together: []}
    made = {n: rollout(model, make_prefix(given), make_conditions(), sampler=FAST, glance=seen[n].append,
                       chunks_per_pass=n) for n in seen}  # fmt: skip
    torch.testing.assert_close(made[together], made[1], atol=2e-5, rtol=1e-5)
    for mine, separate in zip(seen[together], seen[1], strict=True):
        assert mine.entries == separate.entries
        torch.testing.assert_close(torch.stack(mine.lse), torch.stack(separate.lse), atol=2e-5, rtol=1e-5)
    if together > 1:
        last = passes[given + (CHUNKS - given) * 4 - 1 :]  # those of the second rollout
        assert sum(last) == CHUNKS - 1 + 3 * (CHUNKS - given)  # equal work
        assert max(last) <= together
        assert len(last) == 3 * (CHUNKS - given) + given // together


def test_a_pass_runs_over_at_least_one_chunk(model: CausalVideoDiT) -> None:
    with pytest.raises(InputError, match="at least one chunk"):
        rollout(model, make_prefix(), make_conditions(), chunks_per_pass=0)


# --- knocking out a memory -----------------------------------------------------------------------------------------


def test_rebuild_is_as_if_the_chunk_had_never_been(model: CausalVideoDiT) -> None:
    prefix, conditions = make_prefix(), make_conditions()
    knocked = rollout(model, prefix, conditions, sampler=Sampler(steps=1), knocked_out=(1,), knock_out="rebuild")
    past = ((0,), (0, 1), (0, 2))  # chunk 2 never saw chunk 1
    masks = [ChunkMask((*past, (0, 2, 3))), ChunkMask((*past, (0, 2, 3), (0, 2, 3, 4)))]
    torch.testing.assert_close(knocked, in_one_step(model, prefix, conditions, masks), atol=1e-4, rtol=1e-4)
    garbage = prefix.clone()
    garbage[:, 3:6] = 1e3
    again = rollout(model, garbage, conditions, sampler=Sampler(steps=1), knocked_out=(1,), knock_out="rebuild")
    assert torch.equal(again[:, 9:], knocked[:, 9:])


def test_direct_hides_the_entry_but_later_ones_have_absorbed_it(model: CausalVideoDiT) -> None:
    prefix, conditions = make_prefix(), make_conditions()
    results = {
        how: rollout(model, prefix, conditions, sampler=Sampler(steps=1), knocked_out=(1,), knock_out=how)
        for how in ("direct", "rebuild")
    }
    past = ((0,), (0, 1), (0, 1, 2))  # chunk 2 saw chunk 1, nobody else does
    masks = [ChunkMask((*past, (0, 2, 3))), ChunkMask((*past, (0, 2, 3), (0, 2, 3, 4)))]
    truth = in_one_step(model, prefix, conditions, masks)
    torch.testing.assert_close(results["direct"], truth, atol=1e-4, rtol=1e-4)
    whole = rollout(model, prefix, conditions, sampler=Sampler(steps=1))
    for a, b in ((results["direct"], results["rebuild"]), (results["direct"], whole), (results["rebuild"], whole)):
        assert (a[:, 9:] - b[:, 9:]).abs().max() > 1e-3
        assert torch.equal(a[:, :9], b[:, :9])


def test_with_everything_knocked_out_the_prefix_does_not_matter(model: CausalVideoDiT) -> None:
    conditions = make_conditions()
    a, b = (
        rollout(model, prefix, conditions, sampler=FAST, knocked_out=(0, 1, 2))
        for prefix in (make_prefix(), make_prefix().flip(1))
    )
    assert torch.equal(a[:, 9:], b[:, 9:])


# --- image to video ------------------------------------------------------------------------------------------------


def test_image_to_video_keeps_the_first_frame_and_reads_it(model: CausalVideoDiT) -> None:
    nothing, image = make_prefix(0), make_prefix(1)[:, :1]
    out = rollout(model, nothing, make_conditions(), sampler=FAST, first_frame=image)
    assert torch.equal(out[:, :1], image)
    assert out.shape[1] == 3 * CHUNKS
    other = rollout(model, nothing, make_conditions(), sampler=FAST, first_frame=-image)
    assert (out[:, 1:3] - other[:, 1:3]).abs().max() > 1e-3
    assert (out[:, 3:6] - other[:, 3:6]).abs().max() > 1e-4  # and it is remembered


def test_the_seeded_frame_is_at_sigma_0_while_its_chunk_is_denoised(model: CausalVideoDiT) -> None:
    image, conditions = make_prefix(1)[:, :1], make_conditions()
    out = rollout(model, make_prefix(0), conditions, sampler=Sampler(steps=1), first_frame=image)
    noise = chunk_noise(conditions.seeds, 0, (3, 16, *HW))
    noise[:, :1] = image
    with torch.no_grad():
        velocity = full_pass(model, noise, torch.tensor([[0.0, 1.0, 1.0]] * 2), conditions, ChunkMask.causal(1))
    torch.testing.assert_close(out[:, 1:3], (noise - velocity)[:, 1:], atol=1e-4, rtol=1e-4)


# --- looking -------------------------------------------------------------------------------------------------------


def test_glances_show_every_step_and_what_was_in_memory(model: CausalVideoDiT) -> None:
    seen: list[Glance] = []
    watched = rollout(model, make_prefix(), make_conditions(), sampler=FAST, glance=seen.append)
    assert torch.equal(watched, rollout(model, make_prefix(), make_conditions(), sampler=FAST))
    assert [(g.chunk, g.step) for g in seen] == [(k, s) for k in (3, 4) for s in range(3)]
    for g in seen:
        assert [e.chunk for e in g.entries] == list(range(g.chunk + 1))
        assert [e.role for e in g.entries] == list(ROLES[: g.chunk + 1])
        assert [e.position for e in g.entries] == [3 * k for k in range(g.chunk + 1)]
        assert len(g.lse) == TINY.num_layers
        assert all(x.shape == (2, TINY.num_heads, 3, g.chunk + 1) for x in g.lse)
        assert all(x.isfinite().all() for x in g.lse)


def test_a_glance_does_not_show_what_was_knocked_out(model: CausalVideoDiT) -> None:
    for how in ("direct", "rebuild"):
        seen: list[Glance] = []
        rollout(model, make_prefix(), make_conditions(), sampler=FAST, knocked_out=(0, 1), knock_out=how,
                glance=seen.append)  # fmt: skip
        assert all({e.chunk for e in g.entries} == {2, *range(3, g.chunk + 1)} for g in seen)
        assert all(g.lse[0].shape[-1] == len(g.entries) for g in seen)


# --- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("latents", [1, 4, 3 * CHUNKS, 3 * CHUNKS + 3])
def test_a_prefix_that_is_not_whole_chunks_or_leaves_nothing_is_refused(model: CausalVideoDiT, latents: int) -> None:
    prefix = torch.zeros(2, latents, 16, *HW)
    with pytest.raises(InputError, match=r"whole chunks.*a multiple of 3 below 15"):
        rollout(model, prefix, make_conditions(), sampler=FAST)


def test_a_prefix_and_a_first_frame_exclude_each_other(model: CausalVideoDiT) -> None:
    with pytest.raises(InputError, match="not both"):
        rollout(model, make_prefix(), make_conditions(), first_frame=make_prefix(1)[:, :1])


def test_only_what_was_given_can_be_knocked_out(model: CausalVideoDiT) -> None:
    with pytest.raises(InputError, match=r"knocked out; got \[3\]; expected chunks below 3"):
        rollout(model, make_prefix(), make_conditions(), knocked_out=(3,))


def test_a_prompt_is_encoded_once_and_each_chunk_reads_its_own(model: CausalVideoDiT, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """A prompt switch in the middle, and two chunks that share a prompt."""
    conditions = make_conditions()
    text = conditions.text.clone()
    text[:, 3] = text[:, 2]
    conditions = replace(conditions, text=text)
    encoded = []
    encode = model.encode_prompt
    monkeypatch.setattr(model, "encode_prompt", lambda t: encoded.append(t) or encode(t))
    got = rollout(model, make_prefix(2), conditions, sampler=FAST)
    assert len(encoded) == 4  # chunks 0, 1, 2 and 4
    other = replace(conditions, text=torch.cat([text[:, :4], text[:, 4:] + 1], 1))
    changed = rollout(model, make_prefix(2), other, sampler=FAST)
    assert torch.equal(got[:, :12], changed[:, :12])
    assert not torch.allclose(got[:, 12:], changed[:, 12:])
