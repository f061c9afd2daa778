"""ONNX, read without the onnx package: a protocol buffer of nodes and initializers (onnx/onnx.proto)."""
