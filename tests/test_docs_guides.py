"""The guides work as they stand."""

from __future__ import annotations

import pytest
from pages import play, prepare

from clearbeam.export import check


@pytest.mark.parametrize(
    "page",
    [
        "docs/clusters.md",
        "docs/deploy.md",
        "docs/evaluation.md",
        "docs/index.md",
        "docs/live.md",
        "docs/separate.md",
        "docs/simulate.md",
        "docs/sweeps.md",
    ],
)
def test_what_the_page_says_works(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(check, "SECONDS", 0.4)  # of sound that proves an exported file
    prepare(tmp_path)
    play(page)
