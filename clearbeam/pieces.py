"""Windows that have been separated, kept on disk: what a run that was killed goes on from.

One file a window, complete or not there. What is read back is what goes on, so that a run in one
piece and one that was killed make the same bytes.
"""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from clearbeam.files import replacing
from separation.tracking import Piece
from separation.voices import Voices

_KEY = "key"
_FULL = 32767  # streams are kept in 16 bits of their peak in the window


class Pieces:
    """The pieces in a folder; whatever was made for another ``key`` is removed first."""

    def __init__(self, folder: Path, key: str) -> None:
        self.folder = folder
        self.results = folder / "results"  # what is made of them goes here first
        told = folder / _KEY
        if folder.exists() and (not told.is_file() or told.read_text(encoding="utf-8") != key):
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(told) as partial:
            partial.write_text(key, encoding="utf-8")

    def path(self, number: int) -> Path:
        """Where a window is kept, counted from 0."""
        return self.folder / f"{number:06d}.npz"

    def has(self, number: int) -> bool:
        """Whether a window is there."""
        return self.path(number).is_file()

    def write(self, number: int, piece: Piece) -> None:
        """Keep a window."""
        scale = float(np.abs(piece.streams).max(initial=0.0)) / _FULL or 1.0
        whole = np.round(piece.streams / scale).astype(np.int16)
        with replacing(self.path(number)) as partial:
            np.savez(
                partial,
                start=piece.start,
                scale=np.float32(scale),
                streams=whole,
                **piece.voices._asdict(),
            )

    def read(self, number: int) -> Piece:
        """The window again."""
        try:
            with np.load(self.path(number)) as file:
                streams = file["streams"].astype(np.float32) * file["scale"]
                voices = Voices(*(file[name] for name in Voices._fields))
                return Piece(int(file["start"]), streams, voices)
        except (zipfile.BadZipFile, EOFError, KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"expected a whole window in {self.path(number)}, found {error}; "
                "the same command begins anew"
            ) from None

    def __iter__(self) -> Iterator[Piece]:
        """All of them, in order."""
        number = 0
        while self.has(number):
            yield self.read(number)
            number += 1
