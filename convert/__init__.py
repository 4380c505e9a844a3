"""Conversion of published LLaMA checkpoints to GGUF, without PyTorch."""
