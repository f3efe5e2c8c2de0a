"""The dataset card of a release: counts, sources, licences, how it was made, what it cannot promise."""

from __future__ import annotations

import html
import json
from collections import Counter
from typing import Any
from urllib.parse import urlsplit

_MOST_ROWS = 40


def dataset_card(
    rows: list[dict[str, Any]], media: int, taken_down: int, without_media: dict[str, int], columns: dict[str, str],
    name: str, version: str,
) -> str:  # fmt: skip
    """The card as Markdown with a YAML head; text from clips is shown, never interpreted.

    Args:
        rows: of clips.parquet.
        media: clips with pictures.
        taken_down: clips that were left out on request.
        without_media: why others have none, with counts.
        columns: what each column means.
    """
    seconds = sum(row["num_frames"] / row["fps"] for row in rows)
    sizes = Counter(f"{row['num_frames']} frames, {row['height']}x{row['width']} px, {row['fps']:g} fps"
                    for row in rows)  # fmt: skip
    licences = Counter(row["licence_id"] or (f"{row['licence']} (no redistribution)" if row["licence"] else "unknown")
                       for row in rows)  # fmt: skip
    tools = sorted({f"{tool} {v}" for row in rows for tool, v in json.loads(row["tool_versions"]).items()})
    scores = sorted({score for row in rows for score in json.loads(row["scores"])})
    cameras = sum(row["has_cameras"] for row in rows)
    captions = sum(bool(row["caption"]) for row in rows)
    lines = [
        "---",
        f"pretty_name: {json.dumps(name)}",
        "tags: [video, world-models, memory]",
        "configs: [{config_name: clips, data_files: clips.parquet}]",
        "---",
        f"# {_cell(name)} {_cell(version)}",
        "",
        f"{len(rows)} clips, {seconds / 60:.1f} minutes, cut from {len({row['sha256'] for row in rows})} source files. "
        f"{captions} have a caption, {cameras} have camera poses, {media} come with pictures.",
        "",
        "A memory clip is a short video and a recipe of an interruption (darkness, a panel, a zoom, a look away). The "
        "degraded version, the schedule and the prompts follow from clip and recipe; nothing of it is stored twice.",
        "",
        *_table("Interruption", Counter(row["kind"] for row in rows)),
        *_table("Size", sizes),
        "## Sources",
        "",
        *_table("Host", Counter(_host(row["url"]) for row in rows)),
        "`url`, `author`, `sha256` and the span in integer timestamps are given per clip, so that whoever may have the "
        "sources can make the same clips of them.",
        "",
        "## Licences",
        "",
        *_table("Licence of the source", licences),
        "Each clip stays under the terms of its source: columns `licence`, `licence_id`, `author`, `url`. Released "
        "pictures were changed: cut, resampled in time, resized and encoded again; the author of the source endorses "
        "nothing of it. Share-alike pictures are released under their own licence.",
        "",
        *(_table("Clips without pictures, because of", Counter(without_media)) if without_media else ()),
        f"{taken_down} clips were left out on request. To ask for more, name the clip id, the source's sha256 or url, "
        "or the author." if taken_down else "To ask for a clip to be removed, name its clip id, the source's sha256 or "
        "url, or the author.",
        "",
        "## How it was made",
        "",
        "`remind data build` cut the sources at scene changes, took windows at a constant frame rate, dropped those in "
        "which nothing moves, and drew an interruption for each. "
        + (f"Scores by which clips were kept: {', '.join(f'`{_code(s)}`' for s in scores)}. " if scores else "")
        + (f"Tools: {', '.join(_cell(tool) for tool in tools[:_MOST_ROWS])}." if tools else ""),
        "",
        "## Limits",
        "",
        "- Licences, authors and urls are what the sources state; nobody checked them against the owners of rights.",
        "- Captions, poses and scores come from programs and may be wrong. Poses say where they are not valid.",
        "- Interruptions are synthetic. Real darkness, occlusion and camera motion look otherwise.",
        "- Selection follows the sources: places, people and events are as uneven as they are there.",
        "",
        "## Columns of clips.parquet",
        "",
        "| column | meaning |",
        "|---|---|",
        *(f"| `{column}` | {about} |" for column, about in columns.items()),
        "",
    ]  # fmt: skip
    return "\n".join(lines)


def _table(title: str, counts: Counter[str]) -> list[str]:
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    rest = sum(count for _, count in ordered[_MOST_ROWS:])
    shown = ordered[:_MOST_ROWS] + ([(f"{len(ordered) - _MOST_ROWS} others", rest)] if rest else [])
    return [f"| {title} | clips |", "|---|---:|", *(f"| {_cell(text)} | {count} |" for text, count in shown), ""]


def _cell(text: str) -> str:
    """Text of strangers, harmless in a Markdown table."""
    escaped = html.escape(" ".join(text.split())[:120], quote=False)
    return "".join(f"\\{c}" if c in "\\`*_[]|#~" else c for c in escaped)


def _code(text: str) -> str:
    return "".join(c for c in text if c.isalnum() or c in "_-. ")[:60]


def _host(url: str) -> str:
    try:
        return urlsplit(url).hostname or "no url"
    except ValueError:
        return "no url"
