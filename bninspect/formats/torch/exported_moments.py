"""What an exported program says of the moments that it takes, in the words of `batch_moments`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from bninspect.formats.moment_graph import POWERS, MomentGraph, MomentStep
from bninspect.formats.torch.exported_graph import ExportedCall
from bninspect.formats.torch.exported_program import ExportedProgram

_RESHAPED = "_unsafe_view broadcast_in_dim flatten reshape slice squeeze unflatten unsqueeze view view_as"
_VIEWED = "_to_copy alias clone contiguous convert_element_type detach expand expand_as lift_fresh_copy to type_as"
_KINDS: Mapping[str, str] = {
    **dict.fromkeys(_RESHAPED.split(), "reshape"),
    **dict.fromkeys(_VIEWED.split(), "view"),
    **dict.fromkeys(("permute", "transpose", "t"), "transpose"),
    **dict.fromkeys(("subtract", "rsub"), "sub"),
    **dict.fromkeys(("divide", "true_divide"), "div"),
    **dict.fromkeys(("var", "var_mean"), "variance"),
    **dict.fromkeys(("std", "std_mean"), "deviation"),
    **dict.fromkeys(("clamp", "clamp_min", "clip"), "maximum"),
    "multiply": "mul",
    "negative": "neg",
}
_REDUCING = frozenset(("mean", "sum", "variance", "deviation"))


def moment_graph(program: ExportedProgram, kind_of: Callable[[ExportedCall], str]) -> MomentGraph:
    """Return the calls of a program, at any depth. `kind_of` names an operator without the mark of one in place."""

    def shape(value: str) -> tuple[int | None, ...] | None:
        return program.shape(value) or None

    return MomentGraph(tuple(_steps(program, kind_of)), shape)


def _steps(program: ExportedProgram, kind_of: Callable[[ExportedCall], str]) -> Iterator[MomentStep]:
    for call in program.calls:
        if not call.outputs:
            continue
        name = kind_of(call)
        kind = _KINDS.get(name, name)
        given = list(call.arguments.values())
        if kind == "pow":
            kind = POWERS.get(call.arguments.get("exponent", 0), kind)
        values = tuple(operand for operand in _operands(given) if operand not in program.stored)
        stored = [program.shape(operand) for operand in _operands(given) if operand in program.stored]
        lengths = tuple(_size(one) for one in stored)
        numbers = [float(one) for one in given[:2] if isinstance(one, (int, float)) and not isinstance(one, bool)]
        if kind in {"square", "sqrt", "rsqrt", "reshape", "view", "transpose", *_REDUCING}:
            values, numbers = values[:1], []
        axes = _axes(kind, name, call, len(program.shape(values[0])) if values else 0)
        number = next(iter(numbers), 0.0)
        yield MomentStep(call.name, kind, values, (*lengths, *(1 for _ in numbers)), call.outputs[0], axes, number)
        if name in {"var_mean", "std_mean"} and len(call.outputs) > 1:
            yield MomentStep(f"{call.name}/mean", "mean", values, (), call.outputs[1], axes)


def _operands(given: list[Any]) -> Iterator[str]:
    for one in given:
        if isinstance(one, str):
            yield one
        elif isinstance(one, list):
            yield from (each for each in one if isinstance(each, str))


def _size(shape: tuple[int | None, ...]) -> int:
    size = 1
    for length in shape:
        size *= length or 1
    return size


def _axes(kind: str, name: str, call: ExportedCall, rank: int) -> tuple[int, ...]:
    dims = call.arguments.get("dim", call.arguments.get("dims"))
    if kind in _REDUCING:
        return tuple(int(size) for size in dims) if isinstance(dims, list) else (dims,) if type(dims) is int else ()
    if name == "permute" and isinstance(dims, list) and rank:
        return tuple(int(size) % rank for size in dims)
    if kind == "transpose" and rank > 1:
        first, second = (call.arguments.get(key, place) for key, place in (("dim0", 0), ("dim1", 1)))
        order = list(range(rank))
        order[first % rank], order[second % rank] = order[second % rank], order[first % rank]
        return tuple(order)
    return ()
