"""Everything that can be evaluated, by name: our systems and the baselines beside them.

    noisy                              the reference mic as recorded
    delay-and-sum, superdirective      a beam towards the talker's true direction
    oracle-mvdr, oracle-mvdr-1024,     Souden MVDR with the mask of the true early image, at an STFT
    oracle-mvdr-2048                   of 512/256, 1024/256 or 2048/512
    oracle-mask                        that mask on the reference mic, without a beam
    clearbeam, clearbeam-streaming     the shipped chain, with the whole clip in view or causal
    mono                               the same on the reference mic alone
    clearbeam:MODEL and so on          the same with the weights of that name or path
    gtcrn:PATH                         a one-input GTCRN, such as the published one, on that mic
    BEAM+gtcrn:PATH                    that network after one of the beams above
    mvdr+gtcrn:PATH, mvdr-2048+...     that network makes the mask, Souden MVDR the beam, and the
                                       network cleans the beam
    wpe, wpe+SYSTEM                    dereverberation by WPE, alone or before any of these
    SYSTEM@0,2,5                       the system with these mics only, the reference mic first
    files:FOLDER                       what another program made: FOLDER/CLIP.wav or .flac

A system is `(mixture (mics, samples), clip) -> estimate (samples,)`, float32 at 16 kHz. A blind one
asks the clip for nothing but its reference mic.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from clearbeam.beams import BEAMS, BLIND_BEAMS, System
from clearbeam.clips import REFERENCE_MIC, Clip, read_audio
from clearbeam.wpe import require_wpe, wpe
from multichannel.gtcrn import GTCRNConfig
from multichannel.stft import STFT
from multichannel.weights import find_weights, load_gtcrn

DEFAULT_SYSTEMS: tuple[str, ...] = (
    "noisy", "delay-and-sum", "superdirective", "oracle-mvdr", "oracle-mvdr-2048", "mono",
    "clearbeam-streaming", "clearbeam",
)  # fmt: skip
_SUFFIXES = (".flac", ".wav")


# ------------------------------------------------------------------------------------- the names


@dataclass(frozen=True)
class _Name:
    """What a system's name says: a key of the tables below, and what goes with it."""

    front: str
    weights: Path | None = None  # of a GTCRN after (and, for a blind beam, before) the front
    model: str = ""  # of ours
    folder: Path | None = None  # of files
    wpe: bool = False
    mics: tuple[int, ...] = ()


def make_system(name: str) -> System:
    """The system of that name, on the CPU.

    Raises ValueError for an unknown name, saying which is nearest, and for weights that are none;
    ImportError for WPE without its package.
    """
    said = _parse(name)
    system = _core(said)
    if said.wpe:
        require_wpe()
        system = partial(_after_wpe, system)
    return partial(heard_by, said.mics, system) if said.mics else system


def check_system(name: str) -> None:
    """Raise what `make_system` certainly would, without loading anything."""
    said = _parse(name)
    if said.wpe:
        require_wpe()
    if said.weights is not None and not said.weights.is_file():
        raise ValueError(f"expected GTCRN weights, found no file {said.weights}")
    if said.folder is not None and not said.folder.is_dir():
        raise ValueError(f"expected a folder of estimates, found none at {said.folder}")
    if said.front in OURS:
        find_weights(said.model)


def system_files(name: str) -> list[Path]:
    """The files that the system's output depends on: weights and their config, or estimates."""
    said = _parse(name)
    if said.folder is not None:
        return [path for path in sorted(said.folder.iterdir()) if path.suffix in _SUFFIXES]
    weights = [said.weights] if said.weights is not None else []
    if said.front in OURS:
        # The mask network of the package stands before any other of ours, and one after `default`.
        others = ("mono", "refine") if said.model == "default" else ("mono",)
        weights = [find_weights(name) for name in (said.model, *others)]
    files = [file for path in weights for file in (path, path.with_suffix(".json"))]
    return [file for file in dict.fromkeys(files) if file.is_file()]


def with_network(weights: str | Path) -> list[str]:
    """The names of all systems that a one-input GTCRN makes: alone, and after every front-end."""
    fronts = ("delay-and-sum", *BLIND_BEAMS, "oracle-mvdr", "oracle-mvdr-2048")
    return [f"gtcrn:{weights}", *(f"{front}+gtcrn:{weights}" for front in fronts)]


def _parse(name: str) -> _Name:
    if name.startswith("files:") and len(name) > len("files:"):
        return _Name("files", folder=Path(name.removeprefix("files:")))
    core, mics = chosen_mics(name)
    if mics:
        return _Name(**{**vars(_parse(core)), "mics": mics})
    if name == "wpe" or name.startswith("wpe+"):
        return _Name(**{**vars(_parse(name[len("wpe+") :] or "noisy")), "wpe": True})
    return _parse_core(name)


def chosen_mics(name: str) -> tuple[str, tuple[int, ...]]:
    """What stands before ``@0,2,5`` in a name, and these numbers; none where it has no such end.

    Raises ValueError for numbers that do not begin with the reference mic, or repeat.
    """
    core, at, mics = name.rpartition("@")
    if not at or not re.fullmatch(r"\d+(,\d+)*", mics):
        return name, ()
    numbers = tuple(int(number) for number in mics.split(","))
    if numbers[0] != REFERENCE_MIC or len(set(numbers)) < len(numbers):
        raise ValueError(
            f"expected different mics, the reference mic {REFERENCE_MIC} first, found {name}"
        )
    return core, numbers


def _parse_core(name: str) -> _Name:
    head, found, path = name.partition("gtcrn:")
    if found and path and (not head or head.endswith("+")):
        front = head.removesuffix("+") or "noisy"
        if front in BEAMS or front in BLIND_BEAMS:
            return _Name(front, weights=Path(path))
    front, found, model = name.partition(":")
    if front in OURS and bool(found) == bool(model):
        return _Name(front, model=model or ("mono" if front == "mono" else "default"))
    if name in BEAMS:
        return _Name(name)
    networks = ["gtcrn:PATH", *(f"{beam}+gtcrn:PATH" for beam in BLIND_BEAMS)]
    raise no_such_system(name, [*BEAMS, *OURS, *networks, "wpe", "files:FOLDER"])


def no_such_system(name: str, known: Sequence[str]) -> ValueError:
    """The error of a name that none of those known is; it says which is nearest."""
    longer = [other for other in known if other.startswith(name)]
    close = longer or difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]}?" if close else f"known are {', '.join(known)}"
    return ValueError(f"expected a system's name, found {name}: {hint}")


# ------------------------------------------------------------------------------------ the systems


def _core(said: _Name) -> System:
    if said.folder is not None:
        return partial(from_file, said.folder)
    if said.weights is not None:
        network = OneInputNetwork(said.weights)
        if said.front in BLIND_BEAMS:
            return Chain(partial(BLIND_BEAMS[said.front], network), network)
        return Chain(BEAMS[said.front], network)
    return BEAMS[said.front] if said.front in BEAMS else OURS[said.front](said.model)


def _after_wpe(system: System, mixture: Tensor, clip: Clip) -> Tensor:
    return system(wpe(mixture), clip)


def heard_by(mics: tuple[int, ...], system: System, mixture: Tensor, clip: Clip) -> Tensor:
    """What a system makes of the mixture as some mics heard it, the first the reference."""
    few = clip.heard_by(mics)
    return system(few.mixture, few)


def from_file(folder: Path, mixture: Tensor, clip: Clip) -> Tensor:
    """The estimate that another program left in `folder` under the clip's name.

    Raises ValueError when it is not there, or is no mono sound at 16 kHz.
    """
    for path in (folder / f"{clip.name}{suffix}" for suffix in _SUFFIXES):
        if path.is_file():
            estimate = read_audio(path)
            if len(estimate) > 1:
                raise ValueError(f"expected one channel in {path}, found {len(estimate)}")
            return estimate[0, : mixture.shape[-1]]
    raise ValueError(f"expected {clip.name}.flac or .wav in {folder}, found neither")


class OneInputNetwork:
    """A one-input GTCRN that the user brings: (..., samples) -> (..., samples).

    Raises ValueError when the file holds anything else.
    """

    def __init__(self, path: Path) -> None:
        self.stft, self.network = STFT(), load_gtcrn(path)
        if self.network.config.n_maps != GTCRNConfig().n_maps:
            raise ValueError(
                f"expected a GTCRN of one input, found {self.network.config.n_maps} maps in {path}"
            )

    def __call__(self, x: Tensor) -> Tensor:
        X = self.stft(x)
        mask, _ = self.network(X.unsqueeze(-3))
        return self.stft.inverse(mask * X, x.shape[-1])


class Chain:
    """A beam, then a network on the beam."""

    def __init__(self, beam: System, network: OneInputNetwork) -> None:
        self.beam, self.network = beam, network

    def __call__(self, mixture: Tensor, clip: Clip) -> Tensor:
        return self.network(self.beam(mixture, clip))


class Ours:
    """The shipped chain, or the one of a model the user trained."""

    def __init__(self, model: str, *, streaming: bool = False, mono: bool = False) -> None:
        # Imported late: the baselines need no weights of ours.
        from multichannel.enhance import Enhancer

        self.enhancer = Enhancer.from_pretrained(model, device="cpu")
        self.streaming, self.mono = streaming, mono

    def __call__(self, mixture: Tensor, clip: Clip) -> Tensor:
        mic = clip.reference_mic
        if self.mono:
            mixture, mic = mixture[mic, None], 0
        if not self.streaming:
            return self.enhancer(mixture, reference_mic=mic)
        stream = self.enhancer.stream(len(mixture), reference_mic=mic)  # as fast as users have it
        return torch.cat([stream.step(mixture), stream.flush()])


OURS: dict[str, Callable[[str], System]] = {
    "clearbeam": Ours,
    "clearbeam-streaming": partial(Ours, streaming=True),
    "mono": partial(Ours, mono=True),
}
