"""The batch norms of an exported program: every call of an operator that is one, at any depth of the graph."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bninspect.formats.torch import running_statistics
from bninspect.formats.torch.distinct_layers import distinct
from bninspect.formats.torch.exported_code import code_in
from bninspect.formats.torch.exported_graph import ExportedCall
from bninspect.formats.torch.exported_program import NAME, ExportedProgram, open_program, reading
from bninspect.formats.torch.norm_operators import ARRAYS, OPERATORS, STANDARD
from bninspect.records import BatchNorm, Checkpoint, Unread

if TYPE_CHECKING:
    from bninspect.formats.containers.zip_archive import Archive


@dataclass(frozen=True, eq=False)
class ExportedNorm:
    """A call of a batch norm, and the layer that it is."""

    call: ExportedCall
    layer: BatchNorm
    constants: Mapping[str, str]
    """What the graph calls the parameters, by their standard names; only those that it is given as they are stored."""
    unseen: str = ""
    """Why its input and output cannot be observed; empty if they can."""


def read(archive: Archive, folder: str) -> Checkpoint:
    """Return the batch norms that the exported graph calls.

    Raises:
        DamagedFile: JSON and members contradict each other.
        UnreadableFile: a parameter is pickled, or the file is of another version.
    """
    with reading(archive.label):
        program = open_program(archive, folder)
        norms, unread = norms_of(program)
        layers = {norm.layer.name: norm.layer for norm in reversed(norms)}
        return Checkpoint(
            archive.label,
            NAME,
            "torch.export",
            tuple(reversed(layers.values())),
            code=code_in(program),
            unread=unread,
        )


def read_norms(archive: Archive, folder: str) -> tuple[ExportedNorm, ...]:
    """Return every call of a batch norm that is read. Raises as `read`."""
    with reading(archive.label):
        return norms_of(open_program(archive, folder))[0]


def norms_of(program: ExportedProgram) -> tuple[tuple[ExportedNorm, ...], tuple[Unread, ...]]:
    """Return every call of a batch norm, and where there are more, whose parameters are not in the file."""
    norms: list[ExportedNorm] = []
    unread: dict[tuple[str, str], int] = {}
    for node in program.calls:
        if node.operation not in OPERATORS:
            continue
        call = replace(node, arguments={STANDARD.get(name, name): value for name, value in node.arguments.items()})
        if _is_of_samples(program, call):
            continue
        if computed := _computed(program, call):
            place = ("/".join(call.inside) or "the graph", f"{' and '.join(computed)} computed in the graph")
            unread[place] = unread.get(place, 0) + 1
        else:
            norms.append(_norm(program, call, norms))
    return tuple(norms), tuple(Unread(where, count, reason) for (where, reason), count in unread.items())


def _computed(program: ExportedProgram, call: ExportedCall) -> list[str]:
    names = {field: call.arguments.get(name) for field, name in ARRAYS.items()}
    found = [field for field, name in names.items() if name and not program.parameter(name)[0]]
    return [*found[:-1], f"{found[-1]} {'are' if len(found) > 1 else 'is'}"] if found else []


def _is_of_samples(program: ExportedProgram, call: ExportedCall) -> bool:
    """Return whether a call normalises each sample by itself, and so is not a batch norm.

    InstanceNorm without running statistics is an operator of its own, or, decomposed, a batch norm of
    `view(1, samples * channels, ...)` (torch/_decomp/decompositions.py: instance_norm).
    """
    if call.arguments.get(ARRAYS["moving_mean"]):
        return False
    if call.operation == "instance_norm":
        return True
    source = program.producers.get(call.arguments["input"])
    if source is None or source.operation not in {"view", "reshape", "_unsafe_view"}:
        return False
    before, after = program.shape(source.arguments["self"]), program.shape(call.arguments["input"])
    return len(before) > 2 and len(after) > 2 and after[0] == 1 and before[2:] == after[2:] and before[:2] != after[:2]


def _norm(program: ExportedProgram, call: ExportedCall, before: list[ExportedNorm]) -> ExportedNorm:
    operator = OPERATORS[call.operation]
    names = {field: call.arguments.get(name) for field, name in ARRAYS.items()}
    stored = {field: program.parameter(name) for field, name in names.items() if name}
    given = (call.arguments.get(name) for name in (operator.momentum, operator.epsilon))
    momentum, epsilon = (running_statistics.number(value) for value in given)
    path = next((name.rpartition(".")[0] for name, _ in reversed(stored.values())), "")
    moments = operator.moments if call.arguments.get(operator.training) else operator.statistics
    layer = BatchNorm(
        name=path or call.name,
        gamma=program.array(names.get("gamma")),
        beta=program.array(names.get("beta")),
        moving_mean=program.array(names.get("moving_mean")),
        moving_variance=program.array(names.get("moving_variance")),
        epsilon=epsilon,
        epsilon_source=None if epsilon is None else "file",
        # torch's momentum is the weight of the new, that of every other framework the weight of the old.
        momentum=None if momentum is None else 1.0 - momentum,
        axis=running_statistics.AXIS,
        scale="gamma" in stored,
        center="beta" in stored,
        dtype="+".join(dict.fromkeys(program.dtype(name) for name, _ in stored.values())) or "float32",
        location=next((program.member(name) for name, _ in reversed(stored.values())), ""),
        class_name=call.operation,
        statistics=moments if "moving_mean" in stored else operator.moments,
    )
    unseen = f"it is inside {call.inside[-1]}, where nothing is observed" if call.inside else ""
    if not all(plain for _, plain in stored.values()):
        unseen = "the graph repeats its parameters for every sample"
    constants = {field: str(names[field]) for field in stored if not unseen}
    return ExportedNorm(call, distinct(layer, [norm.layer for norm in before]), constants, unseen)
