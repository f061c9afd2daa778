"""The one place that opens HDF5. Nothing else calls h5py, so its rules hold for every reader.

An HDF5 file may name other files (links, external storage, virtual datasets), declare arrays of any size
in a few bytes, and nest for ever; h5py follows and allocates all of that. Here every component of a path is
walked on its own and by hard links only, because `Group.get(path, getlink=True)` of h5py looks at the last
link alone and lets one in the middle pass (keras-team/keras#23163), and sizes are looked at before anything
is allocated (CVE-2026-0897, CVE-2026-1669).

What this cannot do: libhdf5 itself may crash or spin on a file made for it, and an attribute of texts of
variable length has no size to look at beforehand. Reading therefore also happens in a supervised process.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Concatenate, ParamSpec, TypeVar

from bninspect.errors import BninspectError, DamagedFile, LimitExceeded, UnsafeFile
from bninspect.formats.containers import hdf5_array
from bninspect.formats.containers.hdf5_attribute import AttributeBudget, decoded, texts
from bninspect.formats.containers.parts import PartPath
from bninspect.formats.unknown_files import HDF5_SIGNATURE, refusal
from bninspect.records import Array

DEPTH = 64
HARD_LINK = 0
"""H5L_TYPE_HARD, whose `u` is the address of the object."""

P = ParamSpec("P")
R = TypeVar("R")


def _guarded(method: Callable[Concatenate[Group, P], R]) -> Callable[Concatenate[Group, P], R]:
    """Turn what h5py raises on a damaged file (OSError, KeyError, RuntimeError ...) into our errors."""

    @functools.wraps(method)
    def call(group: Group, /, *args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return method(group, *args, **kwargs)
        except BninspectError:
            raise
        except MemoryError as error:
            raise LimitExceeded(f"{group.label} needs more memory than there is", why=f"at {group.path}") from error
        except Exception as error:
            raise DamagedFile(f"{group.label} is damaged", why=f"at {group.path}: {error}") from error

    return call


class Group:
    """One group of an open HDF5 file. Names are relative and may have several components: `bn/gamma:0`.

    All methods raise UnsafeFile for what leads out of the file or beyond the budgets, DamagedFile for what
    cannot be read, LimitExceeded where memory runs out.
    """

    def __init__(
        self, budget: AttributeBudget, handle: Any, path: str = "/", depth: int = 0, address: int | None = None
    ) -> None:
        self.path = path
        """Where in the file this group is, for instance `/model_weights/bn`."""
        self.label = budget.label
        """How error messages call the file."""
        self.address = address
        """Where its header begins in the file; None for the root."""
        self._budget = budget
        self._handle = handle
        self._depth = depth
        self._groups: dict[str, Group] = {}
        self._types: dict[str, str] = {}

    @_guarded
    def names(self) -> tuple[str, ...]:
        """Return the names of all children, groups and arrays alike, in the file's order."""
        self._budget.spend("members", self._handle.get_num_objs(), self.path)
        found = tuple(decoded(name) for name in self._handle)
        for name in found:
            if "/" in name or name in {"", "."}:
                raise DamagedFile(f"{self.label} is damaged", why=f"{self.path} has a member called {name!r}")
        return found

    @_guarded
    def group(self, name: str) -> Group | None:
        """Return the group called `name`, or None where there is none."""
        found = self._find(name)
        return found if isinstance(found, Group) else None

    @_guarded
    def array(self, name: str, *, opaque: str = "") -> Array | None:
        """Return the array called `name`, or None where there is none.

        Read-only, in its stored type and native byte order; bfloat16, which NumPy lacks, becomes float32.
        `opaque`: what two bytes of no type are, if the file does not mark them: `bfloat16`.
        """
        dataset = self._dataset(name)
        if dataset is None:
            return None
        where = f"{self.path}: {name}"
        kind = dataset.get_type()
        stored = self._types[name] = self._stored_type(dataset, kind, where, opaque)
        shape, size = hdf5_array.declared(dataset, kind, self.label, where)
        self._budget.spend("array_bytes", size, where)
        return hdf5_array.read(dataset, kind, shape, stored)

    @_guarded
    def dtype(self, name: str) -> str:
        """Return the stored type of the array called `name`, such as `bfloat16`; empty where there is none."""
        if name in self._types:
            return self._types[name]
        dataset = self._dataset(name)
        return "" if dataset is None else self._stored_type(dataset, dataset.get_type(), f"{self.path}: {name}")

    @_guarded
    def shape(self, name: str) -> tuple[int, ...] | None:
        """Return the shape of the array called `name` without reading it, or None where there is none."""
        dataset = self._dataset(name)
        return None if dataset is None else tuple(dataset.shape or ())

    @_guarded
    def place(self, name: str) -> tuple[int | None, Any, int] | None:
        """Return where the array called `name` begins in the file, its stored dtype and how many numbers it has.

        None where there is no such array; no offset where its bytes do not lie in the file as they are.
        """
        dataset = self._dataset(name)
        if dataset is None:
            return None
        hdf5_array.declared(dataset, dataset.get_type(), self.label, f"{self.path}: {name}")
        return dataset.get_offset(), dataset.dtype, int(dataset.get_space().get_simple_extent_npoints())

    @_guarded
    def text(self, attribute: str) -> str | None:
        """Return an attribute that is one text, or None where there is none."""
        found = texts(self._handle, attribute, self._budget, self.path)
        if not found:
            return None
        if len(found) > 1:
            why = f"attribute {attribute} of {self.path} is a list, not one text"
            raise DamagedFile(f"{self.label} is damaged", why=why)
        return found[0]

    @_guarded
    def texts(self, attribute: str) -> tuple[str, ...] | None:
        """Return an attribute that is a list of texts, or None where there is none.

        Keras splits a list over 64 KB, the limit of an object header, into `name0`, `name1` ...
        """
        found = texts(self._handle, attribute, self._budget, self.path)
        if found is not None:
            return tuple(found)
        chunks: list[list[str]] = []
        while (chunk := texts(self._handle, f"{attribute}{len(chunks)}", self._budget, self.path)) is not None:
            chunks.append(chunk)
        return tuple(text for chunk in chunks for text in chunk) if chunks else None

    @_guarded
    def headers(self, names: Iterable[str], length: int) -> list[tuple[int, int]]:
        """Return where the groups and arrays of these names begin, each with so many bytes: (first byte, length)."""
        links, spans = self._handle.links, []
        for name in names:
            key = name.encode("utf-8", "surrogateescape")
            if b"\0" not in key and b"/" not in key and links.exists(key):
                info = links.get_info(key)
                if info.type == HARD_LINK:
                    spans.append((int(info.u), length))
        return spans

    @_guarded
    def spans(self, name: str) -> list[tuple[int, int]]:
        """Return where the bytes of the array called `name` lie, if they lie in one piece: (first byte, length)."""
        dataset = self._dataset(name)
        offset = None if dataset is None else dataset.get_offset()
        return [] if offset is None else [(int(offset), int(dataset.get_storage_size()))]

    @property
    def file(self) -> Any:
        """The open file that it is in."""
        return self._budget.file

    def _find(self, name: str) -> Any:
        """Return a Group, a DatasetID of h5py, or None."""
        here: Any = self
        for part in [part for part in name.split("/") if part not in {"", "."}]:
            if not isinstance(here, Group):
                return None
            here = here._child(part)  # noqa: SLF001 - another Group
        return None if here is self else here

    def _child(self, name: str) -> Any:
        import h5py

        if name in self._groups:
            return self._groups[name]
        key = name.encode("utf-8", "surrogateescape")
        # A NUL would end the name early for libhdf5, and so open something else.
        if b"\0" in key or not self._handle.links.exists(key):
            return None
        path = f"{self.path.rstrip('/')}/{name}"
        link = self._handle.links.get_info(key)
        if link.type != h5py.h5l.TYPE_HARD:
            why = f"{path} is a soft, external or user-defined link, which may lead to another file"
            raise UnsafeFile(f"{self.label} holds a link where a group or an array should be", why=why)
        if self._depth >= DEPTH:
            raise UnsafeFile(f"{self.label} is nested too deeply", why=f"more than {DEPTH} levels at {path}")
        handle = h5py.h5o.open(self._handle, key)
        if not isinstance(handle, h5py.h5g.GroupID):
            return handle
        self._groups[name] = Group(self._budget, handle, path, self._depth + 1, int(link.u))
        return self._groups[name]

    def _dataset(self, name: str) -> Any:
        import h5py

        found = self._find(name)
        return found if isinstance(found, h5py.h5d.DatasetID) else None

    def _stored_type(self, dataset: Any, kind: Any, where: str, opaque: str = "") -> str:
        if hdf5_array.is_opaque(kind):
            opaque = (texts(dataset, "dtype", self._budget, where) or [opaque])[0]
        return hdf5_array.stored_type(kind, opaque, self.label, where)


@contextmanager
def open_file(source: Path | BinaryIO, label: str) -> Iterator[Group]:
    """Open HDF5 read-only and yield its root; the groups are of no use once the context has ended.

    Args:
        source: a path, or a seekable binary stream such as a member of a zip.
        label: what error messages call the file.

    Raises:
        UnknownFormat: it is not HDF5; the message says what it probably is.
        DamagedFile: it is truncated or cannot be opened.
    """
    _check_signature(source, label)
    import h5py

    with _no_plugins(h5py.h5pl):
        try:
            # A file elsewhere has a path that libhdf5 cannot open.
            place = source.open("rb") if isinstance(source, PartPath) else source
            file = h5py.File(place, "r")
        except MemoryError as error:
            raise LimitExceeded(f"{label} needs more memory than there is") from error
        except Exception as error:
            raise _cannot_open(label, str(error)) from error
        with file:
            yield Group(AttributeBudget(label, file=place), file.id)


def _check_signature(source: Path | BinaryIO, label: str) -> None:
    """Refuse what begins in any other way, even with HDF5 further on: that is a file of two kinds."""
    try:
        if isinstance(source, Path):
            with source.open("rb") as stream:
                head = stream.read(4096)
        else:
            source.seek(0)
            head = source.read(4096)
            source.seek(0)
    except OSError as error:
        raise DamagedFile(f"{label} cannot be read", why=error.strerror or str(error)) from error
    if not head.startswith(HDF5_SIGNATURE):
        raise refusal(label, head, "HDF5")


def _cannot_open(label: str, message: str) -> DamagedFile:
    sizes = re.search(r"eof = (\d+).*stored_eof = (\d+)", message)
    if sizes is None:
        return DamagedFile(f"{label} cannot be opened as HDF5", why=message)
    why = f"it has {int(sizes[1]):,} bytes; its header says {int(sizes[2]):,}"
    return DamagedFile(f"{label} is truncated", why=why, hint="copy or download the file again")


@contextmanager
def _no_plugins(table: Any) -> Iterator[None]:
    """Empty the list of folders in which libhdf5 looks for filter plug-ins to run; put it back after."""
    folders = [table.get(index) for index in range(table.size())]
    try:
        while table.size():
            table.remove(0)
        yield
    finally:
        for folder in folders:
            table.append(folder)
