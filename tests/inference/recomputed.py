"""A rollout without a cache and without haste: every pass recomputes all that was ever written, under a chunk mask.

An entry keeps what it had absorbed when it was written. So each writing is a node of its own in one long sequence, with
the nodes that it could see then; a chunk that is written twice is two nodes, and later ones see the second.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from remind.flow import add_noise, euler_step, sampling_sigmas
from remind.inference.memory_policy import Coming, MemoryPolicy, Remembered
from remind.inference.noise import chunk_noise, purpose_noise
from remind.inference.past import ChunkConditions
from remind.models.attention import ChunkMask
from remind.models.dit import CausalVideoDiT


@dataclass
class Recomputed:
    """The same questions as `Rollout`, answered by the definition.

    Args:
        room: most chunks that may be seen beside the coming one; None = no limit.
    """

    model: CausalVideoDiT
    seeds: Sequence[int]
    policy: MemoryPolicy
    steps: int = 2
    shift: float = 2.0
    guidance: float = 1.0
    context_noise: float = 0.0
    room: int | None = None
    latents: dict[int, Tensor] = field(default_factory=dict)
    asked: dict[int, ChunkConditions] = field(default_factory=dict)
    protected: set[int] = field(default_factory=set)
    position_of: Callable[[int], int] = lambda chunk: 3 * chunk
    nodes: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)
    """Chunk and the nodes that it saw, itself included."""
    resident: dict[int, int] = field(default_factory=dict)
    """Node of each chunk that can be seen."""
    masses: dict[int, list[float]] = field(default_factory=dict)
    last_seen: dict[int, int] = field(default_factory=dict)

    def give(self, chunk: int, latents: Tensor, asked: ChunkConditions) -> None:
        self._choose(chunk, asked)
        self.latents[chunk], self.asked[chunk] = latents, asked

    def generate(self, chunk: int, asked: ChunkConditions) -> Tensor:
        self._choose(chunk, asked)
        x = chunk_noise(self.seeds, chunk, (3, 16, 2, 2))
        levels = sampling_sigmas(self.steps, self.shift)
        seen = sorted(self.resident.values())
        for now, then in pairwise(levels):
            sigma = now.expand(len(self.seeds), 3)
            velocity, lse = self._pass(chunk, x, sigma, asked, seen, negative=False)
            if self.guidance != 1:
                away, _ = self._pass(chunk, x, sigma, asked, seen, negative=True)
                velocity = (1 - self.guidance) * away + self.guidance * velocity
            x = euler_step(x, velocity, sigma, then.expand(len(self.seeds), 3))
        columns = [*seen, len(self.nodes)]
        shares = torch.stack([y[..., columns].softmax(-1).mean((0, 1, 2)) for y in lse]).mean(0)
        for node, share in zip(seen, shares.tolist(), strict=False):
            self.masses.setdefault(self.nodes[node][0], []).append(share * len(columns))
            self.last_seen[self.nodes[node][0]] = chunk
        self.latents[chunk], self.asked[chunk] = x, asked
        return x

    def importance(self, chunk: int) -> float | None:
        masses = self.masses.get(chunk)
        return None if masses is None else sum(masses) / len(masses)

    def _choose(self, coming: int, asked: ChunkConditions) -> None:
        """Evict, recall, then write the chunk that was finished last, in the order in which they are defined."""
        newest = max(self.latents, default=None)
        past = [
            Remembered(c, self.position_of(c), self.asked[c].role, c in self.protected,
                       c in self.resident or c == newest, self.importance(c), self.last_seen.get(c), None)
            for c in sorted(self.latents)
        ]
        room = len(past) if self.room is None else self.room
        keep = self.policy.keep(past, Coming(coming, self.position_of(coming), asked.role, None), room)
        assert len(keep) <= room
        self.resident = {c: node for c, node in self.resident.items() if c in keep}
        if self.policy.recalls:
            for c in sorted(set(keep) - set(self.resident) - {newest}):
                self._write(c)
        if newest in keep:
            self._write(newest)

    def _write(self, chunk: int) -> None:
        before = [node for c, node in self.resident.items() if c < chunk]
        self.resident[chunk] = len(self.nodes)
        self.nodes.append((chunk, (*sorted(before), len(self.nodes))))

    @torch.no_grad()
    def _pass(
        self, chunk: int, x: Tensor, sigma: Tensor, asked: ChunkConditions, seen: list[int], *, negative: bool
    ) -> tuple[Tensor, list[Tensor]]:
        chunks = [*(c for c, _ in self.nodes), chunk]
        mask = ChunkMask((*(row for _, row in self.nodes), (*seen, len(self.nodes))))
        everything = [*(self.asked[c] for c, _ in self.nodes), asked]
        noise = torch.full((len(self.seeds), 3), self.context_noise)
        context = [add_noise(self.latents[c], purpose_noise(self.seeds, c, "context", (3, 16, 2, 2)), noise)
                   for c, _ in self.nodes]  # fmt: skip
        positions = torch.tensor([float(self.position_of(c) + i) for c in chunks for i in range(3)])
        velocity, lse = self.model(
            torch.cat([*context, x], 1), torch.cat([*[noise] * len(self.nodes), sigma], 1),
            positions.expand(len(self.seeds), -1),
            torch.stack([a.negative if negative else a.text for a in everything], 1),
            torch.cat([a.cameras for a in everything], 1),
            camera_valid=torch.cat([a.camera_valid for a in everything], 1), attention=mask, return_lse=True,
        )
        return velocity[:, -3:], [y[:, :, -3:] for y in lse]
