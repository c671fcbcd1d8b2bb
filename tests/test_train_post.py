"""The post-filter of the separator is trained on streams that know whose they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

from cli import refused
from training import SMALL, lines_of, train

from clearbeam.metrics import si_sdr
from clearbeam.training.postfilter import clips_of
from multichannel.cache import CachedClips
from multichannel.data import records_of
from multichannel.stft import STFT
from multichannel.weights import load_gtcrn
from separation import SeparationConfig, SeparationNet, Separator
from separation.postfilter import POST_INPUTS
from separation.weights import save_separation
from simulate import SceneConfig, write_dataset

pytestmark = pytest.mark.usefixtures("plain_layers_after")
TINY = SeparationConfig(width=4, outer=4, intra=2, inter=2, blocks=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    scene = SceneConfig.load("train_separate")
    talkers = scene.talkers.model_copy(update={"count": 2})
    scene = scene.model_copy(update={"duration_s": 0.5, "split": None, "talkers": talkers})
    folder = tmp_path_factory.mktemp("pairs")
    write_dataset(scene, folder, count=2, seed=1)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model") / "net.safetensors"
    save_separation(SeparationNet(TINY), path)
    return path


def test_a_post_filter_trains_and_cleans(data, model, tmp_path):
    out = tmp_path / "run"
    result = train("separate-post", data, out, "steps=1", "compiled_layers=false",
                   f"data.before=[{model}]")  # fmt: skip
    assert result.exit_code == 0, result.output
    line = lines_of(out)[-1]
    assert np.isfinite([line["valid_si_snr_db"], line["valid_beam_si_snr_db"]]).all()
    net = load_gtcrn(out / "last.safetensors")
    assert net.config.inputs == POST_INPUTS
    streams = Separator(SeparationNet(TINY), net)(torch.randn(3, 8000), 2)
    assert streams.shape == (2, 8000) and torch.isfinite(streams).all()
    (cache,) = data.with_name(f"{data.name}-cache").glob("separated-*")
    clips = CachedClips(cache)
    assert len(clips.lengths) == 4 and clips.n_spectra == POST_INPUTS[0]


def test_each_talker_has_the_stream_that_serves_him_and_his_own_image(data):
    class Knowing(torch.nn.Module):
        """Gives the images of the talkers, the second first, as streams."""

        def __init__(self) -> None:
            super().__init__()
            self.stft = self.long = STFT()

        def forward(self, x, n_talkers):
            return torch.from_numpy(images[::-1].copy()).float()

    record = records_of(data)[0]
    images = np.random.default_rng(0).standard_normal((2, 8000))
    plain = clips_of(record, Separator(SeparationNet(TINY)).eval())
    images = np.stack([clip["early"] for clip in plain])
    for image, clip in zip(images, clips_of(record, Knowing()), strict=True):
        stream = STFT().inverse(torch.from_numpy(clip["spectra"][0]), image.shape[-1])
        assert si_sdr(stream, image) > 60 and np.array_equal(clip["early"], image)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.before=[]", "data.before: expected the separation network"),
        ("data.before=[/no/such.safetensors]", "expected a model file, found no file"),
        ("augment.gain.probability=1", "expected no augmentations|unknown augmentation"),
        ("network.n_spectra=3", r"expected \(4, 1, 2\) spectra"),
    ],
)
def test_what_does_not_fit_is_refused(data, model, tmp_path, override, message):
    options = [f"data.{name}={data}" for name in ("train", "valid")]
    command = ["train", "separate-post", *SMALL, *options, f"data.before=[{model}]", override]
    refused(message, *command, "--out", tmp_path / "run")
