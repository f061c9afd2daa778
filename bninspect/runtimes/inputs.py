"""The input of a model: which ones it takes, seeded random ones, or the user's own."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from bninspect.errors import RuntimeFailure, UsageError
from bninspect.records import Array
from bninspect.runtimes.runtime import Input, RunSettings
from bninspect.safe_text import printable

# Lengths to try for dimensions that a model leaves open, by the rank of the input (batch included). The first one is
# enough for most; networks that shrink their input many times refuse small ones. 224 and 299 are the usual image sizes.
_LENGTHS: Mapping[int, tuple[int, ...]] = {4: (64, 224, 299), 5: (16, 32, 64)}
_SEQUENCE = (16, 256, 4096)
ATTEMPTS = 3

_SHOWN = 8
_Any = TypeVar("_Any")


def prepared(inputs: Sequence[Input], settings: RunSettings, attempt: int) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return the input by name, the user's own or random, and notes on what was chosen. As `seeded` and `given`."""
    if settings.input is None:
        return seeded(inputs, settings, attempt)
    return given(inputs, settings.input), ()


def seeded(inputs: Sequence[Input], settings: RunSettings, attempt: int) -> tuple[dict[str, Array], tuple[str, ...]]:
    """Return random input by name, and notes on what was chosen.

    Standard normal where floats are wanted, small numbers >= 0 where whole numbers are. A single float is 1, which
    keeps everything where it is the share that a dropout keeps, and changes nothing where it is a factor.

    Args:
        inputs: of `taken_by`.
        settings: seed, batch and shapes.
        attempt: 0 <= attempt < ATTEMPTS; the later, the larger the lengths chosen for open dimensions.

    Raises:
        UsageError: `settings.input_shapes` does not fit the model.
        RuntimeFailure: the model does not say what it takes.
    """
    wanted = _wanted_shapes(inputs, settings.input_shapes)
    if not inputs and not wanted:
        raise RuntimeFailure(
            "the model does not say what it takes",
            why="it needs --input-shape or --input",
            hint="pass the shape, batch first: --input-shape 1,224,224,3",
        )
    generator = np.random.default_rng(settings.seed)
    data: dict[str, Array] = {}
    notes = []
    for source in inputs or (Input("", wanted[""], "float32"),):
        shape = wanted[source.name] if source.name in wanted else _chosen(source.shape, settings.batch, attempt)
        if source.is_open and source.name not in wanted:
            notes.append(
                f"shape {_text(shape)} was chosen for input {_label(source.name)}, which takes {_text(source.shape)}"
            )
        data[source.name] = _random(generator, source, shape)
    return data, tuple(notes)


def other_shape(inputs: Sequence[Input], settings: RunSettings) -> str:
    """Return which option gives another input than those that failed; empty if the user or the model chose them."""
    ours = [source for source in inputs if source.is_open and source.name not in settings.input_shapes]
    if settings.input is not None or "" in settings.input_shapes:
        return ""
    if not ours:
        # A text, a number or a row of them may have to fit the rest: a size that the graph reshapes to, a vocabulary.
        peculiar = any(len(source.shape) < 2 for source in inputs)
        return "; --input gives it other values than those that were tried" if peculiar else ""
    first = ours[0]
    name = f"{printable(first.name)}=" if len(inputs) > 1 else ""
    lengths = ",".join("N" if length is None else str(length) for length in (first.shape[0] or 1, *first.shape[1:]))
    return f"; --input-shape {name}{lengths} chooses other lengths than those that were tried"


def _chosen(shape: Iterable[int | None], batch: int, attempt: int) -> tuple[int, ...]:
    lengths = tuple(shape)
    length = _LENGTHS.get(len(lengths), _SEQUENCE)[attempt]
    return tuple((batch if place == 0 else length) if one is None else one for place, one in enumerate(lengths))


def _random(generator: np.random.Generator, one: Input, shape: tuple[int, ...]) -> Array:
    if one.dtype == "string":
        return np.full(shape, "text" if one.content is None else one.content, object if one.content else None)
    if one.dtype == "bool" and not shape:
        return np.zeros((), np.bool_)  # a switch: what it is called for, training mostly, is not what inference wants
    if one.dtype == "bool":
        return generator.integers(0, 2, shape).astype(np.bool_)
    if one.below is not None:
        return generator.integers(0, one.below, shape).astype(_numpy(one.dtype))
    wide = np.float64 if one.dtype == "float64" else np.float32
    return generator.standard_normal(shape, wide) if shape else np.ones((), wide)


def _numpy(dtype: str) -> np.dtype[Any]:
    return np.dtype(np.float32 if dtype == "bfloat16" else dtype)


def _wanted_shapes(inputs: Sequence[Input], shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    """Return the user's shapes by the true name of the input."""
    names = [source.name for source in inputs]
    wanted = {}
    for name, shape in shapes.items():
        true = names[0] if name == "" and len(names) == 1 else name
        if true not in names and (names or name):
            raise UsageError(
                f"the model has no input {printable(name)!r}" if name else "the model has several inputs",
                why=f"its inputs are {listed(names)}",
                hint=f"--input-shape {printable(names[0])}=..." if names else "--input-shape 1,224,224,3",
            )
        for source in inputs:
            if source.name == true:
                _check_shape(source, shape, "--input-shape")
        wanted[true] = shape
    return wanted


def given(inputs: Sequence[Input], source: Path | Mapping[str, Array]) -> dict[str, Array]:
    """Return the user's input by name.

    Args:
        inputs: of `taken_by`.
        source: a .npy file, a .npz file keyed by name or position, or arrays that are keyed so.

    Raises:
        UsageError: the file cannot be read, or the arrays do not fit the model.
    """
    arrays, label = arrays_of(source), printable(source.name) if isinstance(source, Path) else "the input"
    data = by_input(inputs, arrays, label)
    for name, values in data.items():
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise UsageError(f"the array for input {_label(name)} holds NaN or infinity", why=_VOID)
    _check(inputs, data, "the array")
    return data


_VOID = "no output could be compared"


def arrays_of(source: Path | Mapping[str, Array]) -> Mapping[str, Array]:
    """Return the arrays of a file, or those that are given as they are. Raises UsageError as `given`."""
    from bninspect.formats.encodings import npy

    return npy.read(source) if isinstance(source, Path) else source


def by_input(inputs: Sequence[Input], arrays: Mapping[str, _Any], label: str) -> dict[str, _Any]:
    """Return what is for each input, by its name or its position; if there is one of each, that.

    What stands beside arrays with the names of all inputs, such as labels, is passed over.

    Args:
        inputs: of `taken_by`. A model that does not say what it takes may take anything, but one array of it.
        arrays: by name.
        label: what they are called in messages.

    Raises:
        UsageError: there is nothing for an input, or more than can be told apart.
    """
    names = [described.name for described in inputs] or [""]
    if inputs and all(name in arrays for name in names):
        return {name: arrays[name] for name in names}
    if len(arrays) != len(names):
        held = f"its arrays are {listed(arrays)}; " if any(arrays) else ""
        several = "write them with numpy.savez, one array for each input, under its name"
        raise UsageError(
            f"{label} holds {len(arrays)} array{'' if len(arrays) == 1 else 's'}, the model takes {len(names)}",
            why=held + (f"the model's inputs are {listed(names)}" if inputs else "the model has no named inputs"),
            hint=several if len(names) > 1 else _alone(names[0]),
        )
    return {name: pick(arrays, name, position, label) for position, name in enumerate(names)}


def _alone(name: str) -> str:
    named = f"name the array for the input {_label(name)}, or " if name else ""
    return f"{named}write the array for the input alone: numpy.save('data.npy', x)"


def pick(arrays: Mapping[str, _Any], name: str, position: int, label: str) -> _Any:
    """Return what is for an input, by its name or its position; if there is one alone, that.

    Raises:
        UsageError: there is none.
    """
    if len(arrays) == 1:
        return next(iter(arrays.values()))
    for key in (name, str(position), f"arr_{position}"):
        if key in arrays:
            return arrays[key]
    raise UsageError(
        f"{label} holds no array for input {_label(name)}",
        why=f"its arrays are {listed(arrays)}",
        hint="name each array after the input that it is for, or after its position from 0",
    )


def check_samples(inputs: Sequence[Input], tables: Mapping[str, Any]) -> None:
    """Raise UsageError unless samples of the shapes and types of tables, however many, fit the inputs."""
    _check([replace(one, shape=(None, *one.shape[1:])) for one in inputs], tables, "the data")


def _check(inputs: Sequence[Input], arrays: Mapping[str, Any], what: str) -> None:
    for one in inputs:
        shape = arrays[one.name].shape
        swapped = [
            f"swap the names of {_label(one.name)} and {_label(other.name)}"
            for other in inputs
            if _fits(shape, other.shape) and _fits(arrays[other.name].shape, one.shape)
        ]
        _check_shape(one, shape, what, *swapped[:1])
        _check_kind(one, arrays[one.name].dtype)


def _check_kind(one: Input, dtype: np.dtype[Any]) -> None:
    wanted = "f" if one.dtype == "bfloat16" else "U" if one.dtype == "string" else np.dtype(one.dtype).kind
    # Whole numbers go into floats, never the other way.
    if dtype.kind not in {"f": "fiub", "i": "iub", "u": "iub", "b": "b", "U": "US"}[wanted]:
        raise UsageError(f"input {_label(one.name)} takes {one.dtype}, the array holds {dtype}")


def _check_shape(one: Input, shape: tuple[int, ...], what: str, hint: str = "") -> None:
    if not _fits(shape, one.shape):
        raise UsageError(
            f"{what} has shape {_text(shape)}, input {_label(one.name)} takes {_text(one.shape)}",
            hint=hint or _cure(shape, one.shape),
        )


def _fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    return len(shape) == len(wanted) and all(
        length is None or length == given for length, given in zip(wanted, shape, strict=True)
    )


def _cure(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> str:
    """Return what makes an array fit, the likeliest first; empty where nothing simple does."""
    inner = shape[1:]
    if _fits((1, *shape), wanted):
        return "add the batch as the first dimension"
    if _fits((*shape, 1), wanted):
        return "add the channels as the last dimension: x[..., numpy.newaxis]"
    if _fits((*shape[:1], 1, *inner), wanted):
        return "add the channels as the second dimension: x[:, numpy.newaxis]"
    if len(shape) > 2 and _fits((shape[0], *shape[2:], shape[1]), wanted):
        return "put the channels last: numpy.moveaxis(x, 1, -1)"
    if len(shape) > 2 and _fits((shape[0], shape[-1], *shape[1:-1]), wanted):
        return "put the channels second: numpy.moveaxis(x, -1, 1)"
    lengths = [length for length in wanted[1:] if length is not None]
    if len(wanted) == len(lengths) + 1 > 2 and inner == tuple(lengths[1:]) and shape[0] % lengths[0] == 0:
        as_samples = f"x.reshape({', '.join(map(str, (-1, *lengths)))})"
        return f"its samples lie one after the other: {as_samples}, or let a dataset yield batches: dataset.batch(32)"
    if len(shape) != len(wanted) == len(lengths) + 1 and math.prod(inner) == math.prod(lengths):
        return f"x.reshape({', '.join(map(str, (-1, *lengths)))})"
    return ""


def _text(shape: Iterable[int | None]) -> str:
    return "(" + ", ".join("any" if length is None else str(length) for length in shape) + ")"


def _label(name: str) -> str:
    return repr(printable(name)) if name else "of the model"


def listed(names: Iterable[str]) -> str:
    """Return names from a file in one line, at most 8 of them."""
    shown = [printable(name) for name in names]
    return ", ".join(shown[:_SHOWN]) + (f" and {len(shown) - _SHOWN} more" if len(shown) > _SHOWN else "")
