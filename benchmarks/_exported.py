"""Exported files of the live pipeline, run beside the model on one recording."""

from __future__ import annotations

import tempfile
from copy import deepcopy
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor

from clearbeam.export import check
from clearbeam.export.export import INT8
from clearbeam.export.int8 import quantise
from clearbeam.export.live import LiveStep, Network, Part, Pipeline
from clearbeam.export.onnx_file import OnnxStep, export_onnx
from clearbeam.export.torchscript import TorchScriptStep, write_torchscript
from multichannel import STFT, Enhancer


class Exported:
    """A part of the live pipeline, and the files that are made of it."""

    def __init__(self, enhancer: Enhancer, part: str, x: Tensor) -> None:
        self.enhancer, self.part, self.n_mics = enhancer, part, len(x)
        self.seen = check.inputs_of(enhancer, part, x)

    def fresh(self) -> Part:
        """The part, having heard nothing."""
        if self.part == "pipeline":
            return Pipeline(self.enhancer, self.n_mics)
        return Network(getattr(self.enhancer, self.part))

    @cached_property
    def expected(self) -> Tensor:
        return self._sound(check.by_model(self.fresh(), self.seen))

    @cached_property
    def onnx(self) -> Any:
        return export_onnx(LiveStep(self.fresh()).eval(), {})

    def found(self, format_: str) -> Tensor:
        """The sound of a file of this format."""
        if format_ == "torchscript":
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "file.pt"
                write_torchscript(LiveStep(self.fresh()).eval(), {}, path)
                return self._sound(check.by_file(TorchScriptStep(path), self.seen))
        int8 = format_ in INT8
        file = quantise(deepcopy(self.onnx), [], format_ == "int8") if int8 else self.onnx
        return self._sound(check.by_file(OnnxStep(file.SerializeToString()), self.seen))

    def _sound(self, output: Tensor) -> Tensor:
        return STFT().inverse(check.as_spectrum(self.part, output, self.seen))
