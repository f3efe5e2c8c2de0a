"""Words of any script in figures: a font that has them, else escapes and one warning; no boxes."""

from __future__ import annotations

import logging
import warnings
from pathlib import Path

import pytest
from matplotlib.figure import Figure
from PIL import Image

from remind.data import figure_fonts
from remind.data.clip_store import ClipStore
from remind.data.figure_fonts import BASE, drawable, families
from remind.data.figure_style import save, style
from remind.data.inspect_clip import inspect_clip
from tests.data.make_store import make_store

CJK = "红色的水壶慢慢装满"
ONLY_IN_STIX = "\u231a"  # in a font that comes with matplotlib, and not in the base font


@pytest.fixture
def no_fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figure_fonts, "FALLBACKS", ())
    monkeypatch.setattr(figure_fonts, "_warned", [])


def test_what_no_font_has_is_shown_by_its_number_with_one_warning(
    no_fallback: None, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert drawable(f"a jug, {CJK[:2]}\nКувшин, κανάτα, ok — 5 µm") == (
            "a jug, \\u7ea2\\u8272\nКувшин, κανάτα, ok — 5 µm"
        )
        assert drawable("\U0001f6b0") == "\\U0001f6b0"
        assert drawable("plain") == "plain"
    (record,) = caplog.records
    assert "no font here has '\\u7ea2'" in record.getMessage()


def test_an_escape_sequence_still_commands_nothing(no_fallback: None) -> None:
    assert drawable("a\x1b[31mb") == "a\ufffd[31mb"


def test_a_font_that_is_there_is_used(no_fallback: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def picture(name: str, text: str) -> bytes:
        with style(), warnings.catch_warnings():
            warnings.simplefilter("ignore" if name == "box.png" else "error")
            figure = Figure((1, 1))
            figure.text(0.3, 0.3, text, fontsize=30)
            save(figure, tmp_path / name)
        return Image.open(tmp_path / name).convert("L").tobytes()

    assert families() == [BASE]
    assert drawable(ONLY_IN_STIX) == "\\u231a"
    box = picture("box.png", ONLY_IN_STIX)
    monkeypatch.setattr(figure_fonts, "FALLBACKS", ("No Such Font", "STIXGeneral"))
    assert families() == [BASE, "STIXGeneral"]
    assert drawable(ONLY_IN_STIX) == ONLY_IN_STIX
    assert picture("watch.png", ONLY_IN_STIX) != box


def test_a_clip_with_a_chinese_caption_is_drawn_without_boxes(
    no_fallback: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ClipStore.open(make_store(tmp_path / "store", 1, changed={0: {"caption": CJK}}))
    drawn: list[str] = []
    real = Figure.savefig

    def remember(figure: Figure, *args: object, **options: object) -> None:
        drawn.extend(text.get_text() for text in figure.findobj(lambda artist: hasattr(artist, "get_text")))
        real(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", remember)
    inspect_clip(store, "clip-0", tmp_path / "clip.png")
    said = "".join(drawn).replace("\n", "")
    assert not set(CJK) & set(said)
    assert "\\u7ea2\\u8272" in said
