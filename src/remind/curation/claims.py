"""Who works on a content that several items have: the first of them in the source's order, and nobody else."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from remind.errors import StoreError

CLAIMS = "claims"  # in a build's scratch folder


@dataclass(frozen=True)
class Claims:
    """Claims of one run, as files that all workers see.

    Our choice: whoever finds a claim of an earlier item leaves the content to it; whoever finds one of a later item
    takes it over, so that which item counts never depends on who came first. Only then is a content worked on twice:
    where two items that are at work at the same moment have it, and the later one was faster.

    Args:
        folder: empty when the run begins.
    """

    folder: Path

    def claim(self, sha256: str, number: int, item_id: str) -> str | None:
        """None if an item is to be worked on, or the earlier item that has the same content.

        Raises:
            StoreError: a full disk.
        """
        path = self.folder / sha256
        partial = self.folder / f".{uuid4().hex}"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            partial.write_text(json.dumps([number, item_id]))
            try:
                os.link(partial, path)
                return None
            except FileExistsError:
                earlier, name = json.loads(path.read_text())
                if earlier < number:
                    return str(name)
                partial.replace(path)
                return None
        except OSError as error:
            raise StoreError("cannot write the store", got=error.strerror,
                             fix="free some space and run again") from None  # fmt: skip
        finally:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
