"""What all tests share: one thread, and sounds to work on."""

from __future__ import annotations

import os
import signal

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch is imported

from collections.abc import Iterator
from pathlib import Path

import pytest

# Who starts tests in the background may have them, and what they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)

SHARED = Path(__file__).parents[1].parent / "shared"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip tests marked `cuda` where there is no device."""
    if item.get_closest_marker("cuda"):
        import torch

        if not torch.cuda.is_available():
            pytest.skip("needs a CUDA device")


@pytest.fixture
def shared() -> Path:
    """The folder of data beside the project; tests that need it skip without."""
    if not SHARED.is_dir():
        pytest.skip("needs ../shared")
    return SHARED


@pytest.fixture(scope="module")
def plain_layers_after() -> Iterator[None]:
    """Layers that training compiles are those of one module of tests alone."""
    yield
    from multichannel import kernels

    kernels._kernel = None
