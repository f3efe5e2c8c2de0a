"""Words of captions: forms of one word are one, parts of words are not, and phrases hold together."""

from __future__ import annotations

import pytest

from remind.curation.words import CaptionWords, word_forms


@pytest.mark.parametrize(
    "forms",
    [
        "pour pours poured pouring",
        "fall falls fell fallen falling",
        "swim swims swam swum swimming",
        "rise rises rose risen rising",
        "close closes closed closing",
        "dry dries dried drying",
        "fly flies flew flown flying",
        "glass glasses",
        "brush brushes brushed brushing",
        "leaf leaves",
        "woman women woman's Woman WOMAN\u2019S",
        "kid child children",
    ],
)
def test_forms_of_a_word_are_one(forms: str) -> None:
    assert len(set(word_forms(forms))) == 1


@pytest.mark.parametrize(
    "words", ["train training", "light lightning", "spring sprung ring", "speed spear", "fish fishing", "even evening"]
)
def test_other_words_stay_apart(words: str) -> None:
    assert len(set(word_forms(words))) == len(words.split())


def test_fillers_and_marks_are_left_out() -> None:
    assert word_forms("The water -- it IS poured, into a glass!") == word_forms("water pour glass")
    assert word_forms("\N{FULLWIDTH LATIN SMALL LETTER I}ce") == word_forms("ice")
    assert word_forms(" \n ... ") == ()


@pytest.mark.parametrize(
    ("caption", "found"),
    [
        ("Water is poured into a glass", True),
        ("she pours some cold, clear water", True),
        ("a man pouring himself a very large and rather cold glass of plain water", False),  # too far apart
        ("he pours. Water drips elsewhere", False),  # another sentence
        ("downpour on waterways", False),  # parts of words
        ("only water", False),
        ("", False),
    ],
)
def test_a_phrase_is_found_with_its_words_close_together(caption: str, found: bool) -> None:
    assert CaptionWords(caption).has(word_forms("pouring water")) == found


def test_slack_is_what_may_lie_in_between() -> None:
    caption = "pouring one two three water"
    assert CaptionWords(caption, slack=3).has(word_forms("pour water"))
    assert not CaptionWords(caption, slack=2).has(word_forms("pour water"))


def test_an_empty_phrase_is_nowhere() -> None:
    assert not CaptionWords("anything").has(())


def test_a_long_caption_takes_no_long_time() -> None:
    words = CaptionWords("water pour " * 50_000)
    assert words.has(word_forms("pour water"))
    assert not words.has(word_forms("pour water glass"))
