"""One pass over a file gives the very pictures that a second look finds."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest

from remind.curation.options import BuildOptions
from remind.curation.scan import Window, scan
from remind.curation.windows import read_window, read_window_yuv
from remind.data.video_io import YuvFrames
from remind.errors import VideoError
from tests.data.make_video import moving_square, write

OPTIONS = BuildOptions(hw=(33, 48)).scan


def windows_of(path: Path) -> list[tuple[Window, YuvFrames]]:
    found: list[tuple[Window, YuvFrames]] = []
    scan(path, OPTIONS, lambda w, seen: found.append((w, YuvFrames(seen.planes.copy(), seen.hw, seen.matrix))))
    return found


@pytest.mark.parametrize("how", [{"fps": 24}, {"fps": 10}, {"fps": 16}, {"fps": 25, "rotation_deg": 90}])
def test_a_second_look_sees_the_same_bits(tmp_path: Path, how: dict) -> None:
    path = write(tmp_path / "a.mp4", moving_square(11 * how["fps"], (48, 86)), **how)
    windows = windows_of(path)
    assert len(windows) == 2
    for window, seen in windows:
        again = read_window_yuv(path, window, OPTIONS)
        assert again.matrix == seen.matrix
        assert np.array_equal(again.planes, seen.planes)
        assert len(read_window(path, window, OPTIONS)) == 81


def test_a_file_that_was_exchanged_is_noticed(tmp_path: Path) -> None:
    path = write(tmp_path / "a.mp4", moving_square(200))
    (window, _), *_ = windows_of(path)
    write(path, moving_square(80))
    with pytest.raises(VideoError, match="not the file that was scanned; got 80 frames"):
        read_window_yuv(path, window, OPTIONS)


def test_a_file_is_opened_and_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4", moving_square(100))
    opened: list[str] = []
    really = av.open

    def noted(file: str, *args: object, **kwargs: object) -> object:
        opened.append(file)
        return really(file, *args, **kwargs)

    monkeypatch.setattr(av, "open", noted)
    assert len(scan(path, OPTIONS).windows) == 1
    assert opened == [str(path)]


def test_pictures_of_another_size_begin_a_shot(tmp_path: Path) -> None:
    """A bare stream may change its size between two key frames."""
    path = tmp_path / "two.h264"
    sizes = [(48, 64), (64, 48)]
    path.write_bytes(b"".join(write(tmp_path / f"{h}.h264", moving_square(160, (h, w))).read_bytes() for h, w in sizes))
    found = scan(path, OPTIONS)
    assert found.num_shots == 2
    assert [window.shot for window in found.windows] == [0, 1]
