"""Leaving PyTorch: the live pipeline as ONNX or TorchScript, checked before it counts."""
