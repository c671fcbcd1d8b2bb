"""Every system that separates talkers, by name: ours and the baselines beside them.

    clearbeam                  the shipped chain; it finds out how many talk
    clearbeam-told             the same, told how many
    clearbeam-live             the causal chain, from the past alone; it counts at the end
    clearbeam:MODEL, -told:... the same with the weights of that name or path
    cacgmm                     the spatial mixture model and the beams alone, without a network
    fasnet:MODEL               asteroid's FaSNet-TAC, trained with the recipe `fasnet`
    auxiva, fastmnmf2          blind source separation by pyroomacoustics
    noisy, delay-and-sum, superdirective, oracle-mvdr, oracle-mvdr-1024, oracle-mvdr-2048,
    oracle-mask                what `systems` has by these names, once a talker, with his own truth
    oracle-wiener              our last beam with the masks of the true images
    SYSTEM@0,2,5               the system with these mics only, the reference mic first

A separator is `(mixture (mics, samples), clip) -> streams (streams, samples)`, float32 at 16 kHz.
All but `clearbeam` and `clearbeam-live` ask the clip how many talk; those with `oracle` in their
name, and the beams towards known places, ask for more.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from clearbeam import blind
from clearbeam.beams import BEAMS, System
from clearbeam.clips import Clip
from clearbeam.systems import chosen_mics, heard_by, no_such_system
from multichannel.stft import STFT
from multichannel.weights import find_weights
from separation.wiener import LONG, shares_of, wiener_images

DEFAULT_SYSTEMS: tuple[str, ...] = (
    "noisy", "oracle-mvdr-1024", "oracle-mask", "auxiva", "cacgmm", "clearbeam",
)  # fmt: skip


def make_system(name: str) -> System:
    """The separator of that name, on the CPU.

    Raises ValueError for an unknown name, saying which is nearest, and for weights that are none.
    """
    core, mics = chosen_mics(name)
    front, model = _parse(core)
    separator = OURS[front](model) if front in OURS else SEPARATORS[front]
    return partial(heard_by, mics, separator) if mics else separator


def check_system(name: str) -> None:
    """Raise what `make_system` certainly would, without loading anything."""
    system_files(name)


def system_files(name: str) -> list[Path]:
    """The files that the separator's output depends on: weights and their configs."""
    from separation.separate import model_files

    front, model = _parse(chosen_mics(name)[0])
    if front == RIVAL:
        return [find_weights(model), Path(model).with_suffix(".json")]
    return model_files(model) if front in OURS else []


def _parse(name: str) -> tuple[str, str]:
    """A key of the tables below, and a model's name or path."""
    front, found, model = name.partition(":")
    if front in OURS and bool(found) == bool(model) and (model or front != RIVAL):
        return front, model or ("separate-causal" if front == LIVE else "separate")
    if name in SEPARATORS:
        return name, ""
    raise no_such_system(name, [*OURS, *SEPARATORS])


# --------------------------------------------------------------------------------- the separators


def each_talker(beam: System, mixture: Tensor, clip: Clip) -> Tensor:
    """What a system for one talker makes of each, told the truth about that one."""
    talkers = range(len(clip.images))
    return torch.stack([beam(mixture, clip.of_talker(talker)) for talker in talkers])


def oracle_wiener(mixture: Tensor, clip: Clip) -> Tensor:
    """The Wiener filter of wiener.py with the masks of the true images and the rest."""
    stft, mic = STFT(LONG), clip.reference_mic
    images = clip.references
    truth = torch.cat([images, (mixture[mic] - images.sum(0))[None]])
    Y = wiener_images(stft(mixture), shares_of(stft(truth)), mic)
    return stft.inverse(Y[:-1], mixture.shape[-1])


def blindly(separate: Callable[[Tensor, int, int], Tensor], mixture: Tensor, clip: Clip) -> Tensor:
    """What a blind separator makes of a mixture of as many as there are."""
    return separate(mixture, len(clip.images), clip.reference_mic)


class Ours:
    """The shipped chain, or the one of a model the user trained; `told` how many talk or not."""

    def __init__(self, model: str | None, *, told: bool = False) -> None:
        # Imported late: the baselines need no weights of ours.
        from separation.separate import Separator

        self.separator = Separator() if model is None else Separator.from_pretrained(model, "cpu")
        self.told = told

    def __call__(self, mixture: Tensor, clip: Clip) -> Tensor:
        n_talkers = len(clip.images) if self.told else None
        return self.separator(mixture, n_talkers, reference_mic=clip.reference_mic)


class Live:
    """The causal chain, shipped or of a model the user trained, as if the clip came live."""

    def __init__(self, model: str) -> None:
        from separation.separate import Separator

        self.separator = Separator.from_pretrained(model, "cpu")

    def __call__(self, mixture: Tensor, clip: Clip) -> Tensor:
        from separation.count import loud_enough

        stream = self.separator.stream(len(mixture), reference_mic=clip.reference_mic)
        streams = torch.cat([stream.step(mixture), stream.flush()], -1)
        return streams[loud_enough(streams.square().sum(-1).numpy())]


class FaSNet:
    """A FaSNet-TAC that the user trained, on as many microphones as it was trained with."""

    def __init__(self, model: str) -> None:
        from clearbeam.training.fasnet import load_fasnet

        self.net = load_fasnet(Path(model))

    def __call__(self, mixture: Tensor, clip: Clip) -> Tensor:
        from clearbeam.training.fasnet import streams_of
        from separation.features import chosen_mics as heard_mics

        mics = heard_mics(len(mixture), clip.reference_mic)
        streams = streams_of(self.net, mixture[None, mics])[0]
        loudest = streams.square().sum(-1).argsort(descending=True, stable=True)
        return streams[loudest[: len(clip.images)]]


def cacgmm(mixture: Tensor, clip: Clip) -> Tensor:
    """Our separator without a network."""
    return Ours(None, told=True)(mixture, clip)


SEPARATORS: dict[str, System] = {
    **{name: partial(each_talker, beam) for name, beam in BEAMS.items()},
    "oracle-wiener": oracle_wiener,
    "auxiva": partial(blindly, blind.auxiva),
    "fastmnmf2": partial(blindly, blind.fastmnmf2),
    "cacgmm": cacgmm,
}
LIVE, RIVAL = "clearbeam-live", "fasnet"
OURS: dict[str, Callable[[str], System]] = {
    "clearbeam": Ours,
    LIVE: Live,
    "clearbeam-told": partial(Ours, told=True),
    RIVAL: FaSNet,
}
