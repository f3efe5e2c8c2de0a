from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import av
import pytest
import torch

from remind.data.video_io import decode_all, encode_mp4
from remind.errors import InputError
from remind.evaluation.eval_run import Record
from remind.evaluation.found_videos import VideoProblem, sha256_of
from remind.evaluation.judge_calls import (
    FAILED,
    Judge,
    Question,
    blind_mp4,
    needs_judging,
    open_judge,
    replayed,
    trials,
)
from remind.vlm import Sampling, VLMRejected, VLMUnavailable
from tests.data.make_video import moving_square
from tests.evaluation.make_judge import client, judging

MP4 = encode_mp4(moving_square(9), 16)


def asked(prompt: str = "well?", seed: int = 1) -> Question:
    return Question(prompt, ("some-sha",), MP4, schema={"type": "object"}, sampling=Sampling(0.7, seed))


def test_a_reply_is_kept_with_its_hash_and_not_asked_for_again(tmp_path: Path) -> None:
    with judging(lambda prompt, number: f'{{"a": {number}}}') as server:
        judge = Judge(tmp_path, client(server))
        first, other = judge.ask(asked()), judge.ask(asked(seed=2))
        again = Judge(tmp_path, client(server)).ask(asked())
        assert len(server.requests) == 2
    assert first == again
    assert (first.parsed, other.parsed) == ({"a": 0}, {"a": 1})
    body = server.requests[0][2]
    assert (body["temperature"], body["seed"]) == (0.7, 1)
    kept = json.loads((tmp_path / f"{first.key}.json").read_text())
    assert kept["prompt_hash"] == asked().prompt_hash
    assert (kept["prompt"], kept["media"], kept["temperature"], kept["seed"]) == ("well?", ["some-sha"], 0.7, 1)
    assert '"chatcmpl-1"' in kept["raw"]


def test_equal_questions_at_the_same_time_are_asked_once(tmp_path: Path) -> None:
    with judging(lambda prompt, number: f"{number}") as server:
        judge = Judge(tmp_path, client(server))
        with ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: judge.ask(asked()), range(12)))
        assert len(server.requests) == 1
    assert len(set(answers)) == 1


def test_a_replay_asks_nobody(tmp_path: Path) -> None:
    with judging(lambda prompt, number: "words") as server:
        Judge(tmp_path / "run" / "replies", client(server)).ask(asked())
    again = replayed(tmp_path / "run")
    assert again.model == "some-judge"
    assert again.ask(asked()).text == "words"
    other = again.ask(asked("another question"))
    assert (other.text, other.failure) == (None, "not in the replay")


def test_what_will_fail_again_is_kept_and_what_may_pass_is_not(tmp_path: Path) -> None:
    said = ["fine", "", 503, "at last"]
    with judging(lambda prompt, number: said[number]) as server:
        judge = Judge(tmp_path, client(server))
        judge.ask(asked("a"))
        empty = judge.ask(asked("b"))
        assert (empty.text, empty.failure) == (None, "malformed")
        assert judge.ask(asked("b")) == empty
        assert judge.ask(asked("c")).failure == "unavailable"
        assert judge.ask(asked("c")).text == "at last"
        assert len(server.requests) == 4


def test_a_video_that_is_too_large_does_not_stop_the_others(tmp_path: Path) -> None:
    with judging(lambda prompt, number: "x") as server:
        vlm = client(server)
        vlm.limits = replace(vlm.limits, max_media_bytes=len(MP4))
        judge = Judge(tmp_path, vlm)
        assert judge.ask(replace(asked(), video_mp4=MP4 + b"0")).failure == "not shown"
        assert judge.ask(asked()).text == "x"


@pytest.mark.parametrize(("status", "error"), [(401, VLMRejected), (503, VLMUnavailable)])
def test_a_judge_that_never_answered_stops_everything(tmp_path: Path, status: int, error: type[Exception]) -> None:
    with judging(lambda prompt, number: status) as server, pytest.raises(error):
        Judge(tmp_path, client(server)).ask(asked())


def test_replies_of_another_judge_are_not_mixed_in(tmp_path: Path) -> None:
    with judging(lambda prompt, number: "x") as server:
        Judge(tmp_path, client(server))
        other = client(server)
        other.model = "another"
        with pytest.raises(InputError, match="another judge"):
            Judge(tmp_path, other)
    with pytest.raises(InputError, match="no judge's replies"):
        replayed(tmp_path / "nothing")
    (tmp_path / "judge.json").write_text('{"model": 3}')
    with pytest.raises(InputError, match="no judge's replies"):
        replayed(tmp_path)
    with pytest.raises(InputError, match="several models"):
        open_judge("http://localhost:1/v1", "", tmp_path)
    with pytest.raises(InputError, match="no base URL"):
        open_judge("ftp://localhost:1/v1", "j", tmp_path)


def test_a_blind_video_shows_the_same_pictures_without_its_names(tmp_path: Path) -> None:
    path = tmp_path / "named.mp4"
    rgb = moving_square(12)
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "variant-full"
        container.metadata["comment"] = "checkpoint 17"
        stream = container.add_stream("libx264", 16)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for frame in rgb.numpy():
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
    blind = blind_mp4(path)
    assert b"variant-full" in path.read_bytes()
    assert b"variant-full" not in blind
    assert b"checkpoint 17" not in blind
    (tmp_path / "blind.mp4").write_bytes(blind)
    assert torch.equal(decode_all(tmp_path / "blind.mp4"), decode_all(path))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(VideoProblem, match="truncated"):
        blind_mp4(tmp_path / "broken.mp4")


def test_trials_are_a_function_of_video_and_seed() -> None:
    assert trials(["a"], 3, 0.7, 42) == trials(["a"], 3, 0.7, 42)
    assert len({sample.seed for sample in trials(["a"], 3, 0.7, 42)}) == 3
    assert trials(["a"], 3, 0.7, 42) != trials(["b"], 3, 0.7, 42) != trials(["b"], 3, 0.7, 43)


def test_what_is_judged_again(tmp_path: Path) -> None:
    video = tmp_path / "a.mp4"
    video.write_bytes(b"one")
    good = Record("a", "scored", {FAILED: 0}, {"sha256": sha256_of(video)})
    shaky = Record("a", "scored", {FAILED: 1}, {"sha256": sha256_of(video)})
    missing = Record("a", "failed", {}, {}, "missing")
    assert needs_judging(None, video, retry=False)
    assert not needs_judging(good, video, retry=True)
    assert [needs_judging(shaky, video, retry=retry) for retry in (False, True)] == [False, True]
    assert needs_judging(missing, video, retry=False)
    assert not needs_judging(missing, tmp_path / "b.mp4", retry=False)
    video.write_bytes(b"two")
    assert needs_judging(good, video, retry=False)
    assert needs_judging(good, tmp_path / "gone.mp4", retry=False)
