"""Pages of the documentation, played: whatever a reader would type is typed.

A block of commands (`sh`), Python, YAML or JSON is run in order, in a folder of its own that has
the recordings that pages speak of. A block that is not run says why in the line above it:

    <!-- not run: needs a sound card -->

and one that a test runs with less of everything says so:

    <!-- tested with: --count 100 => --count 2; steps=4000 => steps=2 -->

Both are comments that no reader sees.
"""

from __future__ import annotations

import glob
import json
import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cli import run, voice, write

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(r"^( *)```(\w*)[^\n]*\n(.*?)^\1```$", flags=re.DOTALL | re.MULTILINE)
COMMENT = re.compile(r"<!-- (not run|tested with): (.+?) -->\s*$", flags=re.DOTALL)
FILE = re.compile(r"`([\w-]+\.(?:yaml|jsonl))`")
RUN = ("sh", "python", "yaml", "json")  # languages that can be run


@dataclass(frozen=True)
class Block:
    """A fenced block: its text as the reader sees it, and the text before it."""

    page: str
    language: str
    text: str
    before: str

    @property
    def reason(self) -> str:
        """Why it is not run; empty where it is."""
        return self._said("not run")

    @property
    def tested(self) -> str:
        """The text as a test runs it."""
        text = self.text
        for change in filter(None, self._said("tested with").split("; ")):
            old, new = change.split(" => ")
            assert old in text, f"{self.page}: {old!r} is not in\n{text}"
            text = text.replace(old, new)
        return text

    @property
    def file(self) -> str:
        """The file that the sentence before it says to save it as."""
        return FILE.findall(self.before)[-1]

    def commands(self) -> list[list[str]]:
        """The words of each command, with lines that go on joined and comments left out."""
        lines = self.tested.replace("\\\n", " ").splitlines()
        return [words for line in lines if (words := shlex.split(line, comments=True))]

    def _said(self, what: str) -> str:
        comment = COMMENT.search(self.before)
        return " ".join(comment[2].split()) if comment and comment[1] == what else ""


def blocks(page: str) -> list[Block]:
    """The fenced blocks of a page, by its path in the project."""
    text = (ROOT / page).read_text(encoding="utf-8")
    of_all = re.match(r"<!-- not run: .+? -->", text, flags=re.DOTALL)  # holds for the whole page
    found, at = [], 0
    for match in BLOCK.finditer(text):
        body = re.sub(rf"^{match[1]}", "", match[3], flags=re.MULTILINE)
        before = of_all[0] if of_all else text[at : match.start()]
        found.append(Block(page, match[2], body, before))
        at = match.end()
    return found


def commands(page: str) -> list[list[str]]:
    """Every command on a page, run or not."""
    return [words for block in blocks(page) if block.language == "sh" for words in block.commands()]


def pages() -> list[str]:
    """Every page that there is."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def links(page: str) -> list[str]:
    """What a page links to and shows, other sites left out."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)


def prepare(desk: Path) -> None:
    """Put the recordings that pages speak of into a folder."""
    for name in ("recording", "meeting", "kitchen"):
        write(desk / f"{name}.wav", voice(6))
    for k in (1, 2):
        write(desk / f"mic{k}.wav", voice(1))
    for folder in ("recordings", "my-noise"):
        (desk / folder).mkdir()
        for name in ("monday", "tuesday"):
            write(desk / folder / f"{name}.wav", voice(2))


def play(page: str) -> None:
    """Run what a page says in the current folder, which `prepare` has furnished."""
    names: dict[str, Any] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.reason:
            continue
        if block.language == "sh":
            for words in block.commands():
                _command(words)
        elif block.language == "python":
            exec(compile(block.tested, page, "exec"), names)
        elif block.language == "yaml":
            Path(block.file).write_text(block.tested, encoding="utf-8")
        else:
            json.loads(block.tested)


def _command(words: list[str]) -> None:
    """Run `clearbeam`; of `make` and `pip` only see that there is what they ask for."""
    program, *args = words
    if Path(program).name == "clearbeam":
        result = run(*_expanded(args))
        assert result.exit_code == 0, (words, result.output)
    elif program == "make":
        assert re.search(rf"^{args[0]}:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    else:
        assert words[:2] == ["pip", "install"], words
        for extra in re.findall(r"\[(\w+)\]", " ".join(words)):
            assert f"\n{extra} = [" in (ROOT / "pyproject.toml").read_text(), extra


def _expanded(words: list[str]) -> Iterator[str]:
    """As a shell does, a pattern becomes the files that fit it."""
    for word in words:
        yield from sorted(glob.glob(word)) or [word]
