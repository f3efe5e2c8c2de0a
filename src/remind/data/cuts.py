"""Where one shot ends and the next begins: hard cuts in integer pts, and soft ones within a window.

Our choice: PySceneDetect's content detector at its default threshold, fed with our own decoder's frames, so
that cut times and frame times come from the same clock.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from remind.data.motion import luma, opencv
from remind.errors import InputError

THUMBNAIL_PX = 112
"""Longest side of the pictures that cuts and motion are looked for in: what counts there survives being made small."""


class CutDetector:
    """PySceneDetect's content detector, one picture at a time.

    Our choice: every jump above the threshold is a cut, flashes too. A false cut costs a clip; a missed one would teach
    a model that the world changes while nobody looks. Pictures of another size than the one before begin a shot too.

    Args:
        threshold: mean change of hue, saturation and value between neighbours, 0..255; 27 is PySceneDetect's.

    Raises:
        InputError: PySceneDetect is not installed.
    """

    def __init__(self, threshold: float):
        try:
            from scenedetect import FrameTimecode
        except ImportError:
            raise InputError(
                "cut detection needs PySceneDetect, which is not installed",
                fix="pip install 'remind-video[data]'",
            ) from None
        self._new_detector = lambda: _content_detector(threshold)
        self._detector = self._new_detector()
        self._when = FrameTimecode(1, fps=25.0)  # it tells cuts apart, which are asked for one by one here
        self._shape: tuple[int, ...] | None = None

    def is_cut(self, thumbnail: UInt8[np.ndarray, "h w 3"]) -> bool:
        """Whether a shot begins with this picture, given as RGB of about `THUMBNAIL_PX`; pictures in order of time."""
        resized = self._shape is not None and self._shape != thumbnail.shape
        if resized:
            self._detector = self._new_detector()
        self._shape = thumbnail.shape
        bgr = thumbnail[..., ::-1]
        return bool(self._detector.process_frame(self._when, bgr)) or resized


def _content_detector(threshold: float) -> Any:
    from scenedetect.detectors import ContentDetector

    cv2 = opencv()

    class OnOpenCv(ContentDetector):  # type: ignore[misc]
        """The same score, sums and order of sums, without NumPy's copies: a sixth of the time."""

        def __init__(self) -> None:
            # Without a minimal length it answers at once, for the picture that it was given.
            super().__init__(threshold=threshold, min_scene_len=0)
            self._before: np.ndarray | None = None

        def _calculate_frame_score(self, timecode: Any, frame_img: np.ndarray) -> float:
            rgb = frame_img[..., ::-1]  # as it lay in memory
            hsv = cv2.cvtColor(rgb, cv2.COLOR_RGB2HSV)
            before, self._before = self._before, hsv
            if before is None:
                return 0.0
            pixels = float(hsv.shape[0] * hsv.shape[1])
            hue, saturation, value, _ = cv2.sumElems(cv2.absdiff(hsv, before))
            return float((hue / pixels + saturation / pixels + value / pixels) / 3.0)

    return OnOpenCv()


# A soft transition is looked for on thumbnails of this side, over half of these spans to either side.
_THUMBNAIL_SIDE = 12
_HALF_SPANS_S = (0.25, 0.5, 0.75)


def find_soft_transition(rgb: UInt8[Tensor, "t h w 3"], fps: float) -> int | None:
    """The frame at the middle of a dissolve or of a fade through black or white, or None.

    Our choice: while one picture dissolves into another, the frame in between is their mean, and the two look
    nothing alike. Motion breaks the first condition, a change of light the second. Where the two ends
    correlate by less than 0.5, the deviation from the mean was at most 0.05 of the change in five real
    dissolves and fades, and at least 0.3 in real shots and 60 rendered clips without one; the threshold is
    0.2. A frame without any contrast is the middle of a fade.
    """
    seen = _without_bars(luma(rgb))
    small = adaptive_avg_pool2d(seen[:, None], (_THUMBNAIL_SIDE, _THUMBNAIL_SIDE)).flatten(1)
    contrast = small.std(1)
    if contrast.min() < 4:
        return int(contrast.argmin())
    for span_s in _HALF_SPANS_S:
        half = max(1, round(span_s * fps))
        if len(small) <= 2 * half:
            break
        before, between, after = small[: -2 * half], small[half:-half], small[2 * half :]
        change = (after - before).abs().mean(1)
        deviation = (between - (before + after) / 2).abs().mean(1) / change.clamp_min(1e-6)
        found = (change > 8) & (deviation < 0.2) & (_correlation(before, after) < 0.5)
        if found.any():
            return int(torch.where(found, deviation, torch.inf).argmin()) + half
    return None


def _correlation(a: Float[Tensor, "t n"], b: Float[Tensor, "t n"]) -> Float[Tensor, " t"]:
    a, b = a - a.mean(1, keepdim=True), b - b.mean(1, keepdim=True)
    return (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-6)


def _without_bars(seen: Float[Tensor, "t h w"]) -> Float[Tensor, "t y x"]:
    """Cut off the black bars of letterboxed film; a window that is black all over stays as it is."""
    brightest = seen.amax(0)
    rows = (brightest.amax(1) > 20).nonzero().flatten().tolist()
    columns = (brightest.amax(0) > 20).nonzero().flatten().tolist()
    if not rows:
        return seen
    return seen[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
