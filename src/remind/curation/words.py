"""Words of captions and keywords, brought to one form each, so that `pouring water` is found in `water is poured`.

Our choice: a few suffix rules and a table of irregular forms, for English. No model and no download, the same answer
everywhere, and quick enough for a million captions. Forms are for comparing only, and often no words themselves.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

_WORD = re.compile(r"[^\W_]+")
_SENTENCE_END = re.compile(r"[.!?;\n]+")
_FILLERS = frozenset(
    {"a", "an", "the", "of", "in", "on", "at", "to", "into", "onto", "from", "with", "for", "by", "and", "or", "as",
     "is", "are", "was", "were", "be", "been", "being", "it", "its", "his", "her", "their", "this", "that", "there"}
)  # fmt: skip
_IRREGULAR = {
    "fell": "fall", "fallen": "fall", "blew": "blow", "blown": "blow", "ran": "run", "flew": "fly", "flown": "fly",
    "flies": "fly", "drove": "drive", "driven": "drive", "swam": "swim", "swum": "swim", "swung": "swing",
    "rose": "rise", "risen": "rise", "sank": "sink", "sunk": "sink", "shook": "shake", "broke": "break",
    "broken": "break", "froze": "freeze", "frozen": "freeze", "grew": "grow", "grown": "grow", "threw": "throw",
    "thrown": "throw", "drew": "draw", "drawn": "draw", "spun": "spin", "slid": "slide", "shrank": "shrink",
    "shrunk": "shrink", "burnt": "burn", "wrote": "write", "written": "write", "lit": "light", "wove": "weave",
    "woven": "weave", "dug": "dig", "tore": "tear", "torn": "tear", "ate": "eat", "eaten": "eat", "men": "man",
    "women": "woman", "children": "child", "kid": "child", "kids": "child", "leaves": "leaf", "people": "person",
}  # fmt: skip
# What the rules below would take for a form of another word.
_WHOLE = frozenset(
    {"training", "fishing", "building", "evening", "morning", "lightning", "ceiling", "clothing", "during"}
)


def word_forms(text: str) -> tuple[str, ...]:
    """The words of a text in one form each, in order, without fillers such as `the`."""
    return tuple(_form(word) for word in _plain_words(text))


class CaptionWords:
    """A caption, indexed once and asked about many phrases.

    Our choice: a phrase is found when all its words, in any order and form, lie within its own length plus `slack`
    words of each other and in one sentence: captions put adjectives and subjects in between.

    Args:
        text: any text.
        slack: words that may lie in between, fillers not counted.
    """

    def __init__(self, text: str, *, slack: int = 3) -> None:
        self._slack = slack
        self._places: dict[str, list[int]] = {}
        place = 0
        for sentence in _SENTENCE_END.split(text):
            for form in word_forms(sentence):
                self._places.setdefault(form, []).append(place)
                place += 1
            place += 1000  # farther than any window reaches

    def has(self, phrase: Iterable[str]) -> bool:
        """Whether the words of a phrase, as `word_forms` gives them, are found close together."""
        needed = set(phrase)
        if not needed or not needed <= self._places.keys():
            return False
        reach = len(needed) + self._slack
        starts = (place for form in needed for place in self._places[form])
        return any(all(self._within(form, start, start + reach) for form in needed) for start in starts)

    def _within(self, form: str, start: int, stop: int) -> bool:
        return any(start <= place < stop for place in self._places[form])


def _plain_words(text: str) -> list[str]:
    plain = unicodedata.normalize("NFKC", text).casefold().replace("'s", "").replace("\u2019s", "")
    return [word for word in _WORD.findall(plain) if word not in _FILLERS]


@lru_cache(maxsize=65536)
def _form(word: str) -> str:
    if word in _WHOLE:
        return word
    word = _IRREGULAR.get(word, word)
    stem = _without_suffix(word)
    if len(stem) > 3 and stem[-1] == stem[-2]:  # falling, falls and fall; swimming and swim
        stem = stem[:-1]
    return stem[:-1] if len(stem) > 3 and stem[-1] == "e" else stem  # rising and rise


def _without_suffix(word: str) -> str:
    if len(word) > 4 and word.endswith(("ies", "ied")):
        return word[:-3] + "y"
    for suffix in ("ing", "ed"):
        rest = word.removesuffix(suffix)
        if rest != word and len(rest) >= 3 and re.search("[aeiouy]", rest) and not word.endswith("eed"):
            return rest
    if word.endswith(("ses", "xes", "zes", "ches", "shes")) and len(word) > 4:
        return word[:-2]
    if len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is")):
        return word[:-1]
    return word
