"""What is said in a segment: any recogniser will do that is a function of sound."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Protocol

import numpy as np
import soundfile
import soxr
from numpy.typing import NDArray

from simulate.meeting_text import Said

Word = tuple[str, float, float]  # the word, when it begins and when it ends, in seconds

EMBEDDED = "pocketsphinx"
_LONGEST_S = 30.0  # of what a recogniser is given at once
_SPHINX_HZ = 16_000


class Recogniser(Protocol):
    """Says what words are in ``x (samples,)``, float32; times are from the beginning of ``x``."""

    def transcribe(self, x: NDArray[np.float32], sample_rate: int) -> list[Word]:
        """Words in order."""


class PocketSphinx:
    """CMU's recogniser with its English model, which its package carries: nothing is downloaded."""

    def __init__(self) -> None:
        try:
            from pocketsphinx import Decoder
        except ImportError as error:
            raise ValueError(
                f"expected the extra transcribe: pip install 'clearbeam[transcribe]' ({error})"
            ) from None
        self._decoder = Decoder(samprate=_SPHINX_HZ, loglevel="FATAL")

    def transcribe(self, x: NDArray[np.float32], sample_rate: int) -> list[Word]:
        """Words in order; those of the recogniser for noise and silence are left out."""
        x = soxr.resample(x, sample_rate, _SPHINX_HZ)
        pcm = (np.clip(x, -1, 1) * 32767).astype(np.int16).tobytes()
        decoder = self._decoder
        decoder.start_utt()
        decoder.process_raw(pcm, full_utt=True)
        decoder.end_utt()
        frame_s = 1 / decoder.config["frate"]
        return [
            (
                said.word.partition("(")[0],
                said.start_frame * frame_s,
                (said.end_frame + 1) * frame_s,
            )
            for said in decoder.seg() or ()
            if said.word[0] not in "<[("
        ]


def load_recogniser(name: str = EMBEDDED) -> Recogniser:
    """The embedded recogniser, or ``module:name`` of an object or class that is a `Recogniser`.

    Raises ValueError where there is none.
    """
    if name == EMBEDDED:
        return PocketSphinx()
    module, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(
            f"expected {EMBEDDED} or module:name of a recogniser, found {name} ({error})"
        ) from None
    found = found() if isinstance(found, type) else found
    if not callable(getattr(found, "transcribe", None)):
        raise ValueError(f"expected {name} to have a method transcribe(x, sample_rate), found none")
    return found


def with_words(
    segments: Iterable[Said], files: Mapping[str, Path], recogniser: Recogniser
) -> list[Said]:
    """The segments with their words, heard in the files of their speakers."""
    return [_with_words(said, files[said.speaker], recogniser) for said in segments]


def _with_words(said: Said, path: Path, recogniser: Recogniser) -> Said:
    """Words and their times, from the beginning of the recording."""
    words: list[Word] = []
    n_parts = int(np.ceil((said.end_s - said.start_s) / _LONGEST_S))
    edges = np.linspace(said.start_s, said.end_s, n_parts + 1)
    with soundfile.SoundFile(path) as file:
        for start_s, end_s in pairwise(edges.tolist()):
            file.seek(min(file.frames, round(start_s * file.samplerate)))
            x = file.read(round((end_s - start_s) * file.samplerate), dtype="float32")
            heard = recogniser.transcribe(x, file.samplerate) if len(x) else []
            words += [(word, start_s + a, start_s + b) for word, a, b in heard]
    times = [[round(float(t), 3) for t in (a, b)] for _, a, b in words]
    facts = {**said.facts, "word_times": times}
    return said._replace(words=" ".join(word for word, _, _ in words), facts=facts)
