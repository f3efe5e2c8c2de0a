"""Only licences that are known to allow redistribution do."""

from __future__ import annotations

import pytest

from remind.curation.licences import redistributable


@pytest.mark.parametrize(
    ("text", "spdx", "attribution"),
    [
        ("CC0", "CC0-1.0", False),
        ("cc0 1.0", "CC0-1.0", False),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "CC0-1.0", False),
        ("Public domain", "LicenseRef-Public-Domain", False),
        ("https://creativecommons.org/publicdomain/mark/1.0/deed.en", "LicenseRef-Public-Domain", False),
        ("CC BY 4.0", "CC-BY-4.0", True),
        ("cc-by-3.0", "CC-BY-3.0", True),
        ("CC-BY-SA-4.0", "CC-BY-SA-4.0", True),
        ("  CC   BY-SA  2.5 ", "CC-BY-SA-2.5", True),
        ("http://www.creativecommons.org/licenses/by/3.0", "CC-BY-3.0", True),
        ("https://creativecommons.org/licenses/by-sa/4.0/legalcode", "CC-BY-SA-4.0", True),
        ("Creative Commons Attribution 4.0 International License", "CC-BY-4.0", True),
        ("Creative Commons Attribution-ShareAlike 3.0 Unported", "CC-BY-SA-3.0", True),
        ("Apache-2.0", "Apache-2.0", True),
        ("Apache 2.0 License", "Apache-2.0", True),
        ("MIT License", "MIT", True),
    ],
)
def test_what_allows_redistribution_is_named(text: str, spdx: str, attribution: bool) -> None:
    licence = redistributable(text)
    assert licence is not None
    assert (licence.spdx, licence.attribution) == (spdx, attribution)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unknown",
        "CC BY-NC 4.0",
        "CC-BY-NC-SA-4.0",
        "CC BY-ND 4.0",
        "cc by nc 4.0",
        "https://creativecommons.org/licenses/by-nc/4.0/",
        "https://creativecommons.org.evil.example/licenses/by/4.0/",
        "CC BY",  # which?
        "CC BY 9.9",
        "CC BY 4.0 (non-commercial use only)",
        "not CC0",
        "CC0 or CC BY-NC 4.0",
        "MIT, but not the videos",
        "all rights reserved",
        "Pexels License",
        "YouTube standard licence",
        "GPL-3.0",
        "public domain in the USA only",
    ],
)
def test_everything_else_allows_nothing(text: str) -> None:
    assert redistributable(text) is None
