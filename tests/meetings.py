"""A meeting short enough for tests."""

from __future__ import annotations

from simulate.meeting import MeetingConfig


def short_meeting(**changes) -> MeetingConfig:
    """The shipped scene, half a minute at two microphones, with what is changed in it."""
    small = {"duration_s": 30, "array": {"names": ["laptop_2mic"]}}
    scene = MeetingConfig.load("meeting").model_dump() | small | changes
    return MeetingConfig.model_validate(scene)
