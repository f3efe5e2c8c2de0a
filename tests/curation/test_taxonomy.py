"""The taxonomy: the one that comes along is sound and useful, and a bad one is named by type and field."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import pytest
import yaml
from rich.console import Console

from remind.curation.taxonomy import GROUPS, Importance, Taxonomy
from remind.curation.taxonomy_table import render_event_type, render_taxonomy_table
from remind.curation.words import word_forms
from remind.errors import InputError

PACKAGED = Path(__file__).parents[2] / "src" / "remind" / "curation" / "taxonomy.yaml"
PACE = set(word_forms("slow slowly fast faster quick quickly steady steadily even evenly gradual gradually"))


@pytest.fixture(scope="module")
def taxonomy() -> Taxonomy:
    return Taxonomy.load()


@pytest.fixture(scope="module")
def small() -> dict[str, Any]:
    """A sound taxonomy of nine types."""
    raw = yaml.safe_load(PACKAGED.read_text())
    first = {next(t["id"] for t in raw["types"] if t["group"] == group) for group in GROUPS}
    raw["types"] = [t for t in raw["types"] if t["id"] in first | {"sunset", "sunrise", "lid_opening"}]
    return raw


def test_it_is_broad(taxonomy: Taxonomy) -> None:
    assert 110 <= len(taxonomy.types) <= 130
    assert all(len(taxonomy.group(group)) >= 10 for group in GROUPS)


def test_groups_of_high_priority_come_out_on_top_by_their_factors(taxonomy: Taxonomy) -> None:
    """F.1: monotonic state, large motion, deformation, light and weather, interaction before the other two."""
    score = {group: mean(t.importance.score for t in taxonomy.group(group)) for group in GROUPS}
    high = ("monotonic_state", "translational", "deformation", "lighting_weather", "interaction")
    assert min(score[g] for g in high) > max(score[g] for g in ("periodic", "discrete")) + 0.05
    recovery = {group: mean(t.importance.recovery for t in taxonomy.group(group)) for group in GROUPS}
    assert max(recovery, key=recovery.__getitem__) == "monotonic_state"


def test_the_score_is_the_documented_formula() -> None:
    assert Importance(salience=5, frequency=5, recovery=5).score == 1
    assert Importance(salience=1, frequency=1, recovery=1).score == pytest.approx(0.2)
    assert Importance(salience=4, frequency=2, recovery=3).score == pytest.approx(72**0.25 / 5)
    # recovery counts twice
    assert Importance(salience=2, frequency=4, recovery=4).score > Importance(salience=4, frequency=4, recovery=2).score


def test_no_type_rules_itself_out(taxonomy: Taxonomy) -> None:
    """A caption made of a type's own words must not hit one of its negatives, nor a general one."""
    for event in taxonomy.types:
        cues = event.cues
        for text in (*event.keywords, *cues.objects, cues.state, cues.direction or f"{cues.before} {cues.after}"):
            words = set(word_forms(text))
            bad = [n for n in (*event.negatives, *taxonomy.negatives) if set(word_forms(n)) <= words]
            assert bad == [], (event.id, text)


def test_every_keyword_finds_its_own_type(taxonomy: Taxonomy) -> None:
    lost = [(t.id, k) for t in taxonomy.types for k in t.keywords if t.id not in taxonomy.match(k)]
    assert lost == []


def test_directions_tell_no_pace(taxonomy: Taxonomy) -> None:
    """Pace varies from clip to clip; prompts add their own."""
    assert [t.id for t in taxonomy.types if PACE & set(word_forms(t.cues.direction or ""))] == []


@pytest.mark.parametrize(
    ("caption", "ids"),
    [
        ("The video shows a woman pouring dark coffee from a pot into a white cup.", ["hot_drink_pouring"]),
        ("A candle burns with a bright flame. The camera is static.", ["candle_burning_down"]),
        ("A hydraulic press crushes a soda can.", ["object_squashed"]),
        ("In this video a man in a grey suit is walking down a street.", ["person_walking"]),
        ("A man in a T-shirt with a logo walks past a window.", ["person_walking"]),
        ("A man is walking on a treadmill in a gym.", []),
        ("Someone opens the door of a house.", ["door_opening"]),
        ("Leaves are falling from a tree.", ["leaf_drifting_down"]),
        ("The sun is setting behind the hills and a dog runs along the beach.", ["animal_running", "sunset"]),
        ("A glass vase falls off a table and shatters.", ["glass_breaking"]),
        ("A cartoon cat running after a mouse; the sun is setting.", []),  # a general negative
        ("A locomotive engineer explains his training.", []),
        ("A man sits on a couch and talks to the camera.", []),
        ("", []),
    ],
)
def test_captions_are_tagged(taxonomy: Taxonomy, caption: str, ids: list[str]) -> None:
    assert list(taxonomy.match(caption)) == ids


def test_search_ranks_by_place_then_importance(taxonomy: Taxonomy) -> None:
    def found(text: str) -> list[str]:
        return [t.id for t in taxonomy.search(text)]

    assert found("melting")[:2] == ["fat_melting", "ice_melting"]
    assert found("Pouring WATER")[0] == "vessel_filling"
    assert found("candle")[:3] == ["candle_burning_down", "candle_blown_out", "flame_lit"]
    assert found("door_opening")[0] == "door_opening"
    assert set(found("periodic")) >= {t.id for t in taxonomy.group("periodic")}
    assert found("xylophone") == []
    assert taxonomy.search("water") == taxonomy.search("water")
    with pytest.raises(InputError, match="nothing to search for"):
        taxonomy.search(" ?! the ")


def test_access_by_id_group_and_tags(taxonomy: Taxonomy) -> None:
    assert taxonomy["sunset"].group == "lighting_weather"
    assert "sunset" in taxonomy
    assert "sun" not in taxonomy
    with pytest.raises(InputError, match=r"no such event type; got sunsets; expected one such as sunset"):
        taxonomy["sunsets"]
    with pytest.raises(InputError, match="no such group"):
        taxonomy.group("cooking")
    assert taxonomy.groups_of(["door_opening", "deformation", "sunset", "sunrise", "other"]) == (
        "deformation",
        "lighting_weather",
        "discrete",
    )


def test_guidance_tells_what_a_caption_must_say(taxonomy: Taxonomy) -> None:
    for event in taxonomy.types:
        text = taxonomy.caption_guidance(event)
        assert "\n" not in text
        assert "None" not in text
        assert event.cues.state in text
        told = [event.cues.direction] if event.group != "discrete" else [event.cues.trigger, event.cues.after]
        assert all(cue is not None and cue in text for cue in told)
    assert taxonomy.caption_guidance("sunset") == taxonomy.caption_guidance(taxonomy["sunset"])


def test_the_tables_show_every_type(taxonomy: Taxonomy) -> None:
    console = Console(width=200, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(render_taxonomy_table(taxonomy.types))
    console.print(render_event_type(taxonomy["lid_opening"], taxonomy.caption_guidance("lid_opening")))
    shown = console.export_text()
    assert all(t.id in shown for t in taxonomy.types)
    assert f"{len(taxonomy.types)} event types" in shown
    assert "a hand lifts the lid" in shown


# --- bad files ---


def _type(raw: dict[str, Any], event_id: str) -> dict[str, Any]:
    return next(t for t in raw["types"] if t["id"] == event_id)


def _same_id(d: dict[str, Any]) -> None:
    _type(d, "sunrise")["id"] = "sunset"


def _same_keyword(d: dict[str, Any]) -> None:
    _type(d, "sunrise")["keywords"][0] = "The sinking sun"


def _fillers(d: dict[str, Any]) -> None:
    _type(d, "sunset")["keywords"][0] = "into the"


def _one_group_less(d: dict[str, Any]) -> None:
    del d["groups"]["periodic"]


def _no_types_of_a_group(d: dict[str, Any]) -> None:
    d["types"] = [t for t in d["types"] if t["group"] != "periodic"]


@pytest.mark.parametrize(
    ("damage", "line"),
    [
        (lambda d: _type(d, "sunset")["importance"].update(salience=6), "type sunset, field importance.salience"),
        (lambda d: _type(d, "sunset")["importance"].update(salience="5"), "type sunset, field importance.salience"),
        (lambda d: _type(d, "sunset")["importance"].update(salience=True), "type sunset, field importance.salience"),
        (lambda d: _type(d, "sunset").update(keywords=["one"]), "type sunset, field keywords"),
        (lambda d: _type(d, "sunset").update(keywords="sunset"), "type sunset, field keywords"),
        (lambda d: _type(d, "sunset").update(negatives=[True]), "type sunset, field negatives.0"),
        (lambda d: _type(d, "sunset").update(group="skies"), "type sunset, field group"),
        (lambda d: _type(d, "sunset").update(colour="red"), "type sunset, field colour"),
        (lambda d: _type(d, "sunset").pop("cues"), "type sunset, field cues"),
        (lambda d: _type(d, "sunset").update(id="../x"), "type ../x, field id"),
        (lambda d: _type(d, "sunset").update(id=7), "field id"),
        (lambda d: _type(d, "sunset")["cues"].pop("direction"), "type sunset, cues.direction is missing"),
        (lambda d: _type(d, "sunset")["cues"].update(trigger="x y"), "type sunset, cues.trigger is not for"),
        (lambda d: _type(d, "lid_opening")["cues"].pop("before"), "type lid_opening, cues.before is missing"),
        (lambda d: _type(d, "lid_opening")["cues"].update(direction="x y"), "type lid_opening, cues.direction is not"),
        (lambda d: d["types"].__setitem__(3, "sunset"), "type number 3"),
        (lambda d: d.update(types={}), "field types"),
        (lambda d: d.update(version=2), "field version"),
        (lambda d: d.pop("types"), "field types"),
        (_same_id, "two types have one id; got sunset"),
        (_same_keyword, "type sunrise, field keywords: a keyword is not its own; got `The sinking sun`, also"),
        (_fillers, "type sunset, field keywords: a keyword is not its own; got `into the`, only fillers"),
        (_one_group_less, "groups without a guide or a type; got periodic"),
        (_no_types_of_a_group, "groups without a guide or a type; got periodic"),
    ],
)
def test_a_bad_file_is_named_by_type_and_field(
    small: dict[str, Any], tmp_path: Path, damage: Callable[[dict[str, Any]], object], line: str
) -> None:
    data = copy.deepcopy(small)
    damage(data)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(data, sort_keys=False))
    with pytest.raises(InputError) as caught:
        Taxonomy.load(path, min_types=1)
    assert str(caught.value).startswith("mine.yaml: ")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "word", "types: [[1]]"])
def test_another_kind_of_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises(InputError, match=r"^mine\.yaml: field "):
        Taxonomy.load(tmp_path / "mine.yaml")


def test_a_small_taxonomy_of_ones_own_is_possible_when_asked_for(small: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(small))
    assert len(Taxonomy.load(tmp_path / "mine.yaml", min_types=1).types) == len(small["types"])
    with pytest.raises(InputError, match=r"too few event types; got \d+; expected 101 or more"):
        Taxonomy.load(tmp_path / "mine.yaml")
