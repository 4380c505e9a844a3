"""The audio codec: the protocol and its ONNX Runtime implementation."""
