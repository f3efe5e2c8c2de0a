"""What a clip's records say in words: its event and caption, and where it comes from."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from remind.curation.item import SourceItem, WorldMedia
from remind.curation.scan import Window
from remind.curation.taxonomy import Taxonomy
from remind.curation.window_annotation import event_of, read_annotation
from remind.data.clip_records import Event, Provenance


@lru_cache(maxsize=1)
def taxonomy() -> Taxonomy:
    """The package's own, read once per process."""
    return Taxonomy.load()


@lru_cache(maxsize=1)
def taxonomy_key() -> str:
    """Hash of its content: with another taxonomy clips get other tags."""
    return hashlib.sha256(taxonomy().model_dump_json().encode()).hexdigest()[:16]


def provenance_of(
    item: SourceItem, window: Window, sha256: str, *, camera_verdict: str, tools: dict[str, str]
) -> Provenance:
    """Where a clip comes from and by which numbers and verdicts it was kept."""
    return Provenance(
        source=item.source, item_id=item.item_id, sha256=sha256, start_pts=window.start_pts,
        stop_pts=window.stop_pts, time_base=window.time_base, shot=window.shot, scores=window.scores,
        verdicts={"cameras": camera_verdict}, tool_versions=tools, facts=dict(item.facts),
        url=item.url, author=item.author, licence=item.licence, permission=item.permission,
    )  # fmt: skip


def event_and_caption(item: SourceItem, window: Window, annotation: str | None) -> tuple[Event, str]:
    """Event and caption: the model's, or where nobody looked those of the source."""
    flow = {k: v for k, v in window.scores.items() if k not in ("mean_change", "moving_share")}
    if annotation is not None and (found := read_annotation(annotation)) is not None:
        return event_of(found, annotation, flow, taxonomy()), found.annotation.caption.text
    said = (*(tag for tag in item.tags if tag in taxonomy()), *taxonomy().match(item.caption))
    types = tuple(dict.fromkeys(said))
    event = Event(types=types, groups=taxonomy().groups_of((*types, *item.tags)), flow=flow,
                  judged_by="world" if isinstance(item.media, WorldMedia) else "no_vlm")  # fmt: skip
    return event, item.caption
