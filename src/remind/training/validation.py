"""Validation by loss: held-out clips at fixed noise levels, in every regime of the curriculum.

The training loss of a step depends on which clips, regimes and noise levels it drew; this one does not, so that its
curve shows the weights alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.distributed as dist
from jaxtyping import Float
from torch import Tensor

from remind.data.memory_sample import MemorySample
from remind.errors import InputError
from remind.flow import velocity_target
from remind.models.dit import CausalVideoDiT
from remind.sequence_plan import SequencePlan, SigmaRule
from remind.training.regimes import REGIMES, RegimeName, RegimeOptions, draw_batch_choices
from remind.training.step import StepOptions, TrainingBatch, assemble, predict
from remind.validation import Validation, Validator, in_eval_mode

__all__ = ["SIGMAS", "LossValidator", "Validation", "Validator"]

SIGMAS = (0.1, 0.3, 0.5, 0.7, 0.9)  # our choice: the middles of five equal buckets


class LossValidator:
    """The flow loss (Eq. 4) of clips that are never trained on; its negative is the score.

    A pure function of weights and seed: noise and plan of a clip depend on (seed, clip, regime), noise levels are
    given. All clips of a regime share its choices, so that any number of them can run in one pass.

    The scalars are `flow`, a plain mean over regimes and noise levels, and its parts `flow/regime/NAME` and
    `flow/sigma/LEVEL`; each part is a mean over supervised latent frames. Autocast is the caller's to choose.

    Args:
        samples: the clips; all stay in memory.
        regimes: those to look at, each once.
        regime_options, step_options: as in training. Noisy memory has the middle of its range of noise levels.
        seed: of noise and plans.
        sigmas: noise levels of what is generated, in (0, 1].
        micro_batch: clips of one pass; 0 = all that this rank has.
        group: processes that share the clips; all of them must call the validator, and all get the same answer. They
            make equally many passes, as sharded weights need. None = this process alone.

    Raises:
        InputError: no clips, an unknown regime or none, or noise levels that are none.
    """

    def __init__(
        self, samples: Sequence[MemorySample], regimes: Sequence[RegimeName], *,
        regime_options: RegimeOptions = RegimeOptions(),  # noqa: B008 (frozen)
        step_options: StepOptions = StepOptions(),  # noqa: B008 (frozen)
        seed: int = 0, sigmas: Sequence[float] = SIGMAS, micro_batch: int = 0, group: dist.ProcessGroup | None = None,
    ):  # fmt: skip
        if not samples:
            raise InputError("there are no clips to validate on", fix="hold some out, or set validation.every to 0")
        if not regimes or not set(regimes) <= set(REGIMES) or len(set(regimes)) < len(regimes):
            raise InputError("validation needs regimes that exist, each once", got=list(regimes),
                             expected=list(REGIMES))
        if not sigmas or not all(0 < sigma <= 1 for sigma in sigmas) or micro_batch < 0:
            raise InputError("validation needs noise levels in (0, 1] and a number of clips in a pass",
                             got=(list(sigmas), micro_batch))
        self.samples, self.regimes, self.sigmas, self.seed = samples, tuple(regimes), tuple(sigmas), seed
        self.regime_options, self.step_options = regime_options, step_options
        self.micro_batch, self.group = micro_batch, group

    @torch.no_grad()
    def __call__(self, model: CausalVideoDiT) -> Validation:
        """Look at a model; see `Validator`."""
        sums = torch.zeros(len(self.regimes), len(self.sigmas), 2, dtype=torch.float64)
        with in_eval_mode(model):
            for r, regime in enumerate(self.regimes):
                plans = self.plans(regime)
                for clips, counts in self._passes():
                    batch = self._batch(clips, [plans[clip] for clip in clips], regime)
                    for s, sigma in enumerate(self.sigmas):
                        error, supervised = self._error(model, batch, [plans[clip] for clip in clips], sigma)
                        on = supervised * counts[:, None]
                        sums[r, s] += torch.stack([(error * on).sum(), on.sum()])
        if self.group is not None:
            shared = sums.to(next(model.parameters()).device)
            dist.all_reduce(shared, group=self.group)
            sums = shared.cpu()
        return self._summary(sums)

    def plans(self, regime: RegimeName) -> list[SequencePlan]:
        """One plan per clip, all of one visibility."""
        graphs = [sample.graph for sample in self.samples]
        number = list(REGIMES).index(regime)
        choices = draw_batch_choices(graphs, np.random.default_rng([self.seed, 6, number]))
        rngs = [np.random.default_rng([self.seed, 7, number, clip]) for clip in range(len(graphs))]
        return [REGIMES[regime](graph, rng, self.regime_options, choices)
                for graph, rng in zip(graphs, rngs, strict=True)]

    def _passes(self) -> list[tuple[list[int], Float[Tensor, " b"]]]:
        """This rank's clips, pass by pass, and how often each counts: 0 for one that only fills up a pass."""
        rank = 0 if self.group is None else dist.get_rank(self.group)
        ranks = 1 if self.group is None else dist.get_world_size(self.group)
        number = len(self.samples)
        mine = range(rank, -(-number // ranks) * ranks, ranks)
        size = self.micro_batch or len(mine)
        parts = [mine[start : start + size] for start in range(0, len(mine), size)]
        return [([clip % number for clip in part], torch.tensor([float(clip < number) for clip in part]).double())
                for part in parts]

    def _batch(self, clips: Sequence[int], plans: Sequence[SequencePlan], regime: RegimeName) -> TrainingBatch:
        """What the plans name, with the noise of each clip."""
        samples = [self.samples[clip] for clip in clips]
        batch = assemble(samples, plans, [torch.Generator()] * len(clips), self.step_options)  # its noise is not used
        number = list(REGIMES).index(regime)
        noise = [torch.randn(batch.x0.shape[1:], generator=_generator(self.seed, 8, number, clip)) for clip in clips]
        return replace(batch, noise=torch.stack(noise))

    def _error(
        self, model: CausalVideoDiT, batch: TrainingBatch, plans: Sequence[SequencePlan], sigma: float
    ) -> tuple[Float[Tensor, "b t"], Float[Tensor, "b t"]]:
        """Mean squared velocity error of each latent frame, and 1 where it is supervised."""
        low, high = self.step_options.memory_sigma
        levels: dict[SigmaRule, float] = {"zero": 0.0, "one": 1.0, "sampled": sigma, "memory": (low + high) / 2}
        sigmas = torch.tensor([[levels[rule] for entry in plan.entries for rule in entry.sigma] for plan in plans])
        batch = replace(batch, sigmas=sigmas).to(next(model.parameters()).device)
        error = (predict(model, batch).float() - velocity_target(batch.x0, batch.noise)).square().mean((2, 3, 4))
        return error.cpu().double(), batch.supervised.cpu().double()

    def _summary(self, sums: Float[Tensor, "r s 2"]) -> Validation:
        means = sums[..., 0] / sums[..., 1]
        flow = float(means.mean())
        scalars = {"flow": flow}
        scalars |= {f"flow/regime/{name}": float(v) for name, v in zip(self.regimes, means.mean(1), strict=True)}
        scalars |= {f"flow/sigma/{sigma:g}": float(v) for sigma, v in zip(self.sigmas, means.mean(0), strict=True)}
        return Validation(scalars, -flow)


def _generator(*numbers: int) -> torch.Generator:
    return torch.Generator().manual_seed(int(np.random.default_rng(numbers).integers(2**62)))
