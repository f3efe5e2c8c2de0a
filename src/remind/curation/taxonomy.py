"""The taxonomy of dynamic events: what to look for, how to tell it, how to describe it, and how much it is worth.

Source: ReMind Sec. 3.1, Appendix F.1 and the seven groups of Table 7. The types in `taxonomy.yaml` are our own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from remind.curation.words import CaptionWords, word_forms
from remind.errors import InputError
from remind.world.families import Group
from remind.yaml_file import read_yaml

GROUPS: tuple[Group, ...] = get_args(Group)
MIN_TYPES = 101  # the paper's "over one hundred"

EventId = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{2,39}$")]
Phrase = Annotated[str, Field(min_length=2, max_length=120, pattern=r"^\S[^\n]*\S$")]
Factor = Annotated[int, Field(ge=1, le=5)]


class _FromFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Importance(_FromFile):
    """The three factors of ReMind F.1, each 1..5; what a number means is written at the top of `taxonomy.yaml`.

    Args:
        salience: how plainly the change is seen.
        frequency: how many clips there are to find.
        recovery: how much a clip teaches about states that change unseen.
    """

    salience: Factor
    frequency: Factor
    recovery: Factor

    @property
    def score(self) -> float:
        """(salience * frequency * recovery^2)^(1/4) / 5, from 0.2 to 1.

        Our choice (the paper gives no formula): a geometric mean, since an event that cannot be seen or found is of no
        use however well it would teach; recovery counts twice, since it is what the data is for.
        """
        return float((self.salience * self.frequency * self.recovery**2) ** 0.25 / 5)


class Cues(_FromFile):
    """What a caption of the event names.

    Args:
        objects: examples of what changes, as noun phrases.
        state: the state variable, a noun phrase that `direction` goes on from.
        direction: which way the state goes, never where it ends; discrete types have none.
        trigger, before, after: clauses, for discrete types alone.
    """

    objects: Annotated[tuple[Phrase, ...], Field(min_length=2, max_length=4, strict=False)]
    state: Phrase
    direction: Phrase | None = None
    trigger: Phrase | None = None
    before: Phrase | None = None
    after: Phrase | None = None


class EventType(_FromFile):
    """One dynamic event that videos show.

    Args:
        id: stable name, used as a tag.
        group: tag group of ReMind Table 7.
        keywords: for retrieval and for tagging captions.
        negatives: words that say it is something else.
    """

    id: EventId
    group: Group
    keywords: Annotated[tuple[Phrase, ...], Field(min_length=2, max_length=5, strict=False)]
    negatives: Annotated[tuple[Phrase, ...], Field(min_length=1, max_length=8, strict=False)]
    cues: Cues
    importance: Importance

    @model_validator(mode="after")
    def _cues_fit_the_group(self) -> EventType:
        told = {"direction": self.cues.direction is not None}
        told |= {name: getattr(self.cues, name) is not None for name in ("trigger", "before", "after")}
        for name, given in told.items():
            wanted = (name != "direction") == (self.group == "discrete")
            if given != wanted:
                raise ValueError(f"cues.{name} is {'missing from' if wanted else 'not for'} a {self.group} type")
        return self


class GroupGuide(_FromFile):
    """What all types of a group share: the caption rule, and wordings for prompts to a video generator."""

    caption: Annotated[str, Field(min_length=10, max_length=300)]
    framings: Annotated[tuple[Phrase, ...], Field(min_length=1, strict=False)]
    lights: Annotated[tuple[Phrase, ...], Field(strict=False)]


class Taxonomy(_FromFile):
    """All event types, in the order of the file.

    Args:
        negatives: words that rule out every type.
        groups: guides of the seven groups.
    """

    version: Literal[1]
    negatives: Annotated[tuple[Phrase, ...], Field(strict=False)]
    groups: dict[Group, GroupGuide]
    types: Annotated[tuple[EventType, ...], Field(strict=False)]

    @classmethod
    def load(cls, path: Path | None = None, *, min_types: int = MIN_TYPES) -> Taxonomy:
        """Read and check a taxonomy.

        Args:
            path: a file like the one that comes with the package, which None reads.
            min_types: fewest types to accept; a taxonomy for one purpose may be small.

        Raises:
            InputError: unreadable, or not as it should be; the message names the type and the field.
        """
        if path is None:
            with resources.as_file(resources.files("remind.curation") / "taxonomy.yaml") as packaged:
                return cls.load(packaged, min_types=min_types)
        data = read_yaml(path)
        try:
            taxonomy = cls.model_validate(data)
        except ValidationError as error:
            raise InputError(f"{path.name}: {_first_error(error, data)}", fix="mend the file") from None
        taxonomy._check_as_a_whole(path.name, min_types)
        return taxonomy

    def __getitem__(self, event_id: str) -> EventType:
        if event_id not in self._by_id:
            near = [t.id for t in self._found(event_id)][:3] or list(self._by_id)[:3]
            raise InputError("no such event type", got=event_id, expected=f"one such as {', '.join(near)}")
        return self._by_id[event_id]

    def __contains__(self, event_id: object) -> bool:
        return event_id in self._by_id

    def group(self, name: str) -> tuple[EventType, ...]:
        """The types of a group, in the order of the file.

        Raises:
            InputError: no such group.
        """
        if name not in GROUPS:
            raise InputError("no such group of event types", got=name, expected=f"one of {', '.join(GROUPS)}")
        return tuple(t for t in self.types if t.group == name)

    def groups_of(self, tags: Iterable[str]) -> tuple[Group, ...]:
        """The groups that tags (ids of types or names of groups; others are no event tags) belong to, as in Table 7."""
        found = {self._by_id[tag].group if tag in self._by_id else tag for tag in tags}
        return tuple(group for group in GROUPS if group in found)

    def search(self, text: str) -> list[EventType]:
        """Types that have a word of `text` in id, keywords, group or cues, the best first.

        Our choice: more of the words found wins; then where they were found (id 4, keywords 3, group 2, cues 1); then
        importance; then the name.

        Raises:
            InputError: a text without words.
        """
        if not word_forms(text.replace("_", " ")):
            raise InputError("nothing to search for", got=repr(text[:40]), expected="a word, e.g. pouring")
        return self._found(text)

    def match(self, caption: str) -> tuple[str, ...]:
        """Ids of the types that a caption tells of: one keyword found, and no negative. In the order of the file.

        How phrases are found: see `words.CaptionWords`. Inflected forms count, parts of words do not.
        """
        words = CaptionWords(caption)
        if any(words.has(phrase) for phrase in self._general_negatives):
            return ()
        return tuple(
            event_id
            for event_id, keywords, negatives in self._phrases
            if any(words.has(k) for k in keywords) and not any(words.has(n) for n in negatives)
        )

    def caption_guidance(self, event: EventType | str) -> str:
        """One paragraph that tells a VLM or an author what a caption of this event must say."""
        event = self[event] if isinstance(event, str) else event
        cues = event.cues
        parts = [self.groups[event.group].caption, f"Here it may be {_either(cues.objects)}."]
        if cues.direction is not None:
            parts.append(f"What changes: {cues.state} {cues.direction}.")
            parts.append("Say which way it goes and how fast, not where it ends.")
        else:
            parts.append(f"What changes: {cues.state}. Trigger, for instance: {cues.trigger}. "
                         f"Before: {cues.before}. After: {cues.after}.")  # fmt: skip
            parts.append("Tell only of a trigger and an after-state that can be seen.")
        return " ".join(parts)

    def _found(self, text: str) -> list[EventType]:
        asked = set(word_forms(text.replace("_", " ")))
        ranked = []
        for event in self.types:
            weights = self._weights[event.id]
            hits = [weights[form] for form in asked if form in weights]
            if hits:
                ranked.append((-len(hits), -sum(hits), -event.importance.score, event.id))
        return [self._by_id[key[-1]] for key in sorted(ranked)]

    @cached_property
    def _by_id(self) -> dict[str, EventType]:
        return {event.id: event for event in self.types}

    @cached_property
    def _weights(self) -> dict[str, dict[str, int]]:
        """Per type: how much each word of it weighs in a search; the heaviest place counts."""
        return {event.id: dict(_weighted(event)) for event in self.types}

    @cached_property
    def _general_negatives(self) -> tuple[tuple[str, ...], ...]:
        return tuple(word_forms(phrase) for phrase in self.negatives)

    @cached_property
    def _phrases(self) -> list[tuple[str, list[tuple[str, ...]], list[tuple[str, ...]]]]:
        return [(t.id, [word_forms(k) for k in t.keywords], [word_forms(n) for n in t.negatives]) for t in self.types]

    def _check_as_a_whole(self, name: str, min_types: int) -> None:
        if len(self.types) < min_types:
            raise InputError(f"{name}: too few event types", got=len(self.types), expected=f"{min_types} or more")
        missing = [g for g in GROUPS if g not in self.groups or not self.group(g)]
        if missing:
            raise InputError(f"{name}: groups without a guide or a type", got=", ".join(missing),
                             expected=f"all of {', '.join(GROUPS)}")  # fmt: skip
        owner: dict[str, str] = {}
        keyword_owner: dict[frozenset[str], str] = {}
        for event in self.types:
            if event.id in owner:
                raise InputError(f"{name}: two types have one id", got=event.id, expected="unique ids")
            owner[event.id] = event.id
            for keyword in event.keywords:
                forms = frozenset(word_forms(keyword))
                if not forms or forms in keyword_owner:
                    where = f"also in {keyword_owner[forms]}, in this or another form" if forms else "only fillers"
                    raise InputError(f"{name}: type {event.id}, field keywords: a keyword is not its own",
                                     got=f"`{keyword}`, {where}", expected="unique keywords")  # fmt: skip
                keyword_owner[forms] = event.id


def _weighted(event: EventType) -> Iterator[tuple[str, int]]:
    cues = event.cues
    told = (*cues.objects, cues.state, *(c for c in (cues.direction, cues.trigger, cues.before, cues.after) if c))
    # Lightest first: in a dict the last one stays.
    for weight, texts in ((1, told), (2, (event.group,)), (3, event.keywords), (4, (event.id,))):
        for text in texts:
            yield from ((form, weight) for form in word_forms(text.replace("_", " ")))


def _either(phrases: tuple[str, ...]) -> str:
    return f"{', '.join(phrases[:-1])} or {phrases[-1]}"


def _first_error(error: ValidationError, data: object) -> str:
    """As `type candle_burning_down, field importance.salience: ...`, since nobody counts to the 43rd type."""
    first = error.errors()[0]
    place = list(first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if place[:1] == ["types"] and len(place) > 1 and isinstance(data, Mapping):
        entry = data["types"][place[1]]
        name = entry.get("id") if isinstance(entry, Mapping) else None
        field = ".".join(map(str, place[2:]))
        return f"type {name if isinstance(name, str) else f'number {place[1]}'}, " + (
            f"field {field}: {message}" if field else message
        )
    return f"field {'.'.join(map(str, place)) or 'types'}: {message}"
