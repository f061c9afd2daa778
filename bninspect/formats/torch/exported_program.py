"""`torch.export.save` (.pt2): the graph is JSON and the parameters are plain bytes, so that torch is not needed.

Layout and field names: torch/export/pt2_archive/constants.py and torch/_export/serde/schema.py of torch 2.8 and later.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bninspect.errors import DamagedFile, UnreadableFile
from bninspect.formats.export_metadata import strict_json
from bninspect.formats.torch.exported_graph import DEPTH, ExportedCall, every_call, shape
from bninspect.formats.torch.storage import Storages, in_zip
from bninspect.records import Array
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.containers.zip_archive import Archive

NAME = "torch-export"
JSON_BYTES = 32 << 20
MODEL = "models/model.json"
WEIGHTS, CONSTANTS = "data/weights/", "data/constants/"
_CONFIGURATION = f"{WEIGHTS}model_weights_config.json"
_OF_CONSTANTS = f"{CONSTANTS}model_constants_config.json"
TYPES = {1: "uint8", 2: "int8", 3: "int16", 4: "int32", 5: "int64", 6: "float16", 7: "float32", 8: "float64"}
TYPES |= {12: "bool", 13: "bfloat16"}
_COPIES = frozenset(("alias", "clone", "detach", "detach_", "lift_fresh_copy", "repeat"))
"""Operations behind which a parameter is still the same numbers, once or several times."""


@dataclass(frozen=True, eq=False)
class ExportedProgram:
    """The graph, and the parameters by the names that it calls them."""

    archive: Archive
    module: Mapping[str, Any]
    """Everything in the JSON of the model."""
    graph: Mapping[str, Any]
    stored: Mapping[str, str]
    """Name of the parameter or buffer, such as `bn1.weight`, for each name in the graph, such as `p_bn1_weight`."""
    configuration: Mapping[str, Any]
    storages: Storages
    calls: tuple[ExportedCall, ...] = ()
    taken: frozenset[str] = frozenset()
    """Names of everything in the graph that is not given to the model: parameters, buffers, constants."""
    producers: Mapping[str, ExportedCall] = field(default_factory=dict)

    def parameter(self, name: str | None) -> tuple[str, bool]:
        """Return what the file calls the parameter whose numbers `name` holds, and whether it holds them as they are.

        Empty if it is not a parameter. InstanceNorm becomes a batch norm of parameters repeated once per sample.
        """
        plain = True
        for _ in range(DEPTH):
            if name is None or name in self.stored:
                break
            call = self.producers.get(name)
            if call is None or call.operation not in _COPIES:
                return "", plain
            repeats = call.arguments.get("repeats")
            plain, name = plain and repeats in (None, [1]), call.arguments.get("self")
        return self.stored.get(name or "", ""), plain

    def array(self, name: str | None) -> Array | None:
        """Return the parameter whose numbers `name` holds; None if it is not one."""
        stored, _ = self.parameter(name)
        return self._array(stored) if stored else None

    def shape(self, name: str) -> tuple[int | None, ...]:
        """Return the lengths of a tensor; empty for one that the file does not describe."""
        call = self.producers.get(name)
        return shape(self.graph, name) if call is None else call.shapes[call.outputs.index(name)]

    def is_of_samples(self, x: str) -> bool:
        """Return whether `x` is `view(1, samples * channels, ...)`: its samples are moved into the axis of channels.

        So InstanceNorm is decomposed to a batch norm (torch/_decomp/decompositions.py: instance_norm).
        """
        source = self.producers.get(x)
        if source is None or source.operation not in {"view", "reshape", "_unsafe_view"}:
            return False
        before, after = self.shape(source.arguments["self"]), self.shape(x)
        return (
            len(before) > 2 and len(after) > 2 and after[0] == 1 and before[2:] == after[2:] and before[:2] != after[:2]
        )

    def dtype(self, stored: str) -> str:
        """Return the type of a parameter."""
        return str(TYPES.get(self.configuration[stored]["tensor_meta"]["dtype"], "unread"))

    def member(self, stored: str) -> str:
        """Return the member of the zip that holds a parameter."""
        return str(self.configuration[stored]["path_name"])

    def _array(self, stored: str) -> Array:
        entry = self.configuration[stored]
        meta = entry["tensor_meta"]
        dtype = self.dtype(stored)
        if entry.get("use_pickle") or dtype == "unread":
            raise UnreadableFile(f"{self.archive.label} holds a parameter of a kind that is not read", why=stored)
        shape, strides = (tuple(int(length["as_int"]) for length in meta[name]) for name in ("sizes", "strides"))
        offset = int(meta["storage_offset"]["as_int"])
        if min((offset, *shape, *strides)) < 0 or not isinstance(entry["path_name"], str):
            raise ValueError(f"the shape of {stored}")
        return self.storages.numbers(entry["path_name"], dtype, offset, shape, strides, stored)


@contextmanager
def reading(label: str) -> Iterator[None]:
    """Turn what malformed JSON leads to into DamagedFile."""
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        why = f"its graph is not well-formed: {printable(str(error), 80)}"
        raise DamagedFile(f"{label} is damaged", why=why) from error


def open_program(archive: Archive, folder: str) -> ExportedProgram:
    """Return the program in the zip.

    Raises:
        UnreadableFile: the file is of another version.
        UnsafeFile: its graphs are nested too deeply.
    """
    if folder + MODEL not in archive.names() or folder + _CONFIGURATION not in archive.names():
        raise UnreadableFile(
            f"{archive.label} is a torch.export file of another version",
            why=f"it has no {MODEL} with {_CONFIGURATION}",
            hint="save it again with torch 2.8 or later, as a single model",
        )
    label = Path(archive.label)
    model = strict_json(archive.read(folder + MODEL, JSON_BYTES).decode(), label)
    module = model["graph_module"]
    configuration: dict[str, Any] = {}
    for home, listed in ((CONSTANTS, _OF_CONSTANTS), (WEIGHTS, _CONFIGURATION)):
        if folder + listed in archive.names():
            entries = strict_json(archive.read(folder + listed, JSON_BYTES).decode(), label)["config"]
            for name, entry in entries.items():
                configuration[name] = {**entry, "path_name": home + entry["path_name"]}
    stored: dict[str, str] = {}
    taken: set[str] = set()
    kinds = {"parameter": "parameter_name", "buffer": "buffer_name", "tensor_constant": "tensor_constant_name"}
    for spec in module["signature"]["input_specs"]:
        for kind, name in kinds.items():
            if kind in spec:
                taken.add(spec[kind]["arg"]["name"])
                if spec[kind][name] not in configuration and kind != "tensor_constant":
                    raise ValueError(f"{spec[kind][name]} is not stored")
                if spec[kind][name] in configuration:
                    stored[spec[kind]["arg"]["name"]] = spec[kind][name]
    calls = tuple(every_call(module["graph"]))
    producers = {output: call for call in calls for output in call.outputs}
    return ExportedProgram(
        archive=archive,
        module=model,
        graph=module["graph"],
        stored=stored,
        configuration=configuration,
        storages=in_zip(archive, folder),
        calls=calls,
        taken=frozenset(taken),
        producers=producers,
    )
