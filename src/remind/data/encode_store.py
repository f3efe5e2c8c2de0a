"""A store as latents and prompt embeddings, in one go: what `remind data latents` does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from rich.console import Console
from rich.progress import Progress

from remind.data.clip_store import ClipStore
from remind.data.encoded_pair import LatentEncoder
from remind.data.latent_build import build_latents, plan_latents
from remind.data.latent_cache import LatentDtype, LatentSpec
from remind.data.quarantine import QUARANTINE_NAME, Quarantine
from remind.data.text_build import build_text, missing_prompts, store_prompts
from remind.data.text_cache import TEXT_FOLDER
from remind.errors import InputError
from remind.models.codec import LinearCodec
from remind.models.umt5 import UMT5Encoder
from remind.models.vae import WanVAE


@dataclass(frozen=True)
class EncodeRequest:
    """What to encode, where to and by what.

    Args:
        store: the store.
        out: folder of the latents; prompt embeddings go to `text` in it.
        variants, seed, dtype: see `LatentSpec`.
        vae: folder of a Wan VAE; None = the embedded codec.
        text: folder of a Wan pipeline with UMT5; None = no prompts.
        text_dtype: what UMT5 computes in.
        text_batch: prompts at once, >= 1.
        device: of VAE and UMT5.
    """

    store: Path
    out: Path
    variants: int = 2
    seed: int = 0
    dtype: LatentDtype = "float32"
    vae: Path | None = None
    text: Path | None = None
    text_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    text_batch: int = 1
    device: str = "cpu"


def encode_store(request: EncodeRequest, console: Console, *, dry_run: bool = False) -> dict[str, str]:
    """Encode what is missing, drop what nobody asks for, and print how much that was.

    The VAE is gone from memory before the text encoder is loaded.

    Args:
        console: for progress; numbers are printed.
        dry_run: only say how much would be done. It loads both encoders: their digests decide what is missing.

    Returns:
        Clips that could not be encoded, with the reason; they are in the store's quarantine now.

    Raises:
        RemindError: no store, an encoder that cannot be loaded or does not fit, a full disk.
    """
    if request.text_batch < 1:
        raise InputError("a batch of prompts holds one or more", got=request.text_batch, expected="at least 1")
    store, listed = ClipStore.open(request.store), Quarantine(request.store / QUARANTINE_NAME)
    spec = LatentSpec(variants=request.variants, seed=request.seed, dtype=request.dtype)
    failed = _latents(request, store, spec, listed, console, dry_run=dry_run)
    if request.text is not None:
        _text(request, request.text, store, spec, listed, console, dry_run=dry_run)
    return failed


def _latents(request: EncodeRequest, store: ClipStore, spec: LatentSpec, listed: Quarantine, console: Console, *,
             dry_run: bool) -> dict[str, str]:  # fmt: skip
    encoder: LatentEncoder
    encoder = LinearCodec.load() if request.vae is None else WanVAE.from_pretrained(request.vae, device=request.device)
    plan = plan_latents(store, encoder, request.out, spec, skip=listed.read())
    print(f"{plan.new_entries} of {len(plan.entries)} tracks to encode, {plan.new_bytes / 2**20:,.1f} MiB")
    if dry_run:
        return {}
    with _bar("latents", console) as progress:
        report = build_latents(store, encoder, request.out, spec, quarantine=listed, progress=progress)
    size = f"{report.num_bytes / 2**20:,.1f} MiB"
    print(f"encoded {report.encoded}, kept {report.kept}, removed {report.removed}; {size}")
    return report.failed


def _text(request: EncodeRequest, pipeline: Path, store: ClipStore, spec: LatentSpec, listed: Quarantine,
          console: Console, *, dry_run: bool) -> None:  # fmt: skip
    dtype = torch.bfloat16 if request.text_dtype == "bfloat16" else torch.float32
    encoder = UMT5Encoder.from_pretrained(pipeline, dtype=dtype, device=request.device)
    prompts = store_prompts(store, spec, skip=listed.read())
    folder = request.out / TEXT_FOLDER
    print(f"{len(missing_prompts(prompts, encoder.digest, folder))} of {len(prompts)} prompts to embed")
    if dry_run:
        return
    with _bar("prompts", console) as progress:
        report = build_text(prompts, encoder, folder, batch_size=request.text_batch, progress=progress)
    size = f"{report.num_bytes / 2**20:,.1f} MiB"
    print(f"embedded {report.embedded}, kept {report.kept}, removed {report.removed}; {size}")


@contextmanager
def _bar(name: str, console: Console) -> Iterator[Callable[[int, int], None]]:
    with Progress(console=console) as bar:
        task = bar.add_task(name, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
