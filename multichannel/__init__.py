"""STFT core, spatial statistics, beamformers and the multi-input GTCRN."""
