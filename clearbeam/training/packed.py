"""The clips of a data set as arrays of samples, where the disk has room for them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from multichannel.data import pack, samples_of
from simulate.disk import check_room

_SAMPLE_BYTES = 2


def pack_clips(records: Sequence[dict], folder: Path, n_mics: int | None = None) -> None:
    """Write what `PackedClips` reads; see `multichannel.data.pack`, which writes through maps.

    Raises OSError where it clearly does not fit: a full disk would end the process without a word.
    """
    n_channels = [1 + len(record["array"]["positions_m"][:n_mics]) for record in records]
    n_values = sum(n * samples_of(record) for n, record in zip(n_channels, records, strict=True))
    check_room(folder, _SAMPLE_BYTES * n_values)
    pack(records, folder, n_mics)
