"""The network of the second beam is trained on what the first one made."""

from __future__ import annotations

import numpy as np
import pytest
import torch

pytest.importorskip("lightning")

from cli import refused
from training import SMALL, lines_of, train, write_small

from clearbeam.training.enhancement import warm_start
from multichannel import Enhancer
from multichannel.data import levelled
from multichannel.frontend import BEAM_INPUTS, REFINE_INPUTS
from multichannel.gtcrn import GTCRN, GTCRNConfig
from multichannel.weights import load_gtcrn

pytestmark = pytest.mark.usefixtures("plain_layers_after")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("mixtures"))


def test_a_second_network_trains_and_enhances(data, tmp_path):
    out = tmp_path / "run"
    result = train("refine", data, out, "steps=1")
    assert result.exit_code == 0, result.output
    assert np.isfinite(lines_of(out)[-1]["valid_si_snr_db"])
    enhancer = Enhancer.from_pretrained(out / "last.safetensors", device="cpu")
    assert [net.config.inputs for net in enhancer.cleaners(causal=True)] == [
        BEAM_INPUTS,
        REFINE_INPUTS,
    ]
    assert torch.isfinite(enhancer(torch.randn(2, 8000))).all()


def test_it_begins_as_the_network_of_the_first_beam():
    """Whatever the estimate, which is the third spectrum of four, before the first step."""
    first, net = load_gtcrn("default"), GTCRN(GTCRNConfig(*REFINE_INPUTS, 0.5, True)).eval()
    warm_start(net, first)
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(4, 257, 20, dtype=torch.complex64, generator=generator)
    cues = torch.rand(2, 257, 20, generator=generator)
    with torch.no_grad():
        torch.testing.assert_close(net(X, cues)[0], first(X[[0, 1, 3]], cues)[0])
    with pytest.raises(ValueError, match="init: expected a network"):
        warm_start(GTCRN(first.config), net)


def test_a_second_network_without_a_first_is_refused(data, tmp_path):
    options = [f"data.{name}={data}" for name in ("train", "valid")]
    refused("expected the network of the first beam", "train", "refine", *SMALL, *options,
            "data.before=[]", "--out", tmp_path / "run")  # fmt: skip


def test_a_talker_whom_nobody_hears_is_silence():
    rng = np.random.default_rng(0)
    noise, talker = rng.standard_normal((2, 2, 800)).astype(np.float32)
    for level, heard in ((1e-4, False), (1e-2, True)):
        clip = levelled({"mixture": noise, "early": level * talker[0]})
        assert bool(np.any(clip["early"])) is heard
