"""Words wrong in what several streams say, by meeteval, whoever they belong to.

Both rates compare what is said in each stream with what each talker truly said, in the order of
time (von Neumann, Boeddeker, Delcroix & Haeb-Umbach 2023, "MeetEval"):

- cpWER: a stream is a talker's, in the best assignment (Watanabe et al. 2020, "CHiME-6").
- ORC-WER: every utterance may be in any stream (Sklyar et al. 2022, "Multi-turn RNN-T"): who is
  given to whom does not matter. Found greedily: exactly takes the product of all streams' lengths.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from simulate.meeting_text import Said

_FUNCTIONS = {"cpwer": "cp", "orcwer": "greedy_orc"}
RATES = tuple(_FUNCTIONS)


def require() -> None:
    """Raise ImportError, saying what to install, where meeteval is missing."""
    try:
        import meeteval  # noqa: F401
    except ImportError as error:
        raise ImportError(
            f"expected the package meeteval for {' and '.join(RATES)}: "
            f"pip install 'clearbeam[meetings]' ({error})"
        ) from None


def word_error_rate(found: Sequence[Said], truth: Sequence[Said], kind: str = "cpwer") -> float:
    """Share of the true words that are wrong; NaN where a talker's words are not known.

    Letters count as small ones, and punctuation not at all.

    Args:
        found, truth: segments with their words.
        kind: of `RATES`.

    Raises:
        ImportError: meeteval is missing.
    """
    require()
    import meeteval

    speakers = {said.speaker for said in truth}
    if speakers != {said.speaker for said in truth if said.words} or not speakers:
        return float("nan")
    rate = getattr(meeteval.wer, f"{_FUNCTIONS[kind]}_word_error_rate")
    return float(rate(_segments(truth), _segments(found)).error_rate)


def _segments(segments: Sequence[Said]) -> Any:
    """As meeteval takes them."""
    from meeteval.io import SegLST

    records = [
        {
            "session_id": "meeting",
            "speaker": said.speaker,
            "start_time": said.start_s,
            "end_time": said.end_s,
            "words": _plain(said.words),
        }
        for said in segments
    ]
    return SegLST(records)


def _plain(words: str) -> str:
    return " ".join(re.sub(r"[^\w\s']", " ", words.lower()).split())
