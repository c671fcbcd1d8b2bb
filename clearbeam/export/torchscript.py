"""TorchScript: the same frame for programs that link libtorch.

PyTorch calls TorchScript deprecated in favour of `torch.export`; files made here load in 2.9 and
later, in Python and C++.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from clearbeam.export.live import LiveStep

FACTS = "clearbeam.json"


def write_torchscript(step: LiveStep, facts: Mapping[str, str], path: Path) -> None:
    """Write the step, with ``facts`` and the names of its tensors inside, to ``path``."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of the deprecation, and on branches of the recorded run
        args = (*step.inputs.values(), *step.fresh.values())
        traced = torch.jit.freeze(torch.jit.trace(step, args, check_trace=False).eval())
        names = {"inputs": step.input_names, "outputs": step.output_names}
        shapes = {"shapes": [list(one.shape) for one in args]}
        inside = json.dumps({**facts, **names, **shapes}, indent=1)
        torch.jit.save(traced, str(path), _extra_files={FACTS: inside})


class TorchScriptStep:
    """An exported file, run frame by frame; it remembers its states."""

    def __init__(self, path: Path) -> None:
        inside = {FACTS: ""}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self.step = torch.jit.load(str(path), _extra_files=inside)
        facts = json.loads(inside[FACTS])
        n_states = len(facts["outputs"]) - 2
        self.states = [torch.zeros(shape) for shape in facts["shapes"][-n_states:]]

    def __call__(self, *inputs: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Real and imaginary part of the output for one frame."""
        real, imag, *self.states = self.step(*inputs, *self.states)
        return real.numpy(), imag.numpy()
