"""A beam for each talker from the masks: of least noise, with nulls on the others, or Wiener's.

A way to make them is ``(X, masks, reference_mic, sums) -> images (classes, freqs, frames)``: what
each class adds to the reference mic, so that all of them add up to it. The last class is the noise.
The covariances of the classes are those of ``X``, or ``sums`` where more was heard than ``X``.

Axes: spectrum ``X (mics, freqs, frames)``, masks ``(classes, freqs, frames)``, weights
``(talkers, freqs, mics)``.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from multichannel.beamform import apply_beamformer, mvdr_souden
from multichannel.loading import loading_for_frames
from multichannel.spatial import CovarianceState, covariance_sums
from multichannel.steered import lcmv
from multichannel.steering import relative_transfer_function
from separation.wiener import wiener_images

_LOADING = 1e-3


def mvdr_weights(sums: CovarianceState, reference_mic: int = 0) -> Tensor:
    """MVDR of each talker, all other classes being the noise.

    Args:
        sums: of the classes ``(classes, freqs, mics, mics)``.
        reference_mic: whose view is kept.
    """
    rest = sums.total.sum(0) - sums.total
    n_frames = (sums.weight.sum(0) - sums.weight)[:-1, :, 0, 0]
    loading = _LOADING + loading_for_frames(n_frames, rest.shape[-1])
    return mvdr_souden(sums.total[:-1], rest[:-1], reference_mic, loading)


def lcmv_weights(sums: CovarianceState, reference_mic: int = 0) -> Tensor:
    """LCMV of each talker: nulls on the others, and of what is left the least noise.

    A talker's transfer function is told by his covariance against the noise's.

    Args:
        sums, reference_mic: as `mvdr_weights`.
    """
    talkers, noise = sums.total[:-1], sums.total[-1]
    loading = _LOADING + loading_for_frames(sums.weight[-1, :, 0, 0], noise.shape[-1])
    rtfs = relative_transfer_function(talkers, noise, reference_mic, loading=loading)
    index = torch.arange(len(rtfs), device=rtfs.device)[:, None, None]
    weights = []
    for k, rtf in enumerate(rtfs):
        others = torch.where(index == k, 0, rtfs)  # no way there, no null
        weights.append(lcmv(noise, rtf, others, reference_mic, loading))
    return torch.stack(weights)


def mvdr_images(
    X: Tensor, masks: Tensor, reference_mic: int = 0, sums: CovarianceState | None = None
) -> Tensor:
    """Images by `mvdr_weights`."""
    return _images(mvdr_weights(sums or covariance_sums(X, masks), reference_mic), X, reference_mic)


def lcmv_images(
    X: Tensor, masks: Tensor, reference_mic: int = 0, sums: CovarianceState | None = None
) -> Tensor:
    """Images by `lcmv_weights`."""
    return _images(lcmv_weights(sums or covariance_sums(X, masks), reference_mic), X, reference_mic)


def _images(w: Tensor, X: Tensor, reference_mic: int) -> Tensor:
    """The beams, and what they leave of the reference mic as the noise."""
    talkers = apply_beamformer(w, X)
    return torch.cat([talkers, (X[reference_mic] - talkers.sum(0))[None]])


Beams = Callable[[Tensor, Tensor, int, CovarianceState | None], Tensor]
BEAMS: dict[str, Beams] = {"wiener": wiener_images, "mvdr": mvdr_images, "lcmv": lcmv_images}
