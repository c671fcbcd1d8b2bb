"""Live: samples in as they come, the talker out a window later.

`LiveStream` feeds one of two engines that do the same: PyTorch's, which is `Stream` of enhance.py,
and the compiled one, which takes a whole chunk in one call.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from multichannel.compiled import CompiledGTCRN, can_compile, library, pointer
from multichannel.mics import MicGuard
from multichannel.steady import SteadyLevel
from multichannel.stft import STFT, STFTConfig
from multichannel.stream import Stream, check_chunk
from multichannel.streamstate import load_stream, save_stream

if TYPE_CHECKING:
    from multichannel.enhance import Enhancer
    from multichannel.look import Look

BACKENDS = ("auto", "torch", "native")
State = dict[str, Tensor]
_ROW = 272  # bins of a spectrum in native/frame_gtcrn.h


class Engine(Protocol):
    """What a backend does."""

    stream: Stream

    def step(self, x: Tensor) -> Tensor:
        """Take ``(mics, samples)``, return the samples ready."""

    def state(self) -> State:
        """All that is remembered, as copies."""

    def load_state(self, state: State) -> None:
        """Go on from there; ValueError where it is another stream's."""


class LiveStream:
    """One talker heard live by 1 to 16 mics at 16 kHz.

    Args:
        enhancer: the networks.
        n_mics: of the array.
        reference_mic: whose view of the talker is wanted; None is the first.
        look: direction to listen to.
        backend: ``native`` is compiled on first use, ``torch`` needs no compiler, ``auto`` takes
            the compiled one where it can do it.

    Raises:
        ValueError: too many mics, no such reference mic or backend, or ``native`` on a GPU or with
            an STFT of another size.
        RuntimeError: ``native`` without a compiler that works.
    """

    def __init__(
        self,
        enhancer: Enhancer,
        n_mics: int,
        reference_mic: int | None = None,
        look: Look | None = None,
        backend: str = "auto",
    ) -> None:
        if backend not in BACKENDS:
            raise ValueError(f"expected a backend of {', '.join(BACKENDS)}, found {backend!r}")
        problem = _not_native(enhancer)
        if backend == "native" and problem:
            raise ValueError(f"expected {problem} for the native backend")
        if backend == "auto":
            backend = "torch" if problem or not can_compile() else "native"
        self.enhancer, self.n_mics, self.backend = enhancer, n_mics, backend
        self._reference_mic, self._look = reference_mic, look
        self.reset()

    @property
    def latency_samples(self) -> int:
        """How far the output lags the input: one synthesis window."""
        return self.enhancer.stft.config.latency

    def reset(self) -> None:
        """Forget all that was heard."""
        self.n_in = self.n_out = 0
        enhancer, mic, look = self.enhancer, self._reference_mic, self._look
        stream = Stream(enhancer, self.n_mics, mic, True, look, "torch")
        native = self.backend == "native"
        self._engine: Engine = NativeEngine(stream) if native else TorchEngine(stream)

    @torch.no_grad()
    def step(self, x: Tensor) -> Tensor:
        """Take ``x (mics, samples)``, any number of samples; return the talker's samples ready.

        A mic that fails is silent until it has recovered, and reported once: see mics.py.

        Raises:
            ValueError: another shape.
        """
        check_chunk(x, self.n_mics)
        self.n_in += x.shape[-1]
        y = self._engine.step(x)
        self.n_out += y.shape[-1]
        return y

    @torch.no_grad()
    def flush(self) -> Tensor:
        """The samples still to come when the recording ends; `reset` before the next one."""
        n_missing = self.n_in - self.n_out
        silence = torch.zeros(self.n_mics, 2 * self.latency_samples)
        return self._engine.step(silence)[:n_missing]

    def state(self) -> State:
        """All that the stream remembers, as tensors by name: fit for a safetensors file."""
        counts = torch.tensor([self.n_in, self.n_out, self.n_mics])
        state = {"counts": counts, **self._engine.state()}
        for owner, part in self._judges().items():
            state |= {f"{owner}.{name}": value for name, value in part.state().items()}
        return state

    def _judges(self) -> dict[str, MicGuard | SteadyLevel]:
        """What looks at the samples before an engine does."""
        return {"guard": self._engine.stream.guard, "level": self._engine.stream.level}

    def load_state(self, state: State) -> None:
        """Go on where another stream of the same enhancer, mics and backend was.

        Raises:
            ValueError: it is the state of another kind of stream.
        """
        counts = state.get("counts")
        if counts is None or counts.shape != (3,) or int(counts[2]) != self.n_mics:
            raise ValueError(f"expected the state of a stream of {self.n_mics} mics")
        self.reset()
        parts: dict[str, State] = {owner: {} for owner in ("engine", *self._judges())}
        for name, value in state.items():
            owner, _, own = name.partition(".")
            owner, own = (owner, own) if owner in parts else ("engine", name)
            parts[owner][own] = value
        del parts["engine"]["counts"]
        self._engine.load_state(parts["engine"])
        for owner, judge in self._judges().items():
            try:
                judge.load_state(parts[owner])
            except KeyError as error:
                raise ValueError(f"expected {error} in the state of a stream's {owner}") from None
        self.n_in, self.n_out = int(counts[0]), int(counts[1])


class TorchEngine:
    """PyTorch, an operator at a time."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream

    def step(self, x: Tensor) -> Tensor:
        return self.stream.step(x)

    def state(self) -> State:
        return save_stream(self.stream)

    def load_state(self, state: State) -> None:
        load_stream(self.stream, state)


class _Settings(ctypes.Structure):
    """As in native/engine.h."""

    _fields_ = (
        ("n_mics", ctypes.c_int32),
        ("reference_mic", ctypes.c_int32),
        ("n_listened", ctypes.c_int32),
        ("listened", ctypes.c_int32 * 16),
        ("beams", ctypes.c_int32),
        ("hop", ctypes.c_int32),
        ("n_synthesis", ctypes.c_int32),
        ("speech_forgetting", ctypes.c_double),
        ("noise_forgetting", ctypes.c_double),
        ("estimate_forgetting", ctypes.c_double),
        ("loading", ctypes.c_double),
    )


class NativeEngine:
    """The compiled engine, set up as the given stream is."""

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        config, stft = stream.enhancer.config, stream.enhancer.stft
        nets = [CompiledGTCRN(net) for net in (stream.enhancer.mono, *stream.nets)]
        mics = stream.network.mics.tolist()
        settings = _Settings(
            stream.n_mics,
            stream.live[0].beam.reference_mic if stream.live else 0,
            len(mics),
            (ctypes.c_int32 * 16)(*mics),
            len(stream.nets),
            stft.config.hop,
            stft.config.latency,
            config.speech_forgetting,
            config.noise_forgetting,
            config.estimate_forgetting,
            config.live_loading,
        )
        windows = torch.cat([stft.analysis_window, stft.synthesis_window]).double().cpu().numpy()
        handles = (ctypes.c_void_p * len(nets))(*(net.handle for net in nets))
        self._library = library()
        self._handle = ctypes.c_void_p(
            self._library.live_new(ctypes.byref(settings), pointer(windows), handles)
        )
        if stream.look is not None and stream.live:
            self._look(stream.look, stft, stream.n_mics)
        self._hop = stft.config.hop
        self._n_state = self._library.live_state(self._handle, None, None)

    def _look(self, look: Look, stft: STFT, n_mics: int) -> None:
        """Hand over what a look direction needs: steering vectors and the diffuse field."""
        directions = look.directions(stft)
        towards = torch.stack([look.towards(stft, mic) for mic in range(n_mics)])
        lower = torch.tril_indices(n_mics, n_mics)
        diffuse = look.diffuse(stft).real.double()[:, lower[0], lower[1]].T
        tables = [_rows(_parts(directions)), _rows(_parts(towards)), _rows(diffuse)]
        one, other, field = map(pointer, tables)
        self._library.live_look(self._handle, one, len(directions), other, field)

    def step(self, x: Tensor) -> Tensor:
        x, _ = self.stream.guard.step(x)
        x = self.stream.level.raised(x)
        n = x.shape[-1]
        y = torch.empty(n + self._hop)
        n_ready = self._library.live_step(
            self._handle,
            ctypes.c_void_p(x.data_ptr()),
            ctypes.c_int64(n),
            ctypes.c_int64(x.stride(0)),
            ctypes.c_void_p(y.data_ptr()),
        )
        return self.stream.level.lowered(y[:n_ready])

    def state(self) -> State:
        values = np.empty(self._n_state, np.uint8)
        self._library.live_state(self._handle, pointer(values), None)
        return {"native": torch.from_numpy(values)}

    def load_state(self, state: State) -> None:
        values = state.get("native")
        if values is None or values.shape != (self._n_state,) or values.dtype != torch.uint8:
            raise ValueError("expected the state of a native stream with the same networks")
        self._library.live_state(self._handle, None, pointer(np.ascontiguousarray(values.numpy())))

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self._library.live_delete(self._handle)


def _parts(X: Tensor) -> Tensor:
    """Complex ``(..., freqs, mics)`` as real ``(..., mics, 2, freqs)``."""
    return torch.stack([X.mT.real, X.mT.imag], -2).double()


def _rows(x: Tensor) -> NDArray[np.float64]:
    """With the bins padded as the engine's are."""
    return torch.nn.functional.pad(x, (0, _ROW - x.shape[-1])).contiguous().numpy()


def _not_native(enhancer: Enhancer) -> str:
    """What stands against the compiled engine; empty where nothing does."""
    if enhancer.mono.erb.erb_fc.weight.device.type != "cpu":
        return "networks on the CPU"
    return "" if enhancer.stft.config.n_fft == STFTConfig().n_fft else "an STFT of 512 samples"
