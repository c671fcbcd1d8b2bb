"""GTCRN as its paper draws it, layer by layer, in plain PyTorch: the rival of our own in training.

Rong et al., "GTCRN", ICASSP 2024, section 2. Unfolded neighbours, one call of a GRU for each group,
a convolution, a batch norm and an activation where the paper has one. Parameters carry the
published names, so that weights of either network load into the other.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from multichannel.gtcrn_layers import ERB


class Unfold(nn.Module):
    """Each band with its two neighbours (subband feature extraction)."""

    def forward(self, x: Tensor) -> Tensor:
        unfolded = F.unfold(x, (1, 3), padding=(0, 1))
        return unfolded.reshape(x.shape[0], 3 * x.shape[1], *x.shape[2:])


class ConvBlock(nn.Module):
    def __init__(self, conv: nn.Module, n_out: int, act: nn.Module) -> None:
        super().__init__()
        self.conv, self.bn, self.act = conv, nn.BatchNorm2d(n_out), act

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.bn(self.conv(x)))


class TRA(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.att_gru = nn.GRU(width, 2 * width, batch_first=True)
        self.att_fc = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        energy = x.pow(2).mean(dim=-1)
        attention = self.att_gru(energy.transpose(1, 2))[0]
        gain = torch.sigmoid(self.att_fc(attention)).transpose(1, 2)
        return x * gain[..., None]


class GTConvBlock(nn.Module):
    def __init__(self, dilation: int, transposed: bool) -> None:
        super().__init__()
        kind = nn.ConvTranspose2d if transposed else nn.Conv2d
        self.history = 2 * dilation
        self.sfe = Unfold()
        self.point_conv1 = kind(24, 16, 1)
        self.point_bn1, self.point_act = nn.BatchNorm2d(16), nn.PReLU()
        padding = (2 * dilation, 1) if transposed else (0, 1)
        self.depth_conv = kind(16, 16, 3, padding=padding, dilation=(dilation, 1), groups=16)
        self.depth_bn, self.depth_act = nn.BatchNorm2d(16), nn.PReLU()
        self.point_conv2 = kind(16, 8, 1)
        self.point_bn2 = nn.BatchNorm2d(8)
        self.tra = TRA(8)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=1)
        h = self.point_act(self.point_bn1(self.point_conv1(self.sfe(first))))
        h = F.pad(h, (0, 0, self.history, 0))
        h = self.depth_act(self.depth_bn(self.depth_conv(h)))
        h = self.tra(self.point_bn2(self.point_conv2(h)))
        return torch.stack([h, second], dim=2).flatten(1, 2)


class GRNN(nn.Module):
    def __init__(self, n_in: int, n_hidden: int, bidirectional: bool = False) -> None:
        super().__init__()
        sizes = (n_in // 2, n_hidden // 2)
        self.rnn1 = nn.GRU(*sizes, batch_first=True, bidirectional=bidirectional)
        self.rnn2 = nn.GRU(*sizes, batch_first=True, bidirectional=bidirectional)

    def forward(self, x: Tensor) -> Tensor:
        first, second = x.chunk(2, dim=-1)
        return torch.cat([self.rnn1(first)[0], self.rnn2(second)[0]], dim=-1)


class DPGRNN(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.intra_rnn, self.intra_fc = GRNN(16, 8, bidirectional=True), nn.Linear(16, 16)
        self.intra_ln = nn.LayerNorm((33, 16), eps=1e-8)
        self.inter_rnn, self.inter_fc = GRNN(16, 16), nn.Linear(16, 16)
        self.inter_ln = nn.LayerNorm((33, 16), eps=1e-8)

    def forward(self, x: Tensor) -> Tensor:
        x = x.permute(0, 2, 3, 1)
        batch, frames, bands, feats = x.shape
        intra = self.intra_rnn(x.reshape(batch * frames, bands, feats))
        x = x + self.intra_ln(self.intra_fc(intra).reshape(x.shape))
        inter = self.inter_rnn(x.transpose(1, 2).reshape(batch * bands, frames, feats))
        inter = self.inter_fc(inter).reshape(batch, bands, frames, feats).transpose(1, 2)
        return (x + self.inter_ln(inter)).permute(0, 3, 1, 2)


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        strided = {"stride": (1, 2), "padding": (0, 2)}
        self.en_convs = nn.ModuleList(
            [
                ConvBlock(nn.Conv2d(9, 16, (1, 5), **strided), 16, nn.PReLU()),
                ConvBlock(nn.Conv2d(16, 16, (1, 5), **strided, groups=2), 16, nn.PReLU()),
                *(GTConvBlock(dilation, transposed=False) for dilation in (1, 2, 5)),
            ]
        )

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        skips = []
        for layer in self.en_convs:
            x = layer(x)
            skips.append(x)
        return x, skips


class Decoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        strided = {"stride": (1, 2), "padding": (0, 2)}
        self.de_convs = nn.ModuleList(
            [
                *(GTConvBlock(dilation, transposed=True) for dilation in (5, 2, 1)),
                ConvBlock(nn.ConvTranspose2d(16, 16, (1, 5), **strided, groups=2), 16, nn.PReLU()),
                ConvBlock(nn.ConvTranspose2d(16, 2, (1, 5), **strided), 2, nn.Tanh()),
            ]
        )

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        for layer, skip in zip(self.de_convs, reversed(skips), strict=True):
            x = layer(x + skip)
        return x


class PublishedGTCRN(nn.Module):
    """Spectrum ``(batch, 257, frames)`` in, its estimate out."""

    def __init__(self) -> None:
        super().__init__()
        self.erb, self.sfe = ERB(), Unfold()
        self.encoder, self.decoder = Encoder(), Decoder()
        self.dpgrnn1, self.dpgrnn2 = DPGRNN(), DPGRNN()

    def forward(self, X: Tensor) -> Tensor:
        real, imag = X.real.transpose(1, 2), X.imag.transpose(1, 2)
        magnitude = torch.sqrt(real**2 + imag**2 + 1e-12)
        x = self.sfe(self.erb.analyse(torch.stack([magnitude, real, imag], dim=1)))
        x, skips = self.encoder(x)
        x = self.decoder(self.dpgrnn2(self.dpgrnn1(x)), skips)
        mask = self.erb.synthesise(x)
        s_real = real * mask[:, 0] - imag * mask[:, 1]
        s_imag = real * mask[:, 1] + imag * mask[:, 0]
        return torch.complex(s_real, s_imag).transpose(1, 2)
