"""Every kind of source by name, as the command line and a store's report state it."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from remind.curation.item import Source
from remind.curation.options import BuildOptions
from remind.curation.sources.dl3dv import Dl3dvSource
from remind.curation.sources.generated import GeneratedSource
from remind.curation.sources.local import LocalSource
from remind.curation.sources.manifest import ManifestSource
from remind.curation.sources.openvid import OpenVidSource
from remind.curation.sources.pexels import PexelsQuery, PexelsSource
from remind.curation.sources.realestate10k import RealEstate10kSource
from remind.curation.sources.world import WorldSource
from remind.curation.taxonomy import Taxonomy
from remind.errors import InputError

SourceKind = Literal["local", "manifest", "openvid", "dl3dv", "realestate10k", "generated", "pexels", "world"]


@dataclass(frozen=True)
class SourceSpec:
    """A source in words.

    Args:
        kind: what it is.
        path: local: a file, folder or glob; manifest: a table; openvid: the CSV; dl3dv: the folder of scenes;
            realestate10k: the folder of camera files; generated: the folder of clips; pexels: the permission file;
            world: `FIRST_SEED:COUNT`.
        companion: openvid: the folder of zips; realestate10k: the folder of videos; generated: the prompt file.
    """

    kind: SourceKind
    path: str
    companion: str = ""

    def describe(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def parse(cls, raw: dict[str, Any]) -> SourceSpec:
        """What `describe` gave.

        Raises:
            InputError: anything else.
        """
        if set(raw) != {"kind", "path", "companion"} or raw["kind"] not in get_args(SourceKind):
            raise InputError("the report does not say where its videos are from", got=raw,
                             fix="run `remind data build` with --source again")
        return cls(**raw)

    def open(self, out: Path, options: BuildOptions) -> Source:
        """The source itself; `out` is left out of folders.

        Raises:
            InputError, SourceError: a source that is not there, or a spec that lacks its companion.
        """
        path, companion = Path(self.path), Path(self.companion)
        if self.kind in ("openvid", "realestate10k", "generated") and not self.companion:
            raise InputError(f"a {self.kind} source has two parts", got="--source alone",
                             fix=f"add --companion, the {_COMPANIONS[self.kind]}")
        kinds: dict[SourceKind, Callable[[], Source]] = {
            "local": lambda: LocalSource(self.path, exclude=[out]),
            "manifest": lambda: ManifestSource(path),
            "openvid": lambda: OpenVidSource(path, companion, cache=out / ".work"),
            "dl3dv": lambda: Dl3dvSource(path),
            "realestate10k": lambda: RealEstate10kSource(path, companion),
            "generated": lambda: GeneratedSource(path, companion),
            "pexels": lambda: _pexels(path, out),
            "world": lambda: _world(self.path, options),
        }
        return kinds[self.kind]()


_COMPANIONS = {"openvid": "folder of zip parts", "realestate10k": "folder of videos", "generated": "prompt file"}


def _pexels(permission: Path, out: Path) -> Source:
    """Searches for every event type of the taxonomy."""
    key = os.environ.get("PEXELS_API_KEY", "")
    if not key:
        raise InputError("Pexels wants a key", got="no PEXELS_API_KEY", fix="export PEXELS_API_KEY=...")
    taxonomy = Taxonomy.load()
    queries = [PexelsQuery(event.id, event.keywords, event.negatives) for event in taxonomy.types]
    log = out / ".work" / "pexels.jsonl"
    log.parent.mkdir(parents=True, exist_ok=True)
    return PexelsSource(permission=permission, api_key=key, queries=queries, log=log)


def _world(text: str, options: BuildOptions) -> Source:
    first, _, count = text.partition(":")
    if not (first.isdecimal() and count.isdecimal()):
        raise InputError("scenes of the world are named by seeds", got=text, expected="FIRST_SEED:COUNT, e.g. 0:100")
    return WorldSource(int(first), int(count), options.hw, options.num_frames)
