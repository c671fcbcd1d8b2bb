"""The documentation site builds without a warning, and works without a network."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("material")
pytest.importorskip("mkdocstrings_handlers.python")
ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "-d", str(folder)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder


def test_pages_load_nothing_from_other_machines(site):
    loads = r"<(?:script|img|link|iframe|source)\b[^>]*?\b(?:src|href)=\"?((?:https?:)?//[^\s\">]+)"
    pages = list(site.rglob("*.html"))
    assert len(pages) > 15
    for page in pages:
        found = re.findall(loads, page.read_text(encoding="utf-8"))
        assert found == [], page.name
    for sheet in site.rglob("*.css"):
        assert "url(http" not in sheet.read_text(encoding="utf-8"), sheet.name


def test_the_reference_shows_signatures_and_what_is_raised(site):
    page = (site / "reference" / "multichannel.html").read_text(encoding="utf-8")
    assert 'id="multichannel.Enhancer.from_pretrained"' in page
    assert "no such model, device or latency" in page
