"""Training objectives of separation, each a mean over the batch and finite on silence.

Axes: masks and spectra of talkers ``(batch, talkers, freqs, frames)``, embeddings ``V (batch,
freqs, frames, embed)``. A talker who is missing is silence: a target of zeros.
"""

from __future__ import annotations

from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

_EPS = 1e-12
_RIDGE = 1e-3  # of the mean energy of an embedding's dimensions: V^T V may be singular
_LEAST = 1e-3  # an error 30 dB below the talker is as good as none
# As is a missing talker 10 dB below the mixture; were it 20, silence would pay more than a third.
_LEAST_MISSING = 1e-1


class Products(NamedTuple):
    """Inner products over the weighted bins of a clip: all that the clustering objectives need.

    VV ``(batch, embed, embed)``, VY ``(batch, embed, talkers)``, and of ``Y^T Y`` the diagonal,
    counts ``(batch, talkers)``: as each bin has one talker the rest is zero.
    """

    VV: Tensor
    VY: Tensor
    counts: Tensor


def clustering_products(V: Tensor, S: Tensor, N: Tensor) -> Products:
    """Products of embeddings and labels, where a bin's label is its loudest talker.

    The weights of a clip add up to one (to zero in silence): the magnitude of the mixture (the
    magnitude ratio of Wang, Le Roux & Hershey 2018), less where noise is louder than speech.

    Args:
        V: embeddings ``(batch, freqs, frames, embed)``.
        S: spectra of the talkers ``(batch, talkers, freqs, frames)``.
        N: spectrum of the rest ``(batch, freqs, frames)``.
    """
    with torch.no_grad():
        power, speech = _squared(S), S.sum(1)
        Y = (power == power.amax(1, keepdim=True)).to(power.dtype)
        share = _squared(speech) / (_squared(speech) + _squared(N) + _EPS)
        weight = _squared(speech + N).sqrt() * share
        weight = weight / (weight.sum(dim=(-1, -2), keepdim=True) + _EPS)
        # frames before freqs: how spectra and embeddings lie in memory
        weighted = (Y * weight.unsqueeze(1)).transpose(-1, -2).flatten(2)
        weight = weight.transpose(-1, -2).flatten(1)
    rows = V.transpose(1, 2).flatten(1, 2)
    VV = torch.einsum("bnd,bne->bde", rows, rows * weight.unsqueeze(-1))
    return Products(VV, torch.einsum("bnd,bkn->bdk", rows, weighted), weighted.sum(-1))


def deep_clustering(products: Products) -> Tensor:
    """``|V V^T - Y Y^T|^2`` between all weighted bins, without a matrix of all bins.

    Hershey, Chen, Le Roux & Watanabe, "Deep clustering", ICASSP 2016, multiplied out:
    ``|V^T V|^2 - 2 |V^T Y|^2 + |Y^T Y|^2`` with rows scaled by the square root of their weights.
    As those add up to one, the value is a share of pairs that are judged wrongly.
    """
    VV, VY, counts = products
    return (_energy(VV) - 2 * _energy(VY) + counts.square().sum(-1)).mean()


def whitened_deep_clustering(products: Products) -> Tensor:
    """``talkers - tr((V^T V)^-1 V^T Y (Y^T Y)^-1 Y^T V)``: what V cannot tell of the labels.

    The whitened k-means objective of Wang, Le Roux & Hershey, "Alternative objective functions for
    deep clustering", ICASSP 2018, but for a constant, over the number of talkers: 0 when the labels
    lie in the span of V, 1 when they are orthogonal to it. Missing talkers count neither way.
    """
    VV, VY, counts = products
    size = VV.diagonal(dim1=-1, dim2=-2).mean(-1)[:, None, None]
    ridge = (_RIDGE * size + _EPS) * torch.eye(VV.shape[-1], dtype=VV.dtype, device=VV.device)
    present = counts > _EPS
    VY = VY * (torch.where(present, counts, 1).rsqrt() * present)[:, None]
    explained = (VY * torch.linalg.solve(VV + ridge, VY)).sum(dim=(-1, -2))
    n_present = present.sum(-1)
    return ((n_present - explained) / n_present.clamp(min=1)).mean()


def _energy(x: Tensor) -> Tensor:
    return x.square().sum(dim=(-1, -2))


def best_order(masks: Tensor, X: Tensor, S: Tensor) -> Tensor:
    """The order of the masks in which their squared error is least, ``(batch, talkers)``.

    Mask ``order[b, k]`` belongs to talker ``k`` (Kolbaek, Yu, Tan & Jensen 2017). The error of mask
    i for talker j is ``|m_i X|^2 - 2 Re <m_i X, S_j> + |S_j|^2``, of which an order changes the
    inner products alone.

    Args:
        masks: real ``(batch, talkers, freqs, frames)``.
        X: spectrum that is masked ``(batch, freqs, frames)``.
        S: spectra of the talkers ``(batch, talkers, freqs, frames)``.
    """
    with torch.no_grad():
        return order_of(torch.einsum("bift,bjft->bij", masks, (X.unsqueeze(1).conj() * S).real))


def order_of(common: Tensor) -> Tensor:
    """The order ``(batch, talkers)`` whose inner products of estimates and talkers ``(batch,
    talkers, talkers)`` add up to the most; an argument of `in_order`."""
    n_talkers = common.shape[-1]
    orders = torch.tensor(list(permutations(range(n_talkers))), device=common.device)
    talkers = torch.arange(n_talkers, device=common.device)
    return orders[common[:, orders, talkers].sum(-1).argmax(-1)]


def in_order(x: Tensor, order: Tensor) -> Tensor:
    """Talkers of ``x (batch, talkers, ...)`` in that order."""
    return x[torch.arange(len(x), device=x.device)[:, None], order]


def snr_loss(S_hat: Tensor, S: Tensor, X: Tensor) -> Tensor:
    """Log10 of the error over the talker; of a missing one, of what is left over the mixture.

    Both are thresholded as by Wisdom et al., "What's all the fuss about free universal sound
    separation data?", ICASSP 2021, ``log10(error / whole + least)``, so a perfect estimate gives
    -3, silence for a missing talker -1, and gradients stay finite.

    Args:
        S_hat, S: spectra of estimates and talkers ``(batch, talkers, freqs, frames)``, in order.
        X: spectrum of the mixture ``(batch, freqs, frames)``.
    """
    error, talker = _power(S_hat - S), _power(S)
    mixture = _power(X)[:, None].expand_as(talker)
    present = talker > 1e-6 * mixture  # 60 dB below: nobody can hear him
    whole, least = (
        torch.where(present, talker, mixture),
        torch.where(present, _LEAST, _LEAST_MISSING),
    )
    return torch.log10(error / (whole + _EPS) + least).mean()


def compressed_loss(S_hat: Tensor, S: Tensor, power: float = 0.3) -> Tensor:
    """Squared error of compressed spectra, 30 parts complex and 70 parts magnitude, as GTCRN's.

    Low frequencies and loud talkers do not drown the rest, as they do in `snr_loss`.

    Args:
        S_hat, S: spectra of estimates and talkers, in order.
        power: exponent of the magnitudes.
    """
    e_mag, r_mag = (_squared(X).add(_EPS).sqrt() for X in (S_hat, S))
    e_small, r_small = e_mag**power, r_mag**power
    difference = S_hat * (e_small / e_mag) - S * (r_small / r_mag)
    return 30 * _squared(difference).mean() + 70 * (e_small - r_small).square().mean()


def _power(X: Tensor) -> Tensor:
    return _squared(X).sum(dim=(-1, -2))


def _squared(X: Tensor) -> Tensor:
    """Squared magnitude, with a gradient at zero."""
    return X.real.square() + X.imag.square()
