"""The beam that a mask makes, as a function that gradients pass: what a mask is for.

A mask network is trained to clean a microphone, but is there to steer a beam. The loss `beam` is
minus the SI-SNR of the beam towards the early image at mic 0, through the same covariances, loading
and MVDR as `LookaheadBeam` has on a clip of one block. No step on the way needs an eigenvector, so
the gradient is unique.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from multichannel.beamform import apply_beamformer, mvdr_souden
from multichannel.frontend import FrontEndConfig, presence_of
from multichannel.loading import loading_for_frames
from multichannel.spatial import masked_covariance
from multichannel.stft import STFT, STFTConfig


class MaskedBeam(nn.Module):
    """Beams of a batch of clips, each from the masks of two of its mics.

    Args:
        stft: the mask network's transform.
        config: of the front-end.
    """

    def __init__(self, stft: STFT, config: FrontEndConfig | None = None) -> None:
        super().__init__()
        self.config = config or FrontEndConfig()
        self.stft, self.long = stft, STFT(STFTConfig(self.config.beam_n_fft, self.config.beam_hop))

    def forward(self, net: nn.Module, mixture: Tensor) -> Tensor:
        """Beams ``(batch, samples)``, seen from mic 0, of ``mixture (batch, mics, samples)``.

        Args:
            net: one-input GTCRN.
            mixture: mics that are silent throughout at the end count as not there.
        """
        n_mics = (mixture.abs().amax(-1) > 0).sum(-1).clamp(min=1)
        # as `MaskNetwork` spreads two mics over an array: the first and the one half-way
        half_way = (n_mics / 2).round().long()[:, None, None].expand(-1, 1, mixture.shape[-1])
        chosen = torch.cat([mixture[:, :1], mixture.gather(1, half_way)], dim=1)
        X = self.stft(chosen)
        mask = net(X.flatten(0, 1).unsqueeze(1))[0].unflatten(0, chosen.shape[:2])
        s = self.stft.inverse(mask * X, mixture.shape[-1])
        presence = presence_of(self.long(s), self.long(chosen))
        Z = self.long(mixture)
        classes = torch.stack([presence, 1 - presence], dim=-3)
        psd_speech, psd_noise = masked_covariance(Z, classes).unbind(-4)
        n_noise_frames = (1 - presence.detach()).sum(-1)
        few = torch.stack(
            [loading_for_frames(n, int(m)) for n, m in zip(n_noise_frames, n_mics, strict=True)]
        )
        w = mvdr_souden(psd_speech, psd_noise, 0, self.config.loading + few)
        return self.long.inverse(apply_beamformer(w, Z), mixture.shape[-1])
