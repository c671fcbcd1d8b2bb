"""Systems that separate, by name, on talkers whose truth is known; and their evaluation."""

from __future__ import annotations

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import torch
from scenes import SAMPLE_RATE, arriving, circle

from clearbeam import blind, separators
from clearbeam.clips import Clip
from clearbeam.evaluate import evaluate_dataset
from clearbeam.metrics import METRICS, si_sdr
from clearbeam.separators import OURS, SEPARATORS, check_system, make_system, system_files
from clearbeam.systems import BEAMS
from clearbeam.tasks import find_task
from separation import SeparationConfig, SeparationNet, Separator
from separation.weights import save_separation
from simulate import SceneConfig, read_manifest, write_dataset

N_SAMPLES = 2 * SAMPLE_RATE
PLACES = {60.0: (20.0, 34.64, 0.0), 200.0: (-37.59, -13.68, 0.0)}


def voice(seed: int) -> torch.Tensor:
    """Syllables of coloured noise."""
    rng = np.random.default_rng(seed)
    bursts = rng.standard_normal((N_SAMPLES // 1600, 1600)) * rng.gamma(0.3, 1, (20, 1))
    return torch.from_numpy(bursts.ravel())


@pytest.fixture(scope="module")
def clip() -> Clip:
    images = torch.stack([arriving(voice(k), circle(4), a).float() for k, a in enumerate(PLACES)])
    images = 0.05 * images / images.std((1, 2), keepdim=True)
    noise = 1e-4 * torch.from_numpy(np.random.default_rng(5).standard_normal((4, N_SAMPLES)))
    mixture = images.sum(0) + noise.float()
    return Clip("clip", mixture, images, circle(4).float(), torch.tensor([*PLACES.values()]))


def gain(name: str, clip: Clip) -> float:
    """SI-SDRi in the task's own words."""
    with torch.inference_mode():
        streams = make_system(name)(clip.mixture, clip)
    scores = find_task("separate").score(clip, streams.numpy(), ["si_sdri", "count"])
    assert scores["count"] == 1
    return scores["si_sdri"]


@pytest.mark.parametrize(
    ("name", "least"),
    [
        *(("noisy", 0), ("delay-and-sum", 0.5), ("superdirective", 3), ("oracle-mvdr", 6)),
        *(("oracle-mvdr-1024", 6), ("oracle-mvdr-2048", 6), ("oracle-mask", 6)),
        *(("oracle-wiener", 10), ("auxiva", 6), ("fastmnmf2", 0), ("cacgmm", 0)),
    ],
)
def test_every_baseline_separates_what_it_can(clip, name, least, monkeypatch):
    monkeypatch.setattr(blind, "_FASTMNMF_ITERATIONS", 10)
    assert gain(name, clip) >= least - 1e-6


def test_a_system_for_one_talker_is_told_about_one_at_a_time(clip):
    seen = []

    def beam(mixture, one):
        seen.append(one)
        return mixture[one.reference_mic]

    separators.each_talker(beam, clip.mixture, clip)
    for k, one in enumerate(seen):
        assert torch.equal(one.reference, clip.images[k, 0])
        assert torch.equal(one.talkers_m, clip.talkers_m[k : k + 1])


def test_blind_rivals_leave_chance_as_it_was_and_do_the_same_again(clip, monkeypatch):
    monkeypatch.setattr(blind, "_FASTMNMF_ITERATIONS", 2)
    few = clip.mixture[:, :SAMPLE_RATE]
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    first, again = (blind.fastmnmf2(few, 2, 1) for _ in range(2))
    assert torch.equal(first, again) and np.array_equal(np.random.get_state()[1], before)
    assert first.shape == (2, SAMPLE_RATE)


@pytest.mark.parametrize("separate", [blind.auxiva, blind.fastmnmf2])
def test_one_mic_is_nothing_to_a_blind_rival(clip, separate):
    assert torch.equal(separate(clip.mixture[:1], 2, 0), clip.mixture[:1].expand(2, -1))


def test_some_mics_of_the_array(clip):
    few = replace(clip, mixture=clip.mixture[[0, 2]], images=clip.images[:, [0, 2]])
    expected = make_system("oracle-mvdr")(few.mixture, few)
    assert torch.equal(make_system("oracle-mvdr@0,2")(clip.mixture, clip), expected)


def test_ours_is_told_how_many_talk_only_where_its_name_says_so(clip, monkeypatch):
    calls = []

    class Separator:
        @classmethod
        def from_pretrained(cls, model, device):
            calls.append((model, device))
            return cls()

        def __call__(self, x, n_talkers, reference_mic):
            calls.append((len(x), n_talkers, reference_mic))
            return x[:1]

    monkeypatch.setitem(sys.modules, "separation.separate", SimpleNamespace(Separator=Separator))
    at = replace(clip, reference_mic=2)
    for name in ("clearbeam", "clearbeam-told", "clearbeam:/my/model"):
        assert make_system(name)(at.mixture, at).shape == (1, N_SAMPLES)
    ours = ("separate", "cpu")
    assert calls == [ours, (4, None, 2), ours, (4, 2, 2), ("/my/model", "cpu"), (4, None, 2)]


def test_live_is_the_live_stream_of_those_who_are_loud(clip, tmp_path):
    torch.manual_seed(0)
    model = tmp_path / "mine.safetensors"
    size = SeparationConfig(width=4, outer=4, intra=2, inter=2, blocks=1, causal=True, guided=True)
    save_separation(SeparationNet(size), model)
    found = make_system(f"clearbeam-live:{model}")(clip.mixture, clip)
    stream = Separator.from_pretrained(model, "cpu").stream(4)
    streams = torch.cat([stream.step(clip.mixture), stream.flush()], -1)
    assert 1 <= len(found) <= 3
    assert all(any(torch.equal(y, one) for one in streams) for y in found)
    quietest, loudest = found[-1].square().sum(), found[0].square().sum()
    assert 0.02 * loudest < quietest <= loudest


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("auxiv", "did you mean auxiva?"),
        ("oracle-weiner", "did you mean oracle-wiener?"),
        ("clearbeam:", "did you mean clearbeam?"),
        ("auxiva:model", "did you mean auxiva?"),
        ("xyzzy", "known are clearbeam"),
    ],
)
def test_an_unknown_name_is_refused_and_the_nearest_named(name, hint):
    for refuse in (check_system, make_system, system_files):
        with pytest.raises(ValueError, match="expected a system's name, found") as error:
            refuse(name)
        assert hint in str(error.value)
    with pytest.raises(ValueError, match="expected a model file, found no file"):
        check_system("clearbeam:/nowhere.safetensors")


def test_every_name_checks():
    assert set(BEAMS) < set(SEPARATORS) and not set(OURS) & set(SEPARATORS)
    for name in SEPARATORS:
        check_system(f"{name}@0,1")
        assert system_files(name) == []


# ------------------------------------------------------------------------------- the evaluation


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    out = tmp_path_factory.mktemp("pairs")
    scene = SceneConfig.load("quickstart")
    talkers = scene.talkers.model_copy(update={"count": 2})
    update = {"duration_s": 1.5, "talkers": talkers, "references": ["image"], "method": "fast"}
    write_dataset(scene.model_copy(update=update), out, 2, seed=5)
    return out


def test_scores_are_means_over_talkers_against_their_images_at_the_reference_mic(dataset):
    metrics = ["si_sdr", "si_sdri", "sdri", "stoi", "count"]
    report = evaluate_dataset(dataset, ["oracle-mask"], task="separate", metrics=metrics, jobs=1)
    for i, record in enumerate(read_manifest(dataset)):
        mixture = soundfile.read(record["paths"]["mixture"])[0][:, 0]
        images = [soundfile.read(path)[0][:, 0] for path in record["paths"]["image"]]
        expected = np.mean([si_sdr(mixture, image) for image in images])
        assert report.score("noisy", "si_sdr").values[i] == pytest.approx(expected, abs=1e-4)
        after = report.score("oracle-mask", "si_sdr").values[i]
        found = report.score("oracle-mask", "si_sdri").values[i]
        assert found == pytest.approx(after - expected, abs=1e-4) and found > 5
    assert report.score("oracle-mask", "count").mean == 1
    assert report.groups() == {} or "talkers" not in report.groups()


def test_the_number_of_streams_is_scored_and_a_missing_one_gains_nothing(dataset, monkeypatch):
    one = lambda mixture, clip: clip.references[:1]  # noqa: E731
    many = lambda mixture, clip: torch.cat([clip.references, mixture[:1]])  # noqa: E731
    monkeypatch.setitem(SEPARATORS, "one", one)
    monkeypatch.setitem(SEPARATORS, "many", many)
    report = evaluate_dataset(dataset, ["one", "many"], task="separate", metrics=["stoi", "count"])
    assert report.score("one", "count").mean == report.score("many", "count").mean == 0
    assert report.score("many", "stoi").mean == pytest.approx(1, abs=1e-4)
    half = (1 + report.score("noisy", "stoi").mean) / 2
    assert report.score("one", "stoi").mean == pytest.approx(half, abs=0.1)
    broken = lambda mixture, clip: mixture[0]  # noqa: E731
    monkeypatch.setitem(SEPARATORS, "broken", broken)
    with pytest.raises(
        RuntimeError, match=r"shape \(streams, 16000\) from broken .*, found \(16000,\)"
    ):
        evaluate_dataset(dataset, ["broken"], task="separate", metrics=["count"])


def test_its_columns_and_what_it_refuses(dataset):
    names = [column.name for column in find_task("separate").columns(None)]
    known = ["si_sdr", "si_sdri", "sdr", "sdri", "pesq_wb", "stoi", "estoi"]
    there = [name for name in known if METRICS[name.replace("sdri", "sdr")].available]
    assert names == [*there, "count"]
    with pytest.raises(ValueError, match="found dnsmos_sig"):
        find_task("separate").columns(["dnsmos_sig"])
    with pytest.raises(ValueError, match="expected DNSMOS with the task enhance only"):
        find_task("separate", dataset / "model.onnx")
    with pytest.raises(
        ValueError, match=r"expected a mixture with its truth, found KeyError.*early"
    ):
        evaluate_dataset(dataset, ["noisy"])
