"""A whole clip through the enhancer, one thread: ours and the same networks run by PyTorch.

    python benchmarks/offline.py [--mics 6] [--seconds 10] [--rounds 10] [--beams 2]

End to end from waveforms to the waveform, with the shipped weights. The systems take turns; times
are medians of processor time. Mono is the mask network alone on one mic: the price of a published
network of its size in PyTorch. The last rows are stages of ours, alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
import typer
from _turns import table_of, take_turns
from rich.console import Console

from multichannel import STFT, Enhancer
from multichannel.offline import ready_net


@torch.no_grad()
def main(mics: int = 6, seconds: float = 10.0, rounds: int = 10, beams: int | None = None) -> None:
    """Measure and print the table."""
    torch.set_num_threads(1)
    enhancer = Enhancer.from_pretrained("default", device="cpu")
    if beams is not None:
        enhancer.config = dataclasses.replace(enhancer.config, beams=beams)
    x = 0.1 * torch.randn(mics, round(16000 * seconds), generator=torch.Generator().manual_seed(0))
    X = STFT()(x[:1])
    mono = ready_net(enhancer.mono)
    systems: dict[str, Callable[[], Any]] = {
        "ours": lambda: enhancer(x),
        "ours, networks by PyTorch": lambda: enhancer(x, backend="torch"),
        "mono network of one mic, PyTorch": lambda: enhancer.mono(X),
        "mono network of one mic, compiled": lambda: mono(X),
        "STFT of all mics": lambda: STFT()(x),
    }
    times = take_turns(systems, rounds)
    reference = enhancer(x, backend="torch")
    error = float((enhancer(x) - reference).abs().max() / reference.abs().max())
    title = f"{mics} mics x {seconds:g} s, {enhancer.config.beams} beams, one thread"
    Console().print(table_of(title, times, {"ours": error}))


if __name__ == "__main__":
    typer.run(main)
