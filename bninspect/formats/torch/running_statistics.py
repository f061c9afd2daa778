"""Batch norms among named tensors, by PyTorch's names: a prefix with `running_mean` and `running_var`."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from bninspect.records import BatchNorm

if TYPE_CHECKING:
    from bninspect.records import Array

EPSILON = "batch_norm_epsilon"
"""Key of safetensors metadata under which our export keeps each layer's epsilon, as JSON."""
NOTE = "a state_dict holds no epsilon, and does not tell InstanceNorm with running statistics from BatchNorm"
FIELDS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
"""What torch calls the parameters, by their standard name."""
AXIS = (1,)
"""torch.nn.BatchNorm1d, 2d and 3d have their channels there; none of them can be told another axis."""


def number(value: object) -> float | None:
    """Return a setting; None for what is not a number, and infinity for what no float holds."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def computed_note(fields: Sequence[str]) -> tuple[str, ...]:
    """Return in words that a graph computes these parameters of a batch norm; nothing if there are none."""
    return (f"{', '.join(fields)}: not stored, the graph computes it or takes it as an input",) if fields else ()


def prefixes(names: Iterable[str]) -> list[str]:
    """Return the prefixes of batch norms in their order, each with its dot: `layer1.0.bn1.`, or empty at the root."""
    known = dict.fromkeys(names)
    found = [name.removesuffix("running_mean") for name in known if name.split(".")[-1] == "running_mean"]
    return [prefix for prefix in found if f"{prefix}running_var" in known]


def layers(
    names: Iterable[str], read: Callable[[str], tuple[Array, str]], *, artefact: str = ""
) -> tuple[BatchNorm, ...]:
    """Return the batch norms among named tensors.

    Args:
        names: of all tensors, in the file's order.
        read: returns the array of a name, bfloat16 widened to float32, and the stored type's name.
        artefact: a beginning that says nothing of the model and is left out of the layers' names, such as `module.`.
    """
    known = dict.fromkeys(names)
    return tuple(_layer(prefix, known, read, artefact) for prefix in prefixes(known))


def _layer(prefix: str, known: dict[str, None], read: Callable[[str], tuple[Array, str]], artefact: str) -> BatchNorm:
    found = {field: read(prefix + name) for field, name in FIELDS.items() if prefix + name in known}
    arrays = {field: array for field, (array, _) in found.items()}
    return BatchNorm(
        name=prefix.removeprefix(artefact).removesuffix(".") or "batch_norm",
        gamma=arrays.get("gamma"),
        beta=arrays.get("beta"),
        moving_mean=arrays.get("moving_mean"),
        moving_variance=arrays.get("moving_variance"),
        axis=AXIS,
        dtype="+".join(dict.fromkeys(dtype for _, dtype in found.values())),
        location=prefix.removesuffix("."),
    )
