"""Weights: shipped ones load, broken ones are refused in one line, nothing is torn."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from multichannel import GTCRN, GTCRNConfig
from multichannel.weights import FOLDER, find_weights, load_gtcrn, pick_device, save_gtcrn, shipped


@pytest.mark.parametrize("name", ["default", "mono", "refine"])
def test_shipped_weights_are_small_and_documented(name):
    path = find_weights(name)
    assert path.stat().st_size < 2_000_000
    card = path.with_suffix(".md").read_text(encoding="utf-8")
    for topic in ("licence", "seed", "steps", "confidence", "weakness", "SI-SDR"):
        assert topic.lower() in card.lower(), topic
    net = load_gtcrn(name)
    assert not net.training
    assert all(torch.isfinite(value).all() for value in net.state_dict().values())


def test_every_shipped_file_belongs_to_a_model():
    assert shipped() == ["default", "mono", "refine"]
    assert {p.suffix for p in FOLDER.iterdir()} == {".safetensors", ".json", ".md"}


def test_saved_weights_come_back_as_they_were(tmp_path):
    net = GTCRN(GTCRNConfig(n_cues=1, compression=0.5))
    save_gtcrn(net, tmp_path / "net.safetensors", steps=3)
    again = load_gtcrn(tmp_path / "net.safetensors")
    assert again.config == net.config
    for name, value in net.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["net.json", "net.safetensors"]
    assert json.loads((tmp_path / "net.json").read_text())["steps"] == 3


def test_broken_files_are_refused_with_the_reason(tmp_path):
    text = tmp_path / "text.safetensors"
    text.write_text("this is no model")
    with pytest.raises(ValueError, match="safetensors"):
        load_gtcrn(text)
    other = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(3)}, other)
    with pytest.raises(ValueError, match="GTCRN"):
        load_gtcrn(other)
    with pytest.raises(ValueError, match="no file"):
        load_gtcrn(tmp_path / "missing.safetensors")
    with pytest.raises(ValueError, match="did you mean default"):
        load_gtcrn("defalt")
    torn = tmp_path / "torn.safetensors"
    torn.write_bytes(find_weights("mono").read_bytes()[:1000])
    with pytest.raises(ValueError, match="safetensors"):
        load_gtcrn(torn)
    misread = tmp_path / "misread.safetensors"
    save_file(load_file(find_weights("mono")), misread)
    misread.with_suffix(".json").write_text('{"network": {"n_cuse": 1}}')
    with pytest.raises(ValueError, match="n_cuse"):
        load_gtcrn(misread)


def test_devices_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match="auto, cpu or cuda"):
        pick_device("tpu")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="CUDA"):
            pick_device("cuda")
        assert pick_device("auto") == torch.device("cpu")
