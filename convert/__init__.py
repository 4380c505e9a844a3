"""From published LLaMA checkpoints to GGUF, without PyTorch."""
