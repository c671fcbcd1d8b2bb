"""The separation network: for each time-frequency bin an embedding of who it belongs to, and masks.

A network of the GTCRN family (Rong et al., ICASSP 2024): ERB bands, strided convolutions over
bands, recurrences over bands and over frames in turns, and the way back to bins. Its two heads are
those of a Chimera network (Luo, Chen, Hershey, Le Roux & Mesgarani, "Deep clustering and
conventional networks for music separation", ICASSP 2017): unit-norm embeddings and masks.

Inside, the axes are ``(batch, feats, frames, bands)``. Frames meet in the recurrence over time
alone, so with that one running forwards the network is causal without a frame of delay.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from multichannel import compiled_ops
from multichannel.gtcrn_layers import ERB, N_FREQS, StridedConv
from multichannel.kernels import grouped_gru
from multichannel.level import LevelState
from separation.coarse import N_CLASSES
from separation.features import (
    N_MAPS,
    chosen_mics,
    class_maps,
    level_of,
    pair_maps,
    spectral_map,
)

_FLOOR = 1e-12


@dataclass(frozen=True)
class SeparationConfig:
    """Size of a `SeparationNet`.

    Args:
        n_talkers: masks of talkers; one more is the noise's.
        embed: length of an embedding.
        width: feats between the dual-path blocks.
        outer: feats after the first convolution, where bands are still fine.
        intra, inter: units of each direction of the recurrences over bands and over frames.
        blocks: dual-path blocks.
        causal: recurrence over frames forwards only, and a running level.
        guided: shown the shares of `coarse_shares`, or of `running_shares` where causal.

    Raises:
        ValueError: a size is not positive.
    """

    n_talkers: int = 3
    embed: int = 20
    width: int = 32
    outer: int = 24
    intra: int = 16
    inter: int = 32
    blocks: int = 4
    causal: bool = False
    guided: bool = False

    def __post_init__(self) -> None:
        for name in ("n_talkers", "embed", "width", "outer", "intra", "inter", "blocks"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} of at least 1, found {getattr(self, name)}")

    @property
    def n_maps(self) -> int:
        """Input maps."""
        return N_MAPS + N_CLASSES * self.guided

    @property
    def n_classes(self) -> int:
        """Classes that masks are made of."""
        return N_CLASSES if self.guided else 1


class SeparationState(NamedTuple):
    """What a causal network remembers: the running level, the hidden states of its blocks."""

    level: LevelState | None
    hidden: tuple[Tensor, ...]


class Separation(NamedTuple):
    """What the network says of each bin.

    masks ``(..., talkers + 1, freqs, frames)``: shares of the talkers and, last, of the noise; they
    add up to one, and talkers come in no order. V ``(..., freqs, frames, embed)``: unit norm, or
    none.
    """

    masks: Tensor
    V: Tensor


class Recurrence(nn.Module):
    """A GRU along the last but one axis, back to the feats it came from, normed and added."""

    def __init__(self, width: int, hidden: int, bidirectional: bool) -> None:
        super().__init__()
        self.rnn = nn.GRU(width, hidden, batch_first=True, bidirectional=bidirectional)
        self.fc = nn.Linear((1 + bidirectional) * hidden, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x: Tensor, hidden: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """``x (n1, n2, steps, width)`` -> the same shape, and the new hidden state."""
        if compiled_ops.recurs(self.rnn, x):
            y, state = compiled_ops.gru(self.rnn, x.flatten(0, 1), hidden)
            return x + self.norm(self.fc(y.unflatten(0, x.shape[:2]))), state
        y, states = grouped_gru([self.rnn], x, None if hidden is None else [hidden])
        return x + self.norm(self.fc(y)), states[0] if states else None


class DualPath(nn.Module):
    """Both ways over the bands of a frame, then over the frames of a band."""

    def __init__(self, config: SeparationConfig) -> None:
        super().__init__()
        self.intra = Recurrence(config.width, config.intra, bidirectional=True)
        self.inter = Recurrence(config.width, config.inter, bidirectional=not config.causal)

    def forward(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """``x (batch, frames, bands, width)`` -> the same shape, and the new hidden state."""
        x, _ = self.intra(x)
        x, hidden = self.inter(x.transpose(1, 2), hidden)
        return x.transpose(1, 2), hidden


class SeparationNet(nn.Module):
    """The network of `SeparationConfig`: from the mics' spectra to embeddings and masks."""

    def __init__(self, config: SeparationConfig | None = None) -> None:
        super().__init__()
        self.config = config = config or SeparationConfig()
        self.erb = ERB()
        self.encoder = nn.ModuleList(
            [StridedConv(config.n_maps, config.outer), StridedConv(config.outer, config.width)]
        )
        self.blocks = nn.ModuleList(DualPath(config) for _ in range(config.blocks))
        self.decoder = StridedConv(config.width, config.outer, transposed=True)
        n_out = (config.n_talkers + 1) * config.n_classes + config.embed
        self.heads = nn.ConvTranspose2d(config.outer, n_out, (1, 5), (1, 2), padding=(0, 2))

    def forward(
        self,
        X: Tensor,
        state: SeparationState | None = None,
        reference_mic: int = 0,
        shares: Tensor | None = None,
        embed: bool = True,
    ) -> tuple[Separation, SeparationState | None]:
        """Masks and embeddings of the bins of the reference mic.

        Args:
            X: complex spectra ``(..., mics, 257, frames)``, any number of mics.
            state: of the frames before, for a causal network; None is a fresh start.
            reference_mic: whose bins they are.
            shares: of the classes of `coarse_shares` ``(..., N_CLASSES, 257, frames)``, for a
                guided network and no other.
            embed: False leaves out the embeddings: half of what comes after the last block.

        Returns:
            `Separation`, and the new state (None of a network that is not causal).

        Raises:
            ValueError: ``X`` or shares have another form, or there are shares or a state for a
                network without them.
        """
        self._check(X, state, shares)
        leading, n_frames = X.shape[:-3], X.shape[-1]
        X = X.flatten(0, -4) if X.dim() > 3 else X[None]
        X = X[:, chosen_mics(X.shape[1], reference_mic)].transpose(-1, -2)
        if n_frames == 0:
            return self._empty(X, leading), state
        level, hidden = state or SeparationState(None, ())
        maps, level = self._maps(X, level)
        if shares is not None:
            shares = shares.flatten(0, -4) if shares.dim() > 3 else shares[None]
            maps = torch.cat([maps, class_maps(shares.mT, X[:, 0], self.erb.analyse)], dim=1)
        x, hidden = self._through(maps, hidden, embed)
        separation = self._outputs(x, shares, leading)
        return separation, SeparationState(level, hidden) if self.config.causal else None

    def _check(self, X: Tensor, state: SeparationState | None, shares: Tensor | None) -> None:
        if X.dim() < 3 or X.shape[-2] != N_FREQS or not X.is_complex():
            raise ValueError(
                f"expected complex X of shape (..., mics, {N_FREQS}, frames), "
                f"found {X.dtype} {tuple(X.shape)}"
            )
        if state is not None and not self.config.causal:
            raise ValueError("expected no state for a network that is not causal, found one")
        expected = (*X.shape[:-3], N_CLASSES, *X.shape[-2:]) if self.config.guided else None
        found = None if shares is None else tuple(shares.shape)
        if found != expected:
            raise ValueError(f"expected shares of shape {expected}, found {found}")

    @torch.no_grad()
    def _maps(self, X: Tensor, level: LevelState | None) -> tuple[Tensor, LevelState | None]:
        """Maps ``(batch, N_MAPS, frames, 129)`` of ``X (batch, mics, frames, 257)``."""
        loudness, level = level_of(X[:, 0], self.config.causal, level)
        spectral = self.erb.analyse(spectral_map(X[:, 0], loudness))
        return torch.cat([spectral, pair_maps(X, self.erb.analyse)], dim=1), level

    def _through(
        self, x: Tensor, hidden: tuple[Tensor, ...], embed: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Maps -> logits ``(batch, masks + embed, frames, 129)``, and hidden states."""
        fine = self.encoder[0](x)
        coarse = self.encoder[1](fine)
        x, new_hidden = coarse.permute(0, 2, 3, 1).contiguous(), []
        for block, before in zip(self.blocks, hidden or (None,) * len(self.blocks), strict=True):
            x, after = block(x, before)
            new_hidden.append(after)
        x = self.decoder(x.permute(0, 3, 1, 2) + coarse)
        heads, n_out = self.heads, self.heads.out_channels - self.config.embed * (not embed)
        weight, bias = heads.weight[:, :n_out], cast(Tensor, heads.bias)[:n_out]
        x = nn.functional.conv_transpose2d(x + fine, weight, bias, (1, 2), (0, 2))
        return x, tuple(new_hidden)

    def _outputs(self, logits: Tensor, shares: Tensor | None, leading: torch.Size) -> Separation:
        """Heads on bins; their axes are moved last, when the arithmetic is done.

        A mask says of each class how much of it is the talker's, so it is as fine as the classes.
        """
        config = self.config
        logits = self.erb.synthesise(logits).float()
        masks, V = logits.tensor_split([(config.n_talkers + 1) * config.n_classes], dim=1)
        masks = masks.unflatten(1, (config.n_talkers + 1, config.n_classes)).softmax(dim=1)
        masks = masks.squeeze(2) if shares is None else (masks * shares.mT[:, None]).sum(2)
        masks = masks.transpose(-1, -2)
        V = (V * (V.square().sum(dim=1, keepdim=True) + _FLOOR).rsqrt()).permute(0, 3, 2, 1)
        return Separation(*(x.reshape(*leading, *x.shape[1:]) for x in (masks, V)))

    def _empty(self, X: Tensor, leading: torch.Size) -> Separation:
        bins = X.real.new_zeros(*leading, N_FREQS, 0)
        n_masks, embed = self.config.n_talkers + 1, self.config.embed
        masks = bins.unsqueeze(-3).expand(*leading, n_masks, N_FREQS, 0)
        return Separation(masks, bins.unsqueeze(-1).expand(*leading, N_FREQS, 0, embed))
