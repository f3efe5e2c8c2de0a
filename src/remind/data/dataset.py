"""The clips of a store as memory samples, at random access; what cannot be read is named, never silently replaced."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal

from remind.data.encoded_pair import EncodedPair, PairReader
from remind.data.memory_bank import MemoryBank, WorldBankSpec, default_cache_dir
from remind.data.memory_sample import MemorySample, Progress, make_sample
from remind.data.mixture import Mixture
from remind.data.quarantine import Quarantine
from remind.errors import GraphError, InputError, StoreError, VideoError
from remind.models.text import TextEncoder

__all__ = ["MemoryBank", "MemorySample", "Mixture", "Progress", "StoreDataset", "WorldBankSpec", "default_cache_dir"]

OnCorrupt = Literal["raise", "quarantine"]


class StoreDataset(Sequence[MemorySample]):
    """Item i is clip i % n in its variant i // n, of the n clips that are not skipped.

    Lengths and order follow from the store and `skipped` alone, both fixed when the dataset is made. A clip that turns
    out to be damaged later ends the run ("raise"), or ("quarantine") is recorded and stands for the next item that
    can be read, by the rule i, i + 1, i + 2, ... modulo the length: a function of what is on disk, the same in every
    process and whether the clip was known or not. The next run that takes the quarantine over skips it from the start.

    Args:
        pairs: where latents come from: `LivePairs` or `CachedPairs`.
        text: embeds the prompts.
        on_corrupt: what happens to damaged clips. Settings that do not fit (InputError) are never the clip's fault
            and always raise.
        quarantine: where damaged clips are recorded; needed for "quarantine".
        skip: ids left out from the start; None = those that the quarantine names now. To resume a run exactly, pass
            the `skipped` of its checkpoint.

    Raises:
        InputError: no quarantine to write to, or no clip left.
    """

    def __init__(self, pairs: PairReader, text: TextEncoder, *, on_corrupt: OnCorrupt = "raise",
                 quarantine: Quarantine | None = None, skip: Collection[str] | None = None):  # fmt: skip
        if on_corrupt == "quarantine" and quarantine is None:
            raise InputError("damaged clips need a place to be recorded", got="no quarantine",
                             fix="pass quarantine=Quarantine(path)")  # fmt: skip
        if skip is None:
            skip = () if quarantine is None else quarantine.read()
        self.pairs, self.text, self.on_corrupt, self.quarantine = pairs, text, on_corrupt, quarantine
        self.skipped = tuple(sorted(set(skip) & set(pairs.clip_ids)))
        left_out = set(self.skipped)
        self._clips = [clip for clip, name in enumerate(pairs.clip_ids) if name not in left_out]
        if not self._clips:
            raise InputError("there are no clips to train on", got=f"{len(pairs.clip_ids)} clips, all of them skipped"
                             if left_out else "an empty store", fix="build the store again")  # fmt: skip

    def __len__(self) -> int:
        return len(self._clips) * self.pairs.variants

    def clip_id(self, index: int) -> str:
        """The clip that an item is made of."""
        return self.pairs.clip_ids[self._clips[index % len(self._clips)]]

    @property
    def newly_quarantined(self) -> tuple[str, ...]:
        """Clips of this dataset found damaged since it was made, by any process that shares the quarantine."""
        if self.quarantine is None:
            return ()
        return tuple(sorted(self.quarantine.read().keys() & set(self.pairs.clip_ids) - set(self.skipped)))

    def __getitem__(self, index: int) -> MemorySample:  # type: ignore[override]
        """Read an item.

        Raises:
            IndexError: no such item.
            StoreError: a damaged clip, by name; under "quarantine" only when no clip at all can be read.
            InputError: settings that do not fit the store.
        """
        if not 0 <= index < len(self):
            raise IndexError(index)
        for step in range(len(self)):
            pair = self._read((index + step) % len(self))
            if pair is not None:
                row = {"clean": pair.clean.latents, "degraded": pair.degraded.latents,
                       "clean_cameras": pair.clean.cameras, "degraded_cameras": pair.degraded.cameras,
                       "clean_valid": pair.clean.valid, "degraded_valid": pair.degraded.valid}  # fmt: skip
                return make_sample(row, pair.recipe, pair.caption, pair.num_frames, self.text)
        raise StoreError("no clip of the store can be read", got=f"{len(self._clips)} damaged clips",
                         fix="build the store again")  # fmt: skip

    def _read(self, index: int) -> EncodedPair | None:
        """None for a clip that has just been quarantined."""
        variant, place = divmod(index, len(self._clips))
        try:
            return self.pairs.read(self._clips[place], variant)
        except (StoreError, VideoError, GraphError) as error:
            name = self.clip_id(index)
            if self.on_corrupt == "raise" or self.quarantine is None:
                where = "the quarantine file" if self.quarantine is None else self.quarantine.path
                raise StoreError(
                    f"clip {name} is damaged", got=str(error),
                    fix=f'mend it, add "{name}" to {where}, or read with on_corrupt="quarantine"',
                ) from None  # fmt: skip
            self.quarantine.add(name, str(error))
            return None
