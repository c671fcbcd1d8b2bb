"""What the pages about training say works."""

from __future__ import annotations

import pytest
from pages import play, prepare

from multichannel import kernels

pytest.importorskip("lightning")


@pytest.mark.parametrize("page", ["docs/training.md", "docs/tutorials/train.md"])
def test_what_the_page_says_works(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(kernels, "_kernel", None)  # compiled layers are for this test alone
    prepare(tmp_path)
    play(page)
