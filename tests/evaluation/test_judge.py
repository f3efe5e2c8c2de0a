from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest

from remind.data.video_io import encode_mp4
from remind.errors import InputError
from remind.evaluation.eval_run import EvalRun
from remind.evaluation.judge import (
    BETWEEN,
    DIMENSIONS,
    common_clips,
    question,
    rate_videos,
    read_ratings,
    reply_schema,
    sample_clips,
    shuffled_ids,
    summarise,
)
from remind.evaluation.judge_calls import Answer, Judge, replayed
from tests.data.make_video import moving_square
from tests.evaluation.make_judge import Says, client, judging

KEYS = [dimension.key for dimension in DIMENSIONS["appendix_d"]]


def rates(*values: int) -> str:
    return json.dumps(dict(zip(KEYS, values, strict=True)))


def folders_in(folder: Path, clips: int = 4) -> dict[str, Path]:
    made = {name: folder / name for name in ("baseline", "fullmodel")}
    for number, place in enumerate(made.values()):
        place.mkdir()
        for clip in range(clips):
            (place / f"clip{clip}.mp4").write_bytes(encode_mp4(moving_square(9, seed=10 * number + clip), 16))
    return made


def rated(folder: Path, folders: dict[str, Path], says: Says, name: str = "run", *, retry: bool = False) -> EvalRun:
    common, _ = common_clips(folders)
    run = EvalRun(folder / name, {"suite": "judge"}, shuffled_ids(list(folders), common))
    with judging(says) as server:
        rate_videos(run, folders, Judge(folder / name / "replies", client(server)), "appendix_d", retry=retry)
    return run


def test_200_clips_at_seed_42_are_always_the_same_ones() -> None:
    clips = [f"clip{number:04d}" for number in range(1000)]
    drawn = sample_clips(clips)
    assert len(drawn) == 200 == len(set(drawn))
    assert drawn == sample_clips(list(reversed(clips)))
    assert drawn != sample_clips(clips, seed=43)
    assert sample_clips(clips[:50]) == clips[:50]


def test_models_are_mixed_in_the_order_of_judging() -> None:
    clips = [f"c{number}" for number in range(100)]
    ids = shuffled_ids(["b", "a"], clips)
    assert ids == shuffled_ids(["a", "b"], clips)
    assert sorted(ids) == sorted(f"{variant}{BETWEEN}{clip}" for variant in "ab" for clip in clips)
    first = [name[0] for name in ids[:100]]
    assert 30 < first.count("a") < 70  # neither model comes first


def test_the_judge_is_asked_three_times_at_07_and_never_told_whose_it_is(tmp_path: Path) -> None:
    folders = folders_in(tmp_path, 1)
    common, _ = common_clips(folders)
    run = EvalRun(tmp_path / "run", {"suite": "judge"}, shuffled_ids(list(folders), common))
    with judging(lambda prompt, number: rates(5, 4, 3, 2)) as server:
        rate_videos(run, folders, Judge(tmp_path / "replies", client(server)), "appendix_d")
    bodies = [body for _, _, body in server.requests]
    assert len(bodies) == 2 * 3
    assert {body["temperature"] for body in bodies} == {0.7}
    assert len({body["seed"] for body in bodies}) == 6
    assert len({body["messages"][0]["content"][-1]["text"] for body in bodies}) == 1  # type: ignore[index]
    sent = json.dumps(bodies)
    assert not any(word in sent for word in ("baseline", "fullmodel", "clip0"))
    assert bodies[0]["response_format"]["json_schema"]["schema"] == reply_schema("appendix_d")  # type: ignore[index]


@pytest.mark.parametrize("questions", ["appendix_d", "tables"])
def test_every_dimension_is_asked_for(questions: str) -> None:
    assert all(d.key in question(questions) and d.asks in question(questions)  # type: ignore[arg-type]
               for d in DIMENSIONS[questions])  # type: ignore[index]
    assert len(DIMENSIONS[questions]) == 4  # type: ignore[index]


@pytest.mark.parametrize("text", [
    "", "five", rates(1, 2, 3, 4)[:-1], rates(1, 2, 3, 6), rates(0, 2, 3, 4), '{"overall_quality": 3}',
    rates(1, 2, 3, 4).replace("1", "1.5"), rates(1, 2, 3, 4).replace("1", "true"),
    rates(1, 2, 3, 4) * 2, rates(1, 2, 3, 4).replace("1", '"1"'),
])
def test_a_rating_that_cannot_be_read_is_a_failure(text: str) -> None:
    assert read_ratings(Answer(text, "", "key"), "appendix_d") is None


def test_words_around_a_rating_do_not_matter() -> None:
    found = read_ratings(Answer(f"Here:\n```json\n{rates(1, 2, 3, 4)}\n```", "", "key"), "appendix_d")
    assert found == dict(zip(KEYS, (1, 2, 3, 4), strict=True))


def test_ratings_are_means_over_calls_and_clips(tmp_path: Path) -> None:
    draw = random.Random(0)
    folders, said = folders_in(tmp_path), []

    def says(prompt: str, number: int) -> str:
        said.append([draw.randint(1, 5) for _ in KEYS])
        return rates(*said[-1])

    run = rated(tmp_path, folders, says)
    records = run.records()
    trials = {name: said[3 * place : 3 * place + 3] for place, name in enumerate(run.ids)}
    tables = summarise(records, "appendix_d")["tables"]
    for row in tables[0]["rows"]:
        for column, dimension in enumerate(DIMENSIONS["appendix_d"]):
            values = [np.mean([trial[column] for trial in trials[name]]) for name in run.ids
                      if name.startswith(f"{row['name']}=")]
            cell = row["cells"][dimension.column]
            assert (cell["value"], cell["n"]) == (pytest.approx(np.mean(values)), 4)
            assert cell["low"] <= cell["value"] <= cell["high"]
    difference = tables[1]["rows"][0]
    assert difference["name"] == "fullmodel - baseline"
    base, full = (row["cells"]["Overall Quality"]["value"] for row in tables[0]["rows"])
    assert difference["cells"]["Overall Quality"]["value"] == pytest.approx(full - base)


def test_a_judge_that_fails_half_the_time_is_counted(tmp_path: Path) -> None:
    folders = folders_in(tmp_path)
    run = rated(tmp_path, folders, lambda prompt, number: "?" if number % 2 else rates(4, 4, 4, 4))
    tables = summarise(run.records(), "appendix_d")["tables"]
    cells = [row["cells"] for row in tables[0]["rows"]]
    assert sum(cell["Judge failures"]["k"] for cell in cells) == 12
    assert sum(cell["Judge failures"]["n"] for cell in cells) == 24
    assert {cell["Overall Quality"]["value"] for cell in cells} == {4.0}  # what failed pulls nothing down
    assert all(record.about["ratings"].count(None) in (1, 2) for record in run.records().values())


def test_what_was_never_rated_is_missing(tmp_path: Path) -> None:
    folders = folders_in(tmp_path)
    (folders["fullmodel"] / "clip1.mp4").write_bytes(b"broken")
    run = rated(tmp_path, folders, lambda prompt, number: "?" if number < 3 else rates(5, 5, 5, 5))
    summary = summarise(run.records(), "appendix_d")
    assert sorted(summary["failed"].values()) == ["judge: unreadable", "truncated or damaged"]
    assert sum(row["cells"]["Overall Quality"]["n"] for row in summary["tables"][0]["rows"]) == 6
    assert sum(row["cells"]["Missing clips"]["k"] for row in summary["tables"][0]["rows"]) == 2


def test_a_replay_gives_the_same_table(tmp_path: Path) -> None:
    folders = folders_in(tmp_path)
    run = rated(tmp_path, folders, lambda prompt, number: rates(*(1 + (number + key) % 5 for key in range(4))))
    again = EvalRun(tmp_path / "again", {"suite": "judge"}, list(run.ids))
    rate_videos(again, folders, replayed(run.folder), "appendix_d", workers=3)
    assert summarise(again.records(), "appendix_d") == summarise(run.records(), "appendix_d")
    other = EvalRun(tmp_path / "other", {"suite": "judge"}, list(run.ids))
    rate_videos(other, folders, replayed(run.folder), "tables")  # other questions were never asked
    assert {record.reason for record in other.records().values()} == {"judge: not in the replay"}


def test_folders_must_share_clips(tmp_path: Path) -> None:
    folders = folders_in(tmp_path)
    (folders["fullmodel"] / "clip0.mp4").unlink()
    (folders["baseline"] / "clip3.mp4").unlink()
    common, lacking = common_clips(folders)
    assert common == ["clip1", "clip2"]
    assert lacking == {"baseline": ["clip3"], "fullmodel": ["clip0"]}
    (tmp_path / "empty").mkdir()
    for wrong in ({"base": folders["baseline"], "x": tmp_path / "empty"}, {"x": tmp_path / "nowhere"},
                  {"a=b": folders["baseline"]}, {"": folders["baseline"]}):
        with pytest.raises(InputError):
            common_clips(wrong)
