"""Words of any script in figures: a font that has them, or their escapes; never boxes that all look alike."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache

from matplotlib.font_manager import findfont, fontManager
from matplotlib.ft2font import FT2Font

from remind.data.clip_records import printable

logger = logging.getLogger(__name__)

BASE = "DejaVu Sans"  # comes with matplotlib: Latin, Greek, Cyrillic, Arabic and more
# What systems have for Chinese, Japanese and Korean, and for everything: the first ones found are used, in this order.
FALLBACKS = (
    "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans CJK KR", "Noto Sans SC", "Noto Sans JP", "Noto Sans KR",
    "Source Han Sans SC", "Source Han Sans", "WenQuanYi Zen Hei", "WenQuanYi Micro Hei", "Droid Sans Fallback",
    "PingFang SC", "Hiragino Sans", "Apple SD Gothic Neo", "Microsoft YaHei", "Yu Gothic", "Malgun Gothic", "SimHei",
    "Arial Unicode MS", "Noto Sans Devanagari", "Noto Sans Thai", "Unifont",
)  # fmt: skip
_warned: list[str] = []


def families() -> list[str]:
    """The fonts that figures are set in: matplotlib takes each character from the first that has it."""
    installed = {font.name for font in fontManager.ttflist}
    return [BASE, *(name for name in FALLBACKS if name in installed)]


def drawable(text: str) -> str:
    """Words from outside as a figure can show them: `printable`, and escapes for what no font here has.

    The first time that happens a warning is logged.
    """
    shown = printable(text)
    known = _characters(tuple(families()))
    unknown = sorted({character for character in shown if ord(character) not in known and not character.isspace()})
    if not unknown:
        return shown
    if not _warned:
        _warned.append(unknown[0])
        logger.warning("no font here has %s: figures show such characters by their number; install Noto Sans CJK, say",
                       ascii(unknown[0]))  # fmt: skip
    return shown.translate({ord(character): character.encode("unicode_escape").decode() for character in unknown})


@lru_cache(maxsize=8)
def _characters(names: Sequence[str]) -> frozenset[int]:
    return frozenset(code for name in names for code in FT2Font(findfont(name)).get_charmap())
