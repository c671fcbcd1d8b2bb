"""Live, one thread: the mono network frame by frame, then the whole pipeline with 2, 6, 16 mics.

    python benchmarks/live.py [--frames 400] [--minutes 5] [--inductor]

The systems take turns, a second of sound each; times are processor time of the thread, so only a
busy neighbour's cache is felt. The rival is the same network exported to ONNX operator by operator,
run by ONNX Runtime with every state an input and an output; with --inductor the same program goes
through `torch.export` and AOTInductor too, which compiles for minutes.
"""

from __future__ import annotations

import io
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import typer
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn

from multichannel import Enhancer
from multichannel.compiled import CompiledGTCRN
from multichannel.gtcrn import GTCRN
from multichannel.gtcrn_layers import DPGRNNState, GTBlockState
from multichannel.stft import STFT
from multichannel.weights import load_gtcrn

HOP_S = 0.016
TURN = 62  # frames: about a second


class Naive(nn.Module):
    """The network as ONNX can hold it: real numbers, states in and out."""

    def __init__(self, net: GTCRN) -> None:
        super().__init__()
        self.net = net

    def forward(self, X: Tensor, level: Tensor, *states: Tensor) -> tuple[Tensor, ...]:
        """X ``(1, 2, 257)`` -> mask ``(1, 2, 257)``, level, states."""
        blocks = [GTBlockState(*states[i : i + 2]) for i in range(0, 12, 2)]
        paths = [DPGRNNState(*states[i : i + 2]) for i in (12, 14)]
        re, im = X[:, 0:1, None], X[:, 1:2, None]
        size = (re.square() + im.square()).sqrt()[..., 3:].mean()
        level = level * 0.995 + torch.stack([size, torch.ones_like(size)])
        gain = level[0] / level[1] + 1e-9
        re, im = re / gain, im / gain
        magnitude = (re.square() + im.square() + 1e-12).sqrt()
        root = magnitude.sqrt()
        x = self.net.erb.analyse(torch.cat([root, re / root, im / root], 1))
        x, skips, first = self.net.encoder(x, tuple(blocks[:3]))
        x, one = self.net.dpgrnn1(x, paths[0])
        x, two = self.net.dpgrnn2(x, paths[1])
        x, last = self.net.decoder(x, skips, tuple(blocks[3:]))
        mask = self.net.erb.synthesise(x)[:, :, 0]
        parts = [part for state in (*first, *last, one, two) for part in state]
        return mask, level, *parts


def fresh_states() -> list[Tensor]:
    dilations = (1, 2, 5, 5, 2, 1)
    blocks = [(torch.zeros(1, 16, 2 * d, 33), torch.zeros(1, 1, 16)) for d in dilations]
    paths = [torch.zeros(1, 33, 8) for _ in range(4)]  # apart: torch.export takes one for all
    return [torch.zeros(2), *(t for b in blocks for t in b), *paths]


def onnx_runtime(net: GTCRN) -> Callable[[Tensor], Tensor]:
    import onnxruntime

    states, file = fresh_states(), io.BytesIO()
    ins = [f"state{i}" for i in range(len(states))]
    outs = [f"new{i}" for i in range(len(states))]
    torch.onnx.export(
        Naive(net).eval(), (torch.zeros(1, 2, 257), *states), file, dynamo=False, opset_version=17,
        input_names=["X", *ins], output_names=["mask", *outs],
    )  # fmt: skip
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file.getvalue(), options, ["CPUExecutionProvider"])
    held = [state.numpy() for state in states]

    def step(X: Tensor) -> Tensor:
        nonlocal held
        parts = np.stack([X.real.numpy(), X.imag.numpy()])[None]
        mask, *held = session.run(None, {"X": parts, **dict(zip(ins, held, strict=True))})
        return torch.complex(torch.from_numpy(mask[0, 0]), torch.from_numpy(mask[0, 1]))

    return step


def inductor(net: GTCRN) -> Callable[[Tensor], Tensor]:
    import torch._inductor

    states = fresh_states()
    program = torch.export.export(Naive(net).eval(), (torch.zeros(1, 2, 257), *states))
    with tempfile.TemporaryDirectory() as folder:
        package = torch._inductor.aoti_compile_and_package(
            program, package_path=f"{folder}/step.pt2"
        )
        run = torch._inductor.aoti_load_package(package)

    def step(X: Tensor) -> Tensor:
        nonlocal states
        mask, *found = run(torch.stack([X.real, X.imag])[None], *states)
        states = [one.contiguous() for one in found]  # it takes other strides for these
        return torch.complex(mask[0, 0], mask[0, 1])

    return step


def pytorch(net: GTCRN) -> Callable[[Tensor], Tensor]:
    state = None

    def step(X: Tensor) -> Tensor:
        nonlocal state
        mask, state = net(X[None, :, None], state=state)
        return mask[:, 0]

    return step


def compiled(net: GTCRN) -> Callable[[Tensor], Tensor]:
    step = CompiledGTCRN(net).step
    return lambda X: step(X[None])


def measure_mono(n_frames: int, console: Console, slow_to_build: bool = False) -> None:
    net = load_gtcrn("mono")
    x = 0.1 * torch.randn(n_frames * 256, generator=torch.Generator().manual_seed(0))
    frames = [frame.contiguous() for frame in STFT()(x).T]
    kinds = [compiled, onnx_runtime, *([inductor] if slow_to_build else []), pytorch]
    systems = {one.__name__: one(net) for one in kinds}
    times: dict[str, list[float]] = {name: [] for name in systems}
    masks: dict[str, list[Tensor]] = {name: [] for name in systems}
    for at in range(0, len(frames), TURN):
        for name, step in systems.items():
            for frame in frames[at : at + TURN]:
                start = time.thread_time()
                masks[name].append(step(frame))
                times[name].append(time.thread_time() - start)
    table = Table(title="mono network, ms of processor time a frame, one thread")
    for column in ("system", "median", "p99", "RTF", "times compiled", "largest difference"):
        table.add_column(column)
    ours = float(np.median(times["compiled"]))
    for name, one in times.items():
        off = max(float((a - b).abs().max()) for a, b in zip(masks[name], masks["pytorch"]))  # noqa: B905
        p50, p99 = np.percentile(one, [50, 99])
        row = (f"{1e3 * p50:.4f}", f"{1e3 * p99:.4f}", f"{p50 / HOP_S:.4f}", f"{p50 / ours:.1f}")
        table.add_row(name, *row, f"{off:.0e}")
    console.print(table)


def measure_pipeline(n_frames: int, console: Console) -> None:
    enhancers = {"one beam": Enhancer(load_gtcrn("mono"), load_gtcrn("default")).eval()}
    enhancers["two beams"] = Enhancer.from_pretrained("default", device="cpu")
    table = Table(title="whole pipeline, ms of processor time a frame, one thread")
    for column in ("mics", "enhancer", "median", "p99", "RTF", "PyTorch median", "times"):
        table.add_column(column)
    for n_mics in (1, 2, 6, 16):
        for name, enhancer in enhancers.items():
            generator = torch.Generator().manual_seed(0)
            x = 0.1 * torch.randn(n_mics, n_frames * 256, generator=generator)
            ours, slow = (enhancer.stream(n_mics, backend=b) for b in ("native", "torch"))
            times: list[float] = []
            torch_times: list[float] = []
            for i, chunk in enumerate(x.split(256, -1)):
                for stream, into in ((ours, times), (slow, torch_times)):
                    if stream is slow and i % 8:  # enough for a median, in less time
                        continue
                    start = time.thread_time()
                    stream.step(chunk)
                    into.append(time.thread_time() - start)
            p50, p99 = np.percentile(times, [50, 99])
            other = float(np.median(torch_times))
            table.add_row(
                str(n_mics), name, f"{1e3 * p50:.3f}", f"{1e3 * p99:.3f}",
                f"{np.mean(times) / HOP_S:.4f}", f"{1e3 * other:.2f}", f"{other / p50:.0f}",
            )  # fmt: skip
    console.print(table)


def resident_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10


def measure_memory(minutes: float, console: Console) -> None:
    stream = Enhancer.from_pretrained("default", device="cpu").stream(6, backend="native")
    x = 0.1 * torch.randn(6, 256, generator=torch.Generator().manual_seed(0))
    for _ in range(1000):
        stream.step(x)
    before = resident_mb()
    for _ in range(round(minutes * 60 / HOP_S)):
        stream.step(x)
    grown = resident_mb() - before
    console.print(f"memory after {minutes:g} minutes of 6 mics: {grown:+.2f} MB of {before:.0f} MB")


@torch.no_grad()
def main(frames: int = 400, minutes: float = 5.0, inductor: bool = False) -> None:
    """Measure and print the tables."""
    torch.set_num_threads(1)
    console = Console(width=120)
    measure_mono(frames, console, inductor)
    measure_pipeline(frames, console)
    measure_memory(minutes, console)


if __name__ == "__main__":
    typer.run(main)
