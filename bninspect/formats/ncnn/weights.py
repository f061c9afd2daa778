"""The `.bin` of ncnn: what each layer loads of it, one after the other (ncnn, src/layer/*.cpp and modelbin.cpp).

A tensor of type 0 begins with a tag: 0 for float32, 0x01306B47 for float16, 0x000D4B38 for int8, 0x0002C056 for float32
as well; one of type 1 is float32 without a tag. All of them end at a multiple of 4 bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bninspect.errors import DamagedFile, UnreadableFile
from bninspect.formats.ncnn.param import NcnnLayer
from bninspect.formats.stored_numbers import read_only
from bninspect.records import Array
from bninspect.records import graph as network
from bninspect.records.graph import Geometry, Kernel
from bninspect.safe_text import printable

_TAGS = {0: "float32", 0x0002C056: "float32", 0x01306B47: "float16", 0x000D4B38: "int8"}
_STORED = {"float32": "<f4", "float16": "<f2", "int8": "i1"}
_NOTHING = """
AbsVal ArgMax BNLL BinaryOp CELU Cast Clip Concat CopyTo Crop CumulativeSum Diag Dropout ELU Einsum Eltwise Erf Exp
ExpandDims Flatten Flip Fold GELU GLU GridSample HardSigmoid HardSwish Input Interp LRN Log MVN MatMul Mish Noop
Packing Permute PixelShuffle Pooling Pooling1D Pooling3D Power PriorBox ReLU Reduction Reorg Reshape SELU SPP Shrink
ShuffleChannel Sigmoid Silence Slice Softmax Softplus Split Squeeze Swish TanH Threshold Tile UnaryOp Unfold
YoloDetectionOutput Yolov3DetectionOutput
"""
"""Layers that load nothing."""
KINDS = {
    **dict.fromkeys(("Convolution", "Convolution1D", "Convolution3D"), network.CONVOLUTION),
    **dict.fromkeys(("ConvolutionDepthWise", "ConvolutionDepthWise1D", "ConvolutionDepthWise3D"), network.CONVOLUTION),
    **dict.fromkeys(("Deconvolution", "Deconvolution1D", "DeconvolutionDepthWise"), network.TRANSPOSED),
    "InnerProduct": network.DENSE,
}
"""Layers that multiply by weights, and what they are."""
_SIZES: Mapping[str, tuple[tuple[int, int], ...]] = {
    "Scale": ((0, 0), (0, 1)),
    "PReLU": ((0, 0),),
    "Bias": ((0, 0),),
    "LayerNorm": ((0, 2), (0, 2)),
    "GroupNorm": ((1, 3), (1, 3)),
    "InstanceNorm": ((0, 2), (0, 2)),
}
"""Of layers with tensors of type 1: the setting that is the length, and the one that says whether it is there."""


@dataclass(frozen=True, eq=False)
class Loaded:
    """What a layer holds."""

    layer: NcnnLayer
    kernel: Kernel | None = None
    tensors: tuple[Array, ...] = ()
    """Of a layer without kernel, in the order in which they are stored."""


class StoredWeights:
    """The bytes of a `.bin`, taken one tensor after the other."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._place = 0

    def plain(self, count: int, whose: str) -> Array:
        """Return the next tensor, of type 1. Raises DamagedFile if it is cut off."""
        return self._take(count, "float32", whose)

    def tagged(self, count: int, whose: str) -> tuple[Array, str]:
        """Return the next tensor, of type 0, and its type. Raises DamagedFile, UnreadableFile."""
        tag = struct.unpack("<I", self._bytes(4, whose))[0]
        if tag not in _TAGS:
            why = f"{printable(whose)} is stored as {tag:#010x}, such as by a table of 256 values"
            raise UnreadableFile("weights of a type that is not read", why=why)
        return self._take(count, _TAGS[tag], whose), _TAGS[tag]

    def end(self) -> None:
        """Raise DamagedFile if bytes are left: then all that were taken may be those of other layers."""
        if self._place != len(self._data):
            why = f"{len(self._data) - self._place:,} bytes are left over"
            raise DamagedFile("the .bin is of another .param", why=why)

    def _take(self, count: int, dtype: str, whose: str) -> Array:
        if count < 0:
            raise DamagedFile("the .param is damaged", why=printable(f"{whose} has a negative number of weights"))
        kind = np.dtype(_STORED[dtype])
        size = count * kind.itemsize
        values = np.frombuffer(self._bytes(-(-size // 4) * 4, whose)[:size], kind).astype(kind.newbyteorder("="))
        return read_only(values)

    def _bytes(self, size: int, whose: str) -> memoryview:
        if size > len(self._data) - self._place:
            why = f"{printable(whose)} takes {size:,} bytes, {len(self._data) - self._place:,} are left"
            raise DamagedFile("the .bin is cut off, or of another .param", why=why)
        self._place += size
        return self._data[self._place - size : self._place]


def load(layer: NcnnLayer, stored: StoredWeights) -> Loaded:
    """Return what a layer loads.

    Raises:
        DamagedFile: it is cut off, or contradicts itself.
        UnreadableFile: how much a layer of this kind loads is not known here.
    """
    if layer.kind in _NOTHING.split() or (layer.kind == "Padding" and not layer.number(7)):
        return Loaded(layer)
    if layer.kind in KINDS and not layer.number(28 if KINDS[layer.kind] == network.TRANSPOSED else 19):
        return Loaded(layer, _kernel(layer, stored))
    if layer.kind == "BatchNorm":
        return Loaded(layer, tensors=tuple(stored.plain(layer.number(0), layer.name) for _ in range(4)))
    if layer.kind in _SIZES:
        sizes = [
            layer.number(length)
            for length, there in _SIZES[layer.kind]
            if there == length or layer.number(there, 0 if layer.kind == "Scale" else 1)
        ]
        return Loaded(layer, tensors=tuple(stored.plain(size, layer.name) for size in sizes))
    if layer.kind == "MemoryData":
        lengths = [layer.number(key) for key in (0, 1, 11, 2)]
        if min(lengths) < 0:
            raise DamagedFile("the .param contradicts itself", why=printable(f"{layer.name} has a length below zero"))
        count = int(np.prod([length for length in lengths if length], dtype=object)) if any(lengths) else 0
        if layer.number(21, 1) == 1:
            return Loaded(layer, tensors=(stored.plain(count, layer.name),))
        return Loaded(layer, tensors=(stored.tagged(count, layer.name)[0],))
    why = f"{printable(layer.name)} may load numbers in an order that is not known"
    hint = ""
    if "." in layer.kind:
        why = f"{printable(layer.name)} is an operation of PyTorch that pnnx did not convert and ncnn does not load"
        hint = "call .float() on the module before it is traced" if layer.kind == "Tensor.to" else hint
    raise UnreadableFile(f"a layer {printable(layer.kind)} is not read", why=why, hint=hint)


_FLUSHED = 2.0**-14
"""pnnx stores what would be a subnormal number of float16 as zero, also of a module of halves that it writes as
float32: measured, with its release of 2026-10-20."""


def _kernel(layer: NcnnLayer, stored: StoredWeights) -> Kernel:
    """Return weights and bias in the order of `records.graph`, weights of int8 as what they stand for."""
    dense = layer.kind == "InnerProduct"
    outputs, count = layer.number(0), layer.number(2 if dense else 6)
    groups = layer.number(7, 1) if "DepthWise" in layer.kind else 1
    if min(outputs, groups) < 1 or count % outputs or outputs % groups:
        why = f"{outputs} outputs in {groups} groups of {count} weights"
        raise DamagedFile("the .param contradicts itself", why=printable(f"{layer.name}: {why}"))
    weights, dtype = stored.tagged(count, layer.name)
    bias = stored.plain(outputs, layer.name) if layer.number(1 if dense else 5) else None
    scales = _scales(layer, stored, outputs, groups)
    values, step = weights.reshape(outputs, -1), None
    if dtype == "int8":
        if scales is None:
            raise DamagedFile("the .param contradicts itself", why=printable(f"{layer.name}: int8 without scales"))
        with np.errstate(all="ignore"):
            step = np.broadcast_to(1 / np.repeat(scales.astype(np.float64), outputs // scales.size), (outputs,))
            values = values.astype(np.float64) * step[:, np.newaxis]
    halves = dtype == "float16" or (dtype == "float32" and np.array_equal(weights, weights.astype(np.float16)))
    flushed = _FLUSHED if halves else 0.0
    if dense:
        return Kernel(network.dense(values.T), bias, 1, _rounded(dtype), step, flushed=flushed)
    taps = _taps(layer)
    if taps < 1 or values.shape[1] % taps:
        why = f"{values.shape[1]} weights of an output are not a multiple of {taps} places"
        raise DamagedFile("the .param contradicts itself", why=printable(f"{layer.name}: {why}"))
    # Also of a Deconvolution: ncnn has the outputs first.
    own = network.convolution(values.reshape(outputs, -1, taps), groups)
    return Kernel(own, bias, groups, _rounded(dtype), step, flushed=flushed)


def _rounded(dtype: str) -> str:
    return "float32" if dtype == "int8" else dtype


def _taps(layer: NcnnLayer) -> int:
    width = layer.number(1)
    height = layer.number(11, width) if not layer.kind.endswith("1D") else 1
    return width * height * (layer.number(21, width) if layer.kind.endswith("3D") else 1)


def _scales(layer: NcnnLayer, stored: StoredWeights, outputs: int, groups: int) -> Array | None:
    """Return the scales of int8 weights, behind which that of the input and perhaps of the output stand."""
    term = layer.number(8)
    if not term or "1D" in layer.kind or "3D" in layer.kind or KINDS[layer.kind] == network.TRANSPOSED:
        return None
    count = outputs
    if "DepthWise" in layer.kind:
        count = 1 if term in {2, 102} else groups
    scales = stored.plain(count, layer.name)
    stored.plain(1 + (term > 100), layer.name)
    return scales


_SAME = {-233: "same", -234: "same lower"}


def moved_by(layer: NcnnLayer) -> Geometry | None:
    """Return how a layer with a kernel moves over its input; None where that is not known here.

    Settings of the second axis, which are 10 more, are those of the first where they are missing.
    """
    if layer.kind == "InnerProduct":
        return Geometry()
    if layer.kind.endswith("3D"):
        return None
    first = [layer.number(key, otherwise) for key, otherwise in ((1, 0), (3, 1), (2, 1))]
    second = [layer.number(key + 10, value) for key, value in zip((1, 3, 2), first, strict=True)]
    left = layer.number(4)
    right, top = layer.number(15, left), layer.number(14, left)
    padding: tuple[tuple[int, int], ...] | str = ((top, layer.number(16, top)), (left, right))
    grown: tuple[int, ...] = ()
    if KINDS[layer.kind] == network.TRANSPOSED:
        grown = (layer.number(19, layer.number(18)), layer.number(18))
    if left in _SAME:
        padding = _SAME[left]
    sizes: list[tuple[int, ...]] = list(zip(second, first, strict=True))
    if layer.kind.endswith("1D"):
        sizes = [one[1:] for one in sizes]
        padding, grown = padding if isinstance(padding, str) else padding[1:], grown[1:]
    if KINDS[layer.kind] == network.TRANSPOSED and (isinstance(padding, str) or layer.number(20) or layer.number(21)):
        return None
    if KINDS[layer.kind] != network.TRANSPOSED and any(layer.reals(18)):
        return None  # it pads with another number than zero
    size, stride, dilation = sizes
    return Geometry(size, stride, padding, dilation, grown, channel_axis=1)
