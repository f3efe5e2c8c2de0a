"""What a run reads: world clips, clips of stores, or both; what it never trains on; and what can be said of it all.

Whatever does not fit is said before anything is rendered or decoded.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console

from remind.data.memory_bank import MemoryBank, WorldBankSpec
from remind.data.memory_sample import Samples
from remind.data.mixture import Mixture
from remind.data.rendered_world import RenderedWorld
from remind.data.text_cache import TEXT_FOLDER, CachedText
from remind.data.world_clips import VALIDATION_SEEDS
from remind.errors import InputError, StoreError
from remind.models.codec import LinearCodec
from remind.models.text import TextEncoder, WordHashEncoder
from remind.training.config import DataPart, TrainConfig
from remind.training.store_source import StoreSource, progress_report


@dataclass(frozen=True)
class DataSource:
    """What a run reads.

    Args:
        mixture: to train on.
        held_out: never trained on: world clips of seeds beyond the training seeds, and the clips of the stores that
            `data.held_out` names; weighted as `mixture`. None where there is nothing: stores of few videos, no world.
        facts: plain JSON values for the run's record: `sha256` of all that is read (clip ids and contents, in order),
            counts, licences, encoders, and per dataset where it comes from.
    """

    mixture: Mixture
    held_out: Mixture | None
    facts: dict[str, Any]

    @property
    def licence(self) -> str:
        """The terms of the clips, as a checkpoint carries them on."""
        named = ", ".join(f"{name or 'unknown'} ({count})" for name, count in list(self.facts["licences"].items())[:8])
        more = ", and more" if len(self.facts["licences"]) > 8 else ""
        world = "the embedded world" if self.facts["world"] else ""
        clips = f"clips under: {named}{more}" if named else ""
        return "Apache-2.0; trained on " + " and on ".join(text for text in (world, clips) if text)


def open_data(
    config: TrainConfig, console: Console, *, workers: int, first: bool = True, cache_dir: Path | None = None
) -> DataSource:
    """Open what a run reads.

    Of several processes on one file system that do this at once, one renders the world bank and the others wait for
    it; so the ranks of a run may all call this, in any order.

    Args:
        console: where progress is shown, by whichever process does the work.
        workers: processes that render world clips.
        first: False for ranks that need not say what the first one says.
        cache_dir: of world banks; None = `default_cache_dir()`.

    Raises:
        InputError: nothing to read, fewer clips than a batch, clips of another size or length, no recovery where the
            curriculum wants one, or options that contradict each other.
        StoreError: no store, latents of another encoder or of another store, prompts without embeddings, damage.
    """
    quiet = console if first else Console(quiet=True)
    _check_options(config)
    codec = LinearCodec.load()
    stores = [StoreSource(part, config, codec, _text_encoder(config, part)) for part in config.data]
    encoders = _encoders(config, codec, stores)
    clips = config.bank_size + sum(len(store.trained) for store in stores)
    if clips < config.batch_size:
        raise InputError("there are fewer clips than a batch holds", got=f"{clips} clips to train on",
                         expected=f"at least {config.batch_size}",
                         fix="use a smaller batch, or add clips: a larger store, or --bank-size")  # fmt: skip
    held = config.validation.every and config.validation.by == "loss"
    if held and not config.bank_size and not any(store.held_out for store in stores):
        raise InputError("there is nothing to validate on", got=f"a store of few videos ({clips} clips)",
                         expected="10 videos or more", fix="mix in world clips, or set validation.every to 0")

    trained: list[Samples] = []
    held_out: list[Samples] = []
    weights: list[float] = []
    held_out_weights: list[float] = []
    world: dict[str, Any] | None = None
    if config.bank_size:
        text = WordHashEncoder(config.model.text_dim, config.model.text_len)
        spec = WorldBankSpec(config.bank_size, config.hw, num_frames=config.num_frames,
                             families=config.world_families, kinds=config.world_kinds)  # fmt: skip
        with progress_report("rendering world clips", console) as report:
            bank = MemoryBank.world(spec, codec, text, workers=max(1, workers), cache_dir=cache_dir, progress=report)
        seeds = VALIDATION_SEEDS[: max(1, config.validation.clips)]
        trained.append(bank)
        held_out.append(RenderedWorld(seeds, codec, text, spec))
        weights.append(config.world_share if stores else 1.0)
        held_out_weights.append(weights[0])
        world = {"clips": len(bank), "first_seed": spec.first_seed, "content": bank.content,
                 "held_out_clips": len(seeds), "held_out_first_seed": seeds.start}  # fmt: skip
    left = 1 - config.world_share if config.bank_size else 1.0
    for part, store in zip(config.data, stores, strict=True):
        trained.append(store.dataset(store.trained, quiet))
        weights.append(left * part.weight / sum(part.weight for part in config.data))
        if store.held_out:
            held_out.append(store.dataset(store.held_out))
            held_out_weights.append(weights[-1])
    facts = {
        "sha256": "",
        "clips": clips,
        "held_out_clips": sum(len(samples) for samples in held_out),
        "licences": dict(sum((store.licences() for store in stores), Counter[str]()).most_common()),
        "weights": weights,
        "encoders": encoders,
        "world": world,
        "stores": [store.facts() for store in stores],
    }
    contents = [encoders, weights, world, [store.contents() for store in stores]]
    facts["sha256"] = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    kept = Mixture(held_out, held_out_weights, config.seed) if held_out else None
    return DataSource(Mixture(trained, weights, config.seed), kept, facts)


def _check_options(config: TrainConfig) -> None:
    if not config.data and config.bank_size == 0:
        raise InputError("there is nothing to train on", got="no store and no world clips",
                         fix="name a store with --data, or set --bank-size")  # fmt: skip
    if config.data and config.bank_size and not 0 < config.world_share < 1:
        raise InputError("--world-share must leave room for world clips and stores", got=config.world_share,
                         expected="between 0 and 1", fix="or leave one of them out: --bank-size 0")  # fmt: skip
    if config.encoders == "wan" and config.bank_size:
        raise InputError("world clips are encoded by the embedded codec, which this model does not read",
                         got=f"{config.bank_size} world clips beside Wan latents", expected="bank_size 0",
                         fix="--bank-size 0; `remind data build --kind world` makes a store of them")  # fmt: skip
    missing = [str(part.store) for part in config.data if part.latents is None]
    if config.encoders == "wan" and missing:
        raise InputError("a Wan VAE and UMT5 are not run while training", got=f"no latents of {', '.join(missing)}",
                         fix="make them once: remind data latents STORE --out LATENTS --vae FOLDER --text FOLDER, "
                             "then add --latents LATENTS")  # fmt: skip


def _encoders(config: TrainConfig, codec: LinearCodec, stores: list[StoreSource]) -> dict[str, str]:
    """Hashes of what made latents and text, which all stores must share: a model reads one kind of each."""
    texts = [store.text for store in stores] or [WordHashEncoder(config.model.text_dim, config.model.text_len)]
    found = {"latents": {store.pairs_digest for store in stores} or {codec.digest},
             "text": {str(getattr(text, "digest", "")) for text in texts}}  # fmt: skip
    for name, digests in found.items():
        if len(digests) > 1:
            raise StoreError(f"the {name} of the stores were made by different encoders",
                             got=f"{len(digests)} encoders for {', '.join(str(part.store) for part in config.data)}",
                             expected="one", fix="make them again with the same `remind data latents ...`")  # fmt: skip
    return {name: digests.pop() for name, digests in found.items()}


def _text_encoder(config: TrainConfig, part: DataPart) -> TextEncoder:
    dim, length = config.model.text_dim, config.model.text_len
    if config.encoders == "embedded":
        return WordHashEncoder(dim, length)
    assert part.latents is not None, "_check_options has looked"
    text = CachedText.open(part.latents / TEXT_FOLDER)
    if (text.dim, text.text_len) != (dim, length):
        raise StoreError("the prompts were embedded for another model", got=f"{text.text_len} x {text.dim}",
                         expected=f"{length} x {dim}",
                         fix="run `remind data latents ... --text` with the model's own text encoder")  # fmt: skip
    return text
