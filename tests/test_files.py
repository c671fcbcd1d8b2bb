"""Results appear whole under their final name, or not at all."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
from cli import tree

from clearbeam.files import alone_in, check_writable, replacing


def test_a_result_appears_only_when_complete(tmp_path):
    path = tmp_path / "a" / "b" / "x.txt"
    with replacing(path) as partial:
        assert partial.suffix == path.suffix  # writers choose the format by it
        partial.write_text("whole")
        assert not path.exists()
    assert path.read_text() == "whole"
    assert tree(tmp_path) == {"a", "a/b", "a/b/x.txt"}


def test_a_failure_leaves_neither_file_nor_folder(tmp_path):
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a" / "b" / "x.txt") as partial:
        partial.write_text("half")
        raise KeyboardInterrupt
    assert tree(tmp_path) == set()


def test_a_failure_keeps_what_others_put_beside_it(tmp_path):
    with pytest.raises(ValueError), replacing(tmp_path / "a" / "b" / "x.txt") as partial:
        (tmp_path / "a" / "other.txt").write_text("here to stay")
        partial.write_text("half")
        raise ValueError
    assert tree(tmp_path) == {"a", "a/other.txt"}


@pytest.mark.skipif(os.name == "nt", reason="has no such locks")
def test_a_folder_is_held_against_other_processes_until_its_own_ends(tmp_path):
    script = """if True:
        import os, sys; from pathlib import Path; from clearbeam.files import alone_in
        with alone_in(Path(sys.argv[1])): print("held", flush=True); sys.stdin.read()"""
    folder = tmp_path / "a" / "b"
    words = [sys.executable, "-c", script, folder]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        with pytest.raises(ValueError, match="another process"), alone_in(folder):
            pass
        other.kill()
    with alone_in(folder):
        (folder / "x").touch()
    assert tree(tmp_path) == {"a", "a/b", "a/b/x"}


def test_a_folder_that_was_held_and_stays_empty_is_no_more(tmp_path):
    with alone_in(tmp_path / "a" / "b"):
        assert (tmp_path / "a" / "b").is_dir()
    assert tree(tmp_path) == set()


def test_what_cannot_be_written_is_known_beforehand(tmp_path):
    (tmp_path / "file").touch()
    check_writable(tmp_path / "new" / "folder" / "x.txt")
    for path in (tmp_path, tmp_path / "file" / "x.txt", tmp_path / "file" / "deep" / "x.txt"):
        with pytest.raises(ValueError, match="folder"):
            check_writable(path)
    assert tree(tmp_path) == {"file"}


def test_what_a_killed_process_left_is_removed_with_the_next_one(tmp_path):
    """Of the same file, and neither of a process that lives nor of another machine."""
    path, host = tmp_path / "a[1].wav", platform.node()
    script = """if True:
        import os, sys; from pathlib import Path; from clearbeam.files import replacing
        with replacing(Path(sys.argv[1])) as partial: partial.touch(); os.kill(os.getpid(), 9)"""
    for killed in (path, tmp_path / "b.wav"):
        subprocess.run([sys.executable, "-c", script, killed], check=False)
    others = {f".a[1].{host}-{os.getppid()}.partial.wav", ".a[1].elsewhere-7.partial.wav"}
    for other in others:
        (tmp_path / other).touch()
    assert len([*tmp_path.iterdir()]) == 4
    with replacing(path) as partial:
        partial.touch()
    left = {file.name for file in tmp_path.iterdir()}
    assert others < left and len(left) == 4
    assert sorted(name[:3] for name in left - others) == [".b.", "a[1"]
