"""GTCRN, a grouped temporal convolutional recurrent network: spectra in, a complex mask out.

Rong, Sun, Zhang, Hu, Zhu & Lu, "GTCRN: a speech enhancement model requiring ultralow computational
resources", ICASSP 2024. Written once: offline is streaming with a fresh state. The parameters carry
their published names, so the published one-input weights load as they are.

Inside the network the axes are ``(batch, feats, frames, bands)``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from multichannel.gtcrn_layers import (
    DPGRNN,
    ERB,
    N_FREQS,
    WIDTH,
    Decoder,
    DPGRNNState,
    Encoder,
    GTBlockState,
)
from multichannel.level import LevelState, running_level


@dataclass(frozen=True)
class GTCRNConfig:
    """What a GTCRN listens to and how wide it is; by default the published one-input network.

    Args:
        n_spectra: complex inputs (maps: magnitude, real, imaginary each). The first is masked.
        n_magnitudes: complex inputs of which only the magnitude is seen (one map each).
        n_cues: real maps in 0..1.
        compression: exponent of the magnitudes that the network sees.
        normalise: divide the inputs by the running level of the first spectrum, so that the mask
            does not depend on the recording level.
        width: feats of every layer, a multiple of 4.
        inner: feats inside the temporal convolutions; None is ``width``, fewer is a pruned network.

    Raises:
        ValueError: the width or the number of inner feats is not possible.
    """

    n_spectra: int = 1
    n_magnitudes: int = 0
    n_cues: int = 0
    compression: float = 1.0
    normalise: bool = False
    width: int = WIDTH
    inner: int | None = None

    def __post_init__(self) -> None:
        if self.width < 4 or self.width % 4:
            raise ValueError(f"expected a width that is a multiple of 4, found {self.width}")
        if self.inner is not None and self.inner < 1:
            raise ValueError(f"expected at least 1 inner feat, found {self.inner}")

    @property
    def inputs(self) -> tuple[int, int, int]:
        """Number of spectra, magnitudes and cues."""
        return self.n_spectra, self.n_magnitudes, self.n_cues

    @property
    def n_maps(self) -> int:
        """Real maps that the inputs become: three of each spectrum, one of all others."""
        return 3 * self.n_spectra + self.n_magnitudes + self.n_cues


class GTCRNState(NamedTuple):
    """Everything a GTCRN remembers between two calls."""

    level: LevelState | None
    encoder: tuple[GTBlockState, ...]
    recurrent: tuple[DPGRNNState | None, ...]
    decoder: tuple[GTBlockState, ...]


class GTCRN(nn.Module):
    """The network of `GTCRNConfig`: from spectra and cues to the mask of the first spectrum."""

    def __init__(self, config: GTCRNConfig | None = None) -> None:
        super().__init__()
        self.config = config or GTCRNConfig()
        self.erb = ERB()
        width = self.config.width
        inner = width if self.config.inner is None else self.config.inner
        self.encoder = Encoder(3 * self.config.n_maps, width, inner)
        self.dpgrnn1 = DPGRNN(width)
        self.dpgrnn2 = DPGRNN(width)
        self.decoder = Decoder(width, inner)

    def forward(
        self, X: Tensor, cues: Tensor | None = None, state: GTCRNState | None = None
    ) -> tuple[Tensor, GTCRNState | None]:
        """Complex ratio mask of the first spectrum.

        Args:
            X: complex spectra ``(..., n_spectra + n_magnitudes, 257, frames)``.
            cues: real maps ``(..., n_cues, 257, frames)``; left out when ``n_cues`` is 0.
            state: of the frames before; None is a fresh start.

        Returns:
            Mask ``(..., 257, frames)``, complex, both parts in -1..1, and the new state.

        Raises:
            ValueError: the number of inputs or freqs is not the one configured.
        """
        leading, n_frames = X.shape[:-3], X.shape[-1]
        self._check(X, cues)
        if n_frames == 0:
            return X[..., 0, :, :], state
        level, encoder, recurrent, decoder = state or GTCRNState(None, (), (), ())
        maps, level = self._maps(X, cues, level)
        x = self.erb.analyse(maps)
        x, skips, encoder = self.encoder(x, encoder)
        first, second = recurrent or (None, None)
        x, first = self.dpgrnn1(x, first)
        x, second = self.dpgrnn2(x, second)
        x, decoder = self.decoder(x, skips, decoder)
        mask = self.erb.synthesise(x).to(X.real.dtype)  # autocast may have made it shorter
        mask = torch.complex(mask[:, 0], mask[:, 1]).transpose(-1, -2)
        mask = mask.reshape(*leading, N_FREQS, n_frames)
        return mask, GTCRNState(level, encoder, (first, second), decoder)

    def _check(self, X: Tensor, cues: Tensor | None) -> None:
        n_inputs = self.config.n_spectra + self.config.n_magnitudes
        if X.dim() < 3 or X.shape[-3:-1] != (n_inputs, N_FREQS):
            raise ValueError(
                f"expected X of shape (..., {n_inputs}, {N_FREQS}, frames), found {tuple(X.shape)}"
            )
        found = None if cues is None else tuple(cues.shape)
        expected = (*X.shape[:-3], self.config.n_cues, *X.shape[-2:])
        if found != (expected if self.config.n_cues else None):
            raise ValueError(f"expected cues of shape {expected}, found {found}")

    def _maps(
        self, X: Tensor, cues: Tensor | None, level: LevelState | None
    ) -> tuple[Tensor, LevelState | None]:
        """Maps ``(batch, maps, frames, 257)``: the spectra's three each, magnitudes, cues."""
        X = X.flatten(0, -4) if X.dim() > 3 else X[None]
        X = X.transpose(-1, -2)
        if self.config.normalise:
            gain, level = running_level(X[:, 0], level)
            X = X / gain[:, None, :, None]
        magnitude = (X.real.square() + X.imag.square() + 1e-12).sqrt()
        n_spectra = self.config.n_spectra
        seen = magnitude[:, :n_spectra]
        real, imag = X.real[:, :n_spectra], X.imag[:, :n_spectra]
        if self.config.compression != 1:
            scale = seen ** (self.config.compression - 1)
            real, imag = real * scale, imag * scale
            magnitude = magnitude**self.config.compression
        maps = torch.stack([magnitude[:, :n_spectra], real, imag], dim=2).flatten(1, 2)
        maps = torch.cat([maps, magnitude[:, n_spectra:]], dim=1)
        if cues is not None:
            maps = torch.cat([maps, cues.reshape(X.shape[0], -1, *cues.shape[-2:]).mT], dim=1)
        return maps, level
