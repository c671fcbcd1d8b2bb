"""Live streams equal the causal offline output in any chunks, restored, and compiled or not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from multichannel import Enhancer, MicWarning
from multichannel.compiled import can_compile
from multichannel.stft import STFTConfig

BACKENDS = ["torch", pytest.param("native", marks=pytest.mark.skipif(
    not can_compile(), reason="needs a C++ compiler"))]  # fmt: skip
WITHIN = 1e-5  # of the peak
N_SAMPLES = 2600


@pytest.fixture(scope="module")
def enhancer() -> Enhancer:
    return Enhancer.from_pretrained("default", device="cpu")


def _sound(n_mics: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    shared = torch.randn(1, N_SAMPLES, generator=generator)
    own = torch.randn(n_mics, N_SAMPLES, generator=generator)
    own[0, 600:1500] = shared[0, 600:1500] = 0  # the reference mic drops out for two frames
    return 0.03 * shared * torch.linspace(0.5, 1, n_mics)[:, None] + 0.02 * own


def _streamed(stream, x: torch.Tensor, sizes: list[int]) -> torch.Tensor:
    parts, at, i = [], 0, 0
    while at < x.shape[-1]:
        n = sizes[i % len(sizes)]
        parts.append(stream.step(x[:, at : at + n]))
        at, i = at + n, i + 1
    return torch.cat([*parts, stream.flush()])


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("n_mics", [1, 2, 6, 16])
def test_any_chunks_and_a_restart_equal_the_causal_offline_output(enhancer, backend, n_mics):
    x = _sound(n_mics)
    whole = enhancer(x, streaming=True)

    @settings(max_examples=3, deadline=None, derandomize=True)
    @given(
        sizes=st.lists(st.integers(40, 1500), min_size=1, max_size=4), cut=st.integers(0, N_SAMPLES)
    )
    def holds(sizes, cut):
        stream = enhancer.stream(n_mics, backend=backend)
        before = stream.step(x[:, :cut])
        other = enhancer.stream(n_mics, backend=backend)
        other.load_state(stream.state())
        y = torch.cat([before, _streamed(other, x[:, cut:], sizes)])
        torch.testing.assert_close(y, whole, rtol=0, atol=WITHIN * float(whole.abs().max()))

    holds()


@pytest.mark.parametrize("backend", BACKENDS)
def test_single_samples_equal_one_chunk(enhancer, backend):
    x = _sound(2)[:, :1100]
    one = _streamed(enhancer.stream(2, backend=backend), x, [1100])
    torch.testing.assert_close(
        _streamed(enhancer.stream(2, backend=backend), x, [1]), one, rtol=0, atol=1e-5
    )


@pytest.mark.parametrize("backend", BACKENDS)
def test_state_survives_a_file_and_reset_forgets(enhancer, backend, tmp_path):
    x = _sound(2)
    stream = enhancer.stream(2, backend=backend)
    fresh = stream.step(x)
    save_file(stream.state(), tmp_path / "state.safetensors")
    expected = stream.step(x)
    stream.reset()
    torch.testing.assert_close(stream.step(x), fresh, rtol=0, atol=0)
    stream.load_state(load_file(tmp_path / "state.safetensors"))
    torch.testing.assert_close(stream.step(x), expected, rtol=0, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("latency", [512, 320])
def test_an_output_depends_on_the_past_and_the_latency_alone(enhancer, backend, latency):
    """An impulse changes nothing that lies the latency before it, and no sample comes later."""
    enhancer = _with_stft(enhancer, STFTConfig(synthesis=latency))
    stream = enhancer.stream(2, backend=backend)
    assert stream.latency_samples == latency
    for n in (100, 256, 300, 1000):
        stream.step(torch.zeros(2, n))
        assert stream.n_in - stream.n_out < latency
    at = 8 * 256 - 1  # the last sample of a hop: the one that is waited for
    x, changed = _sound(2), _sound(2)
    changed[:, at] += 0.5
    a, b = (_streamed(enhancer.stream(2, backend=backend), s, [256]) for s in (x, changed))
    first = at - latency + 1
    torch.testing.assert_close(a[:first], b[:first], rtol=0, atol=0)
    assert not torch.equal(a[first : first + 16], b[first : first + 16])  # and it is no less


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("stft", [STFTConfig(synthesis=320), STFTConfig(hop=160, synthesis=320)])
def test_streams_of_other_hops_and_windows_equal_the_causal_offline_output(enhancer, backend, stft):
    other = _with_stft(enhancer, stft)
    x = _sound(3)
    whole = other(x, streaming=True)
    assert whole.shape[-1] == x.shape[-1]
    y = _streamed(other.stream(3, backend=backend), x, [7, 1000, 160])
    torch.testing.assert_close(y, whole, rtol=0, atol=WITHIN * float(whole.abs().max()))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("kind", ["sound", "dead mic", "copies", "silence after sound"])
def test_streams_that_look_somewhere_equal_the_causal_offline_output(enhancer, backend, kind):
    x = _degenerate(kind)
    at_m = 0.05 * torch.tensor([[1.0, 0, 0], [-0.5, 0.8, 0], [-0.5, -0.8, 0]])
    whole = enhancer(x, streaming=True, positions_m=at_m, look_azimuth_deg=40, backend="torch")
    stream = enhancer.stream(3, positions_m=at_m, look_azimuth_deg=40, backend=backend)
    before = stream.step(x[:, :1000])
    other = enhancer.stream(3, positions_m=at_m, look_azimuth_deg=40, backend=backend)
    other.load_state(stream.state())
    y = torch.cat([before, _streamed(other, x[:, 1000:], [300, 11])])
    torch.testing.assert_close(y, whole, rtol=0, atol=WITHIN * float(whole.abs().max()))


def _with_stft(enhancer: Enhancer, stft: STFTConfig) -> Enhancer:
    return Enhancer(enhancer.mono, enhancer.multi, enhancer.refine, stft=stft).eval()


def _degenerate(kind: str) -> torch.Tensor:
    x = _sound(3)
    if kind == "silence":
        x[:] = 0
    elif kind == "dead mic":
        x[1] = 0
    elif kind == "dead reference":
        x[0] = 0
    elif kind == "copies":
        x[:] = x[:1]
    elif kind == "quiet":
        x *= 1e-4
    elif kind == "clipping":
        x = (1000 * x).clamp(-1, 1)
    elif kind == "silence after sound":
        x[:, 1300:] = 0
    return x


@pytest.mark.skipif(not can_compile(), reason="needs a C++ compiler")
@pytest.mark.parametrize(
    "kind",
    ["silence", "dead mic", "dead reference", "copies", "quiet", "clipping", "silence after sound"],
)
def test_backends_agree_on_degenerate_sound(enhancer, kind):
    x = _degenerate(kind)
    a, b = (_streamed(enhancer.stream(3, backend=name), x, [256]) for name in ("torch", "native"))
    assert torch.isfinite(b).all()
    scale = max(1e-3, float(a.abs().max()))
    torch.testing.assert_close(b / scale, a / scale, rtol=0, atol=WITHIN)


@pytest.mark.parametrize("backend", BACKENDS)
def test_broken_samples_are_silence_and_are_told_once(enhancer, backend):
    x = _sound(3)[1:]
    broken, silent = x.clone(), x.clone()
    broken[1, 700:720], silent[1, 700:720] = float("nan"), 0
    stream = enhancer.stream(2, backend=backend)
    with pytest.warns(MicWarning, match="mic 1") as told:
        y = _streamed(stream, broken, [100])
    assert len(told) == 1
    expected = _streamed(enhancer.stream(2, backend=backend), silent, [100])
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-5)


def test_what_does_not_fit_is_refused(enhancer):
    with pytest.raises(ValueError, match="auto, torch, native"):
        enhancer.stream(2, backend="fast")
    stream = enhancer.stream(2, backend="torch")
    with pytest.raises(ValueError, match="2, samples"):
        stream.step(torch.zeros(3, 100))
    with pytest.raises(ValueError, match="2 mics"):
        stream.load_state(enhancer.stream(3, backend="torch").state())
    with pytest.raises(ValueError, match="torch stream"):
        counts = torch.tensor([0, 0, 2])
        stream.load_state({"counts": counts, "native": torch.zeros(3)})
    for lost in ("guard.powers", "level.gain_db"):
        state = stream.state()
        del state[lost]
        with pytest.raises(ValueError, match=lost.split(".")[1]):
            stream.load_state(state)


def test_without_a_compiler_auto_is_torch(enhancer, monkeypatch):
    monkeypatch.setattr("multichannel.live.can_compile", lambda: False)
    assert enhancer.stream(2).backend == "torch"
