"""Which licences let a clip's pictures be given to others: a list of what is allowed, never of what is not."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """A licence that allows redistribution of changed copies.

    Args:
        spdx: its SPDX identifier.
        attribution: whether the author must be named.
    """

    spdx: str
    attribution: bool


_CC_VERSIONS = ("1.0", "2.0", "2.5", "3.0", "4.0")
# Beside Creative Commons: identifiers and the spellings that sources use, as `_plain` leaves them.
_OTHERS = {
    "apache-2.0": Licence("Apache-2.0", True),
    "apache 2.0": Licence("Apache-2.0", True),
    "mit": Licence("MIT", True),
    "bsd-2-clause": Licence("BSD-2-Clause", True),
    "bsd-3-clause": Licence("BSD-3-Clause", True),
    "cc0": Licence("CC0-1.0", False),
    "cc0-1.0": Licence("CC0-1.0", False),
    "cc0 1.0": Licence("CC0-1.0", False),
    "creativecommons.org/publicdomain/zero/1.0": Licence("CC0-1.0", False),
    "public domain": Licence("LicenseRef-Public-Domain", False),
    "public-domain": Licence("LicenseRef-Public-Domain", False),
    "pdm-1.0": Licence("LicenseRef-Public-Domain", False),
    "creativecommons.org/publicdomain/mark/1.0": Licence("LicenseRef-Public-Domain", False),
}
_CC = re.compile(r"(?:cc[ -]|creativecommons\.org/licenses/)(by(?:-sa)?)[ /-](\d\.\d)")
_CC_LONG = re.compile(r"creative commons attribution(-sharealike| sharealike)? (\d\.\d)(?: international| unported)?")


def redistributable(licence: str) -> Licence | None:
    """The licence that a text names, if it is one of those that allow redistribution; else None.

    The whole text must be one known name, identifier or address: what is unknown, misspelt, non-commercial, without
    derivatives, a choice of several or without its version allows nothing.
    """
    text = _plain(licence)
    if text in _OTHERS:
        return _OTHERS[text]
    if (match := _CC.fullmatch(text)) and match[2] in _CC_VERSIONS:
        return Licence(f"CC-{match[1].upper()}-{match[2]}", True)
    if (match := _CC_LONG.fullmatch(text)) and match[2] in _CC_VERSIONS:
        return Licence(f"CC-BY{'-SA' if match[1] else ''}-{match[2]}", True)
    return None


def _plain(text: str) -> str:
    text = " ".join(text.casefold().split())
    text = re.sub(r"^https?://(www\.)?", "", text)
    text = re.sub(r"/(deed(\.[a-z]{2})?|legalcode(\.[a-z]{2})?)$", "", text.rstrip("/"))
    return re.sub(r"[ -]licen[cs]e$", "", text)
