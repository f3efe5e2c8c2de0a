"""What someone asked to remove is gone, the rest is untouched, and a line that matched nothing is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from remind.curation.takedown import Takedown, take_down
from remind.data.clip_store import ClipStore
from remind.data.clip_store_writer import ClipStoreWriter
from remind.errors import InputError, StoreError
from tests.data.make_store import clip_of, damage, memory_of, provenance_of, recipe_of

SOURCES = [
    {"url": "https://www.example.org/watch?v=AbC", "author": "Jane  Doe"},
    {"url": "https://example.org/watch?v=abc", "author": "John"},
    {"url": "http://Films.example/a/#top", "author": "JOHN"},
    {},
]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    with ClipStoreWriter(tmp_path / "store", shard_bytes=4000) as writer:
        for i, source in enumerate(SOURCES):
            writer.add(memory_of(clip_of(i), recipe_of(i), provenance_of(i, **source)))
    return tmp_path / "store"


def files(root: Path) -> dict[str, bytes]:
    return {p.relative_to(root).as_posix(): p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def contents(root: Path) -> dict[str, dict[str, bytes]]:
    store = ClipStore.open(root)
    return {clip_id: store.members(i)
            for i, clip_id in enumerate(store.clip_ids)}  # fmt: skip


@pytest.mark.parametrize(
    ("line", "removed"),
    [
        ("clip-2", (2,)),
        ("CLIP-2", ()),
        (f"{1:064x}", (1,)),
        (f"{11:064X}"[:63], ()),
        ("https://example.org/watch?v=AbC", (0,)),  # a path keeps its case: v=abc is another video
        ("http://EXAMPLE.org/watch?v=abc", (1,)),
        ("https://www.films.example/a", (2,)),
        ("jane doe", (0,)),
        ("John", (1, 2)),
        ("Jo", ()),
        ("https://", ()),
    ],
)
def test_a_line_removes_what_it_names_and_nothing_else(root: Path, line: str, removed: tuple[int, ...]) -> None:
    before = contents(root)
    report = take_down(root, Takedown((line,)))
    assert report.removed == tuple(f"clip-{i}" for i in removed)
    assert report.unmatched == (() if removed else (line,))
    assert contents(root) == {name: data for name, data in before.items() if name not in report.removed}


def test_nothing_of_a_removed_clip_stays_in_the_folder(root: Path) -> None:
    video = contents(root)["clip-0"]["rgb.mp4"]
    take_down(root, Takedown(("clip-0",)))
    on_disk = b"".join(files(root).values())
    assert b"clip-0" not in on_disk
    assert b"Jane" not in on_disk
    assert video not in on_disk
    assert ClipStore.open(root)[0].clean.clip_id == "clip-1"


def test_a_store_remembers_what_was_taken_down_without_naming_anybody(root: Path) -> None:
    provenance = ClipStore.open(root).records(0).provenance
    take_down(root, Takedown(("Jane Doe", "no such thing", "clip-2")))
    known = Takedown.of_store(root)
    assert known.matches("elsewhere", provenance)
    assert known.lines_about(clip_id="clip-2")
    assert known.lines_about(author="JANE  doe")
    assert not known.lines_about(clip_id="clip-1", author="Jane", url="https://example.org/")
    assert not known.lines_about(author="no such thing")  # it asked for nothing that was here
    before = files(root)
    assert take_down(root, Takedown(("clip-2",))).removed == ()
    assert files(root) == before
    assert Takedown.of_store(root / "shards").lines == ()


def test_what_was_rendered_from_a_clip_goes_with_it(root: Path) -> None:
    provenance = ClipStore.open(root).records(3).provenance
    made = provenance.model_copy(update={"facts": {"source_clip": "clip-9"}})
    assert Takedown(("clip-9",)).matches("clip-9-loop-0", made) == ("clip-9",)
    assert Takedown(("clip-9",)).matches("clip-9-loop-0", provenance) == ()


def test_without_a_match_no_byte_changes(root: Path) -> None:
    before = files(root)
    assert take_down(root, Takedown(("nobody",))).unmatched == ("nobody",)
    assert files(root) == before


def test_a_failure_leaves_the_old_store(root: Path) -> None:
    damage(root, 3)
    before = files(root)
    with pytest.raises(StoreError, match="clip-3"):
        take_down(root, Takedown(("clip-0",)))
    assert files(root) == before


def test_all_clips_may_go(root: Path) -> None:
    assert len(take_down(root, Takedown(tuple(f"clip-{i}" for i in range(4)))).removed) == 4
    assert len(ClipStore.open(root)) == 0


def test_a_copied_clip_is_the_one_that_was_added(root: Path, tmp_path: Path) -> None:
    store = ClipStore.open(root)
    with ClipStoreWriter(tmp_path / "copy", shard_bytes=4000) as writer:
        for i in range(len(store)):
            writer.add_members(store.clip_ids[i], store.members(i), store.facts(i))
    assert files(tmp_path / "copy") == files(root)


def test_lists_have_comments_and_say_each_thing_once(tmp_path: Path) -> None:
    path = tmp_path / "takedown.txt"
    path.write_text("\ufeff# requests of May\n\nclip-1 # by mail\n  Jane Doe\r\nhttps://a.example/#top\nclip-1\n#clip-2\n")
    assert Takedown.read(path).lines == ("clip-1", "Jane Doe", "https://a.example/#top")


def test_what_is_no_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        Takedown.read(tmp_path / "none.txt")
    (tmp_path / "binary").write_bytes(b"\x00\xff\xfe")
    with pytest.raises(InputError, match="not text"):
        Takedown.read(tmp_path / "binary")
    (tmp_path / "long").write_bytes(b"a" * (16 * 2**20 + 1))
    with pytest.raises(InputError, match="too long"):
        Takedown.read(tmp_path / "long")
