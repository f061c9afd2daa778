"""Batch norms among named tensors, by PyTorch's names: a prefix with `running_mean` and `running_var`."""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Iterable, Sequence
from typing import Any

from bninspect.records import Array, BatchNorm, Unread
from bninspect.safe_text import printable

EPSILON = "batch_norm_epsilon"
"""Key of safetensors metadata under which our export keeps each layer's epsilon, as JSON."""
NOTE = "a state_dict holds no epsilon, and does not tell InstanceNorm with running statistics from BatchNorm"
NONE = "no name of a tensor ends in running_mean; of a batch norm with track_running_stats=False none does"
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
    return [prefix for prefix in _begun(known) if _ends(prefix, known) >= STATISTICS or _counts(prefix, known)]


def unread(names: Iterable[str], unreadable: Iterable[str] = ()) -> tuple[Unread, ...]:
    """Return what has the names of a batch norm and is none of the layers.

    Args:
        names: of all tensors.
        unreadable: those among them whose numbers are of a type that is not read.
    """
    known, whole = dict.fromkeys(names), dict.fromkeys(unreadable)
    complete = dict.fromkeys(prefixes(known))
    packed = [prefix for prefix in complete if _ends(prefix, whole) & {*FIELDS.values()}]
    halves = [prefix for prefix in _begun(known) if prefix not in complete]
    return (
        *(
            Unread(printable(prefix) or "the root", 1, "its numbers are of a type that is not read")
            for prefix in packed
        ),
        *(Unread(printable(prefix) or "the root", 1, _half(prefix, known)) for prefix in halves),
    )


def _half(prefix: str, known: Container[str]) -> str:
    """Return why a prefix of one of the statistics is not a layer."""
    if f"{prefix}running_std" in known:
        return "it keeps running_std, as batch renormalisation does, and no running_var"
    return "one of running_mean and running_var alone"


STATISTICS = frozenset(("running_mean", "running_var"))


def _begun(known: Iterable[str]) -> dict[str, None]:
    """Return every prefix of one of the statistics."""
    parts = (name.rpartition(".") for name in known)
    return dict.fromkeys(f"{prefix}{dot}" for prefix, dot, last in parts if last in STATISTICS)


def _ends(prefix: str, known: Container[str]) -> set[str]:
    return {name for name in (*FIELDS.values(), "num_batches_tracked") if prefix + name in known}


def _counts(prefix: str, known: Container[str]) -> bool:
    """Return whether torch counted the batches there: then it is a batch norm that lacks one of its statistics."""
    return prefix + "num_batches_tracked" in known and prefix + "running_std" not in known


def layers(
    names: Iterable[str],
    read: Callable[[str], tuple[Array, str]],
    *,
    artefact: str = "",
    unreadable: Iterable[str] = (),
) -> tuple[BatchNorm, ...]:
    """Return the batch norms among named tensors.

    Args:
        names: of all tensors, in the file's order.
        read: returns the array of a name, bfloat16 widened to float32, and the stored type's name.
        unreadable: those whose numbers are of a type that is not read, and whose layers are left out.
        artefact: a beginning that says nothing of the model and is left out of the layers' names, such as `module.`.
    """
    known = dict.fromkeys(names)
    packed = dict.fromkeys(unreadable)
    return tuple(
        _layer(prefix, known, read, artefact)
        for prefix in prefixes(known)
        if not _ends(prefix, packed) & {*FIELDS.values()}
    )


def layer_name(prefix: str, artefact: str) -> str:
    """Return the name of the layer whose tensors begin with a prefix; as `layers`."""
    return prefix.removeprefix(artefact).removesuffix(".") or "batch_norm"


def _layer(prefix: str, known: dict[str, None], read: Callable[[str], tuple[Array, str]], artefact: str) -> BatchNorm:
    found = {field: read(prefix + name) for field, name in FIELDS.items() if prefix + name in known}
    arrays: dict[str, Any] = {field: array for field, (array, _) in found.items()}
    return BatchNorm(
        name=layer_name(prefix, artefact),
        **arrays,
        axis=AXIS,
        dtype="+".join(dict.fromkeys(dtype for _, dtype in found.values())),
        location=prefix.removesuffix("."),
    )
