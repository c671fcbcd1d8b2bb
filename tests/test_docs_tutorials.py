"""The tutorials work as they stand, and leave what they say."""

from __future__ import annotations

import pytest
from pages import play, prepare

from clearbeam.export import check

LEFT = {
    "docs/tutorials/deploy.md": ["live.wav", "live.onnx", "clean.wav"],
    "docs/tutorials/enhance.md": ["demo/enhanced.flac", "recording.enhanced.wav", "clean.png",
                                  "cleaned/monday.enhanced.wav", "from_python.wav"],
    "docs/tutorials/separate.md": ["data/meeting/0000/0000000/segments.json", "who.png",
                                   "separated/talker1.flac", "talker1.wav"],
    "docs/tutorials/simulate.md": ["my-array.png", "data/mine/0000/0000000/mixture.flac",
                                   "data/mine/summary.png"],
}  # fmt: skip


@pytest.mark.parametrize("page", LEFT)
def test_what_the_tutorial_says_works(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "SECONDS", 0.4)  # of sound that proves an exported file
    prepare(tmp_path)
    play(page)
    for name in LEFT[page]:
        assert (tmp_path / name).is_file(), name
