"""The audio codec: the protocol and its ONNX Runtime implementation."""

import os

if not os.environ.get("ORT_DISABLE_TELEMETRY"):  # as it is loaded, ONNX Runtime would report to its makers
    os.environ["ORT_DISABLE_TELEMETRY"] = "1"
