"""Croissant metadata of a release: what files there are and what the columns mean, for machines.

Source: the Croissant format specification 1.0 (MLCommons).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

# The vocabulary as the specification gives it; readers warn about any other.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{term: f"cr:{term}" for term in (
        "citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet", "format",
        "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet", "references",
        "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField", "transform",
    )},
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "sc": "https://schema.org/",
}  # fmt: skip
_TYPES = {pa.string(): "sc:Text", pa.int64(): "sc:Integer", pa.int32(): "sc:Integer", pa.float64(): "sc:Float",
          pa.bool_(): "sc:Boolean"}  # fmt: skip


@dataclass(frozen=True)
class ReleasedFile:
    """A file of the release.

    Args:
        name: path within the release.
        media_type: e.g. `application/x-parquet`.
        schema: of a table whose columns are to be described; None = no table, or one with nested columns.
    """

    name: str
    media_type: str
    num_bytes: int
    sha256: str
    description: str
    schema: pa.Schema | None = None


def croissant(name: str, version: str, description: str, licences: list[str], files: list[ReleasedFile],
              about: dict[str, str], *, with_media: bool) -> dict[str, Any]:  # fmt: skip
    """The metadata as JSON values.

    Args:
        licences: of the clips, as identifiers or names; may be empty.
        about: what each column means.
        with_media: whether there is a folder of videos.
    """
    distribution: list[dict[str, Any]] = [
        {"@type": "cr:FileObject", "@id": file.name, "name": file.name, "description": file.description,
         "contentUrl": file.name, "contentSize": f"{file.num_bytes} B", "encodingFormat": file.media_type,
         "sha256": file.sha256}
        for file in files
    ]  # fmt: skip
    if with_media:
        distribution.append({"@type": "cr:FileSet", "@id": "media", "name": "media",
                             "description": "The clean clips whose licences allow it.",
                             "encodingFormat": "video/mp4", "includes": "media/*.mp4"})  # fmt: skip
    described = [(file, file.schema) for file in files if file.schema is not None]
    metadata: dict[str, Any] = {
        "@context": _CONTEXT, "@type": "sc:Dataset", "name": name, "description": description,
        "conformsTo": "http://mlcommons.org/croissant/1.0", "version": version, "license": licences,
        "distribution": distribution, "recordSet": [_record_set(file, schema, about) for file, schema in described],
    }  # fmt: skip
    return {key: value for key, value in metadata.items() if value != []}


def _record_set(file: ReleasedFile, schema: pa.Schema, about: dict[str, str]) -> dict[str, Any]:
    table = file.name.split(".", 1)[0]
    fields = [
        {"@type": "cr:Field", "@id": f"{table}/{column.name}", "name": column.name,
         "description": about[column.name], "dataType": _TYPES[column.type],
         "source": {"fileObject": {"@id": file.name}, "extract": {"column": column.name}}}
        for column in schema
    ]  # fmt: skip
    return {"@type": "cr:RecordSet", "@id": table, "name": table, "description": file.description,
            "key": {"@id": f"{table}/clip_id"}, "field": fields}  # fmt: skip
