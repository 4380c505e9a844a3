"""Export of published codec checkpoints to ONNX, without PyTorch."""

from .export import Checkpoints, export_codec, find_checkpoints
from .pth import StateDict, read_state_dict

__all__ = ["Checkpoints", "StateDict", "export_codec", "find_checkpoints", "read_state_dict"]
