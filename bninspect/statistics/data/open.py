"""From a path to samples that fit the inputs of a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np

from bninspect.errors import UnreadableFile, UsageError
from bninspect.records import Array
from bninspect.runtimes import inputs as model_inputs
from bninspect.runtimes.runtime import Input
from bninspect.safe_text import printable
from bninspect.statistics.data import arrays, images
from bninspect.statistics.data.samples import Samples
from bninspect.statistics.data.table import Table


@contextmanager
def opened(path: Path, taken: Sequence[Input], size: tuple[int, int] | None = None) -> Iterator[Samples]:
    """Open the data at a path for a model, for as long as the context lasts.

    Args:
        path: a .npy file, a .npz file with an array for each input under its name, a TFRecord or Parquet file with a
            field for each, a folder of such files, or a folder of images, whose sub-folders are looked into as well;
            for several inputs also a folder that holds a folder, or a .npy file, for each under its name.
        taken: the inputs of the model; none if it does not say what it takes.
        size: height and width of images.

    Raises:
        UnreadableFile: it cannot be read.
        UsageError: it does not fit the model.
        MissingPackage: there are images, and Pillow is not installed.
    """
    if path.is_dir():
        yield _folder(path, taken, size)
        return
    with ExitStack() as stack:
        yield _tabled(str(path), arrays.tables(path, stack), taken)


def _folder(path: Path, taken: Sequence[Input], size: tuple[int, int] | None) -> Samples:
    children = {child.name if child.is_dir() else child.stem: child for child in sorted(path.iterdir())}
    if len(taken) > 1 and all(one.name in children for one in taken):
        return _side_by_side(path, {one: children[one.name] for one in taken}, size)
    files = sorted(file for file in path.rglob("*") if file.is_file())
    found = [file for file in files if file.suffix.lower() in arrays.SUFFIXES]
    pictures = [file for file in files if file.suffix.lower() in images.SUFFIXES]
    if found and pictures:
        raise UsageError(f"{printable(str(path))} holds both arrays and images", hint="name a folder of one kind")
    if found:
        return _tabled(str(path), arrays.joined(found), taken)
    if not pictures:
        raise UnreadableFile(
            f"{printable(str(path))} holds no data", why=f"no {', '.join((*arrays.SUFFIXES, *images.SUFFIXES))} in it"
        )
    if len(taken) != 1:
        raise UsageError(
            "a folder of images is data for one input",
            why=f"the model's inputs are {model_inputs.listed(one.name for one in taken)}",
            hint="put a folder, or a .npy file, for each input under its name into one folder",
        )
    read, said = images.reader(pictures, taken[0], size)
    return Samples(str(path), len(pictures), lambda rows: {taken[0].name: read(rows)}, (said,))


def _side_by_side(path: Path, parts: Mapping[Input, Path], size: tuple[int, int] | None) -> Samples:
    """Return samples of several inputs, each in a folder or a file of its own that has its name."""
    opened_parts = [
        _folder(part, [one], size) if part.is_dir() else _tabled(str(part), arrays.joined([part]), [one])
        for one, part in parts.items()
    ]
    _require_equal({one.name: part.count for one, part in zip(parts, opened_parts, strict=True)})

    def read(rows: Sequence[int]) -> Mapping[str, Array]:
        return {name: values for part in opened_parts for name, values in part.read(rows).items()}

    return Samples(str(path), opened_parts[0].count, read, tuple(note for part in opened_parts for note in part.notes))


def _require_equal(counts: Mapping[str, int]) -> None:
    different = len(set(counts.values())) > 1
    if different or 0 in counts.values():
        why = ", ".join(f"{printable(name) or 'the array'}: {count} samples" for name, count in counts.items())
        if different:
            hint = "give each input as many samples, in the same order"
            raise UsageError("the arrays do not hold the same number of samples", why=why, hint=hint)
        raise UsageError("no data", why=why)


def _tabled(title: str, found: Mapping[str, Table], taken: Sequence[Input]) -> Samples:
    if any(table.of_record for table in found.values()):
        found = _of_records(found, taken)
    chosen = model_inputs.by_input(taken, found, printable(title))
    model_inputs.check_samples(taken, chosen)
    counts = {name: table.shape[0] for name, table in chosen.items()}
    _require_equal(counts)

    def read(rows: Sequence[int]) -> Mapping[str, Array]:
        return {name: _floats(table.read(rows)) for name, table in chosen.items()}

    return Samples(title, next(iter(counts.values())), read)


_ONE_ARRAY = "put the numbers of a sample into one array, in the order of the training: numpy.save('data.npy', " + (
    "table[COLUMNS].to_numpy('float32'))"
)


def _of_records(found: Mapping[str, Table], taken: Sequence[Input]) -> Mapping[str, Table]:
    """Return for each input the field of its name, or else the one that has as many numbers, in the input's shape."""
    fields: dict[str, Table] = {}
    for described in taken:
        size = None if None in described.shape[1:] else math.prod(length or 0 for length in described.shape[1:])
        fitting = [name for name, table in found.items() if math.prod(table.shape[1:]) == size]
        name = described.name if described.name in found else fitting[0] if len(fitting) == 1 else ""
        if not name:
            numbers = sum(len(table.shape) == 1 for table in found.values())
            raise UsageError(
                f"no field is for input {printable(described.name)}",
                why=f"{len(fitting)} of {model_inputs.listed(found)} have as many numbers as it takes",
                hint=_ONE_ARRAY if size is not None and 1 < size <= numbers else "name the field after the input",
            )
        table = found[name]
        shape = tuple(length or 0 for length in described.shape[1:]) if name in fitting else table.shape[1:]
        fields[described.name] = replace(table, shape=(table.shape[0], *shape), read=_shaped(table, shape))
    return fields or found


def _shaped(table: Table, shape: tuple[int, ...]) -> Callable[[Sequence[int]], Array]:
    return lambda rows: table.read(rows).reshape(-1, *shape)


def _floats(values: Array) -> Array:
    return values.astype(np.float32) if values.dtype == np.float16 else values
