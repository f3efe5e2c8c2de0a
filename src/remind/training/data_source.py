"""What a run reads: world clips, clips of stores, or both; what it never trains on; and what can be said of it all.

Whatever does not fit is said before anything is rendered or decoded.
"""

from __future__ import annotations

import hashlib
import json
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
from remind.training.config import TrainConfig
from remind.training.store_source import StoreSource, progress_report


@dataclass(frozen=True)
class DataSource:
    """What a run reads.

    Args:
        mixture: to train on.
        held_out: never trained on: world clips of seeds beyond the training seeds, and the clips of a store that
            `data.held_out` names; weighted as `mixture`. None where there is nothing: a store of few videos, no world.
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
    codec, text = LinearCodec.load(), _text_encoder(config)
    store = None if config.data is None else StoreSource(config.data, config, codec, text)
    clips = config.bank_size + (0 if store is None else len(store.trained))
    if clips < config.batch_size:
        raise InputError("there are fewer clips than a batch holds", got=f"{clips} clips to train on",
                         expected=f"at least {config.batch_size}",
                         fix="use a smaller batch, or add clips: a larger store, or --bank-size")  # fmt: skip
    held = config.validation.every and config.validation.by == "loss"
    if held and not config.bank_size and store is not None and not store.held_out:
        raise InputError("there is nothing to validate on", got=f"a store of few videos ({len(store.trained)} clips)",
                         expected="10 videos or more", fix="mix in world clips, or set validation.every to 0")

    trained: list[Samples] = []
    held_out: list[Samples] = []
    weights: list[float] = []
    world: dict[str, Any] | None = None
    if config.bank_size:
        spec = WorldBankSpec(config.bank_size, config.hw, num_frames=config.num_frames)
        with progress_report("rendering world clips", console) as report:
            bank = MemoryBank.world(spec, codec, text, workers=max(1, workers), cache_dir=cache_dir, progress=report)
        seeds = VALIDATION_SEEDS[: max(1, config.validation.clips)]
        trained.append(bank)
        held_out.append(RenderedWorld(seeds, codec, text, hw=config.hw, num_frames=config.num_frames))
        weights.append(1.0 if store is None else config.world_share)
        world = {"clips": len(bank), "first_seed": spec.first_seed, "content": bank.content,
                 "held_out_clips": len(seeds), "held_out_first_seed": seeds.start}  # fmt: skip
    if store is not None:
        trained.append(store.dataset(store.trained, quiet))
        weights.append(1 - config.world_share if config.bank_size else 1.0)
        if store.held_out:
            held_out.append(store.dataset(store.held_out))
    facts = {
        "sha256": "",
        "clips": clips,
        "held_out_clips": sum(len(samples) for samples in held_out),
        "licences": {} if store is None else store.licences(),
        "weights": weights,
        "encoders": {"latents": codec.digest if store is None else store.pairs_digest,
                     "text": getattr(text, "digest", "")},
        "world": world,
        "store": None if store is None else store.facts(),
    }  # fmt: skip
    contents = [facts["encoders"], weights, world, [] if store is None else store.contents()]
    facts["sha256"] = hashlib.sha256(json.dumps(contents, sort_keys=True).encode()).hexdigest()
    kept = Mixture(held_out, weights[: len(held_out)], config.seed) if held_out else None
    return DataSource(Mixture(trained, weights, config.seed), kept, facts)


def _check_options(config: TrainConfig) -> None:
    if config.data is None and config.bank_size == 0:
        raise InputError("there is nothing to train on", got="no store and no world clips",
                         fix="name a store with --data, or set --bank-size")  # fmt: skip
    if config.latents is not None and config.data is None:
        raise InputError("latents need the store that they were made of", got=f"{config.latents} alone",
                         fix="name it with --data")  # fmt: skip
    if config.encoders == "wan" and config.bank_size:
        raise InputError("world clips are encoded by the embedded codec, which this model does not read",
                         got=f"{config.bank_size} world clips beside Wan latents", expected="bank_size 0",
                         fix="--bank-size 0; `remind data build --kind world` makes a store of them")  # fmt: skip
    if config.encoders == "wan" and config.latents is None:
        raise InputError("a Wan VAE and UMT5 are not run while training", got="no latents",
                         fix="make them once: remind data latents STORE --out LATENTS --vae FOLDER --text FOLDER, "
                             "then add --latents LATENTS")  # fmt: skip
    if config.data is not None and config.bank_size and not 0 < config.world_share < 1:
        raise InputError("the share of world clips must leave room for the store", got=config.world_share,
                         expected="between 0 and 1")  # fmt: skip


def _text_encoder(config: TrainConfig) -> TextEncoder:
    dim, length = config.model.text_dim, config.model.text_len
    if config.encoders == "embedded":
        return WordHashEncoder(dim, length)
    assert config.latents is not None
    text = CachedText.open(config.latents / TEXT_FOLDER)
    if (text.dim, text.text_len) != (dim, length):
        raise StoreError("the prompts were embedded for another model", got=f"{text.text_len} x {text.dim}",
                         expected=f"{length} x {dim}",
                         fix="run `remind data latents ... --text` with the model's own text encoder")  # fmt: skip
    return text
