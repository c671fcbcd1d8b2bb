"""The losses that a recipe can name; a run's loss is their weighted sum.

All of them take waveforms ``(batch, samples)`` or ``(batch, talkers, samples)`` in `Outputs`.
"""

from __future__ import annotations

from torch import Tensor

from clearbeam.training.tasks import Loss, Outputs
from multichannel import losses
from multichannel.stft import STFT, STFTConfig

_RESOLUTIONS = ((512, 128), (1024, 256), (2048, 512))  # n_fft, hop


def common_losses(stft: STFT) -> dict[str, Loss]:
    """Losses of an estimate against its reference.

    compressed_spectral, si_snr: as published with GTCRN. multi_resolution_stft: over windows of 32,
    64 and 128 ms. si_sdr, pit_si_sdr: minus the SI-SDR in dB, the latter of the best order of the
    talkers (asteroid's). stoi: one minus a STOI that can be differentiated. pmsqe: a stand-in for
    PESQ (asteroid's). teacher: compressed_spectral against what the teacher made of the batch.
    """
    stfts = [STFT(STFTConfig(n_fft, hop)) for n_fft, hop in _RESOLUTIONS]

    def spectral(outputs: Outputs) -> Tensor:
        return losses.compressed_spectral(outputs.estimate, outputs.reference, stft)

    def si_snr(outputs: Outputs) -> Tensor:
        return losses.negative_si_snr(outputs.estimate, outputs.reference)

    def multi_resolution(outputs: Outputs) -> Tensor:
        moved = [one.to(outputs.estimate.device) for one in stfts]
        return losses.multi_resolution_stft(outputs.estimate, outputs.reference, moved)

    def stoi(outputs: Outputs) -> Tensor:
        return losses.unintelligibility(outputs.estimate, outputs.reference, stft)

    def pmsqe(outputs: Outputs) -> Tensor:
        from clearbeam.training.asteroid_adapter import perceptual_distortion

        return perceptual_distortion(outputs.estimate, outputs.reference, stft)

    def teacher(outputs: Outputs) -> Tensor:
        return losses.compressed_spectral(outputs.estimate, outputs.extra["teacher"], stft)

    return {
        "compressed_spectral": spectral,
        "si_snr": si_snr,
        "multi_resolution_stft": multi_resolution,
        "si_sdr": _si_sdr,
        "pit_si_sdr": _pit_si_sdr,
        "stoi": stoi,
        "pmsqe": pmsqe,
        "teacher": teacher,
    }


def _si_sdr(outputs: Outputs) -> Tensor:
    from clearbeam.training.asteroid_adapter import negative_si_sdr

    return negative_si_sdr(outputs.estimate, outputs.reference)


def _pit_si_sdr(outputs: Outputs) -> Tensor:
    from clearbeam.training.asteroid_adapter import negative_pit_si_sdr

    if outputs.estimate.dim() == 2:
        return negative_pit_si_sdr(outputs.estimate[:, None], outputs.reference[:, None])
    return negative_pit_si_sdr(outputs.estimate, outputs.reference)
