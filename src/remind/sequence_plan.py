"""The sequence plan: what a training regime emits and all that the model executes.

A plan lists chunk entries in the order in which they lie in the sequence. An entry names what it is made of
(source chunk, clean or degraded track), where it stands in time (position), how noisy each of its three latent
frames is, which of them are in the loss, and which other entries it may attend. Nothing else decides a forward
pass: assembling tensors (`training/step.py`) is mechanical.

Source: our choice, one object for all regimes of ReMind Sec. 3.4, so that a regime can be drawn and tested
without a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from remind.errors import GraphError
from remind.frame_graph import LATENTS_PER_CHUNK, Role

Track = Literal["clean", "degraded"]
SigmaRule = Literal["zero", "sampled", "memory", "one"]
"""zero: clean. sampled: this entry's own training noise level. memory: the high noise of noisy memory. one: pure
noise, nothing of the source is left."""


@dataclass(frozen=True)
class PlanEntry:
    """One chunk in the sequence.

    Args:
        chunk: source chunk.
        track: which version of the clip it is read from; latents, cameras and prompt all come from there.
        position: original time of its first latent frame; the other two follow.
        role: the role of the source chunk in the frame graph, or `reference`; where nothing is interrupted, since the
            clean version is read as it is, `clean`.
        sigma: rule per latent frame.
        supervised: whether each latent frame is in the loss.
        sees: indices of the other entries it attends, ascending; it always attends itself.
    """

    chunk: int
    track: Track
    position: int
    role: Role
    sigma: tuple[SigmaRule, ...]
    supervised: tuple[bool, ...]
    sees: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.sigma) == len(self.supervised) == LATENTS_PER_CHUNK:
            raise GraphError("an entry needs a rule per latent frame", got=(self.sigma, self.supervised),
                             expected=f"{LATENTS_PER_CHUNK} each")
        for rule, supervised in zip(self.sigma, self.supervised, strict=True):
            if supervised and rule != "sampled":
                raise GraphError("only noised latent frames can be supervised", got=rule, expected="sampled")
        if self.position < 0:
            raise GraphError("positions start at 0", got=self.position)
        if self.role == "reference" and (self.track != "clean" or self.is_supervised):
            raise GraphError("a reference is read from the undegraded clip and is never in the loss",
                             got=(self.track, self.supervised))

    @property
    def is_supervised(self) -> bool:
        return any(self.supervised)


@dataclass(frozen=True)
class SequencePlan:
    """Entries of one training sequence. Plans of one micro-batch share `visibility`; all else may differ.

    Raises:
        GraphError: an entry that sees itself, a missing entry or a later time than its own, or no supervision.
    """

    regime: str
    entries: tuple[PlanEntry, ...]

    def __post_init__(self) -> None:
        if not any(entry.is_supervised for entry in self.entries):
            raise GraphError("a plan supervises nothing", got=self.regime, expected="at least one latent frame")
        for index, entry in enumerate(self.entries):
            for seen in entry.sees:
                if not 0 <= seen < len(self.entries) or seen == index:
                    raise GraphError("an entry sees a missing entry or lists itself", got=(index, seen))
                if self.entries[seen].position > entry.position:
                    raise GraphError("an entry sees a later time", got=(self.entries[seen].position, entry.position),
                                     expected="memory edges that point back in time")

    @property
    def visibility(self) -> tuple[tuple[int, ...], ...]:
        """Per entry the entries it attends, itself included, ascending: the model's `ChunkMask`."""
        return tuple(tuple(sorted((*entry.sees, i))) for i, entry in enumerate(self.entries))

    @property
    def prompts(self) -> tuple[tuple[Track, int], ...]:
        """The prompts that the plan reads, each once, in order of first use: whose schedule, which chunk's."""
        return tuple(dict.fromkeys((entry.track, entry.chunk) for entry in self.entries))

    @property
    def prompt_of_entry(self) -> tuple[int, ...]:
        """Per entry its place in `prompts`."""
        places = {prompt: place for place, prompt in enumerate(self.prompts)}
        return tuple(places[entry.track, entry.chunk] for entry in self.entries)

    def told(self, clean: Sequence[str], degraded: Sequence[str]) -> tuple[str, ...]:
        """Each entry's prompt.

        Args:
            clean, degraded: the prompts of both versions' chunks, see `prompt_schedule.chunk_prompts`.
        """
        return tuple((clean if entry.track == "clean" else degraded)[entry.chunk] for entry in self.entries)

    @property
    def largest_distance(self) -> int:
        """Largest temporal distance (latent frames) that any entry attends over; recorded in checkpoints."""
        return max(
            (entry.position + LATENTS_PER_CHUNK - 1 - self.entries[j].position for entry in self.entries
             for j in entry.sees),
            default=LATENTS_PER_CHUNK - 1,
        )

    def draw(self, told: Sequence[str] = ()) -> str:
        """The plan as a table for the terminal: one row an entry, one column an entry it may see.

        Args:
            told: prompts of the entries, to stand behind their rows.
        """
        sign = {"zero": "0", "sampled": "s", "memory": "m", "one": "1"}
        rows = [f"{self.regime}: {len(self.entries)} entries; "
                "sigma 0 clean, s sampled, m memory noise, 1 pure noise; * in the loss"]
        for i, entry in enumerate(self.entries):
            rules = "".join(
                sign[rule] + ("*" if on else " ") for rule, on in zip(entry.sigma, entry.supervised, strict=True)
            )
            seen = "".join("#" if j in entry.sees else ("o" if j == i else ".") for j in range(len(self.entries)))
            rows.append(f"  {i:2d} chunk {entry.chunk} {entry.track:8s} {entry.role:9s} "
                        f"t={entry.position:<3d} [{rules}] {seen}" + (f"  {told[i]}" if told and told[i] else ""))
        return "\n".join(rows)


def shared_prompt_layout(plans: Sequence[SequencePlan]) -> tuple[int, ...]:
    """Which entry reads which prompt, alike in all plans of a micro-batch; the prompts themselves may differ.

    Raises:
        GraphError: plans of which some entries share a prompt where another's do not.
    """
    first = plans[0].prompt_of_entry
    for plan in plans[1:]:
        if plan.prompt_of_entry != first:
            raise GraphError("plans of one micro-batch share prompts differently", got=(plans[0].regime, plan.regime),
                             expected="one layout", fix="group the batch by regime")
    return first


def shared_visibility(plans: Sequence[SequencePlan]) -> tuple[tuple[int, ...], ...]:
    """The one visibility pattern of a micro-batch.

    Raises:
        GraphError: plans that attend differently, which prefix attention cannot run in one pass.
    """
    first = plans[0].visibility
    for plan in plans[1:]:
        if plan.visibility != first:
            raise GraphError("plans of one micro-batch attend differently", got=(plans[0].regime, plan.regime),
                             expected="one visibility pattern", fix="group the batch by regime")
    return first
