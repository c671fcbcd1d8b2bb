"""Whatever a file of ours says: taken, or refused in one line; never a crash, a hang, a NaN.

What is asked of each kind of file is in `fuzz/targets.py`; `judge` raises for a defect.
"""

from __future__ import annotations

import json
import struct
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml
from cli import refused, tree
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from fuzz.targets import TARGETS, judge  # noqa: E402

CORPUS = ROOT / "fuzz" / "corpus"
CONFIGS = {"array": "arrays", "scene": "scenes", "sweep": "sweeps", "recipe": "train"}


def examples(n: int) -> settings:
    return settings(
        max_examples=n,
        derandomize=True,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


numbers = st.one_of(
    st.integers(-5, 50), st.floats(), st.sampled_from([10**9, 2**63, -(10**30), 1e308, 1e-308])
)
scalars = st.one_of(st.none(), st.booleans(), numbers, st.text(max_size=8))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["uniform", "normal", "choice", "a"]), inner, max_size=2),
    ),
    max_leaves=6,
)


def changed(data: st.DataObject, whole: object) -> object:
    """A few values of nested data replaced, left out, or put where they do not belong."""
    whole = json.loads(json.dumps(whole))
    for _ in range(data.draw(st.integers(1, 3))):
        at = whole
        while isinstance(at, (dict, list)) and at:
            keys = list(at) if isinstance(at, dict) else list(range(len(at)))
            key = data.draw(st.sampled_from(keys))
            if not isinstance(at[key], (dict, list)) or data.draw(st.booleans()):
                at[key] = data.draw(values)
                break
            at = at[key]
    return whole


def fresh(folder: Path, n: list[int]) -> Path:
    """An empty folder for each example."""
    n.append(0)
    made = folder / str(len(n))
    made.mkdir()
    return made


@pytest.mark.parametrize("target", CONFIGS)
@examples(15)
@given(data=st.data())
def test_a_config_with_other_values_is_taken_or_refused(tmp_path_factory, target, data):
    shipped = sorted((ROOT / "configs" / CONFIGS[target]).glob("*.yaml"))
    whole = yaml.safe_load(data.draw(st.sampled_from(shipped)).read_text())
    text = yaml.safe_dump(changed(data, whole), allow_unicode=True)
    judge(target, text.encode(errors="replace"), tmp_path_factory.mktemp(target))


RECORD = {
    "id": "0-0000000",
    "paths": {"mixture": "mixture.flac", "early": ["early1.flac"]},
    "fs": 16000,
    "seconds": 1.0,
    "array": {"name": "pair", "positions_m": [[0, 0, 0], [0.1, 0, 0]]},
    "mics_m": [[1, 1, 1], [1.1, 1, 1]],
    "talkers": [{"position_m": [2, 1, 1], "distance_m": 1.0}],
    "snr_db": 5,
}
LINES = {
    "manifest": [RECORD],
    "corpus": [
        {"path": "a.flac", "seconds": 2.0, "speaker": "a"},
        {
            "id": "a",
            "duration": 2.0,
            "sources": [{"type": "file", "channels": [0], "source": "a.flac"}],
        },
    ],
    "responses": [{"path": "a.wav", "azimuth_deg": 30, "array": RECORD["array"]}],
}


@pytest.mark.parametrize("target", LINES)
@examples(25)
@given(data=st.data())
def test_a_manifest_with_other_values_is_taken_or_refused(tmp_path_factory, target, data):
    line = changed(data, data.draw(st.sampled_from(LINES[target])))
    judge(target, (json.dumps(line) + "\n").encode(), tmp_path_factory.mktemp(target))


NETWORK = {
    "network": {
        "n_spectra": 1, "n_cues": 0, "compression": 0.5, "normalise": True, "width": 16,
        "inner": None, "n_talkers": 2, "blocks": 1, "causal": False,
    },
    "count": {"mask": 1.0, "bias": 2.0},
    "latency_ms": 20,
}  # fmt: skip


@examples(25)
@given(data=st.data())
def test_a_network_config_with_other_values_is_taken_or_refused(tmp_path_factory, data):
    note = json.dumps(changed(data, NETWORK)).encode()
    judge("weights", note + b"\0" + save({"w": np.zeros(2)}), tmp_path_factory.mktemp("weights"))


@pytest.mark.parametrize("target", TARGETS)
@examples(10)
@given(noise=st.binary(max_size=300), at=st.integers(0, 4))
def test_bytes_of_any_kind_are_taken_or_refused(tmp_path_factory, target, noise, at):
    seeds = sorted((CORPUS / target).glob("*")) or [Path(__file__)]
    data = seeds[at % len(seeds)].read_bytes()
    place = len(data) * at // 4
    judge(target, data[:place] + noise + data[place:], tmp_path_factory.mktemp(target))


@pytest.mark.parametrize("target", TARGETS)
def test_what_the_fuzzer_found_is_taken_or_refused(tmp_path, target):
    made: list[int] = []
    for path in sorted((CORPUS / target).glob("*")):
        judge(target, path.read_bytes(), fresh(tmp_path, made))
    assert made, f"no corpus for {target}"


def laughs(form: str) -> str:
    """Nine lines that stand for 9^9 values: `form` is a list, or keys to merge."""
    lines = ["a0: &a0 {x: 1}"]
    for k in range(1, 10):
        uses = ", ".join([f"*a{k - 1}"] * 9)
        lines.append(f"a{k}: &a{k} {form.replace('...', uses)}")
    return "\n".join(lines)


TOO_MUCH = {
    "a thousand million values": laughs("[...]"),
    "a thousand million keys": laughs("{<<: [...]}"),
    "no end": "positions_m: &a [*a]",
    "depth": "[" * 100_000,
    "size": "x: 1\n" * 100_000,
    "digits": f"seed: {'9' * 5_000}",
    "types": "!!python/object/apply:os.system ['true']",
}


@pytest.mark.parametrize("what", TOO_MUCH)
def test_a_config_that_would_fill_the_memory_is_refused(tmp_path, what):
    path = tmp_path / "mine.yaml"
    path.write_text(TOO_MUCH[what])
    for args in (
        ("arrays", path),
        ("simulate", path, "--out", tmp_path / "out"),
        ("sweep", path, "--out", tmp_path / "out"),
        ("train", path, "--out", tmp_path / "out"),
        ("enhance", path, "--array", path),
    ):
        refused(r"mine.yaml: (not readable|expected at most)", *args)
    assert tree(tmp_path) == {"mine.yaml"}


@pytest.mark.parametrize(
    "change",
    ["duration_s: 1.0e+18", "fs: 1000000000000", "talkers: {count: 1.0e+9}", "snr_db: .nan",
     "snr_db: {uniform: [-1.0e+308, 1.0e+308]}", "early_ms: .inf",
     "array: {random: {mics: 1000000}}", "noise_mix: {point: {sources: 1.0e+5}}"],
)  # fmt: skip
def test_a_scene_that_nobody_can_mean_is_refused(tmp_path, change):
    path = tmp_path / "scene.yaml"
    path.write_text(change)
    refused("scene.yaml", "simulate", path, "--out", tmp_path / "out")
    assert tree(tmp_path) == {"scene.yaml"}


@pytest.mark.parametrize("position", ["1.0e+308", ".nan", "-.inf", "1.0e+30", "2020-01-01", "'x'"])
def test_an_array_that_cannot_be_is_refused(tmp_path, position):
    path = tmp_path / "array.yaml"
    path.write_text(f"name: a\npositions_m: [[0, 0, 0], [{position}, 0, 0]]\n")
    refused("positions_m", "arrays", path)


@pytest.mark.parametrize(
    "head",
    [
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 2**40) + b"{}",
        struct.pack("<Q", 65)
        + b'{"w":{"dtype":"F32","shape":[1099511627776],"data_offsets":[0,4]}}',
        b"\x80\x04\x95",
        b"",
    ],
)
def test_weights_with_a_made_up_header_are_refused(tmp_path, head):
    (tmp_path / "net.safetensors").write_bytes(head)
    (tmp_path / "x.wav").write_bytes((CORPUS / "audio" / "pair.wav").read_bytes())
    refused("safetensors", "enhance", tmp_path / "x.wav", "--model", tmp_path / "net.safetensors")
    assert tree(tmp_path) == {"net.safetensors", "x.wav"}
