"""Small files: weights in 8 bits, a scale a channel, and fixed bands by their non-zero values.

Convolutions compute in 8 bits, with ranges of the activations found in every frame (dynamic) or
fixed from recordings (static). What ONNX Runtime's quantiser leaves alone (recurrent layers, above
all) keeps its arithmetic and has its weights stored in 8 bits; so can all (weights alone).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import (
    CalibrationDataReader,
    QuantFormat,
    QuantType,
    quantize_dynamic,
    quantize_static,
)
from torch import Tensor

from clearbeam.audio import Recording, resample
from clearbeam.export.onnx_file import OnnxStep, tidy
from multichannel.enhance import SAMPLE_RATE
from simulate.disk import scratch_folder

_LARGE = 64  # weights of this many values are worth a scale
_MANY = 4096  # a fixed matrix of this many values with few non-zero ones is stored by those
_CALIBRATION_S = 20.0  # of each recording at most


def quantise(
    model: onnx.ModelProto,
    heard: Sequence[Sequence[Tensor]] = (),
    arithmetic: bool = True,
) -> onnx.ModelProto:
    """The model in 8 bits.

    Args:
        model: as `export_onnx` gives it.
        heard: for static quantisation, what the model sees of each recording: its inputs
            ``(..., 257, frames)``. Without any it is dynamic.
        arithmetic: convolutions compute in 8 bits; False stores weights so, and no more.
    """
    facts = {one.key: one.value for one in model.metadata_props}
    reader = None if not heard else _Frames(model.SerializeToString(), heard)
    small = _in_eight_bits(model, reader) if arithmetic else model
    for one in list(small.graph.initializer):
        if one.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(one)
        if values.size >= _MANY and np.count_nonzero(values) < values.size // 8:
            _store(small, one, _by_non_zeros(values))
        elif values.size >= _LARGE and values.ndim > 1:
            _store(small, one, _by_channels(values))
    _in_order(small)
    tidy(small)
    helper.set_model_props(small, facts)
    return small


def _in_eight_bits(model: onnx.ModelProto, reader: CalibrationDataReader | None) -> Any:
    """Convolutions in 8 bits, by ONNX Runtime."""
    named = onnx.ModelProto()
    named.CopyFrom(model)
    for index, node in enumerate(named.graph.node):
        node.name = f"{node.op_type}{index}"
    helper.set_model_props(named, {"onnx.quant.pre_process": "onnxruntime.quant"})  # it is folded
    chosen = [node.name for node in named.graph.node if node.op_type == "Conv"]
    with scratch_folder() as folder:
        before, after = folder / "float.onnx", folder / "int8.onnx"
        onnx.save(named, before)
        options: dict[str, Any] = {
            "nodes_to_quantize": chosen,
            "per_channel": True,
            "op_types_to_quantize": ["Conv"],
        }
        if reader is None:
            quantize_dynamic(before, after, weight_type=QuantType.QInt8, **options)
        else:
            quantize_static(
                before,
                after,
                reader,
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                **options,
            )
        return onnx.load(after)


class _Frames(CalibrationDataReader):
    """The inputs and states of every frame of some recordings."""

    def __init__(self, model: bytes, heard: Sequence[Sequence[Tensor]]) -> None:
        self.feeds = self._feeds(model, heard)

    def _feeds(self, model: bytes, heard: Sequence[Sequence[Tensor]]) -> Iterator[dict[str, Any]]:
        from clearbeam.export.check import frames_of

        for inputs in heard:
            step = OnnxStep(model)
            for frame in frames_of(inputs):
                yield step.feed(*frame)
                step(*frame)

    def get_next(self) -> dict[str, Any] | None:
        return next(self.feeds, None)


Stored = Callable[[str], tuple[list[onnx.TensorProto], list[onnx.NodeProto]]]


def _store(model: onnx.ModelProto, one: onnx.TensorProto, stored: Stored) -> None:
    """Replace an initializer by smaller ones and the nodes that make it of them."""
    initializers, nodes = stored(one.name)
    model.graph.initializer.remove(one)
    model.graph.initializer.extend(initializers)
    model.graph.node.extend(nodes)


def _by_channels(values: np.ndarray) -> Stored:
    """In 8 bits with a scale a channel."""
    axis = 1 if values.ndim == 3 else 0  # of GRU weights (directions, gates x units, inputs)
    others = tuple(k for k in range(values.ndim) if k != axis)
    scale = np.maximum(np.abs(values).max(others), 1e-12).astype(np.float32) / 127
    shape = [-1 if k == axis else 1 for k in range(values.ndim)]
    levels = np.round(values / scale.reshape(shape)).astype(np.int8)

    def stored(name: str) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
        parts = [f"{name}.int8", f"{name}.scale"]
        tensors = [
            numpy_helper.from_array(x, n) for n, x in zip(parts, (levels, scale), strict=True)
        ]
        return tensors, [helper.make_node("DequantizeLinear", parts, [name], axis=axis)]

    return stored


def _by_non_zeros(values: np.ndarray) -> Stored:
    """Exactly, as zeros with some values put in: runtimes do that once, when they load the file."""
    places = np.flatnonzero(values)

    def stored(name: str) -> tuple[list[onnx.TensorProto], list[onnx.NodeProto]]:
        tensors: dict[str, np.ndarray] = {
            "size": np.array([values.size], np.int64),
            "places": places.astype(np.uint16),
            "values": values.ravel()[places],
            "shape": np.array(values.shape, np.int64),
            "column": np.array([1], np.int64),
        }
        named = [numpy_helper.from_array(x, f"{name}.{key}") for key, x in tensors.items()]
        nodes = [
            helper.make_node("ConstantOfShape", [f"{name}.size"], [f"{name}.zeros"]),
            helper.make_node("Cast", [f"{name}.places"], [f"{name}.int64"], to=TensorProto.INT64),
            helper.make_node("Unsqueeze", [f"{name}.int64", f"{name}.column"], [f"{name}.index"]),
            helper.make_node(
                "ScatterND",
                [f"{name}.zeros", f"{name}.index", f"{name}.values"],
                [f"{name}.flat"],
            ),
            helper.make_node("Reshape", [f"{name}.flat", f"{name}.shape"], [name]),
        ]
        return named, nodes

    return stored


def _in_order(model: onnx.ModelProto) -> None:
    """Nodes that make weights before those that use them."""
    nodes = list(model.graph.node)
    known = {one.name for one in (*model.graph.initializer, *model.graph.input)} | {""}
    ordered: list[onnx.NodeProto] = []
    while nodes:
        ready = [node for node in nodes if known.issuperset(node.input)]
        ordered += ready
        known |= {name for node in ready for name in node.output}
        nodes = [node for node in nodes if not known.issuperset(node.output)]
    del model.graph.node[:]
    model.graph.node.extend(ordered)


def calibration_set(dataset: Path, n_mics: int) -> list[Tensor]:
    """The recordings ``(mics, samples)`` of a data set or a folder, a beginning of each.

    Raises:
        ValueError: there is none, or one has fewer mics.
    """
    if (dataset / "manifest.jsonl").is_file():
        from clearbeam.clips import list_clips

        paths = [clip.mixture for clip in list_clips(dataset)]
    elif dataset.is_dir():
        paths = sorted(p for p in dataset.iterdir() if p.suffix in (".wav", ".flac"))
    else:
        raise ValueError(f"expected a data set or a folder of recordings, found {dataset}")
    if not paths:
        raise ValueError(f"expected recordings (.wav, .flac) in {dataset}, found none")
    return [_beginning(path, n_mics) for path in paths]


def _beginning(path: Path, n_mics: int) -> Tensor:
    recording = Recording([path])
    if recording.n_mics < n_mics:
        raise ValueError(f"expected {n_mics} channels in {path}, found {recording.n_mics}")
    blocks: list[np.ndarray] = []
    for block in resample(recording.blocks(), recording.sample_rate, SAMPLE_RATE):
        blocks.append(block)
        if sum(one.shape[-1] for one in blocks) >= _CALIBRATION_S * SAMPLE_RATE:
            break
    x = torch.from_numpy(np.concatenate(blocks, -1)).float()
    return x[:n_mics, : round(_CALIBRATION_S * SAMPLE_RATE)]
