"""What a format cannot hold of these layers, so that whoever takes the file on must know it."""

from __future__ import annotations

from bninspect.records import Checkpoint
from bninspect.safe_text import printable

_TORCH_DEFAULT = 1e-5


def none(_checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return nothing: the format holds everything."""
    return ()


def of_torch(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return what a state_dict lacks: epsilon, for which torch has a default of its own."""
    found = {layer.epsilon for layer in checkpoint.layers if layer.epsilon is not None}
    if found <= {_TORCH_DEFAULT}:
        return several_axes(checkpoint)
    wanted = f"eps={found.pop():g}" if len(found) == 1 else "the eps of each"
    said = f"load_state_dict does not set epsilon: build the layers with {wanted}, the default of torch is 1e-05"
    return (said, *several_axes(checkpoint))


def of_onnx(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return what a BatchNormalization node lacks: an axis."""
    others = [layer for layer in checkpoint.layers if layer.axis not in {None, (1,)} and len(layer.axis or ()) == 1]
    if not others:
        return several_axes(checkpoint)
    more = f" and {len(others) - 1} more" if len(others) > 1 else ""
    where = ", ".join(sorted({str(layer.axis[0]) for layer in others if layer.axis}))
    said = f"channels are along axis 1 in ONNX; the model has those of {printable(others[0].name)}{more} along {where}"
    return (said, *several_axes(checkpoint))


def several_axes(checkpoint: Checkpoint) -> tuple[str, ...]:
    """Return what all formats lack that have one axis of channels."""
    return tuple(
        f"{printable(layer.name)} normalises over axes {', '.join(map(str, layer.axis))}: move them together, "
        "in this order, and take them for one"
        for layer in checkpoint.layers
        if layer.axis is not None and len(layer.axis) > 1
    )
