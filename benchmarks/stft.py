"""STFT and its inverse side by side, 512/256 square-root Hann, float32.

    python benchmarks/stft.py [--rounds 20] [--keep-memory]

One thread; the systems take turns and each row is the median of its rounds, so only ratios within a
run count. 8 mics x 10 s is one recording, 16 x 6 mics x 4 s a batch as in training.
``--keep-memory`` keeps freed memory with the process, as our training does: page faults then cost
nobody anything. Rivals that are not installed are left out with the reason.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
import typer
from _turns import table_of, take_turns
from rich.console import Console
from torch import Tensor

from multichannel.memory import keep_freed_memory
from multichannel.stft import STFT

N_FFT, HOP = 512, 256


class System(NamedTuple):
    forward: Callable[[Tensor], Any]
    inverse: Callable[[Any], Any]  # of what forward gave


def ours() -> System:
    stft = STFT()
    return System(stft, stft.inverse)


def torch_stft() -> System:
    window = torch.hann_window(N_FFT).sqrt()

    def forward(x: Tensor) -> Tensor:
        X = torch.stft(x.flatten(0, -2), N_FFT, HOP, window=window, return_complex=True)
        return X.unflatten(0, x.shape[:-1])

    return System(forward, lambda X: torch.istft(X.flatten(0, -3), N_FFT, HOP, window=window))


def scipy() -> System:
    from scipy.signal import ShortTimeFFT

    window = np.sqrt(np.hanning(N_FFT + 1)[:-1]).astype(np.float32)
    stft = ShortTimeFFT(window, HOP, 16000)
    return System(lambda x: stft.stft(x.numpy()), stft.istft)


def asteroid_filterbanks() -> System:
    from asteroid_filterbanks import STFTFB, Decoder, Encoder

    window = np.sqrt(np.hanning(N_FFT + 1)[:-1])
    bank = STFTFB(N_FFT, N_FFT, stride=HOP, kernel_size_window=None, window=window)
    encoder, decoder = Encoder(bank), Decoder(bank)
    return System(lambda x: encoder(x.flatten(0, -2).unsqueeze(1)), decoder)


def librosa() -> System:
    import librosa as rival

    window = np.sqrt(np.hanning(N_FFT + 1)[:-1]).astype(np.float32)
    return System(
        lambda x: rival.stft(x.numpy(), n_fft=N_FFT, hop_length=HOP, window=window),
        lambda X: rival.istft(X, hop_length=HOP, n_fft=N_FFT, window=window),
    )


@torch.no_grad()
def main(rounds: int = 20, keep_memory: bool = False) -> None:
    """Measure and print the tables."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if keep_memory:
        keep_freed_memory()
    console = Console()
    systems: dict[str, System] = {}
    for load in (ours, torch_stft, scipy, librosa, asteroid_filterbanks):
        try:
            systems[load.__name__] = load()
            systems[load.__name__].forward(torch.zeros(1, 16000))
        except Exception as error:  # a rival may fail in any way
            systems.pop(load.__name__, None)
            console.print(f"without {load.__name__}: {str(error).splitlines()[0]}")
    generator = torch.Generator().manual_seed(0)
    for shape in ((8, 160_000), (16, 6, 64_000)):
        x = torch.randn(shape, generator=generator)
        forward = {n: (lambda one=one, x=x: one.forward(x)) for n, one in systems.items()}
        title = " x ".join(map(str, shape))
        console.print(table_of(f"STFT, {title}", take_turns(forward, rounds), {}))
        spectra = {name: one.forward(x) for name, one in systems.items()}
        inverse = {n: (lambda one=one, X=spectra[n]: one.inverse(X)) for n, one in systems.items()}
        console.print(table_of(f"inverse, {title}", take_turns(inverse, rounds), {}))


if __name__ == "__main__":
    typer.run(main)
