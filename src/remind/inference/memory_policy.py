"""Memory policies: which finished chunks the coming chunk may see. Pure functions over facts, no tensors of a model.

All policies share three rules.

1. Never more than `room` chunks; the engine makes `room` from a budget in bytes.
2. The chunk just before the coming one is seen whenever there is room for one: without it the video would jump.
3. Then come protected chunks. `Full` refuses a room that is too small. The others let go of the protected chunks that
   do not fit beside the chunk just before: `Retrieve` keeps the best by its own order, the rest the most recent.

What else is kept is the policy's own matter. Recent means late in position, which is time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Protocol, runtime_checkable

from remind.clip import Cameras
from remind.errors import InputError
from remind.frame_graph import LATENTS_PER_CHUNK, Role
from remind.inference.view_overlap import view_overlaps

IMPORTANCE_LEVELS = 10


@dataclass(frozen=True)
class Remembered:
    """What is known of one finished chunk.

    Args:
        chunk: its id in the rollout.
        position: original time of its first latent frame.
        role: its role in the frame graph.
        protected: asked for by the user or the graph to stay.
        resident: its keys and values are in the cache, or are written with the coming chunk's first pass.
        importance: running importance, >= 0 in any unit; None = never measured.
        last_seen: the latest chunk that could see it; None = none yet.
        view: cameras of its frames, or None.
    """

    chunk: int
    position: int
    role: Role
    protected: bool
    resident: bool
    importance: float | None
    last_seen: int | None
    view: Cameras | None = field(compare=False)


@dataclass(frozen=True)
class Coming:
    """What is known of the chunk that is about to be generated: as in `Remembered`."""

    chunk: int
    position: int
    role: Role
    view: Cameras | None = field(compare=False)


@runtime_checkable
class MemoryPolicy(Protocol):
    """Chooses what the coming chunk may see."""

    recalls: ClassVar[bool]
    """May ask for chunks that are not resident. They are written again from their latents against what is in the cache
    by then, so that they come back approximately."""

    @property
    def name(self) -> str:
        """The text form, which `memory_policy` reads back."""
        ...

    def keep(self, past: Sequence[Remembered], coming: Coming, room: int) -> tuple[int, ...]:
        """Ids of the chunks to see, at most `room`, in order of chunk.

        Args:
            past: every finished chunk whose latents are known, in any order.
            coming: the chunk to be generated; none of `past`.
            room: >= 0.
        """
        ...


@dataclass(frozen=True)
class Full:
    """Everything that is resident."""

    recalls: ClassVar[bool] = False
    name: ClassVar[str] = "full"

    def keep(self, past: Sequence[Remembered], coming: Coming, room: int) -> tuple[int, ...]:
        """See `MemoryPolicy`.

        Raises:
            InputError: less room than chunks.
        """
        reach = _newest_first(past, self)
        if len(reach) > room:
            raise InputError(
                f"the memory of policy full is used up at chunk {coming.chunk}", got=f"room for {room} chunks",
                expected=f"room for {len(reach)}",
                fix=f"give a larger budget, or a policy that forgets: window:{max(room, 1)}, "
                    f"sink_window:1+{max(room - 1, 1)}, anchors or retrieve:{max(room - 1, 1)}",
            )
        return _take(room, reach)


@dataclass(frozen=True)
class Window:
    """The most recent chunks, and protected ones however old.

    Args:
        chunks: how many recent ones, >= 1; a protected one among them counts.
    """

    chunks: int = 6
    recalls: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_count("a window of memory", self.chunks)

    @property
    def name(self) -> str:
        return f"window:{self.chunks}"

    def keep(self, past: Sequence[Remembered], coming: Coming, room: int) -> tuple[int, ...]:
        """See `MemoryPolicy`."""
        reach = _newest_first(past, self)
        return _take(room, reach[:1], _protected(reach), reach[: self.chunks])


@dataclass(frozen=True)
class SinkWindow:
    """The first chunks and the most recent ones, and protected ones. Source: StreamingLLM, arXiv:2309.17453.

    Args:
        sinks: how many first ones, >= 1.
        chunks: how many recent ones, >= 1. Where there is too little room, sinks go before all but the last of them.
    """

    sinks: int = 1
    chunks: int = 5
    recalls: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_count("the sinks of a memory", self.sinks)
        _check_count("a window of memory", self.chunks)

    @property
    def name(self) -> str:
        return f"sink_window:{self.sinks}+{self.chunks}"

    def keep(self, past: Sequence[Remembered], coming: Coming, room: int) -> tuple[int, ...]:
        """See `MemoryPolicy`."""
        reach = _newest_first(past, self)
        return _take(room, reach[:1], _protected(reach), reach[::-1][: self.sinks], reach[: self.chunks])


@dataclass(frozen=True)
class Anchors:
    """Protected chunks, those that show the state before an interruption, and the most recent ones.

    Which chunks serve as anchors is read off the roles: see `anchors_of_past`.

    Args:
        recent: how many recent ones, >= 1. Where there is too little room, anchors go before all but the last of them,
            late anchors before early ones.
    """

    recent: int = 1
    recalls: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_count("the recent chunks of a memory", self.recent)

    @property
    def name(self) -> str:
        return f"anchors:{self.recent}"

    def keep(self, past: Sequence[Remembered], coming: Coming, room: int) -> tuple[int, ...]:
        """See `MemoryPolicy`."""
        reach = _newest_first(past, self)
        anchors = anchors_of_past(past, coming)
        return _take(room, reach[:1], _protected(reach), [m for m in reach if m.chunk in anchors],
                     reach[: self.recent])


@dataclass(frozen=True)
class Retrieve:
    """The chunks that the coming one needs most, evicted ones too, and the most recent and protected ones.

    Need is compared by three criteria; a later one decides only among chunks that the earlier ones find equal.

    1. Role. Where the coming chunk is degraded or a recovery: anchors, then chunks that show something, then degraded
       ones. Otherwise: chunks that show something, then degraded ones.
    2. Running importance, in tenths of the largest among the chunks compared. A chunk that was never measured counts as
       their average. Our choice: smaller differences are noise between denoising steps.
    3. How much of the coming view the chunk has seen: `view_overlap`; 0 where cameras are unknown. It comes last
       because a camera sees as much of a place in the dark: by position alone an anchor and what covered it are equal
       (ReMind Eq. 10).

    What is equal even then goes by time, the most recent first.

    Args:
        chunks: how many are retrieved besides recent and protected ones, >= 1.
        recent: how many recent ones, >= 1. Where there is too little room, retrieved ones go before all but the last of
            them.
    """

    chunks: int = 4
    recent: int = 1
    recalls: ClassVar[bool] = True
    needs_importance: ClassVar[bool] = True  # asks the engine to measure it

    def __post_init__(self) -> None:
        _check_count("retrieval from memory", self.chunks)
        _check_count("the recent chunks of a memory", self.recent)

    @property
    def name(self) -> str:
        return f"retrieve:{self.chunks}+{self.recent}"

    def keep(self, past: Sequence[Remembered], coming: Coming, room: int) -> tuple[int, ...]:
        """See `MemoryPolicy`."""
        reach = _newest_first(past, self)
        anchors = anchors_of_past(past, coming)
        recent, protected = reach[: self.recent], _protected(reach[1:])
        others = [m for m in reach[self.recent :] if not m.protected]
        stay = _by_need(protected, coming, anchors, room - 1)
        retrieved = _by_need(others, coming, anchors, min(self.chunks, room - 1 - len(stay)))
        return _take(room, reach[:1], stay, retrieved, recent)


def most_remembered(policy: MemoryPolicy, roles: Sequence[Role], *, room: int | None = None) -> int:
    """How many chunks the last one of a rollout with these roles would see, were all before it resident.

    Args:
        room: as for `MemoryPolicy.keep`; None = for all.

    Raises:
        InputError: what the policy refuses.
    """
    last = len(roles) - 1
    past = [Remembered(chunk, LATENTS_PER_CHUNK * chunk, role, role in ("anchor", "reference"), True, None, None, None)
            for chunk, role in enumerate(roles[:last])]  # fmt: skip
    coming = Coming(last, LATENTS_PER_CHUNK * last, roles[last], None)
    return len(policy.keep(past, coming, last if room is None else room))


def anchors_of_past(past: Sequence[Remembered], coming: Coming) -> frozenset[int]:
    """Chunks that show the state before an interruption, or were put into memory to show it.

    Those with the role `anchor` or `reference`, and a recovery that an interruption or another anchor follows: between
    two interruptions a chunk's role reads `recovery` although it is an anchor of the second (`FrameGraph`).
    """
    roles: dict[int, Role] = {m.chunk: m.role for m in past} | {coming.chunk: coming.role}
    return frozenset(
        m.chunk for m in past
        if m.role in ("anchor", "reference")
        or (m.role == "recovery" and roles.get(m.chunk + 1) in ("anchor", "degraded"))
    )


def _check_count(what: str, count: int) -> None:
    if count < 1:
        raise InputError(f"{what} must hold at least one chunk", got=count, expected="1 or more")


def _newest_first(past: Sequence[Remembered], policy: MemoryPolicy) -> list[Remembered]:
    """The chunks that a policy may ask for."""
    reach = [m for m in past if m.resident or policy.recalls]
    return sorted(reach, key=lambda m: (m.position, m.chunk), reverse=True)


def _protected(reach: list[Remembered]) -> list[Remembered]:
    return [m for m in reach if m.protected]


def _take(room: int, *wishes: Iterable[Remembered]) -> tuple[int, ...]:
    """Chunks of the first wish, then of the second, ..., each once, until the room is full."""
    taken: dict[int, None] = {}
    for wish in wishes:
        for memory in wish:
            if len(taken) < room:
                taken[memory.chunk] = None
    return tuple(sorted(taken))


def _by_need(
    candidates: list[Remembered], coming: Coming, anchors: frozenset[int], count: int
) -> list[Remembered]:
    """The `count` best by role, importance, overlap and time, given newest first, in order of need.

    Views are compared only where they decide who is left out, since that takes longer than all the rest.
    """
    measured = [m.importance for m in candidates if m.importance is not None]
    largest = max(measured, default=0.0)
    average = sum(measured) / len(measured) if measured else 0.0

    def first_criteria(m: Remembered) -> tuple[int, int]:
        role = 2 if m.chunk in anchors and coming.role in ("degraded", "recovery") else int(m.role != "degraded")
        importance = average if m.importance is None else m.importance
        return role, round(IMPORTANCE_LEVELS * importance / largest) if largest > 0 else 0

    groups: dict[tuple[int, int], list[Remembered]] = {}
    for m in candidates:
        groups.setdefault(first_criteria(m), []).append(m)
    best: list[Remembered] = []
    for _, equal in sorted(groups.items(), reverse=True):
        free = count - len(best)
        if len(equal) > free > 0:
            overlaps = _overlaps(equal, coming)
            equal = sorted(equal, key=lambda m: (-overlaps.get(m.chunk, 0.0), -m.position))
        best.extend(equal[: max(free, 0)])
    return best


def _overlaps(candidates: list[Remembered], coming: Coming) -> dict[int, float]:
    """View overlap with the coming chunk, of those chunks whose cameras are known."""
    views = {m.chunk: m.view for m in candidates if m.view is not None}
    if coming.view is None or not views:
        return {}
    return dict(zip(views, view_overlaps(list(views.values()), coming.view), strict=True))


def memory_policy(text: str) -> MemoryPolicy:
    """A policy from its text form: `full`, `window:6`, `sink_window:1+5`, `anchors:1` or `retrieve:4+1`.

    Numbers may be left out, from the end: `window`, `retrieve:8`.

    Raises:
        InputError: no such policy, or numbers that it does not take.
    """
    name, colon, numbers = text.strip().partition(":")
    if name not in _POLICIES:
        raise InputError("no such memory policy", got=text, expected=f"one of {', '.join(_FORMS.values())}")
    found = numbers.split("+") if colon else []
    make, most = _POLICIES[name]
    if len(found) > most or not all(re.fullmatch(r"[0-9]{1,9}", number) for number in found):
        raise InputError(f"memory policy {name} cannot be read", got=text, expected=f"e.g. {_FORMS[name]}")
    return make(*map(int, found))


_POLICIES: dict[str, tuple[Callable[..., MemoryPolicy], int]] = {
    "full": (Full, 0), "window": (Window, 1), "sink_window": (SinkWindow, 2), "anchors": (Anchors, 1),
    "retrieve": (Retrieve, 2),
}
_FORMS = {name: make().name for name, (make, _) in _POLICIES.items()}
