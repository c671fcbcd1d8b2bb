"""Corpora as they are published: each reader finds what a person would."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from simulate import load_corpus
from simulate.corpus import Corpus, RecordingError, Utterance, is_manifest, read_audio, write_corpus

RATE = 16_000


def sound(path: Path, seconds: float = 0.5) -> Path:
    """A ramp, whose value tells where in the file a sample is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.arange(round(seconds * RATE)) / RATE, RATE, subtype="PCM_24")
    return path


def facts(corpus) -> list[tuple]:
    return [(Path(u.path).name, u.seconds, u.speaker, u.text, u.split) for u in corpus]


def test_a_librispeech_tree(tmp_path):
    for subset, speaker in (("train-clean-100", "19"), ("dev-clean", "84")):
        chapter = tmp_path / subset / speaker / "7"
        sound(chapter / f"{speaker}-7-0000.flac")
        (chapter / f"{speaker}-7.trans.txt").write_text(
            f"{speaker}-7-0000 A TEXT OF {speaker}\n{speaker}-7-0001 ITS SOUND IS NOT THERE\n"
        )
    train = ("19-7-0000.flac", 0.5, "19", "A TEXT OF 19", "train-clean-100")
    dev = ("84-7-0000.flac", 0.5, "84", "A TEXT OF 84", "dev-clean")
    assert facts(load_corpus(tmp_path)) == [dev, train]
    assert facts(load_corpus(tmp_path, "train")) == [train]
    assert facts(load_corpus(tmp_path, "dev-clean")) == [dev]
    assert facts(load_corpus(tmp_path / "dev-clean")) == [dev]
    with pytest.raises(ValueError, match=r"expected recordings of split test in .*, found none"):
        load_corpus(tmp_path, "test")


def test_a_vctk_tree_with_the_first_of_two_microphones(tmp_path):
    for mic in (1, 2):
        sound(tmp_path / "wav48_silence_trimmed" / "p225" / f"p225_001_mic{mic}.flac")
    (tmp_path / "txt" / "p225").mkdir(parents=True)
    (tmp_path / "txt" / "p225" / "p225_001.txt").write_text("Please call Stella.\n")
    assert facts(load_corpus(tmp_path)) == [
        ("p225_001_mic1.flac", 0.5, "p225", "Please call Stella.", "")
    ]


def test_a_plain_folder_leaves_out_what_cannot_be_read(tmp_path):
    sound(tmp_path / "anna" / "one.wav")
    sound(tmp_path / "two.flac")
    (tmp_path / "anna" / "one.txt").write_text("a\ntext")
    (tmp_path / "bad.wav").write_bytes(b"RIFF")
    (tmp_path / "README.md").write_text("about")
    with pytest.warns(UserWarning, match=r"left out of the corpus: .*bad\.wav"):
        corpus = load_corpus(tmp_path)
    assert facts(corpus) == [("one.wav", 0.5, "anna", "a text", ""), ("two.flac", 0.5, "", "", "")]
    assert corpus[0].kind == "anna"


def cut(path: Path, **changes) -> dict:
    return {
        "id": "c1",
        "start": 0.25,
        "duration": 0.5,
        "channel": 0,
        "supervisions": [{"speaker": "eve", "text": "so it is"}],
        "recording": {"sources": [{"type": "file", "channels": [0], "source": str(path)}]},
    } | changes


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_a_cut_of_lhotse_is_the_part_of_the_recording_that_it_names(tmp_path, suffix):
    path = sound(tmp_path / "talk.wav", 1.0)
    manifest = tmp_path / f"cuts{suffix}"
    with (gzip.open if suffix.endswith("gz") else open)(manifest, "wt") as file:
        file.write(json.dumps(cut(path)) + "\n")
    (found,) = load_corpus(manifest)
    assert (found.seconds, found.speaker, found.text) == (0.5, "eve", "so it is")
    x = read_audio(found.path, RATE, 0.125, 0.25)
    np.testing.assert_allclose(x[[0, -1]], [0.375, 0.625 - 1 / RATE], atol=1e-6)


@pytest.mark.parametrize("change", [{"channel": 1}, {"duration": "long"}, {"recording": {}}])
def test_a_manifest_that_is_not_lhotses_names_the_line(tmp_path, change):
    good, bad = (json.dumps(c) for c in (cut(tmp_path), cut(tmp_path, **change)))
    (tmp_path / "cuts.jsonl").write_text(f"{good}\n{bad}\n")
    with pytest.raises(ValueError, match=r"cuts\.jsonl, line 2: expected a cut or recording"):
        load_corpus(tmp_path / "cuts.jsonl")


def test_a_torn_gzip_is_refused(tmp_path):
    (tmp_path / "cuts.jsonl.gz").write_bytes(gzip.compress(b'{"sources": []}' * 99)[:-9])
    with pytest.raises(ValueError, match="expected a Lhotse manifest"):
        load_corpus(tmp_path / "cuts.jsonl.gz")


def test_a_corpus_can_be_listed_in_a_manifest_of_ours(tmp_path):
    sound(tmp_path / "corpus" / "anna" / "one.wav")
    corpus = load_corpus(tmp_path / "corpus")
    write_corpus(corpus, tmp_path / "list.jsonl")
    assert load_corpus(tmp_path / "list.jsonl") == corpus
    assert is_manifest(str(tmp_path / "list.jsonl")) and is_manifest("builtin")
    assert not is_manifest(str(tmp_path / "corpus"))


def test_a_recording_that_ends_early_is_told(tmp_path):
    path = sound(tmp_path / "short.wav", 0.5)
    assert len(read_audio(str(path), RATE, 0.0, 0.6)) == RATE // 2  # manifests round
    with pytest.raises(RecordingError, match=r"short\.wav \(it ends 0\.50 s early\)"):
        read_audio(str(path), RATE, 0.0, 1.0)


def test_the_shared_manifest_still_reads(shared):
    corpus = load_corpus(shared / "data" / "speech.jsonl", "test")
    assert corpus and {u.split for u in corpus} == {"test"}


def test_each_recording_of_the_free_speakers_is_as_likely():
    corpus = Corpus(Utterance(f"{s}{i}", 1.0, s) for i in range(3) for s in ("a", "b", "c", ""))
    rng = np.random.default_rng(0)
    drawn = [corpus.draw(rng, {"a", "c", ""}).path for _ in range(600)]
    assert set(drawn) == {"b0", "b1", "b2", "0", "1", "2"}
    assert min(drawn.count(path) for path in set(drawn)) > 60
    assert [u.path for u in corpus.said_by("b")] == ["b0", "b1", "b2"] and not corpus.said_by("")
    only = Corpus(u for u in corpus if u.speaker == "a")
    assert only.draw(rng, {"a"}).speaker == "a"
