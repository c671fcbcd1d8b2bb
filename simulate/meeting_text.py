"""Who said what when, in the formats that scorers of meetings read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from simulate.meeting import Meeting


class Said(NamedTuple):
    """One segment: who speaks, from when to when, and the words, "" where they are not known.

    facts: more about it, by name, for SegLST only.
    """

    speaker: str
    start_s: float
    end_s: float
    words: str = ""
    facts: Mapping[str, object] = {}


def said_in(meeting: Meeting) -> list[Said]:
    """The segments of a meeting; no words for a backchannel that is cut short."""
    return [
        Said(meeting.speaker(turn), turn.at_s, round(turn.end_s, 4), turn.text)
        for turn in meeting.turns
    ]


def seglst(segments: Iterable[Said], session: str) -> str:
    """SegLST: a JSON list with session_id, speaker, start_time, end_time and words."""
    records = [
        {
            "session_id": session,
            "speaker": said.speaker,
            "start_time": said.start_s,
            "end_time": said.end_s,
            "words": said.words,
            **said.facts,
        }
        for said in segments
    ]
    return json.dumps(records, indent=1) + "\n"


def rttm(segments: Iterable[Said], session: str) -> str:
    """NIST RTTM: SPEAKER file channel start duration and name, in seconds."""
    return "".join(
        f"SPEAKER {session} 1 {said.start_s:.4f} {said.end_s - said.start_s:.4f} <NA> <NA> "
        f"{said.speaker} <NA> <NA>\n"
        for said in segments
    )


def stm(segments: Iterable[Said], session: str) -> str:
    """The transcript as NIST STM: file channel speaker start end words, for turns with words."""
    return "".join(
        f"{session} 1 {said.speaker} {said.start_s:.4f} {said.end_s:.4f} {said.words}\n"
        for said in segments
        if said.words
    )
