"""From finished files to the store and its report: the one place where a build writes what readers see."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from remind.curation.blobs import Blobs, Place
from remind.curation.build_report import REPORT_NAME, BuildReport
from remind.curation.ledger import Ledger
from remind.curation.outcome import PackedClip
from remind.data.clip_store import ClipStore
from remind.data.clip_store_writer import ClipStoreWriter
from remind.errors import StoreError
from remind.whole_file import whole_file


def pack_clips(out: Path, ledger: Ledger, blobs: Blobs, clips: Sequence[PackedClip]) -> None:
    """Write the store, unless it holds just these clips already."""
    content = hashlib.sha256(json.dumps([[c.clip_id, sorted(c.members.items())] for c in clips]).encode()).hexdigest()
    whole = (out / "index.parquet").is_file() and all((blobs.shards / p[0]).is_file() for p in blobs.packed.values())
    if whole and ledger.content() == content:
        return
    with ClipStoreWriter(out) as writer:
        for clip in clips:
            writer.add_members(clip.clip_id, {name: blobs.get(d) for name, d in clip.members.items()}, clip.facts)
    ledger.set_packed(content, dict(_places(ClipStore.open(out), clips)))


def _places(store: ClipStore, clips: Sequence[PackedClip]) -> Iterator[tuple[str, Place]]:
    for number, clip in enumerate(clips):
        for name, place in store.places(number).items():
            yield clip.members[name], place


def write_report(out: Path, report: BuildReport) -> None:
    try:
        with whole_file(out / REPORT_NAME) as file:
            file.write_text(report.to_json())
    except OSError as error:
        raise StoreError("cannot write the report", got=error.strerror, fix="free some space") from None
