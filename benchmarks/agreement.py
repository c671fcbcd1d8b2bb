"""Two ways to the same sound: how far apart they are, in one table.

    python benchmarks/agreement.py [--seconds 3] [--mics 3] [--threads 4] [--only TEXT]

A difference is the largest between samples, over the peak of the first sound. What cannot be run
here (no CUDA, no compiler) is a row that says so. Exit code 1 where two sounds are further apart
than they may be. The recording is one talker, for separation two, in a simulated noisy room.
"""

# ruff: noqa: E402
from __future__ import annotations

import sys
from pathlib import Path

# A file beside this one has the name of a package, and stands first where Python looks.
sys.path = [place for place in sys.path if Path(place).resolve() != Path(__file__).parent]
sys.path.append(str(Path(__file__).parents[1]))

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from torch import Tensor
from torch.overrides import TorchFunctionMode

from benchmarks._exported import Exported
from clearbeam.export import check
from clearbeam.export.export import FORMATS
from clearbeam.tables import Table
from multichannel import STFT, Enhancer
from multichannel.compiled import can_compile
from multichannel.offline import ready_net
from multichannel.weights import load_gtcrn
from separation import SeparationConfig, SeparationNet, Separator
from simulate import SceneConfig, render, sample_scene

NO_CUDA = "no CUDA device here"
NO_COMPILER = "no C++ compiler here"


class NotHereError(Exception):
    """Why two sounds cannot be compared on this machine."""


@dataclass(frozen=True)
class Pair:
    """Two ways to a sound, and how far apart they may be; ``sounds`` makes both."""

    task: str
    one: str
    other: str
    tolerance: float
    sounds: Callable[[], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Verdict:
    """A row of the table; a reason stands in for a difference that was not measured."""

    pair: Pair
    difference: float = 0.0
    reason: str = ""

    @property
    def failed(self) -> bool:
        return not self.reason and not self.difference <= self.pair.tolerance

    def row(self) -> tuple[str, ...]:
        pair, word = self.pair, "NO" if self.failed else "yes"
        found = f"not run: {self.reason}" if self.reason else f"{self.difference:.1e}"
        cells = found, f"{pair.tolerance:.0e}", "–" if self.reason else word
        return (f"{pair.task}: {pair.one}", pair.other, *cells)


def difference(x: Tensor, y: Tensor) -> float:
    """The largest difference over the peak of ``x``; infinite where they cannot be compared."""
    if x.shape != y.shape:
        return float("inf")
    x, y = (one.cpu().to(torch.complex128) for one in (x, y))
    error = float((x - y).abs().max() / x.abs().max())
    return error if error == error else float("inf")


class InDouble(TorchFunctionMode):
    """Whatever asks for single precision gets double."""

    _TYPES = {torch.float32: torch.float64, torch.complex64: torch.complex128}  # noqa: RUF012

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is Tensor.float:
            func = Tensor.double
        args = [self._TYPES.get(a, a) if isinstance(a, torch.dtype) else a for a in args]
        wide = {
            name: self._TYPES.get(a, a) if isinstance(a, torch.dtype) else a
            for name, a in (kwargs or {}).items()
        }
        return func(*args, **wide)


def on_cuda(make: Callable[[str], Callable[[Tensor], Tensor]], x: Tensor) -> tuple[Tensor, Tensor]:
    """What a model made for a device says on the CPU and on CUDA."""
    if not torch.cuda.is_available():
        raise NotHereError(NO_CUDA)
    return make("cpu")(x), make("cuda")(x.cuda())


def on_threads(model: Callable[[Tensor], Tensor], x: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """What a model says on one thread, as all else here, and on several."""
    torch.set_num_threads(1)
    one = model(x)
    torch.set_num_threads(n)
    try:
        return one, model(x)
    finally:
        torch.set_num_threads(1)


def in_double(
    model: torch.nn.Module, run: Callable[[Tensor], Tensor], x: Tensor
) -> tuple[Tensor, Tensor]:
    """``run``, of which ``model`` is part, in double and in single precision."""
    one = run(x)
    model.double()
    try:
        with InDouble():
            return run(x.double()), one
    finally:
        model.float()


def streamed(stream: Any, x: Tensor, n_samples: int) -> Tensor:
    """A recording through a stream in pieces of so many samples."""
    return torch.cat(
        [*(stream.step(piece) for piece in x.split(n_samples, -1)), stream.flush()], -1
    )


def recording(n_mics: int, seconds: float, n_talkers: int = 1) -> Tensor:
    """Talkers in a simulated noisy room ``(mics, samples)``."""
    if n_talkers == 1:
        return check.room_recording(n_mics, seconds)
    scene = SceneConfig.load("quickstart").model_dump(exclude_unset=True)
    scene["array"] = {"random": {"mics": n_mics, "kinds": ["circular"], "aperture_m": 0.3}}
    scene["talkers"] = {"count": n_talkers, "distance_m": 1.2, "min_angle_deg": 60}
    config = SceneConfig.model_validate({**scene, "snr_db": 20, "duration_s": seconds})
    return torch.from_numpy(render(sample_scene(config, 0, 0)).mixture).float()


def model_pairs(
    task: str,
    model: torch.nn.Module,
    run: Callable[[Tensor], Tensor],
    make: Callable[[str], Callable[[Tensor], Tensor]],
    x: Tensor,
    n_threads: int,
) -> list[Pair]:
    """A model, as ``run`` uses it, on another device, on several threads, in double precision."""
    many = f"{n_threads} threads"
    return [
        Pair(task, "CPU", "CUDA", 1e-4, lambda: on_cuda(make, x)),
        Pair(task, "one thread", many, 1e-4, lambda: on_threads(run, x, n_threads)),
        Pair(task, "float64", "float32", 1e-3, lambda: in_double(model, run, x)),
    ]


def network_pairs(task: str, run: Callable[[Tensor], Tensor], x: Tensor) -> list[Pair]:
    """A network that is given a batch of two halves of a recording, and each half by itself."""

    def batch() -> tuple[Tensor, Tensor]:
        n_half = x.shape[-1] // 2
        halves = STFT()(torch.stack(x[:, : 2 * n_half].split(n_half, -1)))
        return torch.cat([run(half[None]) for half in halves]), run(halves)

    return [Pair(task, "each clip by itself", "a batch of clips", 1e-5, batch)]


def enhance_pairs(x: Tensor, n_threads: int) -> list[Pair]:
    """All there is to compare in `Enhancer`."""
    enhancer = Enhancer.from_pretrained("default", device="cpu")
    mono = load_gtcrn("mono").eval()

    def by_torch(x: Tensor) -> Tensor:
        return enhancer(x, backend="torch")

    def pieces() -> tuple[Tensor, Tensor]:
        return enhancer(x), torch.cat(list(enhancer.enhance_blocks(x.split(1600, -1))))

    def live(backend: str, n_samples: int) -> tuple[Tensor, Tensor]:
        if backend == "native" and not can_compile():
            raise NotHereError(NO_COMPILER)
        stream = enhancer.stream(len(x), backend=backend)
        return enhancer(x, streaming=True, backend="torch"), streamed(stream, x, n_samples)

    def native() -> tuple[Tensor, Tensor]:
        if not can_compile():
            raise NotHereError(NO_COMPILER)
        return by_torch(x), enhancer(x, backend="native")

    def on(device: str) -> Callable[[Tensor], Tensor]:
        return Enhancer.from_pretrained("default", device=device)

    task = "enhance"
    return [
        *model_pairs(task, enhancer, by_torch, on, x, n_threads),
        *network_pairs(task, lambda X: ready_net(mono, "torch")(X[:, :1])[0], x),
        Pair(task, "a whole clip", "pieces of 0.1 s", 1e-5, pieces),
        Pair(task, "a causal clip", "a stream, PyTorch", 1e-5, lambda: live("torch", 777)),
        Pair(task, "a causal clip", "a stream, compiled", 1e-5, lambda: live("native", 777)),
        Pair(task, "PyTorch", "compiled networks", 1e-4, native),
    ]


def separate_pairs(x: Tensor, n_threads: int) -> list[Pair]:
    """All there is to compare in `Separator`; the network of batches has seeded weights."""
    separator = Separator.from_pretrained("separate", device="cpu")
    causal = Separator.from_pretrained("separate-causal", device="cpu")
    torch.manual_seed(0)
    net = SeparationNet(SeparationConfig(causal=True)).eval()

    def two(x: Tensor) -> Tensor:
        return separator(x, 2)

    def pieces() -> tuple[Tensor, Tensor]:
        whole, cut = causal.stream(len(x)), causal.stream(len(x))
        return streamed(whole, x, x.shape[-1]), streamed(cut, x, 777)

    def on(device: str) -> Callable[[Tensor], Tensor]:
        other = Separator.from_pretrained("separate", device=device)
        return lambda x: other(x, 2)

    task = "separate"
    return [
        *model_pairs(task, separator, two, on, x, n_threads),
        *network_pairs(task, lambda X: net(X)[0].masks, x),
        Pair(task, "a whole stream", "pieces of 49 ms", 1e-4, pieces),
    ]


def export_pairs(x: Tensor) -> list[Pair]:
    """Every format beside the model, frame by frame; separation is not exported."""
    enhancer = Enhancer.from_pretrained("default", device="cpu")
    most = dict.fromkeys(FORMATS, check.TOLERANCE) | {"int8-weights": 0.1, "int8": 0.5}
    return [
        Pair(
            f"enhance, {part.part}", "PyTorch", format_, most[format_],
            lambda part=part, format_=format_: (part.expected, part.found(format_)),
        )
        for part in (Exported(enhancer, name, x) for name in ("pipeline", "mono"))
        for format_ in FORMATS
    ]  # fmt: skip


def judged(pair: Pair) -> Verdict:
    """The verdict on a pair."""
    try:
        return Verdict(pair, difference(*pair.sounds()))
    except NotHereError as reason:
        return Verdict(pair, reason=str(reason))


def pairs_of(seconds: float, n_mics: int, n_threads: int) -> list[Pair]:
    """Every pair, in the order of the table."""
    one, two = (recording(n_mics, seconds, n) for n in (1, 2))
    return [*enhance_pairs(one, n_threads), *separate_pairs(two, n_threads), *export_pairs(one)]


@torch.no_grad()
def main(
    seconds: float = 3.0,
    mics: int = 3,
    threads: int = 4,
    only: Annotated[str, typer.Option(help="Only rows that hold this text.")] = "",
) -> None:
    """Compare, print the table, and end with 1 where a row fails."""
    pairs = [
        pair
        for pair in pairs_of(seconds, mics, threads)
        if only in f"{pair.task}: {pair.one} / {pair.other}"
    ]
    torch.set_num_threads(1)
    verdicts = [judged(pair) for pair in pairs]
    header = ("this", "and this", "largest difference over the peak", "at most", "holds")
    title = f"{mics} microphones, {seconds:g} s"
    Console(width=140).print(Table(title, header, [v.row() for v in verdicts]).to_rich())
    raise typer.Exit(any(verdict.failed for verdict in verdicts))


if __name__ == "__main__":
    typer.run(main)
