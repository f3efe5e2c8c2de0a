"""Members of zips come out as they went in; hostile and damaged zips are refused with a reason."""

from __future__ import annotations

import random
import stat
import struct
import zipfile
from pathlib import Path

import pytest

from remind.curation import archives
from remind.curation.archives import member_blocks, open_archive
from remind.errors import SourceError

CONTENT = random.Random(0).randbytes(300_000)
LIMIT = 1 << 30


def make_zip(path: Path, members: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", method) as file:
        for name, data in members.items():
            file.writestr(name, data)
    return path


def read(archive: Path, member: str, max_bytes: int = LIMIT) -> bytes:
    return b"".join(member_blocks(archive, member, max_bytes=max_bytes))


def cut(archive: Path, folder: Path, size: int) -> Path:
    """As `split -b SIZE archive X_part` does; gives the first piece."""
    data = archive.read_bytes()
    for number, start in enumerate(range(0, len(data), size)):
        name = f"{archive.stem}_part{chr(97 + number // 26)}{chr(97 + number % 26)}"
        (folder / name).write_bytes(data[start : start + size])
    return folder / f"{archive.stem}_partaa"


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_member_comes_out_as_it_went_in(tmp_path: Path, method: int) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x.mp4": b"other", "deep/y.mp4": CONTENT}, method)
    assert read(archive, "deep/y.mp4") == CONTENT


@pytest.mark.parametrize("size", [10_007, 150_000, 299_999])
def test_an_archive_in_pieces_is_read_without_joining(tmp_path: Path, size: int) -> None:
    first = cut(make_zip(tmp_path / "a.zip", {"x.mp4": CONTENT, "y.mp4": CONTENT[::-1]}), tmp_path, size)
    (tmp_path / "a.zip").unlink()
    assert read(first, "y.mp4") == CONTENT[::-1]
    sorted(tmp_path.iterdir())[-1].unlink()
    with pytest.raises(SourceError, match="all of them"):
        read(first, "y.mp4")


def test_pieces_are_counted_as_split_does(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x.mp4": CONTENT})
    first = cut(archive, tmp_path, 10_007)
    names = [piece.name for piece in archives.pieces_of(first)]
    assert len(names) == 30
    assert names[24:28] == ["a_partay", "a_partaz", "a_partba", "a_partbb"]


def test_only_the_directory_is_read_to_open(tmp_path: Path) -> None:
    """A sparse archive of 64 GB opens at once, and damage elsewhere goes unnoticed."""
    archive = make_zip(tmp_path / "a.zip", {"x.mp4": CONTENT})
    data = archive.read_bytes()
    directory = data.index(b"PK\x01\x02")
    with archive.open("wb") as file:  # zipfile allows anything in front of an archive
        file.seek(64 * 2**30)
        file.write(b"\0" * directory + data[directory:])
    with open_archive(archive) as opened:
        assert opened.namelist() == ["x.mp4"]
    with pytest.raises(SourceError, match="damaged"):
        read(archive, "x.mp4")


def test_a_zip_bomb_is_refused_by_its_declared_ratio(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x.mp4": bytes(50 << 20)}, zipfile.ZIP_DEFLATED)
    with pytest.raises(SourceError, match="zip bomb"):
        read(archive, "x.mp4")


def test_a_bomb_that_lies_about_its_size_stops_there(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x.mp4": bytes(50 << 20)}, zipfile.ZIP_DEFLATED)
    data = archive.read_bytes()
    archive.write_bytes(data.replace(struct.pack("<L", 50 << 20), struct.pack("<L", 1000)))
    received = 0
    with pytest.raises(SourceError, match="damaged"):  # noqa: PT012
        for block in member_blocks(archive, "x.mp4", max_bytes=LIMIT):
            received += len(block)
    assert received <= 1000


def test_a_member_over_the_limit_is_refused_before_reading(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x.mp4": CONTENT})
    with pytest.raises(SourceError, match="more than the limit of 299999"):
        next(member_blocks(archive, "x.mp4", max_bytes=299_999))


@pytest.mark.parametrize("name", ["../x.mp4", "/x.mp4", "a/../../x.mp4", "a\\x.mp4", "C:x.mp4"])
def test_names_that_lead_out_are_refused(tmp_path: Path, name: str) -> None:
    archive = make_zip(tmp_path / "a.zip", {name: CONTENT})
    with pytest.raises(SourceError, match="leads out"):
        read(archive, name)


def test_links_are_refused(tmp_path: Path) -> None:
    link = zipfile.ZipInfo("x.mp4")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr(link, "/etc/passwd")
    with pytest.raises(SourceError, match="a link"):
        read(tmp_path / "a.zip", "x.mp4")


def test_encrypted_members_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x.mp4": CONTENT})
    data = bytearray(archive.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\x01\x02") + 8] |= 1
    archive.write_bytes(data)
    with pytest.raises(SourceError, match="encrypted"):
        read(archive, "x.mp4")


def test_methods_that_cannot_be_bounded_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x.mp4": CONTENT}, zipfile.ZIP_BZIP2)
    with pytest.raises(SourceError, match="compression method 12"):
        read(archive, "x.mp4")


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    """The trick of the bombs whose members share one another's data."""
    archive = make_zip(tmp_path / "a.zip", {"x.mp4": CONTENT, "y.mp4": CONTENT})
    data = bytearray(archive.read_bytes())
    second = data.index(b"PK\x01\x02", data.index(b"PK\x01\x02") + 1)
    struct.pack_into("<L", data, second + 42, 1000)  # y begins inside x
    archive.write_bytes(data)
    with pytest.raises(SourceError, match="overlaps"):
        read(archive, "x.mp4")


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("x.mp4", b"a")
        file.writestr("x.mp4", b"b")
    with pytest.raises(SourceError, match="several members"):
        read(tmp_path / "a.zip", "x.mp4")


def test_missing_members_and_folders_are_refused(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"deep/": b""})
    with pytest.raises(SourceError, match="no such member"):
        read(archive, "x.mp4")
    with pytest.raises(SourceError, match="a folder"):
        read(archive, "deep/")


@pytest.mark.parametrize("keep", [0, 10, 1000, 299_000, 300_050, -10, -1])
def test_truncated_zips_are_refused(tmp_path: Path, keep: int) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x.mp4": CONTENT})
    archive.write_bytes(archive.read_bytes()[:keep])
    with pytest.raises(SourceError, match="cut short"):
        read(archive, "x.mp4")


def test_no_damage_of_the_directory_escapes_the_error_tree(tmp_path: Path) -> None:
    archive = make_zip(tmp_path / "a.zip", {"x.mp4": CONTENT[:2000], "ü.mp4": CONTENT[:100]})
    whole = archive.read_bytes()
    generator = random.Random(1)
    refused = 0
    for _ in range(400):
        data = bytearray(whole)
        for _ in range(generator.randint(1, 4)):
            data[generator.randrange(2030, len(data))] = generator.randrange(256)
        archive.write_bytes(data)
        try:
            assert read(archive, "x.mp4") == CONTENT[:2000]
        except SourceError:
            refused += 1
    assert refused > 100


def test_a_directory_of_absurd_size_is_not_loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = make_zip(tmp_path / "a.zip", {f"{i:05}.mp4": b"" for i in range(1500)})
    monkeypatch.setattr(archives, "_MAX_DIRECTORY_BYTES", 70_000)  # more than the search for its end takes
    with pytest.raises(SourceError, match="a directory of"):
        read(archive, "00001.mp4")
