"""What the documentation promises of itself: nothing unrun, nothing unlisted, nothing unknown."""

from __future__ import annotations

import ast
import re

import pytest
from pages import ROOT, RUN, blocks, commands, links, pages

BENCHMARKS = sorted(path.name for path in (ROOT / "benchmarks").glob("[a-z]*.py"))


@pytest.mark.parametrize("page", pages())
def test_every_block_is_run_or_says_why_not(page):
    found = [block for block in blocks(page) if not block.reason]
    fences = (ROOT / page).read_text(encoding="utf-8").count("```")
    assert fences == 2 * len(blocks(page)), "a fence that is not closed, or stands in a line"
    strange = [block.text for block in found if block.language not in RUN]
    for block in found:
        assert block.tested
    if page not in ("ARCHITECTURE.md", "CHANGELOG.md"):
        assert not strange


def test_every_page_with_something_to_run_is_played():
    """By one of the tests that play pages; the Chinese README has the blocks of the other."""
    players = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    for page in pages():
        if page.startswith("docs/") and any(not block.reason for block in blocks(page)):
            assert f'"{page}"' in players, page


@pytest.mark.parametrize("page", pages())
def test_what_a_page_links_to_exists(page):
    folder = (ROOT / page).parent
    missing = [link for link in links(page) if not (folder / link.partition("#")[0]).exists()]
    assert missing == []


def test_every_page_is_in_the_navigation():
    yaml = pytest.importorskip("yaml")
    tree = yaml.safe_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))["nav"]
    listed = set(re.findall(r"[\w/]+\.md", str(tree)))
    assert listed == {p.removeprefix("docs/") for p in pages() if p.startswith("docs/")}


@pytest.mark.parametrize("kind", ["arrays", "scenes", "sweeps", "train"])
def test_everything_shipped_by_name_is_on_a_page(kind):
    guides = "".join((ROOT / page).read_text(encoding="utf-8") for page in pages())
    names = [path.stem for path in (ROOT / "configs" / kind).glob("*.yaml")]
    assert names and [name for name in names if f"`{name}`" not in guides] == []


def test_benchmarks_are_named_where_numbers_are():
    page = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    assert [name for name in BENCHMARKS if f"benchmarks/{name}" not in page] == []


@pytest.mark.parametrize("page", pages())
def test_scripts_that_pages_name_exist_and_have_their_options(page):
    for program, *args in commands(page):
        if program != "python":
            continue
        assert (ROOT / args[0]).is_file()
        source = (ROOT / args[0]).read_text(encoding="utf-8")
        for option in re.findall(r"--([a-z][a-z-]*)", " ".join(args)):
            named = option.removeprefix("no-").replace("-", "_")
            assert re.search(rf"\b{named}\b|--{option}", source), (args, option)


def test_pages_import_what_is_public():
    """Names of ours that a page imports are listed in public_api.txt."""
    listed = (ROOT / "tests" / "public_api.txt").read_text(encoding="utf-8")
    for page in pages():
        for block in blocks(page):
            if block.language != "python" or block.reason:
                continue
            for node in ast.walk(ast.parse(block.text)):
                if isinstance(node, ast.ImportFrom) and node.module:
                    module = node.module
                    ours = module.partition(".")[0] in ("clearbeam", "multichannel", "separation",
                                                        "simulate")  # fmt: skip
                    for alias in node.names if ours else ():
                        name = f"{module}.{alias.name}"
                        assert re.search(rf"^{re.escape(name)}\b", listed, flags=re.M), name
