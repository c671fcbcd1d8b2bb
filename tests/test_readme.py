"""What the README says works, in both languages."""

from __future__ import annotations

import re

from pages import ROOT, blocks, links, play, prepare

README = (ROOT / "README.md").read_text(encoding="utf-8")
CHINESE = (ROOT / "README.zh.md").read_text(encoding="utf-8")


def test_the_commands_and_the_python_work(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    prepare(tmp_path)
    play("README.md")
    for name in ("recording.enhanced.wav", "clean.flac", "clean.png", "towards30.wav", "array.png",
                 "talkers/talker1.flac", "data/quick/manifest.jsonl", "scores.json",
                 "clean.wav"):  # fmt: skip
        assert (tmp_path / name).is_file(), name


def test_the_table_lists_every_command():
    from clearbeam.cli import app

    listed = set(re.findall(r"^\| `clearbeam (\w+)", README, flags=re.MULTILINE))
    assert listed == {command.name for command in app.registered_commands}


def test_both_languages_have_the_same_parts():
    """Headings of the same levels, rows of tables, blocks, links, and numbers of the table."""
    for pattern in (r"^#+ ", r"^\|", r"^- ", r"!\["):
        found = [re.findall(pattern, text, flags=re.MULTILINE) for text in (README, CHINESE)]
        assert found[0] == found[1], pattern
    texts = [[block.text for block in blocks(page)] for page in ("README.md", "README.zh.md")]
    assert texts[0] == texts[1]
    ours, theirs = links("README.md"), links("README.zh.md")
    assert [link for link in ours if "README" not in link] == [
        link for link in theirs if "README" not in link
    ]
    code = [set(re.findall(r"`[^`\n]+`", text)) for text in (README, CHINESE)]
    assert code[0] == code[1]


def test_headline_numbers_are_those_of_the_benchmarks():
    measured = (ROOT / "docs" / "benchmarks.md").read_text(encoding="utf-8")
    known = set(re.findall(r"\d+(?:\.\d+)?%?", measured))
    for text, title in ((README, "## How good it is"), (CHINESE, "## 效果如何")):
        table = re.findall(r"^\|.*", text.partition(title)[2].partition("\n## ")[0], flags=re.M)
        found = set(re.findall(r"\d+(?:\.\d+)?%?", "\n".join(table)))
        assert len(found) > 10 and found <= known
