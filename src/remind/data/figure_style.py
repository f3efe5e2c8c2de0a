"""Colours and manners of the figures about data. Our choice: Okabe and Ito's palette, told apart by every eye."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from remind.data.figure_fonts import families
from remind.errors import InputError

INK, SOFT, LINE, PAPER = "#1d2129", "#626b7a", "#d9dbe0", "#ffffff"
BLUE, ORANGE, GREEN, VERMILION, PURPLE, SKY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9"
ROLE_COLORS = {"clean": "#c9ced6", "anchor": BLUE, "degraded": "#4a4e57", "recovery": ORANGE, "reference": PURPLE}
ROLE_INK = {"clean": INK, "anchor": "#ffffff", "degraded": "#ffffff", "recovery": INK, "reference": INK}
KIND_COLORS = {"light_toggle": ORANGE, "occluder": GREEN, "camera_loop": PURPLE, "zoom": SKY}
_RC = {"font.size": 9, "text.color": INK, "text.parse_math": False,
       "svg.hashsalt": "remind"}  # captions are text: a dollar sign in them begins no formula


@contextmanager
def style() -> Iterator[None]:
    """Make and save figures within this. Words from outside go through `figure_fonts.drawable` first."""
    settings: Any = {**_RC, "font.family": families()}  # the stub lists every key
    with rc_context(settings), warnings.catch_warnings():
        # Said once, by `drawable`, and matplotlib would name every character.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        yield


def bare(axes: Axes, *, keep: tuple[str, ...] = ()) -> None:
    """Take off the frame, save for the sides to keep, and soften what is left."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in keep)
        spine.set_color(LINE)
    axes.tick_params(length=0, colors=SOFT, labelsize=8)


def save(figure: Figure, path: Path) -> None:
    """Write a PNG or SVG that appears whole or not at all.

    Raises:
        InputError: another suffix, or a folder that cannot be written.
    """
    if path.suffix.lower() not in (".png", ".svg"):
        raise InputError("no such kind of figure", got=path.name, expected="a name that ends in .png or .svg")
    try:
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".remind-", suffix=path.suffix.lower())
        os.close(handle)
        try:
            # No date, no version: the same data give the same bytes.
            metadata = {"Software": None} if path.suffix.lower() == ".png" else {"Date": None, "Creator": None}
            figure.savefig(temporary, dpi=140, facecolor=PAPER, metadata=metadata)
            os.chmod(temporary, 0o644)
            os.replace(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        raise InputError("cannot write the figure", got=f"{path}: {error.strerror}",
                         fix="choose another place") from None
