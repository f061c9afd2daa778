"""Inputs and outputs in NumPy files, laid beside the layers of a model that they belong to."""

from __future__ import annotations

from pathlib import Path

from bninspect.causes.explanation import against
from bninspect.errors import UsageError
from bninspect.formats.encodings import npy
from bninspect.records import Array, BatchNorm
from bninspect.records.explained import Explained
from bninspect.safe_text import printable
from bninspect.verdicts.own_runtime import vectors


def explained(
    layers: tuple[BatchNorm, ...],
    inputs: Path,
    outputs: Path,
    axis: tuple[int, ...] = (),
    others: tuple[BatchNorm, ...] = (),
) -> tuple[Explained, ...]:
    """Compare outputs in a file with the formula, for every layer that they name.

    Args:
        layers: the layers to look at.
        inputs: a .npy file for a single layer, or a .npz file with an array per layer, by its name; test vectors as
            `bninspect vectors` wrote them are one too.
        outputs: what some code computed for them, in the same form.
        axis: axes that the parameters run along, instead of those that the model states.
        others: all layers of the model, whose parameters may have been used by mistake.

    Raises:
        UsageError: arrays and layers do not belong together.
        UnreadableFile: a file is not a NumPy file.
    """
    x, y = (vectors.of_layers(npy.read(path), name, layers) for path, name in ((inputs, "x"), (outputs, "y")))
    if len(layers) == 1 and len(x) == len(y) == 1:
        pairs = [(layers[0], next(iter(x.values())), next(iter(y.values())))]
    else:
        pairs = _by_name(layers, x, y)
    return tuple(against(layer, x, y, axes(layer, x, axis), others or layers) for layer, x, y in pairs)


def _by_name(
    layers: tuple[BatchNorm, ...], x: dict[str, Array], y: dict[str, Array]
) -> list[tuple[BatchNorm, Array, Array]]:
    named = {layer.name: layer for layer in layers}
    if x.keys() != y.keys():
        odd = min(x.keys() ^ y.keys())
        where = "input" if odd in x else "output"
        raise UsageError(
            f"only the {where} has an array {printable(odd)!r}", hint="give one array for each layer, by its name"
        )
    unknown = [name for name in x if name not in named]
    if unknown:
        names = ", ".join(printable(name) for name in list(named)[:5])
        raise UsageError(
            f"no layer is called {printable(unknown[0])!r}",
            why=f"the layers chosen are {names}" + (" ..." if len(named) > 5 else ""),
            hint="name the arrays of the .npz file after the layers, or choose the layer of a single array: --layer",
        )
    return [(named[name], x[name], y[name]) for name in x]


def axes(layer: BatchNorm, x: Array, given: tuple[int, ...] = ()) -> tuple[int, ...]:
    """Return the axes of x that the parameters of a layer run along, each 0 <= axis < x.ndim.

    Args:
        layer: whose stored axis counts, if the file states one.
        x: input of the layer.
        given: axes that the user named, negative or not.

    Raises:
        UsageError: there are no such axes, or none is stated and several have the right length.
    """
    stated = given or layer.axis
    if stated:
        return normalised(x, stated)
    fitting = [a for a in range(1 if x.ndim > 1 else 0, x.ndim) if x.shape[a] == layer.channels]
    if len(fitting) != 1:
        which = "no axis" if not fitting else f"axes {', '.join(map(str, fitting))}"
        raise UsageError(
            f"{which} of an input of shape {x.shape} {'have' if fitting else 'has'} {layer.channels} channels",
            why="the file does not state the axis",
            hint="pass --axis -1 if the channels come last, --axis 1 if they come first",
        )
    return tuple(fitting)


def normalised(x: Array, axis: tuple[int, ...]) -> tuple[int, ...]:
    """Return axes of x, negative or not, as numbers from 0 on, in their order. Raises UsageError if x has none such."""
    if any(not -x.ndim <= a < x.ndim for a in axis):
        raise UsageError(
            f"an input of shape {x.shape} has no axis {', '.join(map(str, axis))}",
            hint=f"pass --axis with a number from 0 to {x.ndim - 1}, or a negative one from the end",
        )
    return tuple(sorted({a % x.ndim for a in axis}))
