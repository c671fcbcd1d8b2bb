"""Deep-clustering network, spatial clustering and beams: mics in, one clean stream per talker."""

from separation.live import LiveSeparator
from separation.network import Separation, SeparationConfig, SeparationNet
from separation.separate import Separated, Separator, SeparatorConfig

__all__ = [
    "LiveSeparator",
    "Separated",
    "Separation",
    "SeparationConfig",
    "SeparationNet",
    "Separator",
    "SeparatorConfig",
]
