"""A manifest brings back what was asked for; one from a stranger names nothing but what lies beside it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from remind.errors import CameraError, CheckpointError, InputError
from remind.generate.inputs import file_sha256
from remind.generate.manifest import Manifest, differences
from remind.generate.manifest_files import checked_file, read_cameras, relative_to, resolve_inside
from remind.generate.request import MemoryFacts, SamplerFacts
from tests.generate.make_manifest import WEIGHTS, make_manifest, some_cameras


def written(folder: Path, change: Callable[[dict[str, Any]], object] = lambda facts: None) -> Path:
    """The manifest as a file, after somebody changed its JSON."""
    path = folder / "a.mp4.json"
    make_manifest(folder).write(path)
    facts = json.loads(path.read_text())
    change(facts)
    path.write_text(json.dumps(facts))
    return path


def test_what_was_written_is_read(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path, memory=MemoryFacts(policy="retrieve:4", budget_bytes=2**30, noise=0.1), seed=7)
    path = tmp_path / "a.mp4.json"
    manifest.write(path)
    again = Manifest.read(path)
    assert again == manifest
    assert again.request.digest() == manifest.request.digest()
    assert checked_file(path, again.request.inputs[0]) == (tmp_path / "start.png").resolve()
    cameras = read_cameras(path, again.request.cameras)
    assert torch.equal(cameras.c2w, some_cameras().c2w)
    assert torch.equal(cameras.intrinsics_px, some_cameras().intrinsics_px)
    assert cameras.hw == (32, 32)
    assert cameras.valid.all()
    assert differences(manifest, again) == []
    assert not [p for p in tmp_path.iterdir() if "partial" in p.name]


def test_a_request_is_the_same_wherever_its_files_lie(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "y").mkdir()
    a, b = make_manifest(tmp_path / "x").request, make_manifest(tmp_path / "y").request
    (tmp_path / "x" / "start.png").rename(tmp_path / "y" / "other.png")
    c = make_manifest(tmp_path / "y", tmp_path / "y" / "other.png").request
    assert a.digest() == b.digest() == c.digest()
    others = [{"seed": 1}, {"prompt": "x"}, {"guidance": 2.0}, {"sampler": SamplerFacts(steps=4, shift=5.0)},
              {"schedule": ("a", "b")}, {"memory": MemoryFacts(policy="window:6")}, {"cameras": None}]  # fmt: skip
    digests = {make_manifest(tmp_path / "x", **other).request.digest() for other in others}
    assert len(digests | {a.digest()}) == len(others) + 1


def test_a_folder_may_be_moved_as_a_whole(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    path = written(tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    path = tmp_path / "there" / path.name
    manifest = Manifest.read(path)
    assert checked_file(path, manifest.request.inputs[0]).is_file()
    assert len(read_cameras(path, manifest.request.cameras)) == 21


def test_an_input_elsewhere_needs_a_word_from_the_reader(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "out").mkdir()
    make_manifest(tmp_path / "photos")
    path = tmp_path / "out" / "a.mp4.json"
    make_manifest(tmp_path / "out", tmp_path / "photos" / "start.png").write(path)
    assert json.loads(path.read_text())["request"]["inputs"][0]["path"] == "../photos/start.png"
    says = r"leads out of its folder; got '../photos/start.png'; expected a path inside .*/out. Fix: .*allow the folder"
    with pytest.raises(InputError, match=says):
        Manifest.read(path)
    manifest = Manifest.read(path, allow=[tmp_path / "photos"])
    assert checked_file(path, manifest.request.inputs[0], allow=[tmp_path / "photos"]).name == "start.png"


def put(path: str, value: object) -> Callable[[dict[str, Any]], object]:
    """A change of one field, e.g. request.inputs.0.path."""
    def change(facts: dict[str, Any]) -> None:
        *way, last = path.split(".")
        at: Any = facts
        for key in way:
            at = at[int(key)] if key.isdigit() else at[key]
        at[int(last) if last.isdigit() else last] = value
    return change


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (put("request.inputs.0.path", "/etc/passwd"), "leads out of its folder; got '/etc/passwd'; expected .*Fix"),
        (put("request.inputs.0.path", "../../x.png"), "leads out of its folder"),
        (put("request.inputs.0.path", "a/../../x.png"), "leads out of its folder"),
        (put("request.inputs.0.path", "link/passwd"), "leads out of its folder"),
        (put("request.inputs.0.path", "loop"), "not a path; got .*; expected a path inside"),
        (put("request.cameras.path", "../cameras.npz"), "leads out of its folder"),
        (put("output.path", "/tmp/x.mp4"), "leads out of its folder"),
        (put("request.inputs.0.path", "a\0b"), "request.inputs.0.path: .*; got .*Fix: restore"),
        (put("request.inputs.0.path", ""), "request.inputs.0.path"),
        (put("request.inputs.0.sha256", "xyz"), "request.inputs.0.sha256: .*got 'xyz'"),
        (put("request.guidance", float("nan")), "not a manifest; got NaN is no number; expected JSON"),
        (put("timings.total_s", float("inf")), "not a manifest; got Infinity is no number"),
        (put("request.recipe", {"x": float("nan")}), "NaN is no number"),
        (put("request.sampler.steps", 0), "request.sampler.steps: .*greater than or equal to 1; got 0"),
        (put("request.sampler.steps", "4"), "request.sampler.steps: .*valid integer; got '4'"),
        (put("request.seed", -1), "request.seed"),
        (put("request.shell", "rm"), "request.shell: Extra inputs are not permitted; got 'rm'"),
        (put("request.num_chunks", 3), r"schedule: 2 entries for 3 chunks"),
        (put("request.mode", "v2v"), r"inputs: \['image'\] for v2v"),
        (put("request.inputs", []), "inputs: none for i2v"),
        (put("format", "remind-generation-2"), "another version, or something else; got 'remind-generation-2'; "
                                               "expected remind-generation-1. Fix: use the version"),
        (lambda facts: facts.clear(), "another version, or something else; got None"),
        (lambda facts: facts["request"].pop("sampler"), "request.sampler: Field required"),
    ],
)  # fmt: skip
def test_hostile_manifests(tmp_path: Path, change: Callable[[dict[str, Any]], object], says: str) -> None:
    path = written(tmp_path, change)
    (tmp_path / "link").symlink_to("/etc")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match=says):
        Manifest.read(path)


@pytest.mark.parametrize(
    ("data", "says"),
    [(b"\xff\xfe\0", "not a manifest"), (b"{", "not a manifest"), (b"[" * 100_000, "not a manifest"),
     (b"", "not a manifest"), (b"[1]", "another version"), (b"null", "another version"),
     (b'{"format": 1e999}', "another version"),
     (b" " * (2**24 + 1), "too large; got more than 16777216 bytes; expected at most 16777216")],
)  # fmt: skip
def test_what_is_no_manifest(tmp_path: Path, data: bytes, says: str) -> None:
    (tmp_path / "m.json").write_bytes(data)
    with pytest.raises(InputError, match=says):
        Manifest.read(tmp_path / "m.json")


def test_no_manifest_at_all(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file; got .*m.json; expected .*Fix: check the path"):
        Manifest.read(tmp_path / "m.json")
    with pytest.raises(InputError, match="no such file"):
        Manifest.read(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="no such file"):
        Manifest.read(tmp_path / "pipe")


def test_files_that_changed_or_left(tmp_path: Path) -> None:
    path = written(tmp_path)
    manifest = Manifest.read(path)
    (tmp_path / "start.png").write_bytes(b"another")
    with pytest.raises(InputError, match=r"start.png has changed since; got sha256 .*; expected sha256 .*Fix: restore"):
        checked_file(path, manifest.request.inputs[0])
    (tmp_path / "start.png").unlink()
    with pytest.raises(InputError, match=r"a file that it names is missing; got .*start.png. Fix: put it back"):
        checked_file(path, manifest.request.inputs[0])
    (tmp_path / "start.png").symlink_to("/etc/passwd")
    with pytest.raises(InputError, match="leads out of its folder"):
        checked_file(path, manifest.request.inputs[0])


def test_cameras_that_are_none(tmp_path: Path) -> None:
    path = written(tmp_path)
    item = Manifest.read(path).request.cameras
    good = {"c2w": some_cameras().c2w.numpy(), "intrinsics_px": some_cameras().intrinsics_px.numpy(),
            "hw": np.array([32, 32]), "pose_valid": np.ones(21, bool)}  # fmt: skip
    bad = [{**good, "c2w": good["c2w"][:5]}, {**good, "c2w": good["c2w"] * np.nan}, {**good, "hw": np.array([0, 4])},
           {**good, "intrinsics_px": good["intrinsics_px"] * np.inf}, {**good, "c2w": np.array([{}])},
           {k: v for k, v in good.items() if k != "pose_valid"}]  # fmt: skip
    for arrays in bad:
        np.savez(tmp_path / item.path, **arrays)
        changed = item.model_copy(update={"sha256": file_sha256(tmp_path / item.path)})
        with pytest.raises(CameraError, match=r"a.mp4.cameras.npz: "):
            read_cameras(path, changed)
    np.savez(tmp_path / item.path, **good)
    read_cameras(path, item.model_copy(update={"sha256": file_sha256(tmp_path / item.path)}))


def test_another_checkpoint_is_named_with_the_one_that_made_it(tmp_path: Path) -> None:
    manifest = make_manifest(tmp_path)
    manifest.check_checkpoint("nano", WEIGHTS)
    says = (r"made with other weights; got runs/mine \(sha256 cdcdcdcdcdcd...\); "
            r"expected nano \(sha256 abababababab...\). Fix: give the checkpoint")  # fmt: skip
    with pytest.raises(CheckpointError, match=says):
        manifest.check_checkpoint("runs/mine", "cd" * 32)


def test_why_two_videos_may_differ(tmp_path: Path) -> None:
    then = make_manifest(tmp_path)
    machine = then.machine.model_copy(update={"threads": 8, "device": "cuda", "versions": {
        "remind": "0.1.0", "torch": "2.14.0", "python": "3.11.9"}})  # fmt: skip
    now = make_manifest(tmp_path, seed=3, cameras=None).model_copy(update={"machine": machine})
    said = differences(then, now)
    assert said[0] == "seed differs: 0 then, 3 now"
    assert said[1].startswith("the cameras differ: ")
    assert said[2:] == [
        "another device, which may round otherwise: cpu then, cuda now",
        "another number of threads, which may round otherwise: 2 then, 8 now",
        "another version of torch: 2.13.0 then, 2.14.0 now",
    ]


def test_names_are_relative_to_where_links_lead(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    assert relative_to(tmp_path / "link", tmp_path / "real" / "a.png") == "a.png"
    assert resolve_inside(tmp_path / "link", "a.png") == (tmp_path / "real" / "a.png").resolve()
