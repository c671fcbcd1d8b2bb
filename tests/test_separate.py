"""The separator: from masks that know something, or nothing, to streams; nothing breaks it.

A network that knows the truth, as far as it is told, takes the place of a trained one.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scenes import SAMPLE_RATE, arriving, circle

from clearbeam.metrics import si_sdr
from multichannel.gtcrn import GTCRN, GTCRNConfig
from multichannel.stft import STFT
from multichannel.stream import MicWarning
from separation.network import Separation, SeparationConfig, SeparationNet
from separation.postfilter import POST_INPUTS, post_inputs
from separation.separate import Separator, SeparatorConfig, model_files
from separation.weights import save_separation
from separation.wiener import LONG, shares_of

N_MICS, N_SAMPLES = 4, 2 * SAMPLE_RATE
AZIMUTHS = (40.0, 160.0, 250.0, 310.0)


def voice(seed: int) -> torch.Tensor:
    """Noise whose level differs from tile to tile of time and frequency: sparse, like speech."""
    rng = np.random.default_rng(seed)
    config = STFT().config
    n_frames = config.n_frames(N_SAMPLES)
    level = rng.gamma(0.3, 1, (config.n_freqs // 8 + 1, n_frames // 6 + 1))
    level *= rng.gamma(0.5, 1, n_frames // 6 + 1)  # syllables, alike in all freqs
    level = level.repeat(8, 0)[: config.n_freqs].repeat(6, 1)[:, :n_frames]
    parts = rng.standard_normal((2, config.n_freqs, n_frames)) * level
    return STFT().inverse(torch.complex(*torch.from_numpy(parts)), N_SAMPLES)


def images_of(n_talkers: int, level: float = 0.7) -> torch.Tensor:
    """Talkers around the array ``(talkers, mics, samples)``, each weaker than the one before."""
    heard = []
    for k in range(n_talkers):
        image = arriving(voice(k), circle(N_MICS), AZIMUTHS[k]).float()
        heard.append(0.05 * level**k * image / image.std())
    return torch.stack(heard)


@pytest.fixture(scope="module")
def pair() -> torch.Tensor:
    return images_of(2)


def mixed(images: torch.Tensor) -> torch.Tensor:
    g = torch.Generator().manual_seed(7)
    return images.sum(0) + 1e-3 * torch.randn(images.shape[1:], generator=g)


class Knowing(SeparationNet):
    """Masks of the truth, blurred by `doubt`, and embeddings that are one direction a talker."""

    def __init__(self, images: torch.Tensor, doubt: float = 0.0) -> None:
        super().__init__(SeparationConfig(width=2, outer=2, intra=1, inter=1, blocks=1))
        self.images, self.doubt, self.stft_of_truth = images, doubt, STFT()

    def forward(self, X, state=None, reference_mic=0, shares=None):
        S = self.stft_of_truth(self.images[:, reference_mic])
        masks = shares_of(torch.cat([S, (X[reference_mic] - S.sum(0))[None]]))
        masks = (1 - self.doubt) * masks + self.doubt / len(masks)
        V = torch.nn.functional.one_hot(masks[:-1].argmax(0), 20).float()
        n_missing = max(0, 3 - len(S))
        talkers = torch.cat([masks[:-1], 0 * masks[:1].expand(n_missing, -1, -1)])[:3]
        return Separation(torch.cat([talkers, masks[-1:]]), V), None


def scores(streams: torch.Tensor, images: torch.Tensor, mic: int = 0) -> list[float]:
    """SI-SDR of each talker's best stream."""
    return [max(si_sdr(s, image[mic]) for s in streams) for image in images]


def test_masks_that_doubt_become_streams_that_do_not(pair):
    x = mixed(pair)
    before = scores(x[:1], pair)
    stft = STFT()
    masks = Knowing(pair, 0.6)(stft(x))[0].masks[:2]
    masked = scores(stft.inverse(masks * stft(x)[0], N_SAMPLES), pair)
    after = scores(Separator(Knowing(pair, 0.6))(x), pair)
    for a, b, c in zip(before, masked, after, strict=True):
        assert c > b + 5 and c > a + 10


@pytest.mark.parametrize("n_talkers", [1, 2, 3])
def test_as_many_streams_as_talkers_loudest_first(n_talkers):
    images = images_of(n_talkers)
    found = Separator(Knowing(images)).separate(mixed(images))
    assert found.streams.shape == (n_talkers, N_SAMPLES)
    assert [si_sdr(s, i[0]) > 8 for s, i in zip(found.streams, images, strict=True)]
    assert torch.allclose(found.masks.sum(0), torch.ones_like(found.masks[0]), atol=1e-5)
    assert found.activity.shape == (n_talkers, found.masks.shape[-1])
    assert 0 <= found.activity.min() and found.activity.max() <= 1 + 1e-5


def test_one_talker_alone_is_not_split():
    images = images_of(1)
    x = mixed(images)
    (stream,) = Separator(Knowing(images, 0.2))(x)
    assert si_sdr(stream, images[0, 0]) > si_sdr(x[0], images[0, 0]) - 1


def test_a_fourth_talker_has_no_mask_but_a_direction_of_the_embeddings():
    images = images_of(4, level=1.0)
    streams = Separator(Knowing(images))(mixed(images))
    assert len(streams) == 4
    assert min(scores(streams, images)) > 3


def test_it_does_as_it_is_told(pair):
    x = mixed(pair)
    separator = Separator(Knowing(pair))
    assert len(separator(x, 1)) == 1 and len(separator(x, 3)) == 3


def test_without_a_network_the_mics_tell_the_talkers_apart(pair):
    x = mixed(pair)
    streams = Separator()(x, 2)
    assert len(streams) == 2
    for before, after in zip(scores(x[:1], pair), scores(streams, pair), strict=True):
        assert after > before + 5
    with pytest.raises(ValueError, match="expected n_talkers for a separator without a network"):
        Separator()(x)


def test_the_reference_mic_is_the_one_whose_view_is_kept(pair):
    streams = Separator(Knowing(pair))(mixed(pair), reference_mic=2)
    at_two, at_zero = scores(streams, pair, 2), scores(streams, pair, 0)
    assert min(a - b for a, b in zip(at_two, at_zero, strict=True)) > 3


@pytest.mark.parametrize("scale", [1e-4, 1e3])
def test_streams_are_as_loud_as_what_was_heard(pair, scale):
    x = mixed(pair)
    expected = Separator(Knowing(pair))(x)
    found = Separator(Knowing(scale * pair))(scale * x) / scale
    assert torch.allclose(found, expected, atol=1e-3 * float(expected.abs().max()))


def broken(x: torch.Tensor, kind: str) -> torch.Tensor:
    x = x.clone()
    if kind == "silence":
        return 0 * x
    if kind == "one mic":
        return x[:1]
    if kind == "a sample":
        return x[:, :1]
    if kind == "a copied mic":
        return torch.cat([x, x[:1]])
    if kind == "a dead reference":
        x[0] = 0
    if kind == "float64":
        return x.double()
    return x


@pytest.mark.parametrize(
    "kind",
    ["silence", "one mic", "a sample", "a copied mic", "a dead reference", "float64"],
)
@pytest.mark.parametrize("net", [True, False], ids=["net", "blind"])
def test_no_input_breaks_it(pair, kind, net):
    x = broken(mixed(pair), kind)
    images = pair[..., : x.shape[-1]] * (0 if kind == "silence" else 1)
    separator = Separator(Knowing(images) if net else None)
    streams = separator(x, None if net else 2)
    assert streams.shape[1] == x.shape[1] and torch.isfinite(streams).all()
    assert streams.dtype == torch.float32
    if kind == "silence":
        assert not streams.any()
    if net and kind == "a dead reference":
        assert min(scores(streams, pair, 1)) > 8


def test_a_mic_of_nan_is_left_out_and_told(pair):
    x = mixed(pair)
    x[3, 100] = math.nan
    with pytest.warns(MicWarning, match="mic 3 holds NaN"):
        streams = Separator(Knowing(pair))(x)
    assert min(scores(streams, pair)) > 8
    with pytest.raises(ValueError, match="found NaN or infinity in every mic"):
        Separator(Knowing(pair))(x * math.nan)


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        ((100,), {}, r"expected x of shape \(mics, samples\), found \(100,\)"),
        ((2, 0), {}, r"expected x of shape \(mics, samples\), found \(2, 0\)"),
        ((17, 100), {}, "expected 1 to 16 mics, found 17"),
        ((2, 100), {"reference_mic": 2}, "expected reference_mic from 0 to 1, found 2"),
        ((2, 100), {"n_talkers": 5}, "expected 1 to 4 talkers, found 5"),
        ((2, 100), {"n_talkers": 0}, "expected 1 to 4 talkers, found 0"),
    ],
)
def test_what_cannot_be_is_told(shape, options, message):
    with pytest.raises(ValueError, match=message):
        Separator()(torch.zeros(shape), **{"n_talkers": 1, **options})


def test_a_model_of_ones_own_is_loaded_by_path(tmp_path, pair):
    torch.manual_seed(0)
    path = tmp_path / "mine.safetensors"
    save_separation(SeparationNet(SeparationConfig(width=4, outer=4, blocks=1)), path)
    streams = Separator.from_pretrained(path, "cpu")(mixed(pair), 2)
    assert streams.shape == (2, N_SAMPLES) and torch.isfinite(streams).all()
    assert model_files(path)[:2] == [path, path.with_suffix(".json")]
    with pytest.raises(ValueError, match="expected a model file, found no file"):
        Separator.from_pretrained(tmp_path / "other.safetensors")


# -------------------------------------------------------------------------------- the post-filter


def test_the_post_filter_sees_what_got_in_and_what_was_lost(pair):
    x, lost = mixed(pair), torch.arange(N_SAMPLES) % 8000 < 3000
    streams = pair[:, 0] * ~lost
    stft = STFT()
    seen = post_inputs(x, streams, stft, STFT(LONG))
    assert torch.allclose(seen.others[0], stft(streams[1]), atol=1e-5)
    assert torch.allclose(seen.inputs[1, -1], stft(x[0] - streams[1]), atol=1e-5)
    assert seen.inputs.shape[1] == POST_INPUTS[0] + POST_INPUTS[1]
    assert seen.cues.shape[1] == POST_INPUTS[2]
    assert 0 <= seen.cues.min() and seen.cues.max() <= 1
    beams = stft.inverse(seen.beam, N_SAMPLES)
    for beam, stream, image in zip(beams, streams, pair, strict=True):
        assert si_sdr(beam, image[0]) > si_sdr(stream, image[0])


def test_a_post_filter_cleans_each_stream(pair):
    torch.manual_seed(0)
    n_spectra, n_magnitudes, n_cues = POST_INPUTS
    size = GTCRNConfig(n_spectra=n_spectra, n_magnitudes=n_magnitudes, n_cues=n_cues)
    separator = Separator(Knowing(pair), GTCRN(size).eval())
    streams = separator(mixed(pair))
    assert streams.shape == (2, N_SAMPLES) and torch.isfinite(streams).all()
    with pytest.raises(ValueError, match=r"expected a network with \(4, 1, 2\) spectra"):
        Separator(Knowing(pair), GTCRN())


class Listening(SeparationNet):
    """A guided network that keeps the shares it is shown."""

    def __init__(self) -> None:
        super().__init__(SeparationConfig(blocks=1, width=8, guided=True))
        self.shown: list[torch.Tensor] = []

    def forward(self, X, state=None, reference_mic=0, shares=None):
        self.shown.append(shares)
        return super().forward(X, state, reference_mic, shares)


@pytest.mark.parametrize("n_passes", [1, 2, 3])
def test_each_pass_is_shown_what_became_of_the_one_before(pair, n_passes):
    net = Listening().eval()
    Separator(net, config=SeparatorConfig(n_passes=n_passes))(mixed(pair), 2)
    assert len(net.shown) == n_passes
    for before, after in zip(net.shown, net.shown[1:], strict=False):
        assert (before - after).abs().max() > 0.1
    with pytest.raises(ValueError, match="n_passes of at least 1"):
        SeparatorConfig(n_passes=0)
