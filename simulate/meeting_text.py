"""Who said what when, in the formats that scorers of meetings read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simulate.meeting import Meeting


def seglst(meeting: Meeting, session: str) -> str:
    """Segments as SegLST: a JSON list with session_id, speaker, start_time, end_time and words.

    `words` is "" for a backchannel of which only the beginning is heard.
    """
    segments = [
        {
            "session_id": session,
            "speaker": meeting.speaker(turn),
            "start_time": turn.at_s,
            "end_time": round(turn.end_s, 4),
            "words": turn.text,
        }
        for turn in meeting.turns
    ]
    return json.dumps(segments, indent=1) + "\n"


def rttm(meeting: Meeting, session: str) -> str:
    """Segments as NIST RTTM: SPEAKER file channel start duration and name, in seconds."""
    return "".join(
        f"SPEAKER {session} 1 {turn.at_s:.4f} {turn.seconds:.4f} <NA> <NA> "
        f"{meeting.speaker(turn)} <NA> <NA>\n"
        for turn in meeting.turns
    )


def stm(meeting: Meeting, session: str) -> str:
    """The transcript as NIST STM: file channel speaker start end words, for turns with words."""
    return "".join(
        f"{session} 1 {meeting.speaker(turn)} {turn.at_s:.4f} {turn.end_s:.4f} {turn.text}\n"
        for turn in meeting.turns
        if turn.text
    )
