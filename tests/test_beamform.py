"""Beamformers against their formulas, their constraints and their symmetries."""

import numpy as np
import pytest
import reference
import torch
from scenes import circle
from test_steering import FREQS, random_psd

from multichannel.beamform import (
    apply_beamformer,
    choose_reference_mic,
    gev,
    mvdr_rtf,
    mvdr_souden,
    sdw_mwf,
)
from multichannel.compiled import can_compile
from multichannel.spatial import masked_covariance, recursive_covariance
from multichannel.steered import delay_and_sum, lcmv, mpdr, mvdr_steered, superdirective
from multichannel.steering import (
    diffuse_covariance,
    relative_transfer_function,
    steering_vector,
)

BLIND = {
    "mvdr_souden": mvdr_souden,
    "gev": gev,
    "sdw_mwf": sdw_mwf,
    "sdw_mwf_rank1": lambda s, n, r=0, **kwargs: sdw_mwf(s, n, r, mu=2.0, rank1=True, **kwargs),
    "mvdr_rtf": lambda s, n, r=0, **kwargs: mvdr_rtf(
        n, relative_transfer_function(s, n, r, **kwargs), r, **kwargs
    ),
}
STEERED = {
    "mvdr_steered": mvdr_steered,
    "mpdr": mpdr,
    "lcmv": lambda n, d: lcmv(n, d, d.conj().unsqueeze(0)),  # a null at the mirrored azimuth
}


def transfer_functions(*shape, seed=5):
    d = torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.complex64)
    return d / d[..., :1]


def noisy_speech(n_freqs=33, n_mics=5, seed=0, dtype=torch.complex64):
    """Speech of nearly rank 1, and noise of full rank."""
    d = transfer_functions(n_freqs, n_mics, seed=seed).to(dtype)
    speech = d.unsqueeze(-1) * d.conj().unsqueeze(-2)
    speech = speech + 0.1 * random_psd(n_freqs, n_mics, seed=seed + 1, dtype=dtype)
    return speech, random_psd(n_freqs, n_mics, seed=seed + 2, dtype=dtype)


def float64(*tensors):
    return [tensor.numpy().astype(complex) for tensor in tensors]


def assert_equals_literal(w, literal):
    assert w.dtype == torch.complex64
    error = np.abs(w.numpy() - literal).max(-1) / np.abs(literal).max(-1)
    assert error.max() <= 1e-4


@pytest.mark.parametrize(("n_mics", "r"), [(1, 0), (2, 1), (5, 0), (5, 3), (16, 9)])
def test_blind_beamformers_equal_the_literal_ones(n_mics, r):
    psds = noisy_speech(n_mics=n_mics)
    s, n = float64(*psds)
    assert_equals_literal(mvdr_souden(*psds, r), reference.mvdr_souden(s, n, r))
    assert_equals_literal(gev(*psds, r), reference.gev(s, n, r))
    assert_equals_literal(sdw_mwf(*psds, r, mu=3.0), reference.sdw_mwf(s, n, r, 3.0))
    rank1 = sdw_mwf(*psds, r, mu=3.0, rank1=True)
    assert_equals_literal(rank1, reference.sdw_mwf_rank1(s, n, r, 3.0))
    rtf = relative_transfer_function(*psds, r)
    literal_rtf = reference.relative_transfer_function(s, n, r)
    assert_equals_literal(mvdr_rtf(psds[1], rtf, r), reference.mvdr(n, literal_rtf))


def test_steered_beamformers_equal_the_literal_ones():
    psd = random_psd(33, 6)
    d = steering_vector(circle(), FREQS, 40.0)
    interferers = steering_vector(circle(), FREQS, torch.tensor([100.0, 170.0, 250.0]))
    diffuse = diffuse_covariance(circle(), FREQS)
    n, one, gamma = float64(psd, d, diffuse)
    assert_equals_literal(mvdr_steered(psd, d), reference.mvdr(n, one))
    assert_equals_literal(mpdr(psd, d), reference.mvdr(n, one, relative=3e-2))
    assert_equals_literal(delay_and_sum(d), reference.mvdr(np.tile(np.eye(6), (33, 1, 1)), one))
    assert_equals_literal(superdirective(diffuse, d), reference.mvdr(gamma, one, relative=1e-2))
    columns = np.stack([one, *float64(*interferers)], -1)[4:]  # below 1 kHz they hardly differ
    literal = reference.lcmv(n[4:], columns, np.array([1, 0, 0, 0]))
    assert_equals_literal(lcmv(psd, d, interferers)[4:], literal)


def test_application_equals_the_literal_one():
    X = random_psd(6, 7, 9)[..., 0].movedim(-1, 0)  # (mics, freqs, frames)
    w = transfer_functions(6, 9)
    np.testing.assert_allclose(
        apply_beamformer(w, X).numpy(), reference.apply(*float64(w, X)), rtol=1e-4, atol=1e-5
    )


def response(w, d):
    return (w.conj().to(torch.complex128) * d.to(torch.complex128)).sum(-1)


@pytest.mark.parametrize("n_mics", [1, 2, 3, 6, 16])
@pytest.mark.parametrize("azimuth_deg", [0.0, 77.0])
def test_distortionless_towards_the_target(n_mics, azimuth_deg):
    positions = circle(n_mics)
    d = steering_vector(positions, FREQS, azimuth_deg, reference_mic=0)
    psd = random_psd(33, n_mics)
    others = steering_vector(positions, FREQS, torch.tensor([30.0, 180.0]))
    for w in (
        mvdr_steered(psd, d),
        mvdr_rtf(psd, d),
        mpdr(psd, d),
        lcmv(psd, d, others),
        delay_and_sum(d),
        superdirective(diffuse_covariance(positions, FREQS), d),
        mvdr_souden(d.unsqueeze(-1) * d.conj().unsqueeze(-2), psd),
    ):
        assert (response(w, d) - 1).abs().max() <= 1e-6


def test_lcmv_nulls_every_interferer():
    d = steering_vector(circle(), FREQS, 40.0)
    interferers = steering_vector(circle(), FREQS, torch.tensor([100.0, 170.0, 250.0]))
    w = lcmv(random_psd(33, 6), d, 5 * interferers)
    assert response(w, interferers)[:, 4:].abs().max() < 1e-5


def test_lcmv_keeps_the_target_when_it_cannot_be_told_from_an_interferer():
    d = transfer_functions(9, 2)
    others = torch.stack([d, *transfer_functions(3, 9, 2, seed=8)])
    assert (response(lcmv(random_psd(9, 2), d, others), d) - 1).abs().max() <= 1e-6


def test_souden_equals_rtf_mvdr_on_rank_one_speech():
    d, noise = transfer_functions(33, 5), random_psd(33, 5)
    speech = d.unsqueeze(-1) * d.conj().unsqueeze(-2)
    for mic in range(5):
        souden = mvdr_souden(speech, noise, mic)
        torch.testing.assert_close(souden, mvdr_rtf(noise, d / d[:, mic : mic + 1]))


def test_wiener_filter_without_noise_weight_is_mvdr():
    psds = noisy_speech()
    torch.testing.assert_close(sdw_mwf(*psds, mu=0.0, rank1=True), mvdr_souden(*psds))


def test_gev_has_the_highest_snr():
    speech, noise = noisy_speech()

    def power(psd, w):
        return response(w, (psd @ w.unsqueeze(-1)).squeeze(-1)).real

    def snr(w):
        return power(speech, w) / power(noise, w)

    best = snr(gev(speech, noise))
    for name, beamformer in BLIND.items():
        assert (snr(beamformer(speech, noise)) <= best * (1 + 1e-5)).all(), name


@pytest.mark.parametrize("scale", [1e-4, 1e4])
def test_weights_do_not_change_when_the_signal_is_scaled(scale):
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(6, 33, 50, generator=generator, dtype=torch.complex64)
    mask = torch.rand(33, 50, generator=generator)
    d = steering_vector(circle(), FREQS, 40.0)

    def weights(X):
        psds = masked_covariance(X, torch.stack([mask, 1 - mask]))
        blind = [beamformer(*psds) for beamformer in BLIND.values()]
        steered = [beamformer(psds[1], d) for beamformer in STEERED.values()]
        return torch.stack(blind + steered)

    torch.testing.assert_close(weights(X * scale), weights(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", BLIND)
def test_batched_equals_looped(name):
    pairs = [noisy_speech(seed=10 * seed) for seed in range(4)]
    speech, noise = (torch.stack(psds).unflatten(0, (2, 2)) for psds in zip(*pairs, strict=True))
    mics = torch.tensor([[0, 1], [2, 3]])
    w = BLIND[name](speech, noise, mics)
    looped = [BLIND[name](*pair, mic) for mic, pair in enumerate(pairs)]
    torch.testing.assert_close(w.flatten(0, 1), torch.stack(looped))


def test_weights_of_every_frame_are_applied_to_their_frame():
    generator = torch.Generator().manual_seed(0)
    X = torch.randn(2, 3, 5, 8, generator=generator, dtype=torch.complex64)
    mask = torch.rand(2, 5, 8, generator=generator)
    speech, _ = recursive_covariance(X, mask, 0.9)
    noise, _ = recursive_covariance(X, 1 - mask, 0.99)
    Y = apply_beamformer(mvdr_souden(speech, noise, 1), X)
    assert Y.shape == (2, 5, 8)
    for t in range(8):
        w = mvdr_souden(speech[:, :, t], noise[:, :, t], 1)
        torch.testing.assert_close(Y[..., t], apply_beamformer(w, X[..., t : t + 1])[..., 0])


@pytest.mark.parametrize("name", BLIND)
def test_gradients_of_blind_beamformers_are_right(name):
    psds = [psd.requires_grad_() for psd in noisy_speech(2, 3, dtype=torch.complex128)]

    def weights(speech, noise):  # Hermitian also where gradcheck disturbs it
        return BLIND[name]((speech + speech.mH) / 2, (noise + noise.mH) / 2, 1)

    assert torch.autograd.gradcheck(weights, psds)


@pytest.mark.parametrize("name", STEERED)
def test_gradients_of_steered_beamformers_are_right(name):
    psd = random_psd(33, 6, dtype=torch.complex128)[:3].requires_grad_()
    d = steering_vector(circle(), FREQS, 40.0).to(torch.complex128)[8:11].requires_grad_()

    def weights(psd, d):
        return STEERED[name]((psd + psd.mH) / 2, d)

    assert torch.autograd.gradcheck(weights, (psd, d))


@pytest.mark.parametrize("name", BLIND)
def test_gradients_stay_finite_in_silence(name):
    psds = noisy_speech()
    speech, noise = psds[0].clone(), psds[1].clone()
    speech[3], noise[5] = 0, 0
    speech[7], noise[7] = 0, 0
    speech.requires_grad_(), noise.requires_grad_()
    BLIND[name](speech, noise).abs().square().sum().backward()
    assert torch.isfinite(speech.grad).all() and torch.isfinite(noise.grad).all()


def test_the_mic_with_the_best_output_is_chosen():
    psds = noisy_speech()
    assert int(choose_reference_mic(*psds)) == reference.choose_reference_mic(*float64(*psds))


def test_a_dead_or_broken_mic_is_never_chosen():
    speech, noise = noisy_speech(n_mics=3)
    best = int(choose_reference_mic(speech, noise))
    for value in (0, torch.nan):
        worse = speech.clone()
        worse[:, best], worse[..., best] = value, value
        noise_too = noise.clone()
        noise_too[:, best], noise_too[..., best] = value, value
        assert int(choose_reference_mic(worse, noise_too)) != best


def test_choosing_works_in_batches():
    pairs = [noisy_speech(seed=10 * seed) for seed in range(3)]
    speech, noise = (torch.stack(psds) for psds in zip(*pairs, strict=True))
    chosen = choose_reference_mic(speech, noise)
    assert chosen.tolist() == [int(choose_reference_mic(*pair)) for pair in pairs]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: mvdr_souden(*noisy_speech(), 5), "reference_mic from 0 to 4, found 5"),
        (lambda: mvdr_souden(*noisy_speech(), -1), "reference_mic from 0 to 4, found -1"),
        (lambda: mvdr_rtf(torch.zeros(3, 4, 5), torch.zeros(3, 5)), r"found \(3, 4, 5\)"),
        (lambda: sdw_mwf(*noisy_speech(), mu=0.0), "expected mu > 0"),
        (lambda: sdw_mwf(*noisy_speech(), mu=-1.0, rank1=True), "expected mu >= 0"),
        (lambda: apply_beamformer(torch.zeros(3, 4), torch.zeros(5, 3, 9)), "expected w of shape"),
    ],
)
def test_wrong_input_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("layout", ["frames outermost", "freqs outermost", "with gaps"])
@pytest.mark.parametrize("n_mics", [1, 6])
def test_the_compiled_beam_of_a_block_is_pytorch_s(n_mics, layout):
    if not can_compile():
        pytest.skip("there is no C++ compiler")
    generator = torch.Generator().manual_seed(n_mics)
    X = torch.randn(n_mics, 37, 259, dtype=torch.complex64, generator=generator).mT
    if layout == "freqs outermost":
        X = X.contiguous()
    elif layout == "with gaps":
        X = X.contiguous()[..., ::2]
    w = torch.randn(259, n_mics, dtype=torch.complex64, generator=generator)
    beam = apply_beamformer(w, X)
    expected = torch.einsum("fm,mft->ft", w.to(torch.complex128).conj(), X.to(torch.complex128))
    torch.testing.assert_close(beam.to(torch.complex128), expected, rtol=0, atol=1e-5)
    w.requires_grad_()
    assert apply_beamformer(w, X).requires_grad
    broken = X.clone()
    broken[0, 3, 4] = torch.nan
    silent = torch.where(torch.isfinite(broken), broken, 0)
    beams = (apply_beamformer(w.detach(), x) for x in (broken, silent))
    assert torch.equal(*beams)
