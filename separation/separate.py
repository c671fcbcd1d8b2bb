"""The separator: what the mics of any array hear in, one clean stream per talker out.

waveforms -> long STFT -> spatial mixture model: a few classes
          -> STFT -> network, shown those: masks of talkers and noise, embeddings -> how many talk
          -> long STFT -> spatial mixture model from the masks -> Wiener filter, twice
          -> once more from the network on, shown what came out -> post-filter -> streams

Without a network the spatial mixture model finds the talkers by itself, and has to be told how many
there are. A meeting of hours goes through in windows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn

from multichannel.cacgmm import spatial_posteriors
from multichannel.changes import ChangeFinder
from multichannel.enhance import SAMPLE_RATE
from multichannel.frontend import living_mic
from multichannel.gtcrn import GTCRN
from multichannel.mics import without_failing
from multichannel.spatial import covariance_sums
from multichannel.steady import SteadyLevel
from multichannel.stft import STFT
from multichannel.stream import MAX_MICS
from multichannel.usable import mics_out
from multichannel.weights import load_gtcrn, pick_device
from separation.beams import BEAMS
from separation.coarse import coarse_shares, loudest_shares
from separation.count import MOST_TALKERS, CountRule, how_many
from separation.kmeans import cluster, energetic
from separation.live import LiveSeparator
from separation.network import Separation, SeparationNet
from separation.permutation import blind_posteriors
from separation.postfilter import POST_INPUTS, cleaned, post_inputs
from separation.weights import FOLDER, count_rule, find_separation, load_separation
from separation.wiener import LONG, shares_of, spatial_covariances

POST = "separate-post"


@dataclass(frozen=True)
class SeparatorConfig:
    """How masks become streams.

    Args:
        n_passes: of a guided network; each but the first is shown what was made of the one before.
        n_em: iterations of the spatial mixture model.
        strength: exponent of what the mics say against the network's masks, 1 for even.
        beam: of each talker: ``wiener``, ``mvdr`` or ``lcmv``, see `separation.beams`.
        n_beams: of the last pass, each but the first with the masks of the one before.
        seed: of clusters and blind beginnings.
        count: when there is a talker more; None is the rule beside the weights.

    Raises:
        ValueError: there is no such beam, or no pass or beam at all.
    """

    n_passes: int = 2
    n_em: int = 3
    strength: float = 1.0
    beam: str = "wiener"
    n_beams: int = 2
    seed: int = 0
    count: CountRule | None = None

    def __post_init__(self) -> None:
        if self.beam not in BEAMS:
            raise ValueError(f"expected a beam of {', '.join(BEAMS)}, found {self.beam!r}")
        for name in ("n_passes", "n_beams"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected {name} of at least 1, found {getattr(self, name)}")


class Separated(NamedTuple):
    """Streams, and when each talks.

    ``streams (talkers, samples)``; ``masks (talkers + 1, freqs, frames)``: shares of the talkers
    and, last, of the noise in the bins of the long STFT; ``activity (talkers, frames)``: shares of
    the sound of a frame, 0 in silence.
    """

    streams: Tensor
    masks: Tensor
    activity: Tensor


class Separator(nn.Module):
    """Separates up to 4 talkers heard by 1 to 16 mics of any geometry, at 16 kHz.

    Args:
        net: makes the first masks; None leaves that to the spatial mixture model.
        post: multi-input GTCRN that cleans the streams, fed by `PostInputs`; None leaves them.
        config: how the streams are made.

    Raises:
        ValueError: ``post`` takes other inputs.
    """

    def __init__(
        self,
        net: SeparationNet | None = None,
        post: GTCRN | None = None,
        config: SeparatorConfig | None = None,
    ) -> None:
        super().__init__()
        if post is not None and post.config.inputs != POST_INPUTS:
            raise ValueError(
                f"expected a network with {POST_INPUTS} spectra, magnitudes and cues as inputs, "
                f"found {post.config.inputs}"
            )
        self.net, self.post = net, post
        self.config = config or SeparatorConfig()
        self.stft, self.long = STFT(), STFT(LONG)
        self.sample_rate = SAMPLE_RATE

    @classmethod
    def from_pretrained(
        cls,
        model: str | Path = "separate",
        device: str = "auto",
        config: SeparatorConfig | None = None,
    ) -> Separator:
        """The separator with weights of the package (by name) or of a file, and the shipped
        post-filter where there is one.

        Raises:
            ValueError: no such model or device, or the file holds another network.
        """
        where = pick_device(device)
        files = model_files(model)
        post = load_gtcrn(files[-1].with_suffix(".safetensors")) if len(files) > 2 else None
        config = config or SeparatorConfig()
        if config.count is None:
            config = replace(config, count=count_rule(files[0]))
        return cls(load_separation(files[0]), post, config).to(where).eval()

    def forward(self, x: Tensor, n_talkers: int | None = None, *, reference_mic: int = 0) -> Tensor:
        """The talkers in ``x``, each as the reference mic hears him, with his reverberation.

        Args:
            x: waveforms ``(mics, samples)``, float at 16 kHz.
            n_talkers: 1 to 4; found out when left out.
            reference_mic: whose view of the talkers is kept, unless it is dead.

        Returns:
            Streams ``(talkers, samples)``, at least one, the loudest first.

        Raises:
            ValueError: shapes or numbers that do not fit, no mic is finite, or nobody says how many
                talk: neither the caller nor a network.
        """
        return self.separate(x, n_talkers, reference_mic=reference_mic).streams

    def stream(self, n_mics: int, *, reference_mic: int = 0) -> LiveSeparator:
        """A live stream: ``step(chunk)`` takes any number of samples and returns those ready.

        Args:
            n_mics: of the array.
            reference_mic: whose view of the talkers is kept.

        Raises:
            ValueError: the network is not causal, too many mics, or no such reference mic.
        """
        return LiveSeparator(self.net, n_mics, reference_mic, self.config.beam)

    @torch.no_grad()
    def separate(
        self, x: Tensor, n_talkers: int | None = None, *, reference_mic: int = 0
    ) -> Separated:
        """As `forward`, with all of `Separated`."""
        self._check(x, n_talkers, reference_mic)
        x, Z, level = self._believed(x.to(self.long.analysis_window.device, torch.float32))
        mic = int(living_mic(x.abs().amax(-1), reference_mic))
        if self.net is None:
            masks = self._blind(Z, n_talkers or 1)
        else:
            X = self.stft(x)
            S = self._chosen_masks(x, X, n_talkers, mic) * X[mic]
            masks = self._posteriors(Z, S, x.shape[-1])
        images = self._images(x, Z, masks, mic, self.config.n_beams)
        streams, masks = images[:-1], shares_of(self.long(images))
        if self.post is not None:
            seen = post_inputs(x, streams, self.stft, self.long, mic)
            streams = cleaned(self.post, seen, self.stft, x.shape[-1])
        return _loudest_first(level.lowered(streams), masks, Z[mic])

    def _believed(self, x: Tensor) -> tuple[Tensor, Tensor, SteadyLevel]:
        """A clip and its long spectrum, silent where a mic fails or changes anywhere in it, as loud
        at the end as at the beginning; and what takes that back."""
        x, hop, n_samples = without_failing(x), self.stft.config.hop, x.shape[-1]
        level = SteadyLevel(hop, SAMPLE_RATE)
        x = level.raised(nn.functional.pad(x, (0, -n_samples % hop)))[:, :n_samples]
        Z = self.long(x)
        changed = ChangeFinder(LONG, SAMPLE_RATE).step(Z, mics_out(Z))
        if changed.any():
            x, Z = x.masked_fill(changed[:, None], 0), Z.masked_fill(changed[:, None, None], 0)
        return x, Z, level

    def _check(self, x: Tensor, n_talkers: int | None, reference_mic: int) -> None:
        if x.ndim != 2 or x.shape[-1] < 1:
            raise ValueError(f"expected x of shape (mics, samples), found {tuple(x.shape)}")
        if not 1 <= len(x) <= MAX_MICS:
            raise ValueError(f"expected 1 to {MAX_MICS} mics, found {len(x)}")
        if not 0 <= reference_mic < len(x):
            found = f"expected reference_mic from 0 to {len(x) - 1}, found {reference_mic}"
            raise ValueError(found)
        if n_talkers is None and self.net is None:
            raise ValueError("expected n_talkers for a separator without a network, found none")
        if n_talkers is not None and not 1 <= n_talkers <= MOST_TALKERS:
            raise ValueError(f"expected 1 to {MOST_TALKERS} talkers, found {n_talkers}")

    def _images(self, x: Tensor, Z: Tensor, masks: Tensor, mic: int, n_beams: int = 1) -> Tensor:
        """Waveforms of the classes of masks ``(classes, freqs, frames)`` of the long STFT."""
        n_samples = x.shape[-1]
        beam = BEAMS[self.config.beam]
        images = self.long.inverse(beam(Z, masks, mic, None), n_samples)
        for _ in range(n_beams - 1):
            # by way of the samples: there neighbouring frames have to agree
            masks = shares_of(self.long(images))
            images = self.long.inverse(beam(Z, masks, mic, None), n_samples)
        return images

    def _posteriors(self, Z: Tensor, S: Tensor, n_samples: int) -> Tensor:
        """Of the spatial mixture model, from what masks leave in the network's STFT, by way of the
        samples."""
        masks = shares_of(self.long(self.stft.inverse(S, n_samples)))
        if len(Z) < 2:
            return masks
        return spatial_posteriors(Z, masks, self.config.n_em, "masks", self.config.strength)

    def _chosen_masks(self, x: Tensor, X: Tensor, n_talkers: int | None, mic: int) -> Tensor:
        """Masks of the network ``(talkers + 1, freqs, frames)`` for as many as talk."""
        masks, V = self.heard(x, X, mic)
        talkers, noise = masks[:-1], masks[-1:]
        weight = energetic(X[mic])
        n_talkers = n_talkers or how_many(talkers, V, X[mic], weight, self.config.count)
        if n_talkers > len(talkers):
            clusters = cluster(V, weight, n_talkers, self.config.seed)
            return torch.cat([clusters.masks(V) * (1 - noise), noise])
        power = (talkers * X[mic]).abs().square().sum((-1, -2))
        order = power.argsort(descending=True, stable=True)
        chosen, rest = talkers[order[:n_talkers]], talkers[order[n_talkers:]]
        return torch.cat([chosen, noise + rest.sum(0, keepdim=True)])

    def heard(self, x: Tensor, X: Tensor, mic: int = 0) -> Separation:
        """What the network says of each bin of a recording ``x (mics, samples)`` and its spectrum,
        at a mic."""
        assert self.net is not None
        if not self.net.config.guided:
            found: Separation = self.net(X, reference_mic=mic)[0]
            return found
        shares = coarse_shares(x, self.stft, self.long, mic, self.config.seed)
        found = self.net(X, reference_mic=mic, shares=shares)[0]
        for _ in range(self.config.n_passes - 1 if len(x) > 1 else 0):
            Z = self.long(x)
            masks = self._posteriors(Z, found.masks * X[mic], x.shape[-1])
            images = self._images(x, Z, masks, mic)
            shares = loudest_shares(self.stft(images))
            found = self.net(X, reference_mic=mic, shares=shares)[0]
        return found

    def _blind(self, Z: Tensor, n_talkers: int) -> Tensor:
        """Posteriors of the spatial mixture model by itself, the most diffuse class as the noise.

        One mic hears no directions: every talker is an equal share.
        """
        masks = blind_posteriors(Z, n_talkers + 1, self.config.seed)
        spread = torch.linalg.slogdet(
            spatial_covariances(covariance_sums(Z, masks))
        ).logabsdet.mean(-1)
        last = int(spread.argmax())
        return torch.cat([masks[:last], masks[last + 1 :], masks[last, None]])


def model_files(model: str | Path) -> list[Path]:
    """The files behind a model: weights and config, and those of the shipped post-filter, if any.

    Raises ValueError where there is no such model.
    """
    weights = [find_separation(model)]
    post = FOLDER / f"{POST}.safetensors"
    weights += [post] if post.is_file() else []
    return [file for path in weights for file in (path, path.with_suffix(".json"))]


def _loudest_first(streams: Tensor, masks: Tensor, X: Tensor) -> Separated:
    """Streams by their energy, with their masks and activities; ``X`` is what was masked."""
    order = streams.square().sum(-1).argsort(descending=True, stable=True)
    masks = torch.cat([masks[:-1][order], masks[-1:]])
    power = X.abs().square()
    total = power.sum(-2)
    share = (masks[:-1] * power).sum(-2) / torch.where(total > 0, total, 1)
    return Separated(streams[order], masks, share)
