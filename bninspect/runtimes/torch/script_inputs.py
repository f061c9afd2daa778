"""What the forward method of a TorchScript module takes. Its tensors have names, but neither shapes nor types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from bninspect.errors import RuntimeFailure, UsageError
from bninspect.records import Array
from bninspect.runtimes import inputs as run_inputs
from bninspect.runtimes.runtime import Input, RunSettings
from bninspect.safe_text import printable

_NUMBERS = {"IntType": "int64", "FloatType": "float64", "BoolType": "bool"}


@dataclass(frozen=True, eq=False)
class ScriptArgument:
    """An argument of forward."""

    name: str
    kind: str
    """What torch calls its type, for instance TensorType."""
    default: Any
    optional: bool
    """Whether there is a default."""


def arguments(module: Any, graph: Any) -> tuple[ScriptArgument, ...]:
    """Return the arguments of a frozen module, whose graph takes them in this order behind the module itself.

    Raises:
        RuntimeFailure: it needs something that is neither a tensor nor a number.
    """
    schema = list(module.forward.schema.arguments)[1:]
    found = tuple(
        ScriptArgument(argument.name, argument.type.kind(), argument.default_value, bool(argument.has_default_value()))
        for argument in schema
    )
    odd = [argument for argument in found if argument.kind not in {"TensorType", *_NUMBERS} and not argument.optional]
    if odd or len(found) != len(list(graph.inputs())) - 1:
        which = ", ".join(f"{printable(argument.name)}: {argument.kind.removesuffix('Type')}" for argument in odd)
        raise RuntimeFailure("the module was not given an input", why=f"it takes something other than tensors: {which}")
    return found


def inputs(given: Sequence[ScriptArgument], settings: RunSettings) -> tuple[Input, ...]:
    """Return what the module must be given; nothing if that is one tensor, of whatever shape.

    Raises:
        UsageError: the file of the user's input cannot be read, or does not fit.
        RuntimeFailure: nobody says of which shapes several tensors are.
    """
    unknown = [name for name in settings.input_shapes if name and name not in {argument.name for argument in given}]
    if unknown:
        why = f"its inputs are {run_inputs.listed(argument.name for argument in given)}"
        raise UsageError(f"the model has no input {printable(unknown[0])!r}", why=why)
    needed = [argument for argument in given if not argument.optional or argument.name in settings.input_shapes]
    if [argument.kind for argument in needed] == ["TensorType"] and needed[0].name not in settings.input_shapes:
        return ()
    arrays = run_inputs.arrays_of(settings.input) if settings.input is not None else {}
    found = []
    for place, one in enumerate(needed):
        plain = Input(one.name, (), _NUMBERS.get(one.kind, "float32"), 2 if one.kind == "IntType" else None)
        if settings.input is not None:
            array = run_inputs.pick(arrays, one.name, place, "the input")
            plain = replace(plain, shape=array.shape, dtype=array.dtype.name)
        elif one.kind == "TensorType":
            if one.name not in settings.input_shapes:
                raise RuntimeFailure(
                    "the model does not say what it takes",
                    why=f"it takes {len(needed)} inputs: {run_inputs.listed(each.name for each in needed)}",
                    hint=" ".join(f"--input-shape {printable(each.name)}=1,3,224,224" for each in needed[:2]),
                )
            plain = replace(plain, shape=settings.input_shapes[one.name])
        found.append(plain)
    return tuple(found)


def values(given: Sequence[ScriptArgument], data: Mapping[str, Array]) -> list[Any]:
    """Return what the module is called with."""
    import torch

    alone = next(iter(data.values())) if len(data) == 1 else None
    result = []
    for argument in given:
        array = data.get(argument.name, None if argument.optional else alone)
        if array is None:
            result.append(argument.default)
        else:
            result.append(array.item() if argument.kind in _NUMBERS else torch.from_numpy(np.array(array)))
    return result
