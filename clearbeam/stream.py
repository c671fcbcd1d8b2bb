"""Live enhancement: from a pipe, a file or a sound device to another, a frame at a time.

Blocks are float32 (mics, n) on the way in and (n,) on the way out. Raw samples on pipes are 16-bit
little-endian integers, the mics interleaved.
"""

from __future__ import annotations

import signal
import sys
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from clearbeam.audio import FORMATS, Block, Recording, output_subtype, resample
from clearbeam.files import check_writable, replacing
from simulate.sound_files import new_sound

if TYPE_CHECKING:
    from multichannel.live import LiveStream

HOP = 256  # samples at 16 kHz between two frames
PIPE = "-"
FULL_SCALE = 32768.0


class Source(Protocol):
    """Where the sound comes from."""

    rate: int
    n_mics: int

    def blocks(self) -> Iterator[Block]:
        """Yield (mics, n) as they come."""


def is_file(name: str) -> bool:
    """Whether a name means a file: it exists or ends like audio. Any other is a sound device."""
    return Path(name).exists() or Path(name).suffix.lower() in FORMATS


def open_source(name: str, mics: int | None, rate: int | None, realtime: bool) -> Source:
    """Return the source of a name.

    Raises ValueError where it cannot be read, does not say how many mics there are, or contradicts.
    """
    if name != PIPE and is_file(name):
        return FileSource(Path(name), mics, rate, realtime)
    if mics is None:
        what = "raw samples" if name == PIPE else f"the device {name}"
        raise ValueError(f"expected --mics: {what} do not say how many microphones there are")
    if not 1 <= mics <= 16:
        raise ValueError(f"expected 1 to 16 mics, found {mics}")
    if name == PIPE:
        return PipeSource(mics, rate or 16_000)
    return DeviceSource(name, mics, rate or 16_000)


class PipeSource:
    """Raw samples on stdin."""

    def __init__(self, n_mics: int, rate: int) -> None:
        if sys.stdin is None:  # as below `<&-`, or a service
            raise ValueError("expected raw samples on stdin, found it closed")
        self.n_mics, self.rate = n_mics, rate

    def blocks(self) -> Iterator[Block]:
        frame = 2 * self.n_mics
        while data := sys.stdin.buffer.read(_hop(self.rate) * frame):
            n = len(data) // frame
            if len(data) % frame:
                warnings.warn(
                    f"the input ends within a sample of {self.n_mics} mics; its last "
                    f"{len(data) % frame} bytes are left out",
                    stacklevel=2,
                )
            samples = np.frombuffer(data[: n * frame], "<i2").reshape(n, self.n_mics)
            yield (samples.T / FULL_SCALE).astype(np.float32)


class FileSource:
    """A recording, as fast as it can be read or at the pace at which it was made."""

    def __init__(self, path: Path, mics: int | None, rate: int | None, realtime: bool) -> None:
        self.recording, self.realtime = Recording([path]), realtime
        self.n_mics, self.rate = self.recording.n_mics, self.recording.sample_rate
        if mics not in (None, self.n_mics):
            raise ValueError(f"expected {mics} mics, found {self.n_mics} in {path}")
        if rate not in (None, self.rate):
            raise ValueError(f"expected a rate of {rate} Hz, found {self.rate} Hz in {path}")
        if self.n_mics > 16:
            raise ValueError(f"expected 1 to 16 mics, found {self.n_mics} in {path}")

    def blocks(self) -> Iterator[Block]:
        hop, start, n_done = _hop(self.rate), time.monotonic(), 0
        for block in self.recording.blocks():
            for at in range(0, block.shape[1], hop):
                piece = block[:, at : at + hop]
                n_done += piece.shape[1]
                if self.realtime:  # a sample is there once its time has come
                    time.sleep(max(0.0, start + n_done / self.rate - time.monotonic()))
                yield piece


class DeviceSource:
    """A sound device by its name or number."""

    def __init__(self, name: str, n_mics: int, rate: int) -> None:
        self.n_mics, self.rate = n_mics, rate
        self.stream = open_device("InputStream", name, n_mics, rate)

    def blocks(self) -> Iterator[Block]:
        hop = _hop(self.rate)
        with self.stream as stream:
            while True:
                data, lost = stream.read(hop)
                if lost:
                    warnings.warn("the device lost samples: too slow here", stacklevel=2)
                if len(data) == 0:
                    return
                yield np.ascontiguousarray(data.T)


def open_device(kind: str, name: str, channels: int, rate: int) -> Any:
    """Return a stream of sounddevice; ValueError where there is no such package or device."""
    try:
        import sounddevice
    except (ImportError, OSError) as error:
        raise ValueError(
            f"expected a file, - or a sound device, found {name!r}; devices need the package "
            f"sounddevice: pip install 'clearbeam[live]' ({error})"
        ) from None
    device = int(name) if name.isdecimal() else name
    try:
        return getattr(sounddevice, kind)(
            samplerate=rate, channels=channels, device=device, dtype="float32",
            blocksize=_hop(rate),
        )  # fmt: skip
    except Exception as error:  # PortAudio's own errors are plain exceptions
        raise ValueError(f"cannot open the sound device {name!r}: {error}") from None


def _hop(rate: int) -> int:
    """Samples of one frame at a rate."""
    return max(1, round(HOP * rate / 16_000))


@contextmanager
def open_sink(name: str, rate: int) -> Iterator[Any]:
    """Yield a function that takes blocks (n,); a file appears when complete."""
    if name == PIPE:
        if sys.stdout is None:
            raise ValueError("expected stdout to write samples to, found it closed: give --out")
        yield _write_pipe
    elif is_file(name):
        path = Path(name)
        check_writable(path)
        subtype = output_subtype(path, rate, "PCM_16")
        with replacing(path) as partial:
            container = FORMATS[path.suffix.lower()]
            with new_sound(partial, rate, 1, subtype, container) as file:
                yield lambda y: file.write(np.clip(y, -1, 1))
    else:
        with open_device("OutputStream", name, 1, rate) as stream:
            yield lambda y: stream.write(np.ascontiguousarray(y[:, None]))


def _write_pipe(y: Block) -> None:
    samples = np.clip(np.round(y * FULL_SCALE), -FULL_SCALE, FULL_SCALE - 1)
    sys.stdout.buffer.write(samples.astype("<i2").tobytes())
    sys.stdout.buffer.flush()


class Timed:
    """A live stream that measures itself: seconds of every call of the last half hour."""

    def __init__(self, stream: LiveStream) -> None:
        self.stream = stream
        self.seconds: deque[float] = deque(maxlen=112_500)
        self.n_blocks = 0

    def enhance(self, blocks: Iterable[Block]) -> Iterator[Block]:
        """Yield (1, n) for blocks (mics, n), in all as many samples as come in."""
        import torch

        for block in blocks:
            start = time.perf_counter()
            y = self.stream.step(torch.from_numpy(block))
            self.seconds.append(time.perf_counter() - start)
            self.n_blocks += 1
            yield y.cpu().numpy()[None]
        yield self.stream.flush().cpu().numpy()[None]

    def report(self) -> str:
        """One line: times of a frame, real-time factor, latency."""
        rate, n_mics = self.stream.enhancer.sample_rate, self.stream.n_mics
        times = np.array(self.seconds) if self.seconds else np.zeros(1)
        p50, p99 = np.percentile(1e3 * times, [50, 99])
        seconds = self.stream.n_in / rate
        rtf = times.mean() * self.n_blocks / max(seconds, 1e-9)
        return (
            f"{seconds:.2f} s of {n_mics} mic{'s' * (n_mics > 1)}: p50 {p50:.3f} ms, "
            f"p99 {p99:.3f} ms a frame of 16 ms, RTF {rtf:.4f}, latency "
            f"{1e3 * self.stream.latency_samples / rate:.0f} ms, backend {self.stream.backend}"
        )


def run_stream(source: Source, sink: Any, timed: Timed) -> None:
    """Take everything from `source` to `sink`; Ctrl-C and SIGTERM are the end of the input."""
    core_rate = timed.stream.enhancer.sample_rate
    n_in = n_out = 0

    def heard() -> Iterator[Block]:
        nonlocal n_in
        with _stop_on_signal() as stopped:
            for block in source.blocks():
                n_in += block.shape[1]
                yield block
                if stopped:
                    return

    clean = timed.enhance(resample(heard(), source.rate, core_rate))
    for (block,) in resample(clean, core_rate, source.rate):
        piece = block[: max(0, n_in - n_out)] if source.rate != core_rate else block
        n_out += len(piece)
        if len(piece):
            sink(piece)


@contextmanager
def _stop_on_signal() -> Iterator[list[bool]]:
    """Yield a list that the first Ctrl-C or SIGTERM fills; the second one is as ever."""
    stopped: list[bool] = []
    before: dict[signal.Signals, Any] = {}

    def stop(number: int, _: object) -> None:
        stopped.append(True)
        signal.signal(number, before[signal.Signals(number)])

    try:
        for number in (signal.SIGINT, signal.SIGTERM):
            before[number] = signal.getsignal(number)
            signal.signal(number, stop)
    except ValueError:  # not in the main thread
        yield stopped
        return
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
