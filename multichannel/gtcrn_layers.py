"""The layers of a GTCRN: ERB bands, grouped temporal convolutions, dual-path recurrence.

Rong et al., "GTCRN", ICASSP 2024. A causal layer is ``forward(x, state) -> (y, state)``, where
``None`` is a fresh state. The axes are ``(batch, feats, frames, bands)``.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multichannel.kernels import depthwise_conv, grouped_gru, norm_prelu

N_FREQS = 257  # of the 512-point STFT that the ERB bands are laid over
N_LOW = 65  # bins passed as they are
N_ERB = 64  # bands for the bins above
N_BANDS = 33  # after the two strided convolutions
WIDTH = 16  # feats of the published network
DILATIONS = (1, 2, 5)


class GTBlockState(NamedTuple):
    """``history (batch, inner, 2 * dilation, bands)``, attention ``hidden (1, batch, width)``."""

    history: Tensor
    hidden: Tensor | None


class DPGRNNState(NamedTuple):
    """Hidden states of the two groups over time: ``(1, batch * bands, width / 2)`` each."""

    first: Tensor
    second: Tensor


class ERB(nn.Module):
    """Fixed triangular bands on the ERB scale for the bins above `N_LOW` (257 <-> 129)."""

    def __init__(self) -> None:
        super().__init__()
        bands = erb_bands()
        self.erb_fc = nn.Linear(N_FREQS - N_LOW, N_ERB, bias=False)
        self.ierb_fc = nn.Linear(N_ERB, N_FREQS - N_LOW, bias=False)
        self.erb_fc.weight = nn.Parameter(bands, requires_grad=False)
        self.ierb_fc.weight = nn.Parameter(bands.T.contiguous(), requires_grad=False)

    def analyse(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., :N_LOW], self.erb_fc(x[..., N_LOW:])], dim=-1)

    def synthesise(self, x: Tensor) -> Tensor:
        return torch.cat([x[..., :N_LOW], self.ierb_fc(x[..., N_LOW:])], dim=-1)


def erb_bands() -> Tensor:
    """Triangles ``(64, 192)`` evenly spaced on erb = 21.4 log10(0.00437 f + 1) up to 8 kHz."""

    def to_erb(hz: Tensor) -> Tensor:
        return 21.4 * torch.log10(0.00437 * hz + 1)

    low, high = to_erb(torch.tensor([N_LOW / 512 * 16000, 8000.0], dtype=torch.float64))
    erb = low + (high - low) * torch.arange(N_ERB, dtype=torch.float64) / (N_ERB - 1)
    edges = ((10 ** (erb / 21.4) - 1) / 0.00437 / 16000 * 512).round()
    bins = torch.arange(N_FREQS, dtype=torch.float64)
    bands = torch.zeros(N_ERB, N_FREQS, dtype=torch.float64)
    for band in range(N_ERB):
        left, peak = edges[max(band - 1, 0)], edges[band]
        right = edges[min(band + 1, N_ERB - 1)]
        rising = (bins - left + 1e-12) / (peak - left + 1e-12)
        falling = (right - bins + 1e-12) / (right - peak + 1e-12)
        inside = (bins >= left) & (bins <= right)
        bands[band] = torch.where(inside, torch.minimum(rising, falling).clamp(min=0), 0)
    return bands[:, N_LOW:].float()


def _neighbours(x: Tensor) -> Tensor:
    """Each band with the one below and the one above: (b, c, t, f) -> (b, 3c, t, f)."""
    padded = F.pad(x, (1, 1))
    return torch.stack([padded[..., :-2], x, padded[..., 2:]], dim=2).flatten(1, 2)


class StridedConv(nn.Module):
    """Convolution over bands by 1x5 with stride 2 (or its transpose), batch norm, activation."""

    def __init__(
        self,
        n_in: int,
        n_out: int,
        groups: int = 1,
        *,
        transposed: bool = False,
        last: bool = False,
    ) -> None:
        super().__init__()
        kind = nn.ConvTranspose2d if transposed else nn.Conv2d
        self.conv = kind(n_in, n_out, (1, 5), stride=(1, 2), padding=(0, 2), groups=groups)
        self.bn = nn.BatchNorm2d(n_out)
        self.act = nn.Tanh() if last else nn.PReLU()

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        if isinstance(self.act, nn.PReLU):
            return norm_prelu(x, self.bn, self.act)
        return self.act(norm_prelu(x, self.bn))


class TemporalAttention(nn.Module):
    """TRA: a gain for each feat and frame from the running energy of the feats."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.att_gru = nn.GRU(width, 2 * width, batch_first=True)
        self.att_fc = nn.Linear(2 * width, width)

    def forward(self, x: Tensor, hidden: Tensor | None) -> tuple[Tensor, Tensor | None]:
        energy = x.square().mean(dim=-1).transpose(1, 2)
        states = None if hidden is None else [hidden]
        attention, states = grouped_gru([self.att_gru], energy.unsqueeze(1), states)
        gain = torch.sigmoid(self.att_fc(attention.squeeze(1)))
        return x * gain.transpose(1, 2).unsqueeze(-1), states[0] if states else None


class GTBlock(nn.Module):
    """Grouped temporal convolution: one half of the feats is worked on, then both interleave.

    Inside, that half is spread to `inner` feats (as many as there are outside, unless pruned).
    """

    def __init__(self, dilation: int, width: int, inner: int, *, transposed: bool = False) -> None:
        super().__init__()
        half, kind = width // 2, nn.ConvTranspose2d if transposed else nn.Conv2d
        self.dilation, self.transposed = dilation, transposed
        self.point_conv1 = kind(3 * half, inner, 1)
        self.point_bn1 = nn.BatchNorm2d(inner)
        self.point_act = nn.PReLU()
        self.depth_conv = kind(inner, inner, (3, 3), groups=inner)
        self.depth_bn = nn.BatchNorm2d(inner)
        self.depth_act = nn.PReLU()
        self.point_conv2 = kind(inner, half, 1)
        self.point_bn2 = nn.BatchNorm2d(half)
        self.tra = TemporalAttention(half)

    def forward(self, x: Tensor, state: GTBlockState | None) -> tuple[Tensor, GTBlockState]:
        first, second = x.chunk(2, dim=1)
        # The three neighbours of a band are a kernel of width three: no unfolding is needed.
        spread = self._point_kernel(self.point_conv1)
        inner, n_taps = spread.shape[:2]
        spread = spread.reshape(inner, n_taps // 3, 1, 3)
        h = F.conv2d(first, spread, self.point_conv1.bias, padding=(0, 1))
        h = norm_prelu(h, self.point_bn1, self.point_act)
        history = h.new_zeros(h.shape[0], inner, 2 * self.dilation, h.shape[-1])
        if state is not None:
            history = state.history
        h = torch.cat([history, h], dim=2)
        history = h[:, :, -2 * self.dilation :]
        h = norm_prelu(self._depth_conv(h), self.depth_bn, self.depth_act)
        merge = self._point_kernel(self.point_conv2)
        h = norm_prelu(F.conv2d(h, merge, self.point_conv2.bias), self.point_bn2)
        h, hidden = self.tra(h, None if state is None else state.hidden)
        return torch.stack([h, second], dim=2).flatten(1, 2), GTBlockState(history, hidden)

    def _depth_conv(self, h: Tensor) -> Tensor:
        assert self.depth_conv.bias is not None
        # A transposed convolution of stride one is the convolution with the flipped kernel.
        weight = self.depth_conv.weight
        kernel = weight.flip(-1, -2) if self.transposed else weight
        return depthwise_conv(h, kernel, self.depth_conv.bias, self.dilation)

    def _point_kernel(self, conv: nn.Conv2d | nn.ConvTranspose2d) -> Tensor:
        return conv.weight.transpose(0, 1) if self.transposed else conv.weight


class GroupedGRU(nn.Module):
    """Two independent GRUs, each over one half of the feats."""

    def __init__(self, n_in: int, n_hidden: int, *, bidirectional: bool = False) -> None:
        super().__init__()
        self.rnn1 = nn.GRU(n_in // 2, n_hidden // 2, batch_first=True, bidirectional=bidirectional)
        self.rnn2 = nn.GRU(n_in // 2, n_hidden // 2, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: Tensor, state: DPGRNNState | None) -> tuple[Tensor, DPGRNNState | None]:
        hidden = None if state is None else list(state)
        y, states = grouped_gru([self.rnn1, self.rnn2], x, hidden)
        return y, DPGRNNState(*states) if states else None


class DPGRNN(nn.Module):
    """Dual-path grouped RNN: both ways over the bands of a frame, then forwards over the frames."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.intra_rnn = GroupedGRU(width, width // 2, bidirectional=True)
        self.intra_fc = nn.Linear(width, width)
        self.intra_ln = nn.LayerNorm((N_BANDS, width), eps=1e-8)
        self.inter_rnn = GroupedGRU(width, width)
        self.inter_fc = nn.Linear(width, width)
        self.inter_ln = nn.LayerNorm((N_BANDS, width), eps=1e-8)

    def forward(self, x: Tensor, state: DPGRNNState | None) -> tuple[Tensor, DPGRNNState | None]:
        x = x.permute(0, 2, 3, 1).contiguous()  # (batch, frames, bands, feats)
        intra, _ = self.intra_rnn(x, None)
        x = x + self.intra_ln(self.intra_fc(intra))
        inter, state = self.inter_rnn(x.transpose(1, 2), state)
        x = x + self.inter_ln(self.inter_fc(inter.transpose(1, 2)))
        return x.permute(0, 3, 1, 2), state


class Encoder(nn.Module):
    """129 bands of input maps -> 33 bands of `width` feats, every level kept for the decoder."""

    def __init__(self, n_in: int, width: int, inner: int) -> None:
        super().__init__()
        self.en_convs = nn.ModuleList(
            [StridedConv(n_in, width), StridedConv(width, width, groups=2)]
            + [GTBlock(dilation, width, inner) for dilation in DILATIONS]
        )

    def forward(
        self, x: Tensor, states: tuple[GTBlockState, ...]
    ) -> tuple[Tensor, list[Tensor], tuple[GTBlockState, ...]]:
        skips, new_states = [], []
        x = _neighbours(x)
        for conv in self.en_convs[:2]:
            x = conv(x)
            skips.append(x)
        for block, state in zip(self.en_convs[2:], states or (None,) * 3, strict=True):
            x, state = block(x, state)
            skips.append(x)
            new_states.append(state)
        return x, skips, tuple(new_states)


class Decoder(nn.Module):
    """The encoder's mirror: each level is fed by the sum with the encoder's output there."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.de_convs = nn.ModuleList(
            [GTBlock(dilation, width, inner, transposed=True) for dilation in reversed(DILATIONS)]
            + [
                StridedConv(width, width, groups=2, transposed=True),
                StridedConv(width, 2, transposed=True, last=True),
            ]
        )

    def forward(
        self, x: Tensor, skips: list[Tensor], states: tuple[GTBlockState, ...]
    ) -> tuple[Tensor, tuple[GTBlockState, ...]]:
        new_states = []
        for block, state in zip(self.de_convs[:3], states or (None,) * 3, strict=True):
            x, state = block(x + skips.pop(), state)
            new_states.append(state)
        for conv in self.de_convs[3:]:
            x = conv(x + skips.pop())
        return x, tuple(new_states)
