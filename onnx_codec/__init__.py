"""From published codec checkpoints to ONNX, without PyTorch."""
