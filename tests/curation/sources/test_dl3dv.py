"""DL3DV scenes on disk: whole, at another resolution, incomplete, damaged and hostile."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from remind.curation.given_cameras import load_cameras
from remind.curation.item import ImagesMedia
from remind.curation.sources.dl3dv import Dl3dvSource
from remind.errors import CameraError, InputError


def make_scene(folder: Path, *, pictures: str = "images", count: int = 3, names: list[str] | None = None) -> Path:
    (folder / pictures).mkdir(parents=True)
    names = names or [f"images/frame_{i:05d}.png" for i in range(1, count + 1)]
    for name in names:
        Image.new("RGB", (64, 36)).save(folder / pictures / Path(name).name)
    frames = [{"file_path": name, "transform_matrix": np.eye(4).tolist()} for name in reversed(names)]
    table = {"w": 256, "h": 144, "fl_x": 200.0, "fl_y": 200.0, "cx": 128.0, "cy": 72.0, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(table))
    return folder


def test_scenes_are_listed_in_order_with_pictures_cameras_and_licence(tmp_path: Path) -> None:
    make_scene(tmp_path / "1K" / "beef")
    make_scene(tmp_path / "1K" / "abba" / "nerfstudio", pictures="images_4")
    source = Dl3dvSource(tmp_path, fps=10.0)
    first, second = source.items()
    assert (first.item_id, second.item_id) == ("1K/abba", "1K/beef")
    assert isinstance(first.media, ImagesMedia)
    assert first.media.names == tuple(f"images_4/frame_{i:05d}.png" for i in (1, 2, 3))
    assert all((Path(first.media.folder) / name).is_file() for name in first.media.names)
    assert (first.licence, first.source, first.media.fps) == ("CC BY-NC 4.0", "dl3dv", 10.0)
    assert source.missing() == ()
    assert first.cameras is not None
    track = load_cameras(first.cameras, hw=(36, 64), fps=first.media.fps)
    assert len(track) == 3
    assert track.intrinsics_px[0].tolist() == [50, 50, 32, 18]
    assert list(source.items()) == [first, second]


def test_what_is_missing_is_listed_and_said(tmp_path: Path) -> None:
    make_scene(tmp_path / "a")
    (tmp_path / "a" / "images" / "frame_00002.png").unlink()
    make_scene(tmp_path / "b")
    (tmp_path / "b" / "transforms.json").write_text("<html>")
    source = Dl3dvSource(tmp_path)
    items = list(source.items())
    assert len(items) == 2
    assert len(items[0].media.names) == 3  # type: ignore[union-attr]  # it fails when it is read, nothing is hidden
    assert source.missing()[0] == "a: 1 of 3 pictures are missing, first images/frame_00002.png"
    assert "b: transforms.json" in source.missing()[1]
    assert items[1].cameras is not None
    with pytest.raises(CameraError):
        load_cameras(items[1].cameras, hw=(36, 64), fps=16)


@pytest.mark.parametrize("name", ["../../secret.png", "/etc/passwd", "images/../../x.png", "..\\x.png"])
def test_a_table_that_names_pictures_outside_of_its_scene_gets_none(tmp_path: Path, name: str) -> None:
    scene = make_scene(tmp_path / "a")
    table = json.loads((scene / "transforms.json").read_text())
    table["frames"][0]["file_path"] = name
    (scene / "transforms.json").write_text(json.dumps(table))
    (item,) = Dl3dvSource(tmp_path).items()
    assert item.media.names == ()  # type: ignore[union-attr]
    assert "outside of the scene" in str(item.facts["problem"])


def test_a_folder_without_scenes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no DL3DV scenes"):
        list(Dl3dvSource(tmp_path).items())
    with pytest.raises(InputError, match="no such folder"):
        list(Dl3dvSource(tmp_path / "none").items())
    with pytest.raises(InputError, match="frame rate"):
        Dl3dvSource(tmp_path, fps=0.0)
