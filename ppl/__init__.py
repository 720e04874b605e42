"""Prompt-guided pooling for video language models, on PyTorch Lightning."""

__version__ = "0.1.0"
