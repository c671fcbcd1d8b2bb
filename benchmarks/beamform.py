"""Souden MVDR side by side: two covariances from masks, weights and their application.

    python benchmarks/beamform.py [--mics 6] [--seconds 10] [--rounds 30] [--no-contiguous]

One thread; the systems take turns and each row is the median of its rounds, so only ratios within a
run count. ``--no-contiguous`` leaves the spectrum in the order in which an FFT writes it, as the
enhancer passes it on. Rivals that are not installed are left out with the reason. The literal rows
say in NumPy or PyTorch what the formula says.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Callable

import numpy as np
import torch
import typer
from _turns import table_of, take_turns
from rich.console import Console
from torch import Tensor

from multichannel.beamform import apply_beamformer, mvdr_souden
from multichannel.spatial import masked_covariance
from multichannel.stft import STFT

System = Callable[[Tensor, Tensor], Tensor]


def ours(X: Tensor, mask: Tensor) -> Tensor:
    psd_speech, psd_noise = masked_covariance(X, torch.stack([mask, 1 - mask]))
    return apply_beamformer(mvdr_souden(psd_speech, psd_noise), X)


def literal_torch(X: Tensor, mask: Tensor) -> Tensor:
    psds = [
        torch.einsum("ft,mft,nft->fmn", m.to(X.dtype), X, X.conj()) / m.sum(-1)[:, None, None]
        for m in (mask, 1 - mask)
    ]
    ratio = torch.linalg.solve(psds[1], psds[0])
    w = ratio[..., 0] / torch.einsum("fmm->f", ratio)[:, None]
    return torch.einsum("fm,mft->ft", w.conj(), X)


def literal_numpy(X: Tensor, mask: Tensor) -> Tensor:
    spectrum, presence = X.numpy(), mask.numpy()
    psds = [
        np.einsum("mft,nft->fmn", m * spectrum, spectrum.conj(), optimize=True)
        / m.sum(-1)[:, None, None]
        for m in (presence, 1 - presence)
    ]
    ratio = np.linalg.solve(psds[1], psds[0])
    w = ratio[..., 0] / np.trace(ratio, axis1=-2, axis2=-1)[:, None]
    return torch.from_numpy(np.einsum("fm,mft->ft", w.conj(), spectrum))


def asteroid() -> System:
    # its import fails beside a CPU-only torch through a metric that is not needed here
    stand_in = types.ModuleType("torch_stoi")
    stand_in.NegSTOILoss = object  # type: ignore[attr-defined]
    sys.modules.setdefault("torch_stoi", stand_in)
    from asteroid.dsp.beamforming import SCM, SoudenMVDRBeamformer

    covariance, beamformer = SCM(), SoudenMVDRBeamformer()

    def run(X: Tensor, mask: Tensor) -> Tensor:
        X, mask = X[None], mask[None]
        return beamformer(X, covariance(X, mask), covariance(X, 1 - mask), ref_mic=0)[0]

    return run


def torchaudio() -> System:
    from torchaudio.transforms import PSD, SoudenMVDR

    covariance, beamformer = PSD(), SoudenMVDR()

    def run(X: Tensor, mask: Tensor) -> Tensor:
        return beamformer(X, covariance(X, mask), covariance(X, 1 - mask), 0)

    return run


def pb_bss() -> System:
    from pb_bss.extraction import (
        apply_beamforming_vector,
        get_mvdr_vector_souden,
        get_power_spectral_density_matrix,
    )

    def run(X: Tensor, mask: Tensor) -> Tensor:
        spectrum, presence = X.numpy().transpose(1, 0, 2), mask.numpy()
        psds = [get_power_spectral_density_matrix(spectrum, m) for m in (presence, 1 - presence)]
        w = get_mvdr_vector_souden(*psds, ref_channel=0)
        return torch.from_numpy(apply_beamforming_vector(w, spectrum))

    return run


def main(mics: int = 6, seconds: float = 10.0, rounds: int = 30, contiguous: bool = True) -> None:
    """Measure and print the table."""
    torch.set_num_threads(1)
    console = Console()
    systems: dict[str, System] = {
        "ours": ours,
        "literal, PyTorch": literal_torch,
        "literal, NumPy": literal_numpy,
    }
    for load in (asteroid, torchaudio, pb_bss):
        try:
            systems[load.__name__] = load()
        except (ImportError, OSError, RuntimeError) as error:
            console.print(f"without {load.__name__}: {str(error).splitlines()[0]}")
    stft = STFT()
    generator = torch.Generator().manual_seed(0)
    X = stft(torch.randn(mics, round(16000 * seconds), generator=generator))
    if contiguous:
        X = X.contiguous()
    mask = torch.rand(X.shape[1:], generator=generator)
    times = take_turns({n: (lambda one=one: one(X, mask)) for n, one in systems.items()}, rounds)
    expected = literal_numpy(X.to(torch.complex128), mask.double())
    errors = {
        name: float((one(X, mask) - expected).abs().max() / expected.abs().max())
        for name, one in systems.items()
    }
    layout = "frames side by side" if contiguous else "as our STFT writes it"
    title = f"Souden MVDR, {mics} mics x {seconds:g} s, one thread, {layout}"
    console.print(table_of(title, times, errors))


if __name__ == "__main__":
    typer.run(main)
