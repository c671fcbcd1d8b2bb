"""Covariances, offline and recursive, the reference-free part of the front-end."""

import pytest
import reference
import torch

from multichannel import compiled
from multichannel.compiled import can_compile
from multichannel.loading import load_diagonal, loading_for_frames
from multichannel.spatial import (
    covariance_sums,
    finite_as_a_rule,
    finite_or_zero,
    masked_covariance,
    recursive_average,
    recursive_covariance,
)
from multichannel.usable import usable_mics


def spectrum(*shape, seed=0, dtype=torch.complex64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def weights(*shape, seed=1, dtype=torch.float32):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def relative_error(estimate, truth):
    truth = torch.as_tensor(truth)
    return float((estimate - truth).abs().max() / truth.abs().max())


def test_covariance_equals_the_literal_sum():
    X, mask = spectrum(4, 5, 40), weights(5, 40)
    psd = masked_covariance(X, mask)
    assert psd.dtype == torch.complex64
    assert relative_error(psd, reference.masked_covariance(X.numpy(), mask.numpy())) < 1e-6


def test_no_mask_is_a_mask_of_ones():
    X = spectrum(3, 4, 10)
    torch.testing.assert_close(masked_covariance(X), masked_covariance(X, torch.ones(4, 10)))


def test_batched_covariance_equals_looped():
    X, mask = spectrum(2, 3, 4, 5, 9), weights(2, 3, 5, 9)
    looped = [[masked_covariance(X[i, j], mask[i, j]) for j in range(3)] for i in range(2)]
    expected = torch.stack([torch.stack(row) for row in looped])
    torch.testing.assert_close(masked_covariance(X, mask), expected)


def test_a_mask_per_talker_gives_a_covariance_per_talker():
    X, masks = spectrum(2, 3, 4, 9), weights(2, 5, 4, 9)
    expected = torch.stack([masked_covariance(X, masks[:, k]) for k in range(5)], dim=1)
    torch.testing.assert_close(masked_covariance(X, masks), expected)


def test_memory_layout_does_not_matter():
    X, mask = spectrum(3, 4, 9), weights(4, 9)
    by_frame = X.transpose(-1, -2).contiguous().transpose(-1, -2)
    torch.testing.assert_close(masked_covariance(by_frame, mask), masked_covariance(X, mask))


def test_sums_of_blocks_add_up_to_the_whole():
    X, mask = spectrum(3, 4, 50), weights(4, 50)
    blocks = [covariance_sums(X[..., i : i + 7], mask[..., i : i + 7]) for i in range(0, 50, 7)]
    total = blocks[0]
    for block in blocks[1:]:
        total = total + block
    torch.testing.assert_close(total.mean(), masked_covariance(X, mask))


def test_zero_mask_gives_zero_covariance():
    assert masked_covariance(spectrum(3, 4, 9), torch.zeros(4, 9)).abs().max() == 0


def test_values_that_are_not_finite_say_nothing():
    X, mask = spectrum(3, 4, 9), weights(4, 9)
    X[1, 2, 3], X[0, 1, 4] = torch.nan, torch.inf
    mask[3, 5] = torch.nan
    zeroed_mask = torch.nan_to_num(mask)
    expected = masked_covariance(finite_or_zero(X), zeroed_mask)
    torch.testing.assert_close(masked_covariance(X, mask), expected)
    recursive, _ = recursive_covariance(X, mask, 0.9)
    expected, _ = recursive_covariance(finite_or_zero(X), zeroed_mask, 0.9)
    assert torch.isfinite(recursive).all()
    torch.testing.assert_close(recursive, expected)


def test_covariance_gradient_is_right():
    X = spectrum(2, 2, 4, dtype=torch.complex128).requires_grad_()
    mask = weights(2, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(masked_covariance, (X, mask))


@pytest.mark.parametrize("forgetting", [0.0, 0.6, 0.97, 1.0])
def test_recursive_covariance_equals_the_literal_loop(forgetting):
    X, mask = spectrum(3, 4, 100), weights(4, 100)
    psd, _ = recursive_covariance(X, mask, forgetting)
    assert psd.shape == (4, 100, 3, 3)
    literal = reference.recursive_covariance(X.numpy(), mask.numpy(), forgetting)
    assert relative_error(psd, literal) < 1e-5


@pytest.mark.parametrize("talkers", [(), (2,)])
def test_chunking_does_not_change_the_recursive_covariance(talkers):
    X, mask = spectrum(3, 4, 90), weights(*talkers, 4, 90)
    whole, whole_state = recursive_covariance(X, mask, 0.95)
    state, parts = None, []
    for start, stop in [(0, 1), (1, 1), (1, 2), (2, 40), (40, 90)]:
        part, state = recursive_covariance(X[..., start:stop], mask[..., start:stop], 0.95, state)
        parts.append(part)
    torch.testing.assert_close(torch.cat(parts, -3), whole)
    torch.testing.assert_close(state.mean(), whole_state.mean())


def test_recursive_covariance_without_forgetting_ends_at_the_offline_one():
    X, mask = spectrum(3, 4, 70), weights(4, 70)
    psd, _ = recursive_covariance(X, mask, 1.0)
    torch.testing.assert_close(psd[:, -1], masked_covariance(X, mask))


def test_the_first_frame_of_a_recursive_average_is_unbiased():
    mean, _ = recursive_average(torch.full((2, 5), 3.0), 0.99)
    torch.testing.assert_close(mean, torch.full((2, 5), 3.0))


def test_a_recursive_average_holds_through_a_long_silence():
    x, weight = torch.full((5000,), 7.0), torch.zeros(5000)
    x[3:], weight[:3] = 0.0, 1.0
    mean, state = recursive_average(x, 0.9, weight)
    torch.testing.assert_close(mean, torch.full((5000,), 7.0))
    after, _ = recursive_average(torch.full((1,), 2.0), 0.9, None, state)
    torch.testing.assert_close(after, torch.full((1,), 2.0))


def test_recursive_average_gradient_is_right():
    x = spectrum(2, 5, dtype=torch.complex128).requires_grad_()
    weight = weights(5, dtype=torch.float64).requires_grad_()

    def mean(x, weight):
        return recursive_average(x, 0.8, weight)[0]

    assert torch.autograd.gradcheck(mean, (x, weight))


def test_loading_keeps_powers_and_shrinks_what_mics_have_in_common():
    psd = torch.tensor([[[1.0, 0.5j], [-0.5j, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    expected = torch.tensor([[[1.0, 0.4j], [-0.4j, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    expected = expected.to(torch.complex128) + 1e-3 * torch.eye(2)
    for relative in (0.25, torch.full((2,), 0.25)):
        loaded = load_diagonal(psd, relative, floor=1e-3)
        torch.testing.assert_close(loaded, expected, rtol=1e-6, atol=1e-9)


def test_loading_does_not_depend_on_the_level_of_the_signal_or_of_a_mic():
    psd = masked_covariance(spectrum(3, 4, 9))
    for gains in (torch.full((3,), 1e-8), torch.tensor([1e4, 1.0, 1e-4])):
        scaled = load_diagonal(psd * gains[:, None] * gains, 0.1)
        expected = load_diagonal(psd, 0.1) * gains[:, None] * gains
        torch.testing.assert_close(scaled, expected, rtol=1e-4, atol=0)


def test_few_frames_load_more():
    loading = loading_for_frames(torch.tensor([0.0, 1.0, 60.0, 1e6]), 6)
    assert torch.isfinite(loading).all()
    assert (loading.diff() < 0).all()
    torch.testing.assert_close(
        loading[1:3], torch.tensor([216.0, 0.001]).double(), rtol=2e-3, atol=0
    )
    assert loading[3] < 2e-6


def test_usable_mics_are_finite_alive_and_different():
    X = spectrum(6, 3, 50)
    X[1] = 0
    X[2, 1] *= 1e-6
    X[4] = X[3]
    psd = masked_covariance(X)
    psd[:, 5], psd[..., 5] = torch.nan, torch.nan
    table = [[1, 0, 1, 1, 0, 0], [1, 0, 0, 1, 0, 0], [1, 0, 1, 1, 0, 0]]
    assert usable_mics(psd).int().tolist() == table
    of_two_copies_the_reference = [[*row[:3], 0, 1, 0] for row in table]
    assert usable_mics(psd, 4).int().tolist() == of_two_copies_the_reference
    assert usable_mics(torch.zeros(2, 4, 4, dtype=torch.complex64)).all()


def test_mics_with_a_broken_entry_between_them_are_not_usable():
    psd = masked_covariance(spectrum(4, 1, 50))
    psd[0, 1, 3] = psd[0, 3, 1] = torch.nan
    assert usable_mics(psd).int().tolist() == [[1, 0, 1, 0]]


@pytest.mark.parametrize(
    ("X", "mask", "found"),
    [
        (torch.zeros(2, 3, 4), None, "torch.float32"),
        (spectrum(3, 4), None, r"\(3, 4\)"),
        (spectrum(2, 3, 4), torch.ones(3, 5), r"\(3, 5\)"),
        (spectrum(2, 3, 4), torch.ones(4), r"\(4,\)"),
    ],
)
def test_wrong_input_is_named(X, mask, found):
    with pytest.raises(ValueError, match=f"expected .*found.*{found}"):
        masked_covariance(X, mask)


def test_wrong_forgetting_is_named():
    with pytest.raises(ValueError, match="expected forgetting"):
        recursive_average(torch.zeros(3), 1.5)


def test_many_blocks_stay_exact():
    """Float32 sums over many blocks lose nothing that matters."""
    X = spectrum(2, 1, 4000)
    total = covariance_sums(X[..., :4])
    for start in range(4, 4000, 4):
        total = total + covariance_sums(X[..., start : start + 4])
    assert relative_error(total.mean(), masked_covariance(X.to(torch.complex128))) < 1e-5


@pytest.mark.skipif(not can_compile(), reason="needs a C++ compiler")
@pytest.mark.parametrize("layout", ["frames outermost", "frames innermost", "with gaps"])
@pytest.mark.parametrize(("n_mics", "n_freqs", "n_frames"), [(1, 5, 1), (6, 33, 50), (17, 17, 7)])
def test_compiled_sums_equal_pytorch(monkeypatch, layout, n_mics, n_freqs, n_frames):
    generator = torch.Generator().manual_seed(n_mics)
    X = torch.randn(2, n_mics, n_freqs, 2 * n_frames, dtype=torch.complex64, generator=generator)
    X = X[..., ::2] if layout == "with gaps" else X[..., :n_frames]
    X = X.mT.contiguous().mT if layout == "frames outermost" else X
    mask = torch.rand(2, 3, n_freqs, n_frames, generator=generator)
    found = covariance_sums(X, mask, 2 * X[:, :1].conj())
    one = covariance_sums(X[0], mask[0, 0])
    monkeypatch.setattr(compiled, "can_compile", lambda: False)
    expected = covariance_sums(X, mask, 2 * X[:, :1].conj())
    assert found.total.shape == (2, 3, n_freqs, n_mics + 1, n_mics + 1)
    torch.testing.assert_close(found.total, expected.total, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(one.total, found.total[0, 0, :, :-1, :-1], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), complex(1, float("-inf"))])
def test_one_look_at_the_sum_finds_every_broken_value(value):
    X = torch.randn(3, 5, 7, dtype=torch.complex64)
    assert finite_as_a_rule(X) is X
    X[1, 2, 3] = value
    assert torch.equal(finite_as_a_rule(X), finite_or_zero(X))
    X[0, 0, 0] = -value  # what cancels is no number
    assert torch.equal(finite_as_a_rule(X), finite_or_zero(X))
