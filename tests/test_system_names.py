"""What the name of a system says: which network, which mics, and what is no name."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from clearbeam.clips import Clip
from clearbeam.systems import (
    BEAMS,
    BLIND_BEAMS,
    OURS,
    check_system,
    make_system,
    system_files,
    with_network,
)
from multichannel.gtcrn import GTCRN, GTCRNConfig
from multichannel.weights import save_gtcrn

N_SAMPLES = 1000
ENDS = ("safetensors", "json")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """A one-input GTCRN that nobody trained, saved under the published names."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("a+b:c") / "weights.safetensors"
    save_file(GTCRN().state_dict(), path)
    return path


def test_a_network_brings_every_chain_that_can_be_made_of_it(weights):
    names = with_network(weights)
    assert len(names) == len(set(names)) >= 6
    for name in names:
        check_system(name)


def test_our_systems_ask_the_enhancer_for_what_their_names_say(monkeypatch):
    x = torch.randn(6, N_SAMPLES)
    clip = Clip("clip", x, x[None], reference_mic=2)
    calls = []

    class Live:
        """All but the last five samples come at once."""

        def __init__(self, mic):
            self.mic = mic

        def step(self, x):
            self.rest = x[self.mic, -5:]
            return x[self.mic, :-5]

        def flush(self):
            return self.rest

    class Enhancer:
        @classmethod
        def from_pretrained(cls, name, device):
            calls.append((name, device))
            return cls()

        def __call__(self, x, reference_mic):
            calls.append((tuple(x.shape), reference_mic))
            return x[reference_mic]

        def stream(self, n_mics, reference_mic):
            calls.append((n_mics, reference_mic, "live"))
            return Live(reference_mic)

    monkeypatch.setitem(sys.modules, "multichannel.enhance", SimpleNamespace(Enhancer=Enhancer))
    for name in ("clearbeam", "clearbeam-streaming", "mono", "mono:/my/model"):
        assert torch.equal(make_system(name)(x, clip), x[2])
    whole, one = (6, N_SAMPLES), (1, N_SAMPLES)
    assert calls == [
        *(("default", "cpu"), (whole, 2)),
        *(("default", "cpu"), (6, 2, "live")),
        *(("mono", "cpu"), (one, 0)),
        *(("/my/model", "cpu"), (one, 0)),
    ]


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("nosy", "did you mean noisy?"),
        ("clear-beam", "did you mean clearbeam?"),
        ("oracle-mvdr-204", "did you mean oracle-mvdr-2048?"),
        ("mvdr", "did you mean mvdr+gtcrn:PATH?"),
        ("gtcrn", "did you mean gtcrn:PATH?"),
        ("gtcrn:", "did you mean gtcrn:PATH?"),
        ("mvdrgtcrn:PATH", "did you mean mvdr+gtcrn:PATH?"),
        ("clearbeam:", "did you mean clearbeam?"),
        ("noisy:model", "did you mean noisy?"),
        ("xyzzy", "known are noisy, delay-and-sum"),
        ("wpe+nosy", "did you mean noisy?"),
        ("clearbaem@0,1", "did you mean clearbeam?"),
        ("files:", "did you mean files:FOLDER?"),
    ],
)
def test_an_unknown_name_is_refused_and_the_nearest_named(name, hint):
    for refuse in (check_system, make_system, system_files):
        with pytest.raises(ValueError, match="expected a system's name, found") as error:
            refuse(name)
        assert hint in str(error.value)


def test_every_name_checks_and_paths_may_hold_any_sign(weights):
    ours = (f"{name}:{weights}" for name in OURS)
    for name in (*BEAMS, *ours, *(f"{beam}+gtcrn:{weights}" for beam in BLIND_BEAMS)):
        check_system(name)
    config = weights.with_suffix(".json")
    config.write_text('{"network": {}}')
    assert system_files(f"mvdr+gtcrn:{weights}") == [weights, config]
    config.unlink()
    shipped = [f"{name}.{end}" for name in ("default", "mono", "refine") for end in ENDS]
    assert [path.name for path in system_files("clearbeam@0,2")] == shipped
    assert [path.name for path in system_files("mono")] == shipped[2:4]
    names = [path.name for path in system_files(f"wpe+clearbeam:{weights}")]
    assert names == ["weights.safetensors", *shipped[2:4]]
    assert system_files("noisy") == []


def test_weights_that_are_none_are_refused_in_one_line(tmp_path):
    with pytest.raises(ValueError, match="expected GTCRN weights, found no file"):
        check_system("gtcrn:/nowhere.safetensors")
    with pytest.raises(ValueError, match="expected a model file, found no file"):
        check_system("clearbeam:/nowhere.safetensors")
    text, other, larger = (tmp_path / f"{name}.safetensors" for name in ("text", "other", "large"))
    text.write_text("not weights\n")
    save_file({"weight": torch.zeros(1)}, other)
    save_gtcrn(GTCRN(GTCRNConfig(n_spectra=2)), larger)
    for path in (text, other, larger):
        with pytest.raises(ValueError, match=r"expected .*, found") as error:
            make_system(f"gtcrn:{path}")
        assert str(path) in str(error.value) and "\n" not in str(error.value)
