"""The table of numbers that agree measures what it says, and fails where they do not."""

from __future__ import annotations

import pytest
import torch
import typer
from scripts import benchmark
from typer.testing import CliRunner

from multichannel import Enhancer


@pytest.fixture(scope="module")
def agreement():
    return benchmark("agreement")


def table_of(agreement, *args: str):
    app = typer.Typer()
    app.command()(agreement.main)
    return CliRunner().invoke(app, args)


@pytest.mark.parametrize(("only", "rows"), [("clip", 5), ("mono: PyTorch / onnx", 1)])
def test_two_ways_to_a_sound_agree_on_a_short_clip(agreement, only, rows):
    found = table_of(agreement, "--seconds", "0.6", "--mics", "2", "--only", only)
    assert found.exit_code == 0, found.output
    assert len([line for line in found.output.splitlines() if line.startswith("│")]) == rows


def pair(agreement, x: list[float], y: list[float], tolerance: float = 0.1):
    return agreement.Pair("a", "b", "c", tolerance, lambda: (torch.tensor(x), torch.tensor(y)))


@pytest.mark.parametrize(
    ("y", "code"), [([2.0, -0.9], 0), ([2.0, -0.7], 1), ([2.0], 1), ([2.0, float("nan")], 1)]
)
def test_one_row_that_fails_is_an_exit_code(agreement, monkeypatch, y, code):
    good = pair(agreement, [1.0], [1.0])
    pairs = [good, pair(agreement, [2.0, -1.0], y)]
    monkeypatch.setattr(agreement, "pairs_of", lambda *sizes: pairs)
    assert table_of(agreement).exit_code == code


def test_what_cannot_be_run_here_is_a_row_that_says_so(agreement, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    verdict = agreement.judged(
        agreement.Pair("a", "CPU", "CUDA", 0.1, lambda: agreement.on_cuda(None, None))
    )
    assert not verdict.failed and verdict.row()[2] == "not run: no CUDA device here"


def test_double_precision_is_double_all_the_way(agreement):
    """Twice the digits change float32's last ones and no more; the model is as it was after."""
    enhancer = Enhancer.from_pretrained("mono", device="cpu")
    x = agreement.recording(1, 0.4)
    seen: list[torch.dtype] = []
    enhancer.mono.register_forward_hook(lambda net, args, found: seen.append(found[0].dtype))

    def run(x: torch.Tensor) -> torch.Tensor:
        return enhancer(x, backend="torch")

    wide, narrow = agreement.in_double(enhancer, run, x)
    assert wide.dtype == torch.float64 and narrow.dtype == torch.float32
    assert set(seen) == {torch.complex64, torch.complex128}
    assert 0 < agreement.difference(wide, narrow) < 1e-4
    assert torch.equal(run(x), narrow)
