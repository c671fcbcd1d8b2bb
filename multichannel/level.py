"""The running level of a signal, so that networks need not care how loud a recording is."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

FORGETTING = 0.995  # a frame; at a hop of 16 ms a time constant of 3.2 s
_LOWEST_BIN = 3  # rumble below 90 Hz says nothing about speech
_FLOOR = 1e-9  # far below the quietest recording: keeps digital silence at zero
_CHUNK = 256


class LevelState(NamedTuple):
    """Weighted sum of magnitudes and sum of weights, ``(batch,)`` each."""

    total: Tensor
    weight: Tensor


def running_level(X: Tensor, state: LevelState | None = None) -> tuple[Tensor, LevelState]:
    """Exponentially forgetting mean magnitude up to and including each frame.

    The sum of weights is kept beside the sum of magnitudes, so the mean is right from the first
    frame on (the bias correction of Kingma & Ba 2015, section 3).

    Args:
        X: complex spectrum ``(batch, frames, freqs)``.
        state: of the frames before; None is a fresh start.

    Returns:
        Level ``(batch, frames)``, positive, and the new state.
    """
    magnitude = X.detach()[..., _LOWEST_BIN:].abs().mean(dim=-1)
    if state is None:
        state = LevelState(magnitude.new_zeros(X.shape[0]), magnitude.new_zeros(X.shape[0]))
    levels = []
    for chunk in magnitude.split(_CHUNK, dim=-1):
        age = torch.arange(chunk.shape[-1], device=X.device)
        # row t holds the weight of every frame s <= t of this chunk
        decay = (FORGETTING ** (age[:, None] - age).clamp(min=0)).tril().to(chunk)
        fade = (FORGETTING ** (age + 1)).to(chunk)
        total = chunk @ decay.T * (1 - FORGETTING) + state.total[:, None] * fade
        weight = 1 - fade + state.weight[:, None] * fade
        levels.append(total / weight + _FLOOR)
        state = LevelState(total[:, -1], weight[:, -1])
    return torch.cat(levels, dim=-1), state
