"""The batch norms of an exported program, at any depth: calls of operators, and those that are taken apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from bninspect.formats.batch_moments import SPELT_OUT, BatchRoot
from bninspect.formats.torch import exported_pieces, running_statistics
from bninspect.formats.torch.distinct_layers import distinct
from bninspect.formats.torch.exported_code import code_in
from bninspect.formats.torch.exported_graph import LOOPS, ExportedCall, tensor_names
from bninspect.formats.torch.exported_pieces import PiecedNorm
from bninspect.formats.torch.exported_program import NAME, ExportedProgram, open_program, reading
from bninspect.formats.torch.norm_operators import OPERATORS, STANDARD
from bninspect.formats.torch.running_statistics import FIELDS
from bninspect.records import PARAMETERS, BatchNorm, Checkpoint, Form, Statistics, Unread

if TYPE_CHECKING:
    from bninspect.formats.containers.zip_archive import Archive


@dataclass(frozen=True, eq=False)
class ExportedNorm:
    """A batch norm of the graph, and the layer that it is."""

    calls: tuple[ExportedCall, ...]
    """One, or those that it is taken apart into."""
    layer: BatchNorm
    constants: Mapping[str, str]
    """What the graph calls the parameters, by their standard names; only those that it is given as they are stored."""
    unseen: str = ""
    """Why its input and output cannot be observed; empty if they can."""
    x: str = ""
    """Name of its input."""
    place: int = 0
    """Which argument of the first call is its input."""
    form: Form | None = None
    """The order of operations, where it is taken apart."""


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
    """Return every batch norm that is read, and where there are more."""
    norms: list[ExportedNorm] = []
    apart = exported_pieces.search(program)
    ends = {norm.calls[-1].name: norm for norm in apart.norms}
    roots = {call.name: root for call, root in apart.by_batch}
    for node in program.calls:
        if node.operation in OPERATORS:
            arguments = {STANDARD.get(name, name): value for name, value in node.arguments.items()}
            call = replace(node, arguments=arguments)
            if not _is_of_samples(program, call):
                norms.append(_norm(program, call, norms))
        elif node.name in ends:
            norms.append(_taken_apart(program, ends[node.name], norms))
        elif node.name in roots:
            norms.append(_by_batch(node, roots[node.name], norms))
    # Training aware of quantisation scales a kernel by the root of the variance of the batch norm behind it.
    known = {norm.constants.get("moving_variance") for norm in norms}
    apart_from = [call for call, variance in apart.loose if variance not in known]
    loose = Counter("/".join(call.inside) or "the graph" for call in apart_from)
    reason = "the root of a variance and epsilon, but not the rest of one"
    # Of what a batch norm takes nothing is left over: it may compute with the rest, or with none of it.
    taken = {name for norm in norms for call in norm.calls for name in tensor_names(call)}
    used = {name for call in program.calls for name in tensor_names(call)} & program.stored.keys()
    modules = {program.stored[name].rpartition(".")[0] for name in used & taken}
    left = {stored for name in used if (stored := program.stored[name]).rpartition(".")[0] not in modules}
    unread = (Unread(where, count, reason) for where, count in loose.items())
    return tuple(norms), (*unread, *running_statistics.unread(sorted(left)))


def _is_of_samples(program: ExportedProgram, call: ExportedCall) -> bool:
    """Return whether a call normalises each sample by itself, and so is not a batch norm.

    InstanceNorm without running statistics is an operator of its own, or a batch norm of reshaped data.
    """
    if call.arguments.get(FIELDS["moving_mean"]):
        return False
    if call.operation == "instance_norm":
        return True
    return program.is_of_samples(call.arguments["input"])


def _norm(program: ExportedProgram, call: ExportedCall, before: list[ExportedNorm]) -> ExportedNorm:
    operator = OPERATORS[call.operation]
    names = {field: call.arguments.get(name) for field, name in FIELDS.items()}
    found = {field: program.parameter(name) for field, name in names.items() if name}
    computed = [field for field, (name, _) in found.items() if not name]
    given = (call.arguments.get(name) for name in (operator.momentum, operator.epsilon))
    momentum, epsilon = (running_statistics.number(value) for value in given)
    moments = operator.moments if call.arguments.get(operator.training) else operator.statistics
    statistics = moments if "moving_mean" in found else operator.moments
    layer = replace(
        _stored(program, names, call.name),
        epsilon=epsilon,
        epsilon_source=None if epsilon is None else "file",
        # torch's momentum is the weight of the new, that of every other framework the weight of the old.
        momentum=None if momentum is None else 1.0 - momentum,
        scale="gamma" in found,
        center="beta" in found,
        class_name=call.operation,
        statistics=Statistics.COMPUTED if computed and statistics is Statistics.MOVING else statistics,
        notes=running_statistics.computed_note(computed),
    )
    unseen = unobservable(call)
    if not all(plain for name, plain in found.values() if name):
        unseen = "the graph repeats its parameters for every sample"
    constants = {field: str(names[field]) for field in found if not unseen and field not in computed}
    return ExportedNorm((call,), _distinct(layer, before), constants, unseen, call.arguments["input"])


def _taken_apart(program: ExportedProgram, norm: PiecedNorm, before: list[ExportedNorm]) -> ExportedNorm:
    root = norm.normalisation.root
    layer = replace(
        _stored(program, norm.parameters, norm.calls[-1].name),
        epsilon=root.epsilon,
        epsilon_source="file",
        axis=(norm.axis,),
        scale="gamma" in norm.parameters,
        center="beta" in norm.parameters,
        class_name="+".join(call.operation for call in norm.calls),
        notes=(SPELT_OUT, *norm.normalisation.notes),
        outside_root=root.outside,
    )
    unseen = unobservable(norm.calls[-1])
    constants = {} if unseen else dict(norm.parameters)
    return ExportedNorm(norm.calls, _distinct(layer, before), constants, unseen, norm.x, norm.place, norm.form)


def _by_batch(call: ExportedCall, root: BatchRoot, before: list[ExportedNorm]) -> ExportedNorm:
    layer = root.layer(call.name, call.name, call.operation, (SPELT_OUT,))
    return ExportedNorm((call,), _distinct(layer, before), {})


def _stored(program: ExportedProgram, names: Mapping[str, str | None], otherwise: str) -> BatchNorm:
    """Return a layer of the parameters that the file holds; `otherwise` is its name if it holds none."""
    parameters = [name for value in names.values() if value and (name := program.parameter(value)[0])]
    last = parameters[-1] if parameters else ""
    found = {name: program.array(names.get(name)) for name in PARAMETERS}
    arrays: dict[str, Any] = {name: array.reshape(-1) for name, array in found.items() if array is not None}
    return BatchNorm(
        name=last.rpartition(".")[0] or otherwise,
        **arrays,
        axis=running_statistics.AXIS,
        dtype="+".join(dict.fromkeys(program.dtype(name) for name in parameters)) or "float32",
        location=program.member(last) if last else otherwise,
    )


def _distinct(layer: BatchNorm, before: list[ExportedNorm]) -> BatchNorm:
    return distinct(layer, [norm.layer for norm in before])


def unobservable(call: ExportedCall) -> str:
    """Return why what goes through a call cannot be looked at: it is in a loop; empty if it can."""
    loop = next((place for place, operation in zip(call.inside, call.within, strict=True) if operation in LOOPS), "")
    return f"it is inside {loop}, which runs any number of times" if loop else ""
