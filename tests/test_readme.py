"""What the README says works: every command and every block of Python in it is run."""

from __future__ import annotations

import glob
import re
import shlex
from pathlib import Path

import pytest
from cli import run, voice, write

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of one language, in order."""
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def lines() -> list[list[str]]:
    """The words of each shell line, comments left out."""
    shell = "".join(blocks("sh"))
    return [words for line in shell.splitlines() if (words := shlex.split(line, comments=True))]


@pytest.fixture
def desk(tmp_path, monkeypatch):
    """A folder with the recordings that the README speaks of."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "recording.wav", voice(6))
    for k in (1, 2):
        write(tmp_path / f"mic{k}.wav", voice(1))
    (tmp_path / "recordings").mkdir()
    for name in ("monday", "tuesday"):
        write(tmp_path / "recordings" / f"{name}.wav", voice(2))
    return tmp_path


def test_the_commands_work(desk):
    commands = [words[1:] for words in lines() if Path(words[0]).name == "clearbeam"]
    assert len(commands) >= 8
    for words in commands:
        expanded = [name for word in words for name in (sorted(glob.glob(word)) or [word])]
        result = run(*expanded)
        assert result.exit_code == 0, (words, result.output)
    for name in ("recording.enhanced.wav", "clean.flac", "clean.png", "pair.wav", "towards30.wav",
                 "cleaned/monday.enhanced.wav", "data/quick/manifest.jsonl", "scores.json",
                 "array.png"):  # fmt: skip
        assert (desk / name).is_file(), name


def test_the_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = {words[1] for words in lines() if words[0] == "make"}
    assert {"demo", "test", "lint", "bench"} <= targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target


def test_every_line_is_one_that_these_tests_know():
    assert {Path(words[0]).name for words in lines()} == {"make", "clearbeam"}


@pytest.mark.parametrize("code", blocks("python"))
def test_the_python_works(desk, code):
    exec(compile(code, "README.md", "exec"), {"__name__": "__main__"})


def test_what_it_links_to_exists():
    links = re.findall(r"\]\((?!http)([^)#]+)", README)
    missing = [link for link in links if not (ROOT / link).exists()]
    assert missing == []


def test_the_table_lists_every_command():
    from clearbeam.cli import app

    listed = set(re.findall(r"^\| `clearbeam (\w+)", README, flags=re.MULTILINE))
    assert listed == {command.name for command in app.registered_commands}
