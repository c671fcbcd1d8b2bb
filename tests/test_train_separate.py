"""Separation trains through the real command line, on clips that are mixed anew."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import torch
import yaml
from cli import refused, run

pytest.importorskip("lightning")

from training import SMALL, curve_of, lines_of

from clearbeam.clips import Clip
from clearbeam.separators import check_system, make_system
from clearbeam.training.asteroid_adapter import asteroid_losses
from clearbeam.training.fasnet import load_fasnet, streams_of
from clearbeam.training.guided import Guided, KeptGuided, create_guided, write_guided
from clearbeam.training.talkers import PackedTalkers, Remixed, mixed_anew, pack_talkers
from multichannel.data import records_of
from separation import Separator
from separation.features import N_PAIRS
from separation.network import SeparationConfig, SeparationNet
from separation.weights import load_separation, save_separation
from simulate import SceneConfig, write_dataset

SMALL_NET = ("network.width=8", "network.blocks=1", "network.inter=8", "compiled_layers=false")


def _scene(**changes) -> SceneConfig:
    config = SceneConfig.load("train_separate")
    return config.model_copy(update={"duration_s": 0.5, "split": None, **changes})


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixtures")
    write_dataset(_scene(), folder, count=6, seed=3)
    return folder


@pytest.fixture(scope="module")
def packed(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    pack_talkers(records_of(data), folder)
    return PackedTalkers(folder)


def _train(recipe, data, out, *words):
    sets = (f"data.train={data}", f"data.valid={data}", f"data.cache={data.parent / 'cache'}")
    return run("train", recipe, *sets, *SMALL, *SMALL_NET, *words, "--out", out)


@pytest.mark.parametrize("recipe", ["separate", "separate-causal"])
def test_a_separation_network_trains_and_is_kept(data, tmp_path, recipe):
    out = tmp_path / "run"
    result = _train(recipe, data, out, "steps=2")
    assert result.exit_code == 0, result.output
    scores = lines_of(out)[-1]
    for name in ("loss", "snr", "clustering", "whitened", "si_sdr_improvement_db", "count_right"):
        assert np.isfinite(scores[f"valid_{name}"]), name
    net = load_separation(out / "last.safetensors")
    assert net.config.causal == (recipe == "separate-causal") and net.config.width == 8


def test_a_causal_network_may_begin_as_one_that_looks_ahead(data, tmp_path):
    """Its weights, less those that look ahead and those of further blocks."""
    start, out = tmp_path / "start.safetensors", tmp_path / "run"
    size = SeparationConfig(width=8, inter=8, blocks=2, guided=True)
    torch.manual_seed(0)
    save_separation(SeparationNet(size), start)
    words = ("steps=1", "optimiser.lr=1e-9", "network.blocks=1")
    result = _train("separate-causal", data, out, f"init={start}", *words)
    assert result.exit_code == 0, result.output
    ahead, causal = load_separation(start), load_separation(out / "last.safetensors")
    for name, value in causal.named_parameters():
        cut = ahead.state_dict()[name][tuple(map(slice, value.shape))]
        assert torch.allclose(value, cut, atol=1e-5), name
    result = _train("separate-causal", data, tmp_path / "b", f"init={start}", "network.blocks=3")
    assert result.exit_code == 2 and "init: expected blocks.2" in result.output


FASNET = ("feature_dim=4", "hidden_dim=4", "tac_hidden_dim=4", "n_layers=1", "window_ms=16")


def test_the_rival_trains_on_the_same_clips_and_separates(data, tmp_path):
    words = [*SMALL, *(f"network.{word}" for word in FASNET), "steps=1", "data.seconds=0.25"]
    sets = (f"data.train={data}", f"data.valid={data}", f"data.cache={data.parent / 'cache'}")
    result = run("train", "fasnet", *sets, *words, "compiled_layers=false", "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert np.isfinite(lines_of(tmp_path)[-1]["valid_snr"])
    net = load_fasnet(tmp_path / "last.safetensors")
    x = torch.randn(1, 3, 4000, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        streams = streams_of(net, x)
        assert streams.shape == (1, 3, 4000) and torch.isfinite(streams).all()
        more = torch.cat([x, torch.zeros(1, 1, 4000)], 1)  # a mic that another clip has
        assert torch.allclose(streams_of(net, more), streams, atol=1e-5)
    clip = Clip("clip", x[0], x[0, :2, None])
    with torch.no_grad():
        scored = make_system(f"fasnet:{tmp_path / 'last.safetensors'}")(clip.mixture, clip)
    assert scored.shape == (2, 4000)
    for name in ("fasnet", "fasnet:no.safetensors"):
        with pytest.raises(ValueError, match=r"expected a (system|model)"):
            check_system(name)
    with pytest.raises(ValueError, match="expected the config of a FaSNet"):
        load_fasnet(tmp_path / "no.safetensors")


def test_a_run_goes_on_as_if_it_had_not_stopped(data, tmp_path):
    whole, halved = tmp_path / "whole", tmp_path / "halved"
    words = ("steps=4", "valid_every=2", "save_every=1", "clips=0")
    assert _train("separate", data, whole, *words).exit_code == 0
    with pytest.MonkeyPatch.context() as patch:
        from clearbeam.training.module import Training

        step = Training.training_step

        def stops(self, batch, index):
            if self.step == 3:
                raise KeyboardInterrupt
            return step(self, batch, index)

        patch.setattr(Training, "training_step", stops)
        assert _train("separate", data, halved, *words).exit_code != 0
    assert _train("separate", data, halved, *words).exit_code == 0
    assert curve_of(halved) == curve_of(whole)


def test_the_waveform_loss_of_asteroid_can_be_asked_for(data, tmp_path):
    try:
        asteroid_losses()
    except ImportError as reason:
        pytest.skip(str(reason))
    out = tmp_path / "run"
    words = ("steps=1", "losses={pit_si_sdr: 1}", f"init={tmp_path / 'a' / 'last.safetensors'}")
    assert _train("separate", data, tmp_path / "a", "steps=1").exit_code == 0
    result = _train("separate", data, out, *words)
    assert result.exit_code == 0, result.output
    assert np.isfinite(lines_of(out)[-1]["valid_pit_si_sdr"])


def test_mixtures_can_be_drawn_in_memory(tmp_path):
    scene = tmp_path / "short.yaml"
    scene.write_text(yaml.safe_dump(_scene().model_dump(mode="json")))
    made = (f"data.train={{scene: {scene}, seed: 4}}", f"data.valid={{scene: {scene}, count: 2}}")
    result = run("train", "separate", *made, *SMALL, *SMALL_NET, "steps=1", "--out", tmp_path / "r")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("word", "match"),
    [
        ("network.widht=3", "unknown key network widht.*width"),
        ("augment.gain.probability=1", "no augmentations for the task separate.*gain"),
        ("losses.si_snr=1", "unknown loss si_snr for the task separate.*snr"),
        ("init=nothing", "shipped model"),
        ("data.before=[separate,separate]", "data.before: expected one network at most"),
        ("data.before=[nothing]", "shipped model"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(data, tmp_path, word, match):
    sets = (f"data.train={data}", f"data.valid={data}")
    refused(match, "train", "separate", *sets, word, "--out", tmp_path / "run")


def test_images_at_one_microphone_are_refused(tmp_path):
    array = SceneConfig.load("train_separate").array
    mics = array.random.model_copy(update={"mics": 3})
    array = array.model_copy(update={"random": mics})
    write_dataset(_scene(reference_mics="first", array=array), tmp_path / "first", count=2, seed=1)
    sets = (f"data.train={tmp_path / 'first'}", f"data.valid={tmp_path / 'first'}")
    refused("reference_mics: all.*of 1 microphones", "train", "separate", *sets, *SMALL,
            "--out", tmp_path / "run")  # fmt: skip


def test_valid_clips_are_those_of_the_data_set(packed, data):
    for index, record in enumerate(records_of(data)):
        heard = soundfile.read(record["paths"]["mixture"], always_2d=True)[0].T
        images = [
            soundfile.read(path, always_2d=True)[0][:, 0] for path in record["paths"]["image"]
        ]
        clip = Remixed(packed, 3).clip(index)
        assert len(clip["mixture"]) == min(len(heard), 1 + N_PAIRS)
        heard = heard[0]
        gain = clip["mixture"][0] @ heard / (heard @ heard)
        assert np.abs(clip["mixture"][0] - gain * heard).max() < 1e-4
        assert np.sqrt(np.mean(clip["mixture"][0] ** 2)) == pytest.approx(0.1, rel=1e-3)
        assert clip["early"].shape == (3, len(heard))
        for talker, image in enumerate(clip["early"]):
            wanted = gain * images[talker] if talker < len(images) else 0
            assert np.abs(image - wanted).max() < 1e-4


def test_clips_are_mixed_anew_and_repeatably(packed):
    clips = Remixed(packed, 3, seed=5, times=4)
    assert len(clips.lengths) == 4 * len(packed.lengths)
    n = len(packed.lengths)
    for index in range(n):
        once, again = clips.clip(index), clips.clip(index)
        assert all(np.array_equal(once[name], again[name]) for name in once)
        others = [clips.clip(index + n * k)["early"] for k in range(1, 4)]
        assert any(not np.allclose(once["early"], other) for other in others)


@pytest.mark.parametrize("causal", [False, True])
def test_guided_clips_are_kept_as_they_are_made(packed, tmp_path, causal):
    guided = Guided(Remixed(packed, 3, seed=5, all_mics=True), causal)
    create_guided(tmp_path, guided.lengths, 3)
    for index in range(len(guided.lengths)):
        made = guided.clip(index)
        write_guided(tmp_path, index, made)
        kept = KeptGuided(tmp_path).clip(index)
        n_mics = len(made["mixture"])
        assert not kept["mixture"][n_mics:].any()
        assert np.abs(kept["mixture"][:n_mics] - made["mixture"]).max() < 1e-3
        assert np.abs(kept["early"] - made["early"]).max() < 1e-3
        assert np.abs(kept["shares"] - made["shares"]).max() <= 0.5 / 255 + 1e-6


def test_what_is_mixed_anew_is_the_sum_of_its_parts_in_one_room(packed):
    """A talker is moved and scaled alike at all microphones: their differences are the room's."""
    index = int(np.argmax(packed.index[:, 2]))
    before = packed.parts(index).astype(np.float32)
    correlations = [_levels(x) for x in before]
    for seed in range(8):
        after = mixed_anew(before, np.random.default_rng(seed), 4)
        assert len(after) == len(before) and 1 <= after.shape[1] <= 1 + N_PAIRS
        order = np.random.default_rng(seed).permutation(before.shape[1])[: after.shape[1]]
        for old, new in zip(correlations, after, strict=True):
            if np.abs(new).max() > 0:
                assert np.allclose(_levels(new), old[np.ix_(order, order)], rtol=1e-3, atol=1e-3)


def _levels(x: np.ndarray) -> np.ndarray:
    """Covariance of microphones, whatever the talker's level and when he speaks."""
    covariance = x.astype(float) @ x.T.astype(float)
    power = np.diagonal(covariance)
    return covariance / np.sqrt(np.outer(power, power))


def test_every_third_clip_is_shown_what_the_first_pass_made_of_it(data, packed, tmp_path):
    """As the separator shows it to the network in its second pass."""
    weights = tmp_path / "first.safetensors"
    torch.manual_seed(1)
    net = SeparationNet(SeparationConfig(width=8, inter=8, blocks=1, guided=True)).eval()
    save_separation(net, weights)
    source = Remixed(packed, 3, all_mics=True)
    plain, guided = Guided(source), Guided(source, before=weights)
    shown: list[torch.Tensor] = []
    net.register_forward_pre_hook(
        lambda _, __, given: shown.append(given["shares"]), with_kwargs=True
    )
    for index in (1, 2, 5):
        x = torch.from_numpy(source.clip(index)["mixture"])
        wanted = torch.from_numpy(plain.clip(index)["shares"])
        if index % 3 == 2 and len(x) > 1:
            with torch.no_grad():
                Separator(net).heard(x, plain.stft(x), 0)
            wanted = shown[-1]
        assert np.abs(guided.clip(index)["shares"] - wanted.numpy()).max() < 0.02
    assert shown
    result = _train("separate", data, tmp_path / "run", f"data.before=[{weights}]", "steps=1")
    assert result.exit_code == 0, result.output
