"""One pass over a file: cuts, windows on a constant clock, and what moves in each. Every picture is decoded once.

Source: ReMind F.2 (81 frames at 16 fps) for the windows; the filters are our choice. A window lies within one shot and
starts where the last one ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from remind.data.cuts import THUMBNAIL_PX, CutDetector, find_soft_transition
from remind.data.cuts_transnet import transnet_cuts
from remind.data.motion import measure_motion
from remind.data.optical_flow import measure_flow
from remind.data.video_io import Picture, VideoLimits, YuvFrames, empty_planes, open_video

_AFTER_FADE_S = 0.5  # from the middle of a soft transition to the next window: most are over by then

CutDetectorName = Literal["content", "transnetv2"]


@dataclass(frozen=True)
class Window:
    """A stretch of one shot on a constant clock.

    Args:
        number: of the window within its file, from 0, whatever becomes of it.
        shot: number of the shot within the file, from 0.
        shot_start_pts: the clock's origin: tick k is at shot_start_pts + k / fps.
        first_tick: of the window.
        start_pts, stop_pts: of the first and last picture shown.
        time_base: seconds per pts, numerator and denominator.
        num_pictures: different pictures among the frames; fewer where the source is slower than the clock.
        scores: `mean_change`, `moving_share` (see `Motion`) and those of `FlowStatistics`.
        transition_s: when a dissolve or fade was found in it, seconds from the file's start; None = none.
    """

    number: int
    shot: int
    shot_start_pts: int
    first_tick: int
    start_pts: int
    stop_pts: int
    time_base: tuple[int, int]
    num_pictures: int
    scores: dict[str, float]
    transition_s: float | None = None

    @property
    def start_s(self) -> float:
        return float(self.start_pts * Fraction(*self.time_base))


@dataclass(frozen=True)
class ShortShot:
    """A shot that holds no window, and why."""

    start_s: float
    reason: str


@dataclass(frozen=True)
class ScanOptions:
    """What a scan depends on; arguments as `BuildOptions`."""

    hw: tuple[int, int]
    num_frames: int
    fps: int
    cut_detector: CutDetectorName
    cut_threshold: float
    limits: VideoLimits


@dataclass(frozen=True)
class Scan:
    """What a file holds.

    Args:
        windows: in order of time.
        short: shots that hold none.
        num_shots: in all.
        first_pts: of the first picture.
        hw, fps: of the video; its average rate, or the clock's where the file states none.
    """

    windows: tuple[Window, ...]
    short: tuple[ShortShot, ...]
    num_shots: int
    first_pts: int
    hw: tuple[int, int]
    fps: float


class _Shot:
    """The clock of one shot and the frames of the window that is being filled.

    Args:
        room: for the pictures of one window; one after the other uses it.
    """

    def __init__(self, number: int, start_pts: int, time_base: Fraction, options: ScanOptions, room: YuvFrames):
        self.number, self.start_pts, self.options, self.time_base = number, start_pts, options, time_base
        self.num_pictures, self.num_windows, self.tick = 0, 0, 0
        self.shown: Picture | None = None
        self._small: np.ndarray | None = None
        self._room, self._is_in_room = room, False
        self._pts_per_tick = 1 / (time_base * options.fps)
        self.frames: list[tuple[int, np.ndarray]] = []  # of each tick: pts and thumbnail

    def show(self, picture: Picture, thumbnail: np.ndarray) -> None:
        self.shown, self._small, self._is_in_room = picture, thumbnail, False
        self.num_pictures += 1

    def until(self, pts: int) -> Iterator[YuvFrames]:
        """Go on to this time, the present picture on screen; whole windows come out as they fill."""
        per_tick, elapsed = self._pts_per_tick, pts - self.start_pts
        while self.shown is not None and self.tick * per_tick.numerator < elapsed * per_tick.denominator:
            place, planes = len(self.frames), self._room.planes
            if self._is_in_room and place:
                planes[place] = planes[place - 1]
            else:
                self.shown.write_yuv(self.options.hw, planes[place])
            self._is_in_room = True
            assert self._small is not None
            self.frames.append((self.shown.pts, self._small))
            self.tick += 1
            if len(self.frames) == self.options.num_frames:
                self.num_windows += 1
                yield self._room

    def next_window(self, first: int) -> None:
        """Drop the first frames of the window that was filled."""
        kept = len(self.frames) - first
        self._room.planes[:kept] = self._room.planes[first : first + kept]
        del self.frames[:first]


def scan(
    path: Path, options: ScanOptions, each: Callable[[Window, YuvFrames], None] | None = None
) -> Scan:
    """Find and measure all windows of a file.

    Args:
        each: called with every window and its pictures at `options.hw`, which are gone when it returns.

    Raises:
        VideoError: a file that does not decode to its end.
    """
    detect = _cut_detector(path, options)
    windows: list[Window] = []
    short: list[ShortShot] = []
    shot: _Shot | None = None
    first_pts = end_pts = 0

    def advance(pts: int) -> None:
        assert shot is not None
        for pictures in shot.until(pts):
            window, used = _measure(shot, len(windows), options)
            windows.append(window)
            if each is not None:
                each(window, pictures)
            shot.next_window(used)

    def close(pts: int) -> None:
        assert shot is not None
        if not shot.num_windows:
            short.append(_short_shot(shot, pts))

    with open_video(path, limits=options.limits) as video:
        info = video.info
        room = YuvFrames(empty_planes(options.num_frames, options.hw), options.hw, video.matrix)
        for picture in video.pictures:
            thumbnail = picture.thumbnail(THUMBNAIL_PX)
            is_cut = detect(picture, thumbnail)
            if shot is not None:
                advance(picture.pts)
            if is_cut or shot is None:
                if shot is None:
                    first_pts = picture.pts
                else:
                    close(picture.pts)
                number = 0 if shot is None else shot.number + 1
                shot = _Shot(number, picture.pts, info.time_base, options, room)
            shot.show(picture, thumbnail)
            end_pts = picture.pts + picture.duration
    if shot is not None:
        advance(end_pts)
        close(end_pts)
    num_shots = 0 if shot is None else shot.number + 1
    return Scan(tuple(windows), tuple(short), num_shots, first_pts, info.hw, float(info.fps or options.fps))


def _cut_detector(path: Path, options: ScanOptions) -> Callable[[Picture, np.ndarray], bool]:
    if options.cut_detector == "content":
        detector = CutDetector(options.cut_threshold)
        return lambda picture, thumbnail: detector.is_cut(thumbnail)
    cuts = transnet_cuts(path, threshold=options.cut_threshold, limits=options.limits)
    return lambda picture, thumbnail: picture.pts in cuts


def _measure(shot: _Shot, number: int, options: ScanOptions) -> tuple[Window, int]:
    """The window that is full now, and how many of its frames the next one does not share.

    Measured on thumbnails, so that what is kept does not depend on the size of the clips.
    """
    pts = [at for at, _ in shot.frames]
    small = torch.from_numpy(np.stack([thumbnail for _, thumbnail in shot.frames]))
    faded = find_soft_transition(small, float(options.fps))
    used = len(pts) if faded is None else min(len(pts), faded + 1 + round(_AFTER_FADE_S * options.fps))
    scores = asdict(measure_motion(small)) | asdict(measure_flow(small, float(options.fps)))
    window = Window(
        number=number, shot=shot.number, shot_start_pts=shot.start_pts, first_tick=shot.tick - len(pts),
        start_pts=pts[0], stop_pts=pts[-1], time_base=(shot.time_base.numerator, shot.time_base.denominator),
        num_pictures=len(set(pts)), scores=scores,
        transition_s=None if faded is None else float(pts[faded] * shot.time_base),
    )  # fmt: skip
    return window, used


def _short_shot(shot: _Shot, stop_pts: int) -> ShortShot:
    options, seconds = shot.options, float((stop_pts - shot.start_pts) * shot.time_base)
    what = "one picture" if shot.num_pictures == 1 else f"{shot.num_pictures} pictures in {seconds:.2f} s"
    needed = (options.num_frames - 1) / options.fps
    return ShortShot(
        float(shot.start_pts * shot.time_base),
        f"too short: {what}, {options.num_frames} frames at {options.fps} fps need more than {needed:.2f} s",
    )
