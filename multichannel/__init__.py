"""STFT core, spatial statistics, beamformers and the multi-input GTCRN: mics in, one talker out."""

from multichannel.beamform import apply_beamformer, mvdr_souden
from multichannel.enhance import Enhancer
from multichannel.frontend import FrontEndConfig
from multichannel.gtcrn import GTCRN, GTCRNConfig
from multichannel.live import LiveStream
from multichannel.spatial import masked_covariance
from multichannel.stft import STFT, STFTConfig
from multichannel.stream import MicWarning

__all__ = [
    "GTCRN",
    "STFT",
    "Enhancer",
    "FrontEndConfig",
    "GTCRNConfig",
    "LiveStream",
    "MicWarning",
    "STFTConfig",
    "apply_beamformer",
    "masked_covariance",
    "mvdr_souden",
]
