from __future__ import annotations

import pytest

from remind.errors import InputError
from remind.vlm.interface import check_mp4, hash_of_prompt, image_type, only_json_object


@pytest.mark.parametrize(("text", "found"), [
    ('{"a": 1}', {"a": 1}),
    ('Here it is:\n```json\n{"a": {"b": [1]}}\n```\nAnything else?', {"a": {"b": [1]}}),
    ('{"a": "}{"}', {"a": "}{"}),
    ('{"a": 1} or rather {"a": 2}', None),
    ('I think {so}. {"a": 1}', None),
    ('{"a": 1', None),
    ('{"a": 1, "a": 2}', None),
    ('{"a": NaN}', None),
    ('[{"a": 1}, {"a": 2}]', None),
    ("no object", None),
    ("", None),
    ('{"a":' * 100_000, None),
])
def test_exactly_one_json_object_counts(text: str, found: object) -> None:
    assert only_json_object(text) == found


def test_the_hash_covers_question_and_schema() -> None:
    asked = [("a", None), ("b", None), ("a", {}), ("a", {"x": 1})]
    assert len({hash_of_prompt(prompt, schema) for prompt, schema in asked}) == 4
    assert hash_of_prompt("a", {"x": 1, "y": 2}) == hash_of_prompt("a", {"y": 2, "x": 1})


def test_media_are_told_by_their_first_bytes() -> None:
    assert image_type(b"\x89PNG\r\n\x1a\n...") == "image/png"
    assert image_type(b"\xff\xd8\xff\xe0") == "image/jpeg"
    assert image_type(b"RIFF\x00\x00\x00\x00WEBPVP8 ") == "image/webp"
    with pytest.raises(InputError, match="no known kind"):
        image_type(b"GIF89a")
    with pytest.raises(InputError, match="no mp4"):
        check_mp4(b"<html>")
