"""The running level of a signal, so that networks need not care how loud a recording is."""

from __future__ import annotations

from torch import Tensor

from multichannel.spatial import WeightedSum, recursive_average

FORGETTING = 0.995  # a frame; at a hop of 16 ms a time constant of 3.2 s
_LOWEST_BIN = 3  # rumble below 90 Hz says nothing about speech
_FLOOR = 1e-9  # far below the quietest recording: keeps digital silence at zero

LevelState = WeightedSum


def running_level(X: Tensor, state: LevelState | None = None) -> tuple[Tensor, LevelState]:
    """Exponentially forgetting mean magnitude up to and including each frame.

    Args:
        X: complex spectrum ``(batch, frames, freqs)``.
        state: of the frames before; None is a fresh start.

    Returns:
        Level ``(batch, frames)``, positive, and the new state.
    """
    magnitude = X.detach()[..., _LOWEST_BIN:].abs().mean(dim=-1)
    level, state = recursive_average(magnitude, FORGETTING, state=state)
    return level + _FLOOR, state
