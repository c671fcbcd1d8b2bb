"""DNSMOS as published: the same windows, fits and means, with networks whose answers are known."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest

from clearbeam.dnsmos import DNSMOS, windows
from clearbeam.tasks import find_task

RATE = 16_000
SIZE = 144_160

pytest.importorskip("onnxruntime")
onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A network whose raw ratings are (mean + 1, mean + 2, mean + 3) of the window's samples."""
    return build(tmp_path_factory.mktemp("models") / "sig_bak_ovr.onnx", [1.0, 2.0, 3.0])


def build(path, offsets, name="input_1") -> str:
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [
        helper.make_node("ReduceMean", [name], ["mean"], axes=[1], keepdims=1),
        helper.make_node("Add", ["mean", "offsets"], ["ratings"]),
    ]
    graph = helper.make_graph(
        nodes,
        "ratings",
        [helper.make_tensor_value_info(name, kind, ["batch", SIZE])],
        [helper.make_tensor_value_info("ratings", kind, ["batch", len(offsets)])],
        [helper.make_tensor("offsets", kind, [1, len(offsets)], offsets)],
    )
    found = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(found, path)
    return str(path)


def published(sig: float, bak: float, ovrl: float) -> dict[str, float]:
    """The published second-order fits."""
    return {
        "sig": -0.08397278 * sig**2 + 1.22083953 * sig + 0.0052439,
        "bak": -0.13166888 * bak**2 + 1.60915514 * bak - 0.39604546,
        "ovrl": -0.06766283 * ovrl**2 + 1.11546468 * ovrl + 0.04602535,
    }


def test_ratings_are_the_published_fits_of_the_raw_ones(model):
    for level in (0.0, 0.25, -0.5):
        found = DNSMOS(model)(np.full(SIZE, level))
        assert found == pytest.approx(published(1 + level, 2 + level, 3 + level), abs=1e-5)


def test_fits_are_taken_before_the_mean_over_windows_that_are_long_enough(model):
    x = np.concatenate([np.zeros(10 * RATE), np.full(10 * RATE, 2.0)])
    each = []
    for second in range(11):
        window = x[second * RATE : int((second + 9.01) * RATE)]
        if len(window) == SIZE:  # rounding makes some a sample short, and the script skips them
            each.append(published(1 + window.mean(), 0, 0)["sig"])
    assert len(each) == 7
    assert DNSMOS(model)(x)["sig"] == pytest.approx(np.mean(each), abs=1e-3)


@pytest.mark.parametrize(
    ("seconds", "starts"),
    [
        (4.0, [0, 1, 2, 3, 0, 1, 2]),  # doubled to 16 s
        (5.0, [0]),  # to 10 s
        (9.01, [0]),
        (10.99, [0]),
        (11.0, [0, 1]),
        (13.5, [0, 1, 2, 3]),
    ],
)
def test_windows_begin_every_second_and_short_clips_are_doubled(seconds, starts):
    x = np.arange(round(seconds * RATE))
    found = windows(x)
    assert {len(window) for window in found} == {SIZE}
    assert [int(window[0]) // RATE for window in found] == starts
    assert np.array_equal(found[0], np.resize(x, SIZE))


def test_the_level_is_heard(model):
    x = np.abs(np.random.default_rng(0).standard_normal(SIZE))
    assert DNSMOS(model)(x)["sig"] != pytest.approx(DNSMOS(model)(0.1 * x)["sig"], abs=0.1)


def test_a_broken_estimate_is_rated_worst(model):
    x = np.zeros(RATE)
    x[7] = np.nan
    assert DNSMOS(model)(x) == {"sig": 1.0, "bak": 1.0, "ovrl": 1.0}


def test_another_file_is_refused_in_one_line(tmp_path):
    text = tmp_path / "text.onnx"
    text.write_text("not a network")
    four = build(tmp_path / "four.onnx", [1.0, 2.0, 3.0, 4.0])
    for path, message in (
        (tmp_path / "none.onnx", "expected the DNSMOS model, found no file"),
        (text, "expected an ONNX model in"),
        (four, "expected one waveform in and three ratings out"),
    ):
        with pytest.raises(ValueError, match=message) as error:
            DNSMOS(path)
        assert "\n" not in str(error.value)


def test_its_columns_are_there_when_its_file_is(model):
    names = ["dnsmos_sig", "dnsmos_bak", "dnsmos_ovrl"]
    assert not set(names) & {column.name for column in find_task("enhance").columns(None)}
    with_file = find_task("enhance", model)
    assert [column.name for column in with_file.columns(None)][-3:] == names
    assert next(column.title for column in with_file.columns(names)) == "DNSMOS SIG"


def test_a_missing_package_is_named(model, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="expected the package onnxruntime for DNSMOS"):
        DNSMOS(model)
