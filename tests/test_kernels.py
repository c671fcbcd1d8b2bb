"""The compiled training layers equal PyTorch's, forward and backward."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from multichannel import kernels
from multichannel.gtcrn import GTCRN, GTCRNConfig

pytestmark = pytest.mark.skipif(
    not (shutil.which("c++") or shutil.which("g++")), reason="needs a C++ compiler"
)


@pytest.fixture(scope="module")
def compiled():
    kernels.compile_training_kernels()
    module = kernels._kernel
    yield module
    kernels._kernel = None


def _both(compiled, run, *tensors: Tensor) -> list[tuple[Tensor, ...]]:
    """Output and gradients of ``run`` with the compiled layers and without."""
    results = []
    for kernel in (compiled, None):
        kernels._kernel = kernel
        leaves = [t.detach().clone().requires_grad_() for t in tensors]
        y = run(*leaves)
        weight = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
        gradients = torch.autograd.grad((y * weight).sum(), leaves)
        results.append((y, *gradients))
    kernels._kernel = compiled
    return results


def _assert_equal(results: list[tuple[Tensor, ...]]) -> None:
    for fast, slow in zip(*results, strict=True):
        assert torch.isfinite(fast).all()
        assert (fast - slow).norm() <= 1e-4 * (1 + slow.norm())


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("size", [(1, 1, 7), (3, 5, 4), (2, 16, 9)])
@pytest.mark.parametrize("scale", [1.0, 1e3])
def test_gru_equals_pytorch(compiled, bidirectional, size, scale):
    torch.manual_seed(0)
    grus = [nn.GRU(4, 3, batch_first=True, bidirectional=bidirectional) for _ in range(2)]
    names = [name for name, _ in grus[0].named_parameters()]
    weights = [dict(gru.named_parameters())[name] for gru in grus for name in names]

    def run(x: Tensor, *flat: Tensor) -> Tensor:
        for gru, part in zip(grus, (flat[: len(names)], flat[len(names) :]), strict=True):
            for name, value in zip(names, part, strict=True):
                delattr(gru, name)
                setattr(gru, name, value)
            gru._flat_weights = [getattr(gru, name) for name in gru._flat_weights_names]
        return kernels.grouped_gru(grus, x.transpose(1, 2).contiguous().transpose(1, 2))[0]

    _assert_equal(_both(compiled, run, scale * torch.randn(*size, 8), *weights))


@pytest.mark.parametrize("with_act", [True, False])
def test_norm_equals_pytorch_and_keeps_the_same_statistics(compiled, with_act):
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(4, 6, 5, 7)
    statistics = []

    def run(x: Tensor, weight: Tensor, bias: Tensor, slope: Tensor) -> Tensor:
        bn, act = nn.BatchNorm2d(6), nn.PReLU()
        del bn.weight, bn.bias, act.weight
        bn.weight, bn.bias, act.weight = weight, bias, slope
        y = kernels.norm_prelu(x, bn, act if with_act else None)
        statistics.append((bn.running_mean, bn.running_var))
        return y + 0 * slope  # so that the slope always has a gradient

    _assert_equal(_both(compiled, run, x, torch.randn(6), torch.randn(6), torch.tensor([0.3])))
    for fast, slow in zip(*statistics, strict=True):
        torch.testing.assert_close(fast, slow)


@pytest.mark.parametrize("dilation", [1, 2, 5])
@pytest.mark.parametrize("n_bands", [1, 33])
def test_depthwise_convolution_equals_pytorch(compiled, dilation, n_bands):
    torch.manual_seed(0)
    x = torch.randn(2, 3, 6 + 2 * dilation, n_bands)
    weights = torch.randn(3, 1, 3, 3), torch.randn(3)
    run = lambda x, w, b: kernels.depthwise_conv(x, w, b, dilation)  # noqa: E731
    _assert_equal(_both(compiled, run, x, *weights))


def test_a_whole_network_learns_the_same(compiled):
    torch.manual_seed(0)
    net = GTCRN(GTCRNConfig(normalise=True, compression=0.5))
    start = {name: value.clone() for name, value in net.state_dict().items()}
    X = torch.randn(2, 1, 257, 12, dtype=torch.complex64)
    gradients = []
    for kernel in (compiled, None):
        kernels._kernel = kernel
        net.load_state_dict(start)
        net.zero_grad()
        (net(X)[0] - 0.5).abs().square().mean().backward()
        gradients.append(
            {n: p.grad.clone() for n, p in net.named_parameters() if p.grad is not None}
        )
    kernels._kernel = compiled
    for name, slow in gradients[1].items():
        assert (gradients[0][name] - slow).norm() <= 1e-3 * slow.norm() + 1e-6, name


def test_a_build_that_was_killed_does_not_make_others_wait(tmp_path, monkeypatch):
    """It leaves the lock of PyTorch's builder, which waits for as long as there is one."""
    from torch.utils import cpp_extension

    monkeypatch.setenv("CLEARBEAM_CACHE", str(tmp_path))
    monkeypatch.setattr(kernels, "_kernel", None)
    built = []

    def load(name, sources, extra_cflags, build_directory):
        lock = Path(build_directory) / "lock"
        assert not lock.exists()
        lock.touch()  # as a killed build leaves it
        built.append(name)

    monkeypatch.setattr(cpp_extension, "load", load)
    kernels.compile_training_kernels()
    kernels.compile_training_kernels()
    assert len(built) == 2 and list(tmp_path.iterdir()) == [tmp_path / built[0]]


def test_another_copy_of_the_package_does_not_build_them_again(tmp_path, monkeypatch):
    """Two checkouts of one version, in turns: what is built is named by what it is built from."""
    from torch.utils import cpp_extension

    asked = []
    monkeypatch.setenv("CLEARBEAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernels, "_kernel", None)
    monkeypatch.setattr(
        cpp_extension,
        "load",
        lambda name, sources, extra_cflags, build_directory: asked.append((name, sources)),
    )
    kernels.compile_training_kernels()
    times = [Path(source).stat().st_mtime_ns for source in asked[0][1]]
    copy = tmp_path / "multichannel"
    shutil.copytree(Path(kernels.__file__).parent / "native", copy / "native")
    monkeypatch.setattr(kernels, "__file__", str(copy / "kernels.py"))
    kernels.compile_training_kernels()
    assert asked[0] == asked[1]
    assert [Path(source).stat().st_mtime_ns for source in asked[0][1]] == times
