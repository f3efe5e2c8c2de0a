from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from remind.curation.annotate import PROMPT_VERSION, annotate, answer_schema, question_text, read_answer
from remind.curation.annotation import (
    FLAGS,
    Annotated,
    AnnotationOutcome,
    ParseFailed,
    Question,
    VLMFailed,
    outcome_from_json,
    outcome_to_json,
)
from remind.data.video_io import encode_mp4
from remind.errors import InputError, StoreError
from remind.vlm import OpenAICompatibleVLM, Reply, RequestLimits, TransformersVLM, Usage, hash_of_prompt
from tests.data.make_video import moving_square
from tests.vlm.chat_server import completion, drip, reply, reset, say, serving, silence
from tests.vlm.make_tiny_qwen import save_tiny_qwen

TAXONOMY = {"pouring": "monotonic_state", "walking": "translational", "door": "discrete"}
MP4 = encode_mp4(moving_square(9), 16)
QUICK = RequestLimits(attempt_s=0.5, total_s=3.0, max_attempts=2, backoff_s=0.01)
GOOD = {
    "has_cut": False,
    "cut_time_s": None,
    "events": ["pouring"],
    "occupancy": 0.25,
    "visible_share": 1,
    "caption": {"text": "Water rises in a glass.", "object": "water", "state_variable": "fill level",
                "direction": "rising", "trigger": None, "before": None, "after": None},
    "flags": dict.fromkeys(FLAGS, "no"),
}


def good(**changes: object) -> dict[str, object]:
    """A good answer with some fields changed, also `caption__text` for one inside another; ... takes a field out."""
    answer = copy.deepcopy(GOOD)
    for path, value in changes.items():
        *outer, last = path.split("__")
        place: dict[str, object] = answer
        for name in outer:
            place = place[name]  # type: ignore[assignment]
        if value is ...:
            place.pop(last)
        else:
            place[last] = value
    return answer


def ask(behave: object) -> AnnotationOutcome:
    with serving(behave) as server:
        vlm = OpenAICompatibleVLM(server.url, "asked-model", limits=QUICK)
        return annotate(MP4, vlm, TAXONOMY, duration_s=5.0)


def read(text: str) -> AnnotationOutcome:
    with serving(say(text)) as server:
        answer = OpenAICompatibleVLM(server.url, "asked-model").ask(None, (), "?", {})
    return read_answer(answer, TAXONOMY, 5.0)


def test_a_good_answer_with_all_that_is_recorded() -> None:
    with serving(say(json.dumps(GOOD))) as server:
        vlm = OpenAICompatibleVLM(server.url, "asked-model")
        outcome = annotate(MP4, vlm, TAXONOMY, duration_s=5.0)
    assert isinstance(outcome, Annotated)
    found = outcome.annotation
    assert (found.events, found.occupancy, found.visible_share) == (("pouring",), 0.25, 1.0)
    assert (found.has_cut, found.cut_time_s, found.caption.direction) == (False, None, "rising")
    assert found.flags.raised(unsure_too=True) == ()
    prompt, schema = question_text(TAXONOMY, 5.0), answer_schema(TAXONOMY)
    assert outcome.question == Question("served-model", PROMPT_VERSION, hash_of_prompt(prompt, schema))
    assert outcome.usage == Usage(700, 90)
    assert json.loads(outcome.raw)["choices"][0]["message"]["content"] == json.dumps(GOOD)
    sent = server.requests[0][2]
    assert sent["messages"][0]["content"][1]["text"] == prompt  # type: ignore[index]
    assert sent["response_format"]["json_schema"]["schema"] == schema  # type: ignore[index]


def test_words_around_the_answer_do_not_matter() -> None:
    assert isinstance(read(f"Sure!\n```json\n{json.dumps(GOOD, indent=2)}\n```\nDone."), Annotated)


def test_a_discrete_event_tells_trigger_before_and_after() -> None:
    told = {"caption__trigger": "a hand pushes", "caption__before": "closed", "caption__after": "open"}
    outcome = read(json.dumps(good(events=["door"], **told)))
    assert isinstance(outcome, Annotated)
    assert outcome.annotation.caption.after == "open"


def test_a_scene_without_event_needs_only_a_description() -> None:
    nothing = {"caption__object": "", "caption__state_variable": "", "caption__direction": ""}
    assert isinstance(read(json.dumps(good(events=[], occupancy=0, visible_share=0, **nothing))), Annotated)


@pytest.mark.parametrize(("changes", "says"), [
    ({"occupancy": ...}, "occupancy: Field required"),
    ({"flags__minors": ...}, "flags.minors: Field required"),
    ({"caption__trigger": ...}, "caption.trigger"),
    ({"mood": "calm"}, "mood: Extra inputs"),
    ({"occupancy": 1.01}, "occupancy"),
    ({"occupancy": -0.1}, "occupancy"),
    ({"occupancy": 25}, "occupancy"),
    ({"occupancy": "0.25"}, "occupancy"),
    ({"occupancy": None}, "occupancy"),
    ({"visible_share": True}, "visible_share"),
    ({"has_cut": 0}, "has_cut"),
    ({"has_cut": "no"}, "has_cut"),
    ({"has_cut": True}, "has_cut is True but cut_time_s is None"),
    ({"cut_time_s": 2.0}, "has_cut is False"),
    ({"has_cut": True, "cut_time_s": 5.01}, "a cut at 5.01 s in a clip of 5.00 s"),
    ({"has_cut": True, "cut_time_s": -1}, "cut_time_s"),
    ({"events": "pouring"}, "events"),
    ({"events": ["flying"]}, "'flying' is not in the taxonomy"),
    ({"events": ["pouring", "pouring"]}, "named twice"),
    ({"events": ["door"]}, "without trigger"),
    ({"events": ["door"], "caption__trigger": " ", "caption__before": "a", "caption__after": "b"}, "without trigger"),
    ({"caption__direction": " "}, "without object, state_variable and direction"),
    ({"caption__text": ""}, "caption.text"),
    ({"caption__text": "x" * 1001}, "caption.text"),
    ({"caption": "Water rises."}, "caption"),
    ({"flags__nudity": "maybe"}, "flags.nudity"),
    ({"flags__nudity": False}, "flags.nudity"),
])
def test_an_answer_that_breaks_the_rules_is_a_failure_of_its_own(changes: dict[str, object], says: str) -> None:
    text = json.dumps(good(**changes))
    outcome = read(text)
    assert isinstance(outcome, ParseFailed)
    assert says in outcome.why
    assert json.loads(outcome.raw)["choices"][0]["message"]["content"] == text


@pytest.mark.parametrize("text", [
    "I see water.", "[]", "{}", "null", '{"has_cut": false', json.dumps(GOOD) + json.dumps(GOOD),
    json.dumps(GOOD).replace("0.25", "NaN"), json.dumps(GOOD).replace("0.25", "1e999"),
    json.dumps(GOOD).replace('"occupancy"', '"occupancy": 0.9, "occupancy"'),
    json.dumps(good(x={})).replace("{}", '{"x":' * 9999),
    json.dumps(good(caption__object="\ud800")), json.dumps({"\ud800" * 9999: 1}), "9" * 5000,
])
def test_no_valid_answer_no_annotation(text: str) -> None:
    outcome = read(text)
    assert isinstance(outcome, ParseFailed)
    assert len(outcome.why) < 1000
    assert outcome_from_json(outcome_to_json(outcome)) == outcome


@settings(max_examples=50, deadline=None)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(
    st.sampled_from([*GOOD, *GOOD["caption"]]) | st.text(), x)))
def test_whatever_json_says_is_an_outcome(value: object) -> None:
    parsed = value if isinstance(value, dict) else {"events": value}
    outcome = read_answer(Reply("", parsed, "m", "0", None, 0.0, ""), TAXONOMY, 5.0)
    assert isinstance(outcome, ParseFailed)


@pytest.mark.parametrize("behave", [
    reply("<html>Sign in</html>"), reply({"choices": []}), reply(b"x" * 3_000_000), say(""), say(None),
    reply(completion("", choices=[{"message": {"content": json.dumps(GOOD)}, "finish_reason": "length"}])),
])
def test_what_is_no_reply_is_a_parse_failure_with_what_came(behave: object) -> None:
    outcome = ask(behave)
    assert isinstance(outcome, ParseFailed)
    assert outcome.raw
    assert outcome.question.model == "asked-model"


@pytest.mark.parametrize(("behave", "transient"), [
    (silence, True), (drip(), True), (reset, True), (reply("down", status=500), True),
    (reply("busy", status=429), True),
    (reply("no such model", status=404), False), (reply("bad key", status=401), False),
    (reply(completion("", choices=[{"message": {"refusal": "No."}, "finish_reason": "stop"}])), False),
])
def test_no_reply_is_a_failure_that_says_whether_it_may_pass(behave: object, transient: bool) -> None:
    outcome = ask(behave)
    assert isinstance(outcome, VLMFailed)
    assert outcome.transient == transient
    assert outcome.why


def test_the_question_names_every_field_and_event_and_depends_on_nothing_else() -> None:
    question = question_text(TAXONOMY, 5.0625)
    assert all(name in question for name in (*GOOD, *GOOD["caption"], *FLAGS, *TAXONOMY, "5.06 seconds"))
    assert question == question_text(dict(reversed(TAXONOMY.items())), 5.0625)
    assert answer_schema(TAXONOMY) == answer_schema(dict(reversed(TAXONOMY.items())))


def test_the_schema_is_strict_as_servers_want_it() -> None:
    schema = answer_schema(TAXONOMY)
    for part in (schema, *schema["$defs"].values()):
        assert part["additionalProperties"] is False
        assert sorted(part["required"]) == sorted(part["properties"])
        assert "description" not in part
    assert schema["properties"]["events"]["items"] == {"type": "string", "enum": ["door", "pouring", "walking"]}


def test_the_question_changes_only_with_its_version() -> None:
    """A change of a word makes old and new answers incomparable: raise PROMPT_VERSION with it."""
    assert (PROMPT_VERSION, hash_of_prompt(question_text(TAXONOMY, 5.0), None)[:16]) == (1, "503d344053758835")


QUESTION = Question("m", 1, "0" * 64)


@pytest.mark.parametrize("outcome", [
    read_answer(Reply("", GOOD, "m", "0" * 64, Usage(1, 2), 0.0, "{é}"), TAXONOMY, 5.0),
    ParseFailed("why", QUESTION, "<html>\n\x00"),
    VLMFailed("why", True, QUESTION),
])
def test_records_survive_the_way_to_disk(outcome: AnnotationOutcome) -> None:
    text = outcome_to_json(outcome)
    assert "\n" not in text
    assert outcome_from_json(text) == outcome
    assert outcome_from_json(text.encode()) == outcome


@pytest.mark.parametrize("change", [
    lambda r: r.pop("kind"), lambda r: r.update(kind="fine"), lambda r: r.update(extra=1), lambda r: r.pop("raw"),
    lambda r: r["annotation"].update(occupancy=2.0), lambda r: r["annotation"].update(has_cut=True),
    lambda r: r["question"].update(prompt_version="1"), lambda r: r["question"].update(api_key="x"),
])
def test_damaged_records_are_refused(change: object) -> None:
    record = json.loads(outcome_to_json(read_answer(Reply("", GOOD, "m", "0", None, 0.0, ""), TAXONOMY, 5.0)))
    change(record)  # type: ignore[operator]
    with pytest.raises(StoreError, match="damaged"):
        outcome_from_json(json.dumps(record))
    for text in ("", "[]", "{", "\x00"):
        with pytest.raises(StoreError, match="damaged"):
            outcome_from_json(text)


def test_nothing_to_ask() -> None:
    vlm = OpenAICompatibleVLM("http://127.0.0.1:9/v1", "m")
    for taxonomy, duration_s in (({}, 5.0), (TAXONOMY, 0.0), (TAXONOMY, float("nan"))):
        with pytest.raises(InputError, match="nothing to ask"):
            annotate(MP4, vlm, taxonomy, duration_s=duration_s)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="no mp4"):
        annotate(b"RIFF....AVI", vlm, TAXONOMY, duration_s=5.0)


def test_a_model_in_this_process_gives_the_same_annotation(tmp_path: Path) -> None:
    pytest.importorskip("transformers", minversion="5.0")
    vlm = TransformersVLM(save_tiny_qwen(tmp_path / "tiny", answer=json.dumps(GOOD)))
    outcome = annotate(MP4, vlm, TAXONOMY, duration_s=5.0)
    assert isinstance(outcome, Annotated)
    assert (outcome.annotation.events, outcome.question.model) == (("pouring",), "tiny")
