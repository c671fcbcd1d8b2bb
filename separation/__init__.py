"""Deep-clustering network, spatial clustering and beams: mics in, one clean stream per talker."""

from separation.network import Separation, SeparationConfig, SeparationNet

__all__ = ["Separation", "SeparationConfig", "SeparationNet"]
