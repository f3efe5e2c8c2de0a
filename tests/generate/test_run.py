"""From a command to a video and its manifest, and from the manifest to the same video again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from remind.data.video_io import decode_all
from remind.errors import CheckpointError, InputError
from remind.frame_graph import frames_of_chunk
from remind.generate.manifest import Manifest
from remind.generate.manifest_files import read_cameras
from remind.generate.run import generate, generate_again
from tests.inference.make_session import nano

from .make_command import command, make, make_files


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_files(tmp_path_factory.mktemp("given"))


def remade(manifest: Path, out: Path, **how: Any) -> tuple[Manifest, list[str]]:
    said: list[str] = []
    return generate_again(manifest, out, say=said.append, **how), said


ASKED: dict[str, dict[str, Any]] = {
    "words": {},
    "image": {"image": "start.png", "camera": "right-5, left-3"},
    "video": {"video": "moves.mp4", "start_s": 0.5},
    "dark video": {"video": "moves.mp4", "chunks": 7, "interrupt": "light_toggle", "compare": True},
    "zoomed video": {"video": "moves.mp4", "chunks": 7, "interrupt": "zoom", "camera": "orbit:10"},
    "dark image": {"image": "start.png", "chunks": 7, "interrupt": "occluder"},
    "schedule": {"image": "start.png", "schedule": "lights.txt"},
    "references": {"image": "start.png", "reference": ("start.png", "moves.mp4"), "reference_gap": 4},
    "guidance": {"guidance": 2.5, "negative_prompt": "blurred"},
    "few_step": {"sampler": "few_step", "steps": 2, "shift": 3.0},
    "unipc": {"sampler": "unipc", "steps": 2},
    "retrieve": {"chunks": 5, "memory": "retrieve:2", "memory_budget": "400kB", "memory_storage": "int8"},
    "noise": {"memory": "sink_window:1+1", "memory_noise": 0.3},
}


@pytest.mark.parametrize("name", ASKED)
def test_a_manifest_makes_the_same_video_again(name: str, files: Path, tmp_path: Path) -> None:
    asked = dict(ASKED[name])
    for key in ("image", "video", "schedule"):
        asked |= {key: files / asked[key]} if key in asked else {}
    asked |= {"reference": tuple(files / one for one in asked["reference"])} if "reference" in asked else {}
    then = make(tmp_path / "a.mp4", **asked)
    moved = tmp_path / "elsewhere"
    shutil.copytree(tmp_path, moved, ignore=lambda *_: ["elsewhere"])
    shutil.rmtree(tmp_path / "inputs", ignore_errors=True)
    now, said = remade(moved / "a.mp4.json", tmp_path / "b.mp4")
    assert said == ["the same video, bit for bit"]
    assert now.output.frame_digest == then.output.frame_digest
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert now.request.digest() == then.request.digest()
    assert now.output.columns == then.output.columns
    third, _ = remade(tmp_path / "b.mp4.json", tmp_path / "c.mp4")  # and from there on
    assert third.output.sha256 == then.output.sha256
    assert then.output.num_frames == frames_of_chunk(asked.get("chunks", 3) - 1).stop
    assert len(decode_all(tmp_path / "a.mp4")) == then.output.num_frames


def test_the_manifest_says_what_was_asked(files: Path, tmp_path: Path) -> None:
    manifest = make(tmp_path / "a.mp4", image=files / "start.png", schedule=files / "lights.txt", camera="right-8")
    assert manifest == Manifest.read(tmp_path / "a.mp4.json")
    request = manifest.request
    assert (request.mode, request.seed, request.num_chunks, request.hw) == ("i2v", 5, 3, (32, 32))
    assert request.schedule == ("a tank fills slowly", "a tank fills slowly, the lights go off",
                                "a tank fills slowly, the lights come back")  # fmt: skip
    assert request.cameras is not None
    assert request.cameras.said == "right-8"
    cameras = read_cameras(tmp_path / "a.mp4.json", request.cameras)
    assert len(cameras) == 33
    assert request.checkpoint.name == "nano"
    assert request.checkpoint.sha256 == nano().components.facts.checkpoint_hash
    assert manifest.output.first_generated_frame == 1
    assert {row.chunk for row in manifest.memory_table} == {0, 1, 2}
    assert len(manifest.timings.chunks_s) == 3
    assert 0 < manifest.timings.first_frame_s <= manifest.timings.total_s


def test_inputs_from_elsewhere_are_kept_once(files: Path, tmp_path: Path) -> None:
    a = make(tmp_path / "a.mp4", image=files / "start.png", reference=(files / "start.png",))
    b = make(tmp_path / "b.mp4", image=files / "start.png")
    (kept,) = (tmp_path / "inputs").iterdir()
    assert kept.read_bytes() == (files / "start.png").read_bytes()
    assert {item.path for item in (*a.request.inputs, *b.request.inputs)} == {f"inputs/{kept.name}"}
    shutil.copy(files / "start.png", tmp_path / "here.png")
    c = make(tmp_path / "c.mp4", image=tmp_path / "here.png")
    assert [item.path for item in c.request.inputs] == ["here.png"]


def test_inputs_that_are_not_kept_must_be_allowed(files: Path, tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", image=files / "start.png", keep_inputs=False)
    assert not (tmp_path / "inputs").exists()
    with pytest.raises(InputError, match=r"leads out of its folder.*allow the folder"):
        remade(tmp_path / "a.mp4.json", tmp_path / "b.mp4")
    assert remade(tmp_path / "a.mp4.json", tmp_path / "b.mp4", allow=[files])[1] == ["the same video, bit for bit"]


def test_a_changed_or_missing_input_is_named(files: Path, tmp_path: Path) -> None:
    shutil.copy(files / "start.png", tmp_path / "here.png")
    make(tmp_path / "a.mp4", image=tmp_path / "here.png", camera="right-2")
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(tmp_path / "here.png")
    with pytest.raises(InputError, match=r"a\.mp4\.json: here\.png has changed"):
        remade(tmp_path / "a.mp4.json", tmp_path / "b.mp4")
    (tmp_path / "here.png").unlink()
    with pytest.raises(InputError, match="is missing"):
        remade(tmp_path / "a.mp4.json", tmp_path / "b.mp4")
    shutil.copy(files / "start.png", tmp_path / "here.png")
    (tmp_path / "a.mp4.cameras.npz").write_bytes(b"no cameras")
    with pytest.raises(InputError, match=r"cameras\.npz has changed"):
        remade(tmp_path / "a.mp4.json", tmp_path / "b.mp4")
    assert not (tmp_path / "b.mp4").exists()


def edited(path: Path, change: Any) -> Path:
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    return path


def test_a_manifest_of_another_checkpoint_is_refused(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", chunks=1)
    with pytest.raises(CheckpointError, match=r"made with other weights; got nano-base .*; expected nano "):
        remade(tmp_path / "a.mp4.json", tmp_path / "b.mp4", checkpoint="nano-base")
    lost = edited(tmp_path / "a.mp4.json", lambda data: data["request"]["checkpoint"].update(name="runs/gone"))
    with pytest.raises(CheckpointError, match=r"checkpoint that it names is not here; got runs/gone; .*--checkpoint"):
        remade(lost, tmp_path / "b.mp4")
    assert remade(lost, tmp_path / "b.mp4", checkpoint="nano")[1] == ["the same video, bit for bit"]


@pytest.mark.parametrize(
    "change",
    [
        lambda request: request["sampler"].update(kind="heun"),
        lambda request: request["memory"].update(policy="elephant"),
        lambda request: request["memory"].update(storage="int4"),
        lambda request: request["memory"].update(noise=1.0),
        lambda request: request.update(gap_chunks=3),
        lambda request: request.update(recipe={"no": "recipe"}),
        lambda request: request.update(negative_prompt="x"),
        lambda request: request.update(seed=2**64 - 1),
        lambda request: request.update(hw=[17, 32]),
        lambda request: request.update(dtype="fp8"),
    ],
)
def test_a_manifest_that_asks_for_nonsense_is_refused(change: Any, tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", chunks=1)
    strange = edited(tmp_path / "a.mp4.json", lambda data: change(data["request"]))
    with pytest.raises((InputError, CheckpointError)) as refused:
        remade(strange, tmp_path / "b.mp4")
    assert len(str(refused.value).splitlines()) == 1
    assert not (tmp_path / "b.mp4").exists()


def test_what_differs_is_said(tmp_path: Path) -> None:
    make(tmp_path / "a.mp4", chunks=1)
    strange = edited(tmp_path / "a.mp4.json", lambda data: data["machine"].update(threads=77))
    edited(strange, lambda data: data["output"].update(frame_digest="0" * 64))
    _, said = remade(strange, tmp_path / "b.mp4")
    assert said[0].startswith("not the same bits: another number of threads, which may round otherwise: 77 then, ")


def test_frames_as_pictures_are_what_was_generated(files: Path, tmp_path: Path) -> None:
    asked = {"video": files / "moves.mp4", "interrupt": "light_toggle", "chunks": 7, "compare": True}
    manifest = make(tmp_path / "a.mp4", png_frames=True, **asked)
    pictures = sorted((tmp_path / "a.mp4.frames").iterdir())
    assert len(pictures) == manifest.output.num_frames == 81
    assert Image.open(pictures[0]).size == (32, 32)
    shown = decode_all(tmp_path / "a.mp4")
    assert shown.shape[2] == 3 * shown.shape[1]
    assert manifest.output.columns == ("truth", "given", "generated")
    truth, given, made = shown.float().chunk(3, 2)
    first = manifest.output.first_generated_frame
    assert manifest.request.recipe is not None
    hidden = manifest.request.recipe["interruption"]["hidden_start"] + 1
    assert given[hidden].mean() < 8 < truth[hidden].mean()
    stop = manifest.request.recipe["interruption"]["stop"]
    assert (given[:first] - made[:first]).abs().mean() < 1
    assert (given[stop:] - truth[stop:]).abs().mean() < 3 < (made[stop:] - truth[stop:]).abs().mean()
    assert set(manifest.request.roles) >= {"A", "x", "R"}


def test_an_error_on_the_way_leaves_no_file(files: Path, tmp_path: Path) -> None:
    def stop(made: Any, total: int) -> None:
        assert total == 3
        if made.chunk == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        generate(command(tmp_path / "a.mp4", camera="right-3"), nano(), watch=stop)
    assert not list(tmp_path.iterdir())


def test_a_pipeline_that_is_not_given_is_loaded(tmp_path: Path) -> None:
    said: list[str] = []
    manifest = generate(command(tmp_path / "a.mp4", chunks=1, checkpoint="nano-base"), say=said.append)
    assert manifest.request.checkpoint.name == "nano-base"
    assert torch.get_num_threads() == manifest.machine.threads


def test_a_zoom_changes_the_lens_of_the_cameras(files: Path, tmp_path: Path) -> None:
    for name, start in (("v", {"video": files / "moves.mp4"}), ("i", {"image": files / "start.png"})):
        manifest = make(tmp_path / f"{name}.mp4", chunks=7, interrupt="zoom", camera="orbit:10", **start)
        assert manifest.request.cameras is not None
        focal = read_cameras(tmp_path / f"{name}.mp4.json", manifest.request.cameras).intrinsics_px[:, 0]
        assert focal.max() > 1.2 * focal[0]
        assert focal[-1] == focal[0]
