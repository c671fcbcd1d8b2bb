"""`clearbeam separate`, end to end without a network: the mics tell two talkers apart."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from cli import RATE, refused, succeeded, tree, voice, write
from scenes import arriving, circle

from clearbeam import separate, transcribe
from clearbeam.audio import Recording
from clearbeam.pieces import Pieces
from clearbeam.separate import Job, Settings
from clearbeam.transcribe import load_recogniser, with_words
from separation import SeparationConfig, SeparationNet, Separator
from separation.weights import save_separation
from simulate.meeting_text import Said

TWO = ("--talkers", 2, "--model", "spatial")


def pair(seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    """(samples, 6): two voices from two sides of the named array, the second one late."""
    first, second = (torch.from_numpy(voice(1, seconds, seed=k)[:, 0]) for k in range(2))
    second = torch.roll(second.flip(0), RATE // 2)
    mics = circle(6)
    x = arriving(first, mics, 30.0) + arriving(second, mics, 200.0)
    noise = np.random.default_rng(2).standard_normal((x.shape[1], 6))
    return x.float().numpy().T + 0.01 * noise


@pytest.fixture
def table(tmp_path, monkeypatch):
    """A folder to work in with a recording of two talkers and six microphones."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "two.wav", 0.3 * pair())
    return tmp_path


def test_a_file_a_talker_and_who_talks_when(table):
    told = succeeded("separate", "two.wav", "--out", "out", *TWO,
                     "--array", "circular_6mic", "--plot", "two.png").stdout  # fmt: skip
    files = {"talker1.flac", "talker2.flac", "segments.json", "segments.rttm"}
    assert tree(table / "out") == files
    x, rate = soundfile.read("two.wav")
    streams = [soundfile.read(f"out/talker{k}.flac") for k in (1, 2)]
    assert all((y.shape, r) == ((len(x),), rate) for y, r in streams)
    assert abs(np.corrcoef([y for y, _ in streams])[0, 1]) < 0.5
    assert np.corrcoef(sum(y for y, _ in streams), x[:, 0])[0, 1] > 0.8
    segments = json.loads((table / "out" / "segments.json").read_text())
    assert {s["speaker"] for s in segments} == {"talker1", "talker2"}
    assert all(s["session_id"] == "two" and s["words"] == "" for s in segments)
    rttm = (table / "out" / "segments.rttm").read_text().splitlines()
    assert [line.split()[7] for line in rttm] == [s["speaker"] for s in segments]
    found = sorted(float(a) for a in re.findall(r"at (\d+) degrees", told))
    assert np.allclose(found, [30, 200], atol=15)
    assert (table / "two.png").read_bytes().startswith(b"\x89PNG")


def test_many_recordings_each_get_a_folder_and_rates_are_kept(table):
    write(table / "slow.wav", voice(2, 1.0, rate=8_000), rate=8_000)
    succeeded("separate", "two.wav", "slow.wav", "--out", "out", "--talkers", 1,
              "--model", "spatial")  # fmt: skip
    assert soundfile.info("out/slow/talker1.flac").samplerate == 8_000
    assert soundfile.info("out/slow/talker1.flac").frames == soundfile.info("slow.wav").frames
    assert (table / "out" / "two" / "segments.json").is_file()


@pytest.fixture
def causal(table) -> Path:
    """A causal network that nobody trained."""
    torch.manual_seed(0)
    sizes = {"width": 4, "outer": 4, "intra": 2, "inter": 2, "blocks": 1}
    size = SeparationConfig(**sizes, causal=True, guided=True)
    save_separation(SeparationNet(size), table / "causal.safetensors")
    return table / "causal.safetensors"


def test_streaming_gives_what_a_live_stream_gives(table, causal):
    told = succeeded("separate", "two.wav", "--out", "out", "--streaming", "--talkers", 2,
                     "--model", causal, "--array", "circular_6mic").stdout  # fmt: skip
    x, _ = soundfile.read("two.wav", dtype="float32")
    stream = Separator.from_pretrained(causal, "cpu").stream(6)
    streams = torch.cat([stream.step(torch.from_numpy(x.T)), stream.flush()], -1).numpy()
    loudest = streams[np.argsort(-np.sum(streams**2, axis=-1))]
    for k in (0, 1):
        found, _ = soundfile.read(f"out/talker{k + 1}.flac")
        assert np.abs(found - loudest[k]).max() < 1e-4
    assert len(re.findall(r"at \d+ degrees", told)) == 2
    assert not (table / "out" / ".partial").exists()


def test_another_beam_gives_other_streams(table):
    for beam in ("wiener", "mvdr", "lcmv"):
        succeeded("separate", "two.wav", "--out", beam, *TWO, "--beam", beam)
    sounds = [(table / beam / "talker1.flac").read_bytes() for beam in ("wiener", "mvdr", "lcmv")]
    assert len(set(sounds)) == 3


class Split(Separator):
    """Stands in for a separator: what comes from the front and what does not, at once."""

    def __init__(self, dies_after: int = 1000) -> None:
        super().__init__()
        self.left = dies_after

    def forward(self, x, n_talkers=None, *, reference_mic=0):
        if self.left == 0:
            raise KeyboardInterrupt
        self.left -= 1
        return torch.stack([0.9 * x[reference_mic], 0.1 * x[reference_mic]])


def job(**about: object) -> Job:
    return Job(Split(**about), "spatial", Settings(2, window_s=1.0, hop_s=0.5))


def test_a_run_that_was_killed_goes_on_to_the_same_bytes(table, monkeypatch):
    monkeypatch.setattr(separate, "WHOLE_S", 1.0)
    whole, cut = (table / name for name in ("whole", "cut"))
    job().run(Recording([table / "two.wav"]), whole)
    for done in (1, 2):  # of three windows; each run can make one
        with pytest.raises(KeyboardInterrupt):
            job(dies_after=1).run(Recording([table / "two.wav"]), cut)
        assert [path.name for path in cut.iterdir()] == [".partial"]
        (cut / ".partial" / f".00000{done}.1.partial.npz").touch()  # torn
    job(dies_after=1).run(Recording([table / "two.wav"]), cut)
    assert tree(whole) == tree(cut)
    assert [(whole / name).read_bytes() for name in sorted(tree(whole))] == [
        (cut / name).read_bytes() for name in sorted(tree(cut))
    ]


def test_pieces_of_another_job_are_not_gone_on_from(tmp_path):
    pieces = Pieces(tmp_path / ".partial", "one")
    pieces.path(0).touch()
    assert Pieces(tmp_path / ".partial", "one").has(0)
    assert not Pieces(tmp_path / ".partial", "other").has(0)


def test_the_key_follows_the_recording_and_what_was_asked(table):
    recording = Recording([table / "two.wav"])
    first = job().key(recording)
    assert job().key(recording) == first
    assert Job(Split(), "spatial", Settings(3)).key(recording) != first
    write(table / "two.wav", voice(2))
    assert job().key(Recording([table / "two.wav"])) != first


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["missing.wav", "--out", "out"], "found nothing at missing.wav"),
        (["two.wav", "--out", "out", "--talkers", "few"], "auto or a number, found few"),
        (["two.wav", "--out", "out", "--talkers", 5], "expected 1 to 4 talkers, found 5"),
        (["two.wav", "--out", "out", "--model", "spatial"], "expected --talkers N"),
        (["two.wav", "--out", "out", *TWO, "--model", "no"], "no"),
        (["two.wav", "--out", "out", *TWO, "--hop", 3], "a hop shorter than the window"),
        (["two.wav", "--out", "out", *TWO, "--window", 30], "a window of at most 20 s"),
        (["two.wav", "--out", "out", *TWO, "--beam", "ear"], "'ear' is not one of"),
        (["two.wav", "--out", "out", *TWO, "--streaming"], "expected a causal, guided network"),
        (["two.wav", "--out", "out", "--streaming", "--model", "causal.safetensors",
          "--talkers", 4], "expected 1 to 3 talkers, found 4"),
        (["nan.wav", "--out", "out", "--streaming", "--model", "causal.safetensors"],
         "expected a mic with finite samples"),
        (["two.wav", "--out", "out", *TWO, "--reference-mic", 6], "from 0 to 5, found 6"),
        (["two.wav", "--out", "out", *TWO, "--array", "linear_4mic"], "expected 4 channels"),
        (["two.wav", "--out", "two.wav", *TWO], "found the file two.wav"),
        (["two.wav", "two.wav", "--out", "out", *TWO], "two that make"),
        (["two.wav", "--out", "out", *TWO, "--plot", "out.txt"], r"\.png"),
        (["nan.wav", "--out", "out", *TWO], "nan.wav: expected a mic with finite samples"),
        (["two.wav", "--out", "out", *TWO, "--transcribe", "--recogniser", "no:one"], "no:one"),
        (["two.wav", "--out", "out", *TWO, "--transcribe", "--recogniser", "json:loads"],
         "a method transcribe"),
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(table, causal, args, match):
    write(table / "nan.wav", np.full((8_000, 2), np.nan), subtype="FLOAT")
    before = tree(table)
    refused(match, "separate", *args)
    assert tree(table) == before


def test_results_are_safe(table):
    (table / "out").mkdir()
    (table / "out" / "segments.json").write_text("[]")
    refused("exists already: use --force", "separate", "two.wav", "--out", "out", *TWO)
    (table / "out" / "talker7.flac").touch()
    succeeded("separate", "two.wav", "--out", "out", *TWO, "--force")
    assert "talker7.flac" not in tree(table / "out")


class Clock:
    """A recogniser that hears a word a second."""

    def transcribe(self, x, sample_rate):
        return [(f"at{n}", float(n), n + 0.5) for n in range(int(len(x) / sample_rate))]


def test_words_of_any_recogniser_have_the_times_of_the_recording(tmp_path, monkeypatch):
    monkeypatch.setattr(transcribe, "_LONGEST_S", 2.0)
    file = write(tmp_path / "talker1.wav", voice(1, 3.0))
    (said,) = with_words([Said("talker1", 1.0, 2.5, facts={"a": 1})], {"talker1": file}, Clock())
    assert said.words == "at0" and said.facts == {"a": 1, "word_times": [[1.0, 1.5]]}
    (said,) = with_words([Said("talker1", 0.0, 3.0)], {"talker1": file}, Clock())
    assert said.facts["word_times"] == [[0.0, 0.5], [1.5, 2.0]]  # in two parts
    monkeypatch.setattr(json, "Clock", Clock, raising=False)
    assert isinstance(load_recogniser("json:Clock"), Clock)


def test_the_embedded_recogniser_hears_words():
    pytest.importorskip("pocketsphinx")
    talkers = Path(transcribe.__file__).parents[1] / "simulate" / "talkers"
    x, rate = soundfile.read(talkers / "kal1.flac", dtype="float32")
    words = load_recogniser().transcribe(x, rate)
    assert {"alarm", "remind", "plant"} <= {word for word, _, _ in words}
    assert all(0 <= a < b <= len(x) / rate + 0.01 for _, a, b in words)
    assert [a for _, a, _ in words] == sorted(a for _, a, _ in words)


def test_a_recogniser_that_is_not_installed_is_one_clear_line(table, monkeypatch):
    monkeypatch.setitem(sys.modules, "pocketsphinx", None)
    refused(r"expected the extra transcribe: pip install 'clearbeam\[transcribe\]'",
            "separate", "two.wav", "--out", "out", *TWO, "--transcribe")  # fmt: skip
