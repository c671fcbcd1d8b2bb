"""ONNX: one frame a call, real tensors, standard operators of opset 17, states in and out.

Written through the exporter that records one run (`dynamo=False`): the newer one unrolls recurrent
layers and starts at opset 18. ONNX Runtime's basic optimisation, which keeps to standard operators,
then folds what is constant. Names inside are numbered and attributes that say the default are left
out, because they would take half of the file.
"""

from __future__ import annotations

import io
import string
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray

from clearbeam.export.live import LiveStep
from simulate.disk import scratch_folder

OPSET = 17
_LETTERS = string.ascii_letters
Array = NDArray[np.float32]


def export_onnx(step: LiveStep, facts: Mapping[str, str]) -> onnx.ModelProto:
    """The step as an ONNX model.

    Args:
        step: in evaluation mode.
        facts: metadata to keep inside.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # on branches that are for the recorded run only
        torch.onnx.export(
            step,
            (*step.inputs.values(), *step.fresh.values()),
            buffer,  # type: ignore[arg-type]  # this exporter takes files too
            input_names=step.input_names,
            output_names=step.output_names,
            opset_version=OPSET,
            dynamo=False,
            external_data=False,
        )
    model = folded(buffer.getvalue())
    tidy(model)
    onnx.helper.set_model_props(model, dict(facts))
    return model


def folded(model: bytes) -> onnx.ModelProto:
    """The model with everything constant computed, in standard operators still."""
    with scratch_folder() as folder:
        path = folder / "folded.onnx"
        options = session_options()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(path)
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return onnx.load(path)


def tidy(model: onnx.ModelProto) -> None:
    """Number the names inside, keep one of equal constants, and drop what no runtime reads."""
    graph = model.graph
    first: dict[tuple[object, ...], str] = {}
    same: dict[str, str] = {}
    for one in list(graph.initializer):
        values = onnx.numpy_helper.to_array(one)
        key = (one.data_type, tuple(one.dims), values.tobytes())
        same[one.name] = first.setdefault(key, one.name)
        if same[one.name] != one.name:
            graph.initializer.remove(one)
    for node in graph.node:
        node.input[:] = [same.get(name, name) for name in node.input]
    kept = {one.name for one in (*graph.input, *graph.output)} | {""}
    new: dict[str, str] = {}

    def renamed(names: Sequence[str]) -> list[str]:
        return [name if name in kept else new.setdefault(name, _short(len(new))) for name in names]

    for one in graph.initializer:
        one.name = renamed([one.name])[0]
    for node in graph.node:
        node.input[:], node.output[:] = renamed(node.input), renamed(node.output)
        node.name = node.doc_string = ""
        _drop_defaults(node)
    del graph.value_info[:]
    standard = [one for one in model.opset_import if one.domain in ("", "com.microsoft")]
    used = {node.domain for node in graph.node} | {""}
    standard = [one for one in standard if one.domain in used]
    del model.opset_import[:]
    model.opset_import.extend(standard)
    graph.name, model.producer_name, model.producer_version = "clearbeam", "clearbeam", ""


def _short(number: int) -> str:
    """A name of few letters."""
    more, last = divmod(number, len(_LETTERS))
    return (_short(more - 1) if more else "") + _LETTERS[last]


def _drop_defaults(node: onnx.NodeProto) -> None:
    """Leave out attributes that say what goes without saying."""
    known = onnx.defs.get_schema(node.op_type, OPSET, node.domain).attributes
    for one in list(node.attribute):
        default = known[one.name].default_value
        if default.name and default.SerializeToString() == one.SerializeToString():
            node.attribute.remove(one)


def operators(model: onnx.ModelProto) -> Counter[str]:
    """How often each operator is used, by name."""
    return Counter(
        f"{node.domain}.{node.op_type}" if node.domain else node.op_type
        for node in model.graph.node
    )


def session_options() -> Any:
    """One thread, and no words but errors."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return options


class OnnxStep:
    """An exported model, run frame by frame; it remembers its states.

    Args:
        model: the file's bytes.
    """

    def __init__(self, model: bytes) -> None:
        self.session = onnxruntime.InferenceSession(
            model, session_options(), providers=["CPUExecutionProvider"]
        )
        self.names = [one.name for one in self.session.get_inputs()]
        self.states = [
            np.zeros(one.shape, np.float32)
            for one in self.session.get_inputs()
            if f"next.{one.name}" in {out.name for out in self.session.get_outputs()}
        ]

    def __call__(self, *inputs: Any) -> tuple[Array, Array]:
        """Real and imaginary part of the output for one frame."""
        real, imag, *self.states = self.session.run(None, self.feed(*inputs))
        return real, imag

    def feed(self, *inputs: Any) -> dict[str, Array]:
        """All inputs of the next frame, by name."""
        arrays = [np.asarray(one) for one in inputs]
        return dict(zip(self.names, (*arrays, *self.states), strict=True))
