"""Words wrong in what several streams say, by meeteval, whoever they belong to.

Both rates compare what is said in each stream with what each talker truly said, in the order of
time (von Neumann, Boeddeker, Delcroix & Haeb-Umbach 2023, "MeetEval"):

- cpWER: a stream is a talker's, in the best assignment (Watanabe et al. 2020, "CHiME-6", sec. 5).
- ORC-WER: every utterance may be in any stream (Sklyar et al. 2022, "Multi-turn RNN-T"): who is
  given to whom does not matter.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from simulate.meeting_text import Said, seglst

_SESSION = "meeting"
RATES = ("cpwer", "orcwer")


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
    reference, hypothesis = (
        meeteval.io.SegLST.parse(seglst(map(_plain, segments), _SESSION))
        for segments in (truth, found)
    )
    return float(getattr(meeteval.wer, kind)(reference, hypothesis)[_SESSION].error_rate)


def _plain(said: Said) -> Said:
    words = re.sub(r"[^\w\s']", " ", said.words.lower())
    return said._replace(words=" ".join(words.split()), facts={})
