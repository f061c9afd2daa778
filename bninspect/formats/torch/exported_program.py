"""`torch.export.save` (.pt2): the graph is JSON and the parameters are plain bytes, so that torch is not needed.

Layout and field names: torch/export/pt2_archive/constants.py and torch/_export/serde/schema.py of torch 2.8 and later.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from bninspect.arithmetic.norm_kernel import norm_kernel
from bninspect.errors import DamagedFile, UnreadableFile
from bninspect.formats.export_metadata import strict_json
from bninspect.formats.torch import running_statistics
from bninspect.formats.torch.script import PURE
from bninspect.formats.torch.storage import Storages, in_zip
from bninspect.records import BatchNorm, Checkpoint, Statistics
from bninspect.records import graph as network
from bninspect.records.graph import Kernel, Network, Node, Value
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.containers.zip_archive import Archive
    from bninspect.records import Array

NAME = "torch-export"
JSON_BYTES = 32 << 20
MODEL = "models/model.json"
_WEIGHTS = "data/weights/"
_CONFIGURATION = f"{_WEIGHTS}model_weights_config.json"
_TYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64"}
_TYPES |= {12: "bool", 13: "bfloat16"}
_PREFIX = "torch.ops.aten."

_NORMS = {
    "batch_norm": "training",
    "_native_batch_norm_legit": "training",
    "native_batch_norm": "training",
    "_native_batch_norm_legit_no_training": "",
    "_batch_norm_with_update": "training",
    "_batch_norm_no_update": "",
}
"""Operations that are batch norms, and the argument that says that they use the batch's own statistics."""
_ALWAYS_TRAINING = ("_batch_norm_with_update",)
_ARRAYS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
_SAME = {"view": "reshape", "reshape": "reshape", "flatten": "reshape", "squeeze": "reshape", "unsqueeze": "reshape"}
_SAME |= {"dropout": "identity", "clone": "identity", "alias": "identity", "contiguous": "identity"}
_SAME |= {"permute": "transpose", "transpose": "transpose", "_assert_tensor_metadata": "assertion"}


@dataclass(frozen=True, eq=False)
class _Program:
    """The graph, and the parameters by the names that it calls them."""

    archive: Archive
    module: Mapping[str, Any]
    """Everything in the JSON of the model."""
    graph: Mapping[str, Any]
    stored: Mapping[str, str]
    """Name of the parameter or buffer, such as `bn1.weight`, for each name in the graph, such as `p_bn1_weight`."""
    configuration: Mapping[str, Any]
    storages: Storages

    def calls(self) -> Iterator[tuple[str, str, dict[str, Any], list[str]]]:
        """Yield name, operation without namespace and overload, arguments and outputs of every node."""
        for node in self.graph["nodes"]:
            target = node["target"]
            short = target.removeprefix(_PREFIX).partition(".")[0] if target.startswith(_PREFIX) else target
            arguments = {one["name"]: _plain(one["arg"]) for one in node["inputs"]}
            outputs = [one["as_tensor"]["name"] for one in node["outputs"] if "as_tensor" in one]
            yield node.get("name") or (outputs or [short])[0], short, arguments, outputs

    def array(self, name: str | None) -> Array | None:
        """Return the parameter that the graph calls `name`; None if it is not one."""
        return None if name is None or name not in self.stored else self._array(self.stored[name])[0]

    def dtype(self, name: str) -> str:
        """Return the type of a parameter."""
        return str(_TYPES.get(self.configuration[self.stored[name]]["tensor_meta"]["dtype"], "unread"))

    def _array(self, stored: str) -> tuple[Array, str]:
        entry = self.configuration[stored]
        meta = entry["tensor_meta"]
        dtype = _TYPES.get(meta["dtype"], "unread")
        if entry.get("use_pickle") or dtype == "unread":
            raise UnreadableFile(f"{self.archive.label} holds a parameter of a kind that is not read", why=stored)
        shape, strides = (tuple(int(one["as_int"]) for one in meta[field]) for field in ("sizes", "strides"))
        offset, member = int(meta["storage_offset"]["as_int"]), entry["path_name"]
        if min((offset, *shape, *strides)) < 0 or not isinstance(member, str):
            raise ValueError(f"the shape of {stored}")
        return self.storages.numbers(_WEIGHTS + member, dtype, offset, shape, strides, stored), dtype


def read(archive: Archive, folder: str) -> Checkpoint:
    """Return the batch norms that the exported graph calls.

    Raises:
        DamagedFile: JSON and members contradict each other.
        UnreadableFile: a parameter is pickled, or the file is of another version.
    """
    with _reading(archive.label):
        program = _program(archive, folder)
        layers: dict[str, BatchNorm] = {}
        for _, operation, arguments, _ in program.calls():
            if operation in _NORMS:
                layer = _layer(program, operation, arguments)
                layers.setdefault(layer.name, layer)
        impure = dict.fromkeys(one for _, one, _, _ in program.calls() if not _is_pure(one))
        code = tuple(f"operation {printable(one)}" for one in impure) + _evaluated(program.module)
        return Checkpoint(archive.label, NAME, "torch.export", tuple(layers.values()), code=code)


Call: TypeAlias = tuple[str, str, str, Mapping[str, str]]
"""Layer, input and output of a batch norm, and what the graph calls its parameters, by their standard names."""


def read_calls(archive: Archive, folder: str) -> tuple[Call, ...]:
    """Return every call of a batch norm. Raises as `read`."""
    with _reading(archive.label):
        program = _program(archive, folder)
        calls = []
        for _, operation, arguments, outputs in program.calls():
            if operation in _NORMS and outputs:
                names = {field: arguments.get(name) for field, name in _ARRAYS.items()}
                stored = {field: name for field, name in names.items() if name and name in program.stored}
                calls.append((_layer(program, operation, arguments).name, arguments["input"], outputs[0], stored))
        return tuple(calls)


def read_network(archive: Archive, folder: str) -> Network:
    """Return what the exported graph computes. Raises as `read`."""
    with _reading(archive.label):
        program = _program(archive, folder)
        values = program.graph["tensor_values"]
        takes = [one["as_tensor"]["name"] for one in program.graph["inputs"] if "as_tensor" in one]
        gives = [one["as_tensor"]["name"] for one in program.graph["outputs"] if "as_tensor" in one]
        return Network(
            inputs=tuple(_value(name, values[name]) for name in takes if name not in program.stored),
            outputs=tuple(_value(name, values[name]) for name in gives),
            nodes=tuple(_node(program, *call) for call in program.calls()),
        )


@contextmanager
def _reading(label: str) -> Iterator[None]:
    """Turn what malformed JSON leads to into DamagedFile."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        why = f"its graph is not well-formed: {printable(str(error), 80)}"
        raise DamagedFile(f"{label} is damaged", why=why) from error


def _program(archive: Archive, folder: str) -> _Program:
    if folder + MODEL not in archive.names() or folder + _CONFIGURATION not in archive.names():
        raise UnreadableFile(
            f"{archive.label} is a torch.export file of another version",
            why=f"it has no {MODEL} with {_CONFIGURATION}",
            hint="save it again with torch 2.8 or later, as a single model",
        )
    label = Path(archive.label)
    model = strict_json(archive.read(folder + MODEL, JSON_BYTES).decode(), label)
    module = model["graph_module"]
    weights = strict_json(archive.read(folder + _CONFIGURATION, JSON_BYTES).decode(), label)["config"]
    stored = {}
    for one in module["signature"]["input_specs"]:
        for kind, field in (("parameter", "parameter_name"), ("buffer", "buffer_name")):
            if kind in one:
                stored[one[kind]["arg"]["name"]] = one[kind][field]
    return _Program(archive, model, module["graph"], stored, weights, in_zip(archive, folder))


def _plain(argument: Mapping[str, Any]) -> Any:
    ((kind, value),) = argument.items()
    if kind == "as_none":
        return None
    if kind == "as_tensor":
        return value["name"]
    if kind == "as_tensors":
        return [one["name"] for one in value]
    return value


def _layer(program: _Program, operation: str, arguments: dict[str, Any]) -> BatchNorm:
    names = {field: arguments.get(name) for field, name in _ARRAYS.items()}
    arrays: dict[str, Any] = {field: program.array(name) for field, name in names.items()}
    notes = tuple(
        f"{field} is computed in the graph" for field, name in names.items() if name and arrays[field] is None
    )
    name, location = _called(program, names, arguments)
    training = operation in _ALWAYS_TRAINING or bool(arguments.get(_NORMS[operation], False))
    momentum, epsilon = arguments.get("momentum"), arguments.get("eps")
    return BatchNorm(
        name=name,
        **arrays,
        epsilon=None if epsilon is None else float(epsilon),
        epsilon_source=None if epsilon is None else "file",
        # torch's momentum is the weight of the new, that of every other framework the weight of the old.
        momentum=None if momentum is None else 1.0 - float(momentum),
        axis=running_statistics.AXIS,
        scale=names["gamma"] is not None,
        center=names["beta"] is not None,
        dtype="+".join(dict.fromkeys(program.dtype(one) for one in names.values() if one and one in program.stored)),
        location=location,
        class_name=operation,
        statistics=Statistics.BATCH if training else Statistics.MOVING,
        notes=notes,
    )


def _called(program: _Program, names: Mapping[str, Any], arguments: dict[str, Any]) -> tuple[str, str]:
    """Return the name of a layer, that of its module, and where its parameters are."""
    stored = [program.stored[name] for name in reversed(list(names.values())) if name in program.stored]
    if not stored:
        return str(arguments.get("input")), ""
    path = stored[0].rpartition(".")[0]
    return path or "batch_norm", _WEIGHTS + str(program.configuration[stored[0]]["path_name"])


def _node(program: _Program, name: str, operation: str, arguments: dict[str, Any], outputs: list[str]) -> Node:
    flat = [one for value in arguments.values() for one in (value if isinstance(value, list) else [value])]
    values = program.graph["tensor_values"]
    inputs = tuple(one for one in flat if isinstance(one, str) and one in values and one not in program.stored)
    kernel, kind = _kernel(program, operation, arguments)
    if operation in _NORMS:
        layer = _layer(program, operation, arguments)
        return Node(name, network.BATCH_NORM, inputs[:1], tuple(outputs[:1]), norm_kernel(layer), layer.name)
    padding = arguments.get("padding", 0)
    padded = kernel is not None and padding != "valid" and any(padding if isinstance(padding, list) else [padding])
    return Node(name, kind or _SAME.get(operation, operation), inputs, tuple(outputs), kernel, padded=padded)


def _kernel(program: _Program, operation: str, arguments: dict[str, Any]) -> tuple[Kernel | None, str]:
    """Return the constants of a linear operation and what kind of one it is; (None, "") for all others."""
    weight = program.array(arguments.get("weight")) if isinstance(arguments.get("weight"), str) else None
    if weight is None:
        return None, ""
    bias, groups = program.array(arguments.get("bias")), int(arguments.get("groups") or 1)
    if operation == "linear":
        return Kernel(network.dense(weight.T), bias), network.DENSE
    flipped = operation.startswith("conv_transpose") or (operation == "convolution" and arguments.get("transposed"))
    if flipped:
        return Kernel(network.transposed(weight, groups), bias, groups), network.TRANSPOSED
    if operation in {"conv1d", "conv2d", "conv3d", "convolution"}:
        kind = network.DEPTHWISE if groups > 1 and weight.shape[1] == 1 else network.CONVOLUTION
        return Kernel(network.convolution(weight, groups), bias, groups), kind
    return None, ""


def _value(name: str, meta: Mapping[str, Any]) -> Value:
    shape = tuple(int(one["as_int"]) if "as_int" in one else None for one in meta["sizes"])
    return Value(name, shape, _TYPES.get(meta["dtype"], "unread"))


_EXPRESSION = re.compile(
    r"(?:Symbol\('[su]\d+'(?:, (?:positive|integer|nonnegative)=True)*\)|[su]\d+|\d+|[-+*/(), ]|Max|Min|Mod|FloorDiv)*"
)
"""Lengths that depend on others. torch hands these texts to sympy, which evaluates whatever they say."""


def _evaluated(module: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts in the file that torch would evaluate as Python and that are no plain lengths."""
    texts = [str(text) for text in module.get("guards_code") or ()]
    texts += [str(key) for key in module.get("range_constraints") or ()]
    waiting: list[Any] = [module]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            texts += [str(one[key]) for key in ("expr_str", "as_expr_str") if key in one]
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)
    odd = dict.fromkeys(text for text in texts if not _EXPRESSION.fullmatch(text))
    return tuple(f"expression {printable(text, 60)}" for text in odd)


def _is_pure(operation: str) -> bool:
    return operation in PURE or operation in _NORMS or operation in _SAME
