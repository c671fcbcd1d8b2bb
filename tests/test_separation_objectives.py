"""The objectives of separation against their literal forms, and where nothing is to be told."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch

from separation import objectives


def _spectra(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.complex64, generator=generator)


def _embeddings(batch: int = 2, embed: int = 5, seed: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.nn.functional.normalize(
        torch.randn(batch, 6, 7, embed, generator=generator), dim=-1
    )


def _bins(V: torch.Tensor, S: torch.Tensor, N: torch.Tensor):
    """Embeddings, one-hot labels and weights of one clip, a row a bin, as the papers write them."""
    mixture, speech = S.sum(0) + N, S.sum(0)
    share = speech.abs() ** 2 / (speech.abs() ** 2 + N.abs() ** 2)
    weight = (mixture.abs() * share).flatten()
    labels = torch.nn.functional.one_hot(S.abs().argmax(0).flatten(), len(S)).float()
    return V.flatten(0, 1), labels, weight / weight.sum()


def test_deep_clustering_is_the_squared_difference_of_affinities():
    V, S, N = _embeddings(), _spectra(2, 3, 6, 7), 0.3 * _spectra(2, 6, 7, seed=1)
    expected = 0.0
    for v, s, n in zip(V, S, N, strict=True):
        rows, labels, weight = _bins(v, s, n)
        difference = rows @ rows.T - labels @ labels.T
        expected += float((weight[:, None] * weight * difference.square()).sum()) / 2
    products = objectives.clustering_products(V, S, N)
    assert float(objectives.deep_clustering(products)) == pytest.approx(expected, rel=1e-4)


def test_whitened_clustering_is_what_a_projection_on_the_embeddings_leaves():
    V, S, N = _embeddings(), _spectra(2, 3, 6, 7), 0.3 * _spectra(2, 6, 7, seed=1)
    expected = 0.0
    for v, s, n in zip(V, S, N, strict=True):
        rows, labels, weight = _bins(v, s, n)
        rows, labels = weight.sqrt()[:, None] * rows, weight.sqrt()[:, None] * labels
        labels = labels / labels.norm(dim=0)
        left = labels - rows @ torch.linalg.pinv(rows) @ labels
        expected += float(left.square().sum()) / 3 / 2
    products = objectives.clustering_products(V, S, N)
    whitened = float(objectives.whitened_deep_clustering(products))
    assert whitened == pytest.approx(expected, abs=0.01)  # the ridge


def test_embeddings_that_are_the_labels_are_perfect():
    S, N = _spectra(1, 3, 6, 7), torch.zeros(1, 6, 7, dtype=torch.complex64)
    V = torch.nn.functional.one_hot(S.abs().argmax(1), 5).float()
    products = objectives.clustering_products(V, S, N)
    assert float(objectives.deep_clustering(products)) == pytest.approx(0, abs=1e-5)
    assert float(objectives.whitened_deep_clustering(products)) < 0.01
    turned = objectives.clustering_products(V.roll(1, dims=1), S, N)
    assert float(objectives.deep_clustering(turned)) > 0.1
    assert float(objectives.whitened_deep_clustering(turned)) > 0.1


@pytest.mark.parametrize("n_present", [0, 1, 2, 3])
@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_missing_talkers_and_silence_give_finite_values_and_gradients(n_present, noise):
    S, N = _spectra(2, 3, 6, 7), noise * _spectra(2, 6, 7, seed=1)
    S[:, n_present:] = 0
    X = S.sum(1) + N
    V = _embeddings().requires_grad_()
    logits = torch.zeros(2, 3, 6, 7, requires_grad=True)
    S_hat = torch.sigmoid(logits) * X[:, None]
    products = objectives.clustering_products(V, S, N)
    losses = (
        objectives.deep_clustering(products),
        objectives.whitened_deep_clustering(products),
        objectives.snr_loss(S_hat, S, X),
        objectives.compressed_loss(S_hat, S),
    )
    assert all(torch.isfinite(loss) for loss in losses)
    for gradient in torch.autograd.grad(sum(losses), (V, logits)):
        assert torch.isfinite(gradient).all()


def test_masks_are_put_in_the_order_of_least_error():
    S = _spectra(4, 3, 6, 7) * torch.tensor([1.0, 0.3, 0.0])[:, None, None]
    X = S.sum(1) + 0.1 * _spectra(4, 6, 7, seed=1)
    masks = torch.rand(4, 3, 6, 7, generator=torch.Generator().manual_seed(2))
    order = objectives.best_order(masks, X, S)
    for clip in range(4):
        errors = {
            p: float((masks[clip, list(p)] * X[clip] - S[clip]).abs().square().sum())
            for p in permutations(range(3))
        }
        assert tuple(order[clip].tolist()) == min(errors, key=errors.get)


def test_an_order_is_undone():
    masks = (_spectra(2, 3, 6, 7).abs() > 1).float()
    X = _spectra(2, 6, 7, seed=1)
    mixed = torch.stack([masks[0, [2, 0, 1]], masks[1, [1, 0, 2]]])
    order = objectives.best_order(mixed, X, masks * X[:, None])
    assert torch.equal(objectives.in_order(mixed, order), masks)


def test_the_snr_loss_counts_in_bels_and_missing_talkers_against_the_mixture():
    S = _spectra(1, 2, 6, 7)
    X = S.sum(1)
    perfect = float(objectives.snr_loss(S, S, X))
    assert perfect == pytest.approx(-3, abs=1e-3)
    weaker = float(objectives.snr_loss(0.9 * S, S, X))
    assert weaker == pytest.approx(-1.959, abs=1e-3)  # log10(0.01 + 0.001)
    missing = S.clone()
    missing[:, 1] = 0
    assert float(objectives.snr_loss(missing, missing, X)) == pytest.approx(-2.0, abs=1e-3)
    leaks = torch.stack([S[:, 0], X], dim=1)
    assert float(objectives.snr_loss(leaks, missing, X)) == pytest.approx(-1.479, abs=1e-3)


def test_the_compressed_loss_grows_with_the_error():
    S = _spectra(2, 2, 6, 7)
    losses = [float(objectives.compressed_loss(gain * S, S)) for gain in (1.0, 0.8, 0.3, 0.0)]
    assert losses[0] == pytest.approx(0, abs=1e-6)
    assert losses == sorted(losses)
