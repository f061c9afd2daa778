"""The codes of TFLite: operators, types and activations (tensorflow/compiler/mlir/lite/schema/schema.fbs)."""

from __future__ import annotations

from collections.abc import Mapping

IDENTIFIER = b"TFL3"
CUSTOM, COMPOSITE = 32, 206
_OPERATIONS = """
0 add, 1 average pool, 2 concatenation, 3 conv, 4 depthwise conv, 5 depth to space, 6 dequantize, 9 fully connected,
14 logistic, 17 max pool, 18 mul, 19 relu, 20 relu n1 to 1, 21 relu6, 22 reshape, 23 resize bilinear, 25 softmax,
26 space to depth, 28 tanh, 34 pad, 36 gather, 37 batch to space, 38 space to batch, 39 transpose, 40 mean, 41 sub,
42 div, 43 squeeze, 45 strided slice, 47 exp, 49 split, 50 log softmax, 53 cast, 54 prelu, 55 maximum, 56 arg max,
57 minimum, 59 neg, 60 pad v2, 65 slice, 67 transpose conv, 69 tile, 70 expand dims, 73 log, 74 sum, 75 sqrt, 76 rsqrt,
77 shape, 82 reduce max, 83 pack, 88 unpack, 92 square, 97 resize nearest, 98 leaky relu, 99 squared difference,
100 mirror pad, 101 abs, 105 reverse v2, 111 elu, 114 quantize, 116 round, 117 hard swish, 118 if, 119 while,
126 batch matmul, 130 broadcast to, 132 conv 3d, 143 read variable, 150 gelu
"""
OPERATIONS: Mapping[int, str] = {
    int(code): name for code, _, name in (entry.strip().partition(" ") for entry in _OPERATIONS.split(","))
}
"""What this program calls the operators that it knows."""
TYPES = {0: "float32", 1: "float16", 2: "int32", 3: "uint8", 4: "int64", 6: "bool", 7: "int16", 9: "int8"}
TYPES |= {10: "float64", 12: "uint64", 15: "uint32", 16: "uint16"}
ACTIVATIONS = {0: "", 1: "relu", 2: "relu n1 to 1", 3: "relu6", 4: "tanh", 5: "sign bit"}
FUSED = {"add": 0, "sub": 0, "mul": 0, "fully connected": 0, "conv": 3, "depthwise conv": 4, "transpose conv": 3}
FUSED |= {"conv 3d": 4}
"""Field of an operator's options that holds the activation."""
