"""DNSMOS P.835: opinion scores of speech, background and both, predicted without a reference.

Reddy, Gopal and Cutler, "DNSMOS P.835: a non-intrusive perceptual objective speech quality metric
to evaluate noise suppressors", ICASSP 2022. The network is not part of clearbeam: its published
ONNX file (`sig_bak_ovr.onnx`) takes 9.01 s of sound at 16 kHz and gives three raw ratings.
"""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

SAMPLE_RATE = 16_000
WINDOW_S = 9.01
RATINGS = ("sig", "bak", "ovrl")  # in the order of the network's outputs
WORST = 1.0
# From raw ratings to opinion scores: the published fits, highest power first.
_FITS = {
    "sig": (-0.08397278, 1.22083953, 0.0052439),
    "bak": (-0.13166888, 1.60915514, -0.39604546),
    "ovrl": (-0.06766283, 1.11546468, 0.04602535),
}


class DNSMOS:
    """The published network in one file: `(samples,)` -> rating by name, 1 to 5.

    Raises ImportError without onnxruntime, ValueError for a file that is no such network.
    """

    def __init__(self, path: str | Path) -> None:
        if importlib.util.find_spec("onnxruntime") is None:
            raise ImportError(
                "expected the package onnxruntime for DNSMOS, found none: "
                "pip install 'clearbeam[eval]'"
            )
        self.session = _session(str(path))
        (self.input,) = self.session.get_inputs()

    def __call__(self, x: ArrayLike) -> dict[str, float]:
        """Mean ratings of the waveform (samples,) over windows of 9.01 s, one each second.

        The level is left as it is: the network hears it. A shorter clip is repeated. A waveform
        with NaN or infinity is rated worst.
        """
        x = np.asarray(x, np.float32)
        if x.ndim != 1 or not x.size:
            raise ValueError(f"expected a waveform of shape (samples,), found {x.shape}")
        if not np.isfinite(x).all():
            return dict.fromkeys(RATINGS, WORST)
        raw = np.array([self._rate(window) for window in windows(x)])
        return {
            name: float(np.polyval(_FITS[name], raw[:, i]).mean()) for i, name in enumerate(RATINGS)
        }

    def _rate(self, window: np.ndarray) -> np.ndarray:
        return np.asarray(self.session.run(None, {self.input.name: window[None]})[0][0])


def windows(x: np.ndarray) -> list[np.ndarray]:
    """The parts of a waveform (samples,) that the published script rates, 144160 samples each."""
    size = int(WINDOW_S * SAMPLE_RATE)
    while len(x) < size:
        x = np.concatenate([x, x])
    starts = range(int(len(x) // SAMPLE_RATE - WINDOW_S) + 1)
    # The script rounds the ends of windows down, and skips those that come out a sample short.
    spans = [(i * SAMPLE_RATE, int((i + WINDOW_S) * SAMPLE_RATE)) for i in starts]
    return [x[start:end] for start, end in spans if end - start >= size and end <= len(x)]


@lru_cache(maxsize=2)
def _session(path: str) -> Any:
    import onnxruntime

    if not Path(path).is_file():
        raise ValueError(f"expected the DNSMOS model, found no file {path}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the package has a class of its own for every way to fail
        reason = " ".join(str(error).split())[:160]
        raise ValueError(f"expected an ONNX model in {path}, found: {reason}") from None
    inputs, outputs = session.get_inputs(), session.get_outputs()
    shape = inputs[0].shape if len(inputs) == 1 else None
    # Another network of the same name takes spectra too; it rates the whole alone.
    if shape is None or len(shape) != 2 or outputs[0].shape[-1:] not in ([3], [None]):
        found = [(node.name, node.shape) for node in (*inputs, *outputs)]
        raise ValueError(
            f"expected one waveform in and three ratings out (sig_bak_ovr.onnx), "
            f"found {found} in {path}"
        )
    return session
