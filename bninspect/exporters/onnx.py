"""ONNX: one BatchNormalization node per layer, with an input and an output of its own, ready to run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from bninspect.arithmetic.formula import Parameters
from bninspect.errors import UsageError
from bninspect.exporters.entries import entries
from bninspect.formats.export_metadata import to_text
from bninspect.formats.onnx import write
from bninspect.records import PARAMETERS, BatchNorm, Checkpoint
from bninspect.safe_text import printable
from bninspect.version import __version__


def encode(checkpoint: Checkpoint, *, folded: bool) -> bytes:
    """Return an ONNX model with the node `<layer>` from `<layer>/x` to `<layer>/y` for each layer.

    Inputs are (N, C, H, W): ONNX has the channels along axis 1, wherever the model had them. Epsilon is a float32.
    Layers of float16 and bfloat16 are computed in float32. The metadata hold, as `bninspect`, JSON with everything else
    that is known.

    Raises:
        UsageError: folded, for which ONNX has no node; an unknown epsilon; statistics that are not the moving ones.
        DamagedFile: an array is missing or of another shape.
    """
    if folded:
        raise UsageError(
            "ONNX has no folded batch norm", why="its node takes mean and variance", hint="export with -f tflite"
        )
    listed = entries(checkpoint, folded=False)
    for entry in listed:
        if why := entry.layer.statistics.elsewhere:
            raise UsageError(
                f"layer '{printable(entry.layer.name)}' cannot be exported to ONNX",
                why=why,
                hint=f"--exclude-layer '{printable(entry.layer.name)}'",
            )
    # Only what is known of the layers: the arrays are in the nodes.
    text = to_text(checkpoint, listed, folded=False)
    layers, keys = [entry.layer for entry in listed], [entry.key for entry in listed]
    return encode_layers(layers, keys, None, {"bninspect": text})


def encode_layers(
    layers: Sequence[BatchNorm], keys: Sequence[str], dtype: str | None, notes: dict[str, str] | None = None
) -> bytes:
    """Return an ONNX model of one node per layer.

    Args:
        layers: with all that the formula needs.
        keys: name of each node; its input is `<key>/x`, its output `<key>/y`.
        dtype: float32 or float64; that of each layer's arrays without it.
        notes: metadata of the model.
    """
    nodes, tensors, inputs, outputs = [], [], [], []
    for layer, key in zip(layers, keys, strict=True):
        kind = dtype or ("float64" if layer.dtype == "float64" else "float32")
        of = Parameters.of(layer, "float64")
        arrays = zip(PARAMETERS, (of.gamma, of.beta, of.mean, of.variance), strict=True)
        tensors += [write.tensor(f"{key}/{name}", array.reshape(-1).astype(kind)) for name, array in arrays]
        taken: Iterable[str] = [f"{key}/{name}" for name in PARAMETERS]
        momentum = layer.momentum
        nodes.append(write.batch_norm(f"{key}/x", taken, f"{key}/y", key, of.epsilon, momentum))
        shape = ("N", layer.channels, "H", "W")
        inputs.append(write.value(f"{key}/x", kind, shape))
        outputs.append(write.value(f"{key}/y", kind, shape))
    return write.model(write.graph(nodes, tensors, inputs, outputs), __version__, notes)
