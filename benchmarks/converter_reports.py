"""What would be reported, and to whom, of what the table shows; each only as long as a cell shows it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from converter_results import BROKEN, REFUSED, WRONG, Result


@dataclass(frozen=True)
class Matter:
    """Something to report, and the cells that show it."""

    to: str
    converters: tuple[str, ...]
    patterns: tuple[str, ...]
    words: str


MATTERS = (
    Matter(
        "ONNX Runtime",
        ("ort-qoperator",),
        ("shared", "nested"),
        "`quantize_static` with QOperator quantises a bias that two convolutions share once, with the input scale of "
        "the first: the second adds a bias that is off by the ratio of the two input scales. QDQ is right.",
    ),
    Matter(
        "ONNX Runtime",
        ("torch-onnx-plain", "torch-onnx-old", "torch-onnx-new"),
        ("fake-quant",),
        "by default a session quantises the float weights of a convolution between a DequantizeLinear and a "
        "QuantizeLinear to int8 as it loads the file, also where the file only rounds what flows.",
    ),
    Matter(
        "onnx2tf",
        ("onnx2tf", "onnx2tf-float16"),
        ("fake-quant",),
        "QuantizeLinear and DequantizeLinear behind each other are left out: nothing is rounded to the model's steps.",
    ),
    Matter(
        "onnx2tf",
        ("onnx2tf", "onnx2tf-float16"),
        ("after-upsampling", "other-axis"),
        "nearest neighbours that double height and width double the width alone; what is transposed for a batch norm "
        "over the height comes out as something else: in no order of axes is the output the model's.",
    ),
    Matter(
        "pnnx",
        ("pnnx", "pnnx-float16"),
        ("time-distributed", "shared"),
        "steps that are folded into the batch and taken out again become one step; and of one batch norm after two "
        "convolutions the files do not load in ncnn. Both are written without an error.",
    ),
    Matter(
        "NNCF",
        ("openvino-int8",),
        ("dense-sequence", "dense", "after-add", "gating"),
        "the ranges of `nncf.quantize` cut off the largest of the very inputs that it was calibrated on, 2.5 at 1.9: "
        "the outputs are off by more than 8 bits cost. For the inputs halved they are right.",
    ),
    Matter(
        "onnxslim",
        ("onnxslim",),
        ("grouped",),
        "it ends with an error of Python, of bytes that are not text, on a graph that calls a function.",
    ),
    Matter(
        "TensorFlow Lite",
        ("tflite-int16x8",),
        ("shared", "nested"),
        "int16x8 is wrong where two convolutions share a bias, as ONNX Runtime's QOperator is. int8 is right.",
    ),
    Matter(
        "PyTorch",
        ("torch-fx-fuse",),
        ("nested",),
        "`torch.fx.experimental.optimization.fuse` folds a batch norm into a convolution once for each call: of a "
        "block that is called twice the weights hold the square of the scale.",
    ),
    Matter(
        "PyTorch",
        ("torch-jit-optimize",),
        ("conv", "before-conv", "depthwise"),
        "what `optimize_for_inference` returns can be saved and not loaded again, as soon as a convolution is in it.",
    ),
    Matter(
        "tf2onnx",
        ("tf2onnx",),
        ("grouped",),
        "a grouped convolution of Keras 3 becomes a StatefulPartitionedCall in the ONNX file, which nothing loads; the "
        "converter logs that it is not supported and returns without an error.",
    ),
    Matter(
        "onnxoptimizer",
        ("onnxoptimizer",),
        ("residual",),
        "all fusing passes together write a file that defines one name twice, which ONNX Runtime does not load.",
    ),
    Matter(
        "Keras, TensorFlow Lite",
        ("tflite-float32", "keras-litert"),
        ("float16",),
        "a convolution under the policy mixed_float16 does not convert, or needs operators of TensorFlow in the file.",
    ),
    Matter(
        "litert-torch",
        ("litert-torch",),
        ("transposed",),
        "a transposed convolution with output padding does not convert.",
    ),
    Matter(
        "ONNX Runtime",
        ("ort-dynamic", "ort-qoperator"),
        ("float16", "fake-quant"),
        "the quantisers end with an error of Python on a graph that has been cast or quantised before.",
    ),
)


def reports(results: Iterable[Result]) -> Iterator[str]:
    """Yield a line for each matter that a cell still shows."""
    faults = {WRONG, BROKEN, REFUSED}
    known = {(each.cell.converter.name, each.cell.pattern) for each in results if each.measured in faults}
    yield "\n## What we would report, and to whom\n"
    for matter in MATTERS:
        shown = [
            (converter, pattern)
            for converter in matter.converters
            for pattern in matter.patterns
            if (converter, pattern) in known
        ]
        if shown:
            converter, pattern = shown[0]
            yield f"- **{matter.to}**: {matter.words} Smallest: `{converter}`, `{pattern}`."
