"""DL3DV-10K: scenes filmed by a moving camera, as pictures with a `transforms.json`. Licence: CC BY-NC."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from remind.camera_io import transforms_names
from remind.curation.item import CameraRef, ImagesMedia, SourceItem
from remind.errors import CameraError, InputError

LICENCE = "CC BY-NC 4.0"
AUTHOR = "DL3DV-10K"
URL = "https://github.com/DL3DV-10K/Dataset"
# The downloads of lower resolution keep the name `images` in their tables and have one of these folders.
_FOLDERS = ("images", "images_2", "images_4", "images_8")


@dataclass(frozen=True)
class Dl3dvSource:
    """Every scene under a folder, at any depth.

    Args:
        root: holds `<scene>/transforms.json` or `<scene>/nerfstudio/transforms.json`.
        fps: at which a scene's pictures are shown, > 0. Our choice: the rate of the clips, so that every picture is
            used once; they were picked from a video at a few a second, so the camera seems to hurry.
    """

    root: Path
    fps: float = 16.0
    name: str = field(default="dl3dv", init=False)

    def __post_init__(self) -> None:
        if not self.fps > 0:
            raise InputError("the frame rate must be positive", got=self.fps, expected="e.g. 16")

    def items(self) -> Iterator[SourceItem]:
        """All scenes in order of their names; a scene without pictures or with a damaged table is listed and fails
        when it is read, its `facts["problem"]` says why.

        Raises:
            InputError: no such folder, or no scene in it.
        """
        if not self.root.is_dir():
            raise InputError("no such folder of DL3DV scenes", got=self.root)
        tables = sorted(self.root.rglob("transforms.json"), key=lambda path: path.as_posix())
        if not tables:
            raise InputError("no DL3DV scenes", got=self.root, expected="<scene>/transforms.json")
        yield from map(self._item, tables)

    def missing(self) -> tuple[str, ...]:
        """What is not complete, one line a scene."""
        return tuple(f"{item.item_id}: {item.facts['problem']}" for item in self.items() if "problem" in item.facts)

    def _item(self, table: Path) -> SourceItem:
        folder = table.parent
        scene = folder.parent if folder.name == "nerfstudio" and folder != self.root else folder
        names, problem = _pictures(folder)
        facts: dict[str, str | float] = {"num_pictures": float(len(names))}
        if problem:
            facts["problem"] = problem
        return SourceItem(
            item_id=scene.relative_to(self.root).as_posix() if scene != self.root else self.root.name,
            source=self.name,
            media=ImagesMedia(str(folder), names, self.fps),
            cameras=CameraRef("dl3dv", str(table)),
            url=URL,
            author=AUTHOR,
            licence=LICENCE,
            facts=facts,
        )


def _pictures(folder: Path) -> tuple[tuple[str, ...], str]:
    """The pictures that have poses, relative to `folder`, and what is wrong with them."""
    try:
        names = transforms_names(folder / "transforms.json")
    except CameraError as error:
        return (), str(error)
    paths = [PurePosixPath(name) for name in names]
    outside = [path for path in paths if path.is_absolute() or ".." in path.parts or "\\" in str(path)]
    if outside:
        return (), f"the table names a picture outside of the scene: {str(outside[0])[:80]}"
    paths = _in_a_folder_that_exists(folder, paths)
    present = {entry for parent in {path.parent for path in paths} for entry in _entries(folder, parent)}
    absent = [path for path in paths if path not in present]
    problem = f"{len(absent)} of {len(paths)} pictures are missing, first {absent[0]}" if absent else ""
    return tuple(map(str, paths)), problem


def _in_a_folder_that_exists(folder: Path, paths: list[PurePosixPath]) -> list[PurePosixPath]:
    """`images/x` as `images_4/x` and so on where only that was downloaded."""
    if any(path.parts[0] != "images" for path in paths):
        return paths
    found = next((name for name in _FOLDERS if (folder / name).is_dir()), "images")
    return [PurePosixPath(found, *path.parts[1:]) for path in paths]


def _entries(folder: Path, parent: PurePosixPath) -> Iterator[PurePosixPath]:
    place = folder / parent
    if place.is_dir():
        yield from (parent / entry.name for entry in place.iterdir() if entry.is_file())
