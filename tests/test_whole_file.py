from __future__ import annotations

from pathlib import Path

import pytest

from remind.whole_file import whole_file


@pytest.mark.parametrize("synced", [True, False])
def test_a_file_is_there_whole_or_as_it_was(tmp_path: Path, synced: bool) -> None:
    target = tmp_path / "new" / "a.txt"
    with whole_file(target, synced=synced) as file:
        file.write_text("first")
        assert not target.exists()
    assert target.read_text() == "first"

    def broken() -> None:
        with whole_file(target, synced=synced) as file:
            file.write_text("sec")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        broken()
    assert target.read_text() == "first"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]
