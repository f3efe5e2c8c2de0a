"""KV importance: which chunk of the past a generated chunk reads, exactly, from log-sum-exps.

Source: ReMind Sec. 4.4 and Fig. 5, which name the quantity and the layers (maximum over layers 20-24 of 30).
How heads, queries and denoising steps are reduced is our choice, and every result says it in words.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from remind.errors import InputError

PAPER_LAYERS = (20, 25)  # half-open, of 30
PAPER_DEPTH = 30
Cell = Literal["read", "unavailable", "future"]


def chunk_mass(lse: Float[Tensor, "*batch k"]) -> Float[Tensor, "*batch k"]:
    """Share of a query's attention that falls on each chunk: mass_j = exp(LSE_j - logsumexp_j LSE_j).

    Source: the identity behind blockwise softmax (Milakov and Gimelshein, arXiv:1805.02867).

    Args:
        lse: log-sum-exp against every chunk, -inf where a chunk is not visible.

    Raises:
        InputError: a query that sees no chunk.
    """
    total = torch.logsumexp(lse.float(), -1, keepdim=True)
    if not torch.isfinite(total).all():
        raise InputError(
            "a query sees no chunk at all", got="-inf or NaN log-sum-exp", expected="one finite entry a row"
        )
    return torch.exp(lse.float() - total)


def mass_over_token_share(
    mass: Float[Tensor, "*batch k"], tokens: Sequence[int]
) -> Float[Tensor, "*batch k"]:
    """Mass over the share of tokens: 1 = as if attention were spread evenly, 2 = twice that.

    Args:
        mass: from `chunk_mass`.
        tokens: per chunk, > 0.
    """
    share = torch.tensor([t / sum(tokens) for t in tokens], dtype=mass.dtype)
    return mass / share


@dataclass(frozen=True)
class Reduction:
    """How masses of many queries, heads, steps and layers become one number, in this order.

    Query tokens are always averaged, so that masses keep summing to one until a maximum is taken.

    Args:
        layers: which layers, from 0.
        over_heads: after the queries.
        over_layers: last; a maximum over layers does not sum to one.
    """

    layers: tuple[int, ...]
    over_heads: Literal["mean", "max"] = "mean"
    over_layers: Literal["mean", "max"] = "max"

    def __post_init__(self) -> None:
        if not self.layers:
            raise InputError("a reduction needs at least one layer", got=self.layers, expected="e.g. (4, 5)")

    def describe(self) -> str:
        """In words, in the order in which it is done."""
        heads = (
            "mean over query tokens, heads and denoising steps"
            if self.over_heads == "mean"
            else "mean over query tokens, maximum over heads, mean over denoising steps"
        )
        if len(self.layers) == 1:
            return f"{heads}, in layer {self.layers[0]}"
        over = "maximum" if self.over_layers == "max" else "mean"
        return f"{heads}, then {over} over layers {self.layers[0]}-{self.layers[-1]}"


def paper_reduction(num_layers: int) -> Reduction:
    """Figure 5's layers 20-24 of 30 at the same relative depth: (4,) of 6, (8, 9) of 12."""
    start = round(num_layers * PAPER_LAYERS[0] / PAPER_DEPTH)
    start = min(start, num_layers - 1)
    stop = max(start + 1, round(num_layers * PAPER_LAYERS[1] / PAPER_DEPTH))
    return Reduction(tuple(range(start, stop)))


def reduction_of(words: str, num_layers: int, *, over_heads: Literal["mean", "max"] = "mean") -> Reduction:
    """A reduction from words: `paper` (`paper_reduction`), `all` (mean over all layers), `20-24` (maximum over them).

    Raises:
        InputError: other words, or layers that the model does not have.
    """
    if words == "paper":
        return replace(paper_reduction(num_layers), over_heads=over_heads)
    if words == "all":
        return replace(all_layers(num_layers), over_heads=over_heads)
    span = re.fullmatch(r"([0-9]{1,4})(?:-([0-9]{1,4}))?", words)
    first, last = (int(span[1]), int(span[2] or span[1])) if span else (0, -1)
    if not first <= last < num_layers:
        raise InputError("no such layers", got=words, expected=f"paper, all, or layers such as 0-{num_layers - 1}")
    return Reduction(tuple(range(first, last + 1)), over_heads=over_heads)


def all_layers(num_layers: int) -> Reduction:
    """The mean over everything."""
    return Reduction(tuple(range(num_layers)), over_layers="mean")


@dataclass(frozen=True)
class KVImportance:
    """Mass per query chunk (rows) and key/value chunk (columns), NaN where a chunk could not be read.

    Args:
        mass: the diagonal is a chunk's attention to itself.
        over_token_share: the same over the share of tokens.
        reduction: in words.
        num_clips: how many clips were averaged.
    """

    mass: Float[np.ndarray, "q k"]
    over_token_share: Float[np.ndarray, "q k"]
    reduction: str
    num_clips: int = 1

    def history(self) -> Float[np.ndarray, "q k"]:
        """Mass among earlier chunks only, each row summing to one: Figure 5 has no chunk reading itself."""
        past = np.where(np.tri(self.mass.shape[0], self.mass.shape[1], -1) > 0, self.mass, np.nan)
        total = np.nansum(past, axis=1, keepdims=True)
        return past / np.where(total > 0, total, np.nan)

    def to_json(self) -> dict[str, object]:
        def rows(matrix: np.ndarray) -> list[list[float | None]]:
            return [[None if math.isnan(v) else round(float(v), 6) for v in row] for row in matrix]

        return {
            "mass": rows(self.mass),
            "mass_over_token_share": rows(self.over_token_share),
            "mass_among_history": rows(self.history()),
            "reduction": self.reduction,
            "clips": self.num_clips,
        }

    @staticmethod
    def from_json(data: Mapping[str, Any]) -> KVImportance:
        """What `to_json` wrote, rounded as it was."""
        mass, share = (np.array([[math.nan if v is None else v for v in row] for row in data[key]], dtype=np.float64)
                       for key in ("mass", "mass_over_token_share"))  # fmt: skip
        return KVImportance(mass, share, data["reduction"], data["clips"])

    def cells(self) -> dict[Cell, list[tuple[int, int]]]:
        """Every query and history chunk by what is known of it.

        `read` has a value. `unavailable` lies in the past and has none: the query was given, not generated (V2V), or
        the chunk was not in memory. `future` could not be read by anyone; Figure 5 has no chunk reading itself.
        """
        found: dict[Cell, list[tuple[int, int]]] = {"read": [], "unavailable": [], "future": []}
        for q, k in np.ndindex(*self.mass.shape):
            known = math.isfinite(self.mass[q, k])
            found["future" if k >= q else "read" if known else "unavailable"].append((q, k))
        return found


class KVImportanceRecorder:
    """Collects one rollout: call `add` once per denoising step of each generated chunk, then `result`."""

    def __init__(self, num_chunks: int, reduction: Reduction):
        """Start empty.

        Args:
            num_chunks: of the clip, prefix included.
            reduction: whose layers index the lists given to `add`.
        """
        self.num_chunks, self.reduction = num_chunks, reduction
        self._sum: dict[int, Float[Tensor, "layers k"]] = {}
        self._steps: dict[int, int] = {}
        self._kv: dict[int, tuple[tuple[int, ...], tuple[int, ...]]] = {}

    def add(
        self,
        query_chunk: int,
        kv_chunks: Sequence[int],
        lse: Sequence[Float[Tensor, "n l k"]],
        tokens: Sequence[int],
    ) -> None:
        """Take in one model call.

        Args:
            query_chunk: the chunk being generated.
            kv_chunks: chunk of each column of `lse`, the query's own chunk included.
            lse: per layer of the model, log-sum-exp of heads and query tokens against each chunk.
            tokens: per column.

        Raises:
            InputError: columns that change between steps, or a layer that is not there.
        """
        columns = (tuple(kv_chunks), tuple(tokens))
        if self._kv.setdefault(query_chunk, columns) != columns:
            raise InputError(
                "a chunk's history changed between denoising steps",
                got=columns,
                expected=self._kv[query_chunk],
            )
        if max(self.reduction.layers) >= len(lse):
            raise InputError(
                "a layer is missing", got=f"{len(lse)} layers", expected=f"layers {self.reduction.layers}"
            )
        rows = []
        for layer in self.reduction.layers:
            per_head = chunk_mass(lse[layer].detach()).mean(1)
            rows.append(per_head.amax(0) if self.reduction.over_heads == "max" else per_head.mean(0))
        step = torch.stack(rows).cpu().double()  # in this order: not every device has doubles
        self._sum[query_chunk] = self._sum[query_chunk] + step if query_chunk in self._sum else step
        self._steps[query_chunk] = self._steps.get(query_chunk, 0) + 1

    def result(self) -> KVImportance:
        mass = np.full((self.num_chunks, self.num_chunks), np.nan)
        relative = mass.copy()
        for chunk, total in self._sum.items():
            per_layer = total / self._steps[chunk]
            reduced = per_layer.amax(0) if self.reduction.over_layers == "max" else per_layer.mean(0)
            kv_chunks, tokens = self._kv[chunk]
            mass[chunk, list(kv_chunks)] = reduced.numpy()
            relative[chunk, list(kv_chunks)] = mass_over_token_share(reduced, tokens).numpy()
        return KVImportance(mass, relative, self.reduction.describe())


def average(results: Sequence[KVImportance]) -> KVImportance:
    """Mean over clips of one model; a cell counts the clips in which it could be read.

    Raises:
        InputError: nothing to average, or clips reduced in different ways.
    """
    if not results or len({(r.reduction, r.mass.shape) for r in results}) != 1:
        raise InputError(
            "only maps of one size and one reduction can be averaged", got=len(results), expected=">= 1"
        )

    def mean(stack: list[np.ndarray]) -> np.ndarray:
        values = np.stack(stack)
        seen = (~np.isnan(values)).sum(0)
        return np.where(seen > 0, np.nansum(values, 0) / np.maximum(seen, 1), np.nan)

    return KVImportance(
        mean([r.mass for r in results]),
        mean([r.over_token_share for r in results]),
        results[0].reduction,
        sum(r.num_clips for r in results),
    )
