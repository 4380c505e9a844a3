"""Export of published codec checkpoints to ONNX, without PyTorch."""

from .export import Checkpoints, export_codec, find_checkpoints

__all__ = ["Checkpoints", "export_codec", "find_checkpoints"]
