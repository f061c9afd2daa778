"""What torch.save, torch.jit.save and torch.export.save write: which of them a file is, what it holds."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from bninspect.errors import UnreadableFile
from bninspect.formats.containers.zip_archive import Archive, open_archive
from bninspect.formats.format import Format
from bninspect.formats.named_kernels import NamedKernel
from bninspect.formats.torch import exported_network, exported_norms, legacy, script, state_dict
from bninspect.formats.torch.objects import PickledTensor
from bninspect.records import Checkpoint
from bninspect.records.graph import Network

T = TypeVar("T")

# The name of the first member: torch puts everything into a folder named after the file.
_BEGINNING = re.compile(
    rb"PK\x03\x04.{26}[^/]{1,255}/(data\.pkl|data/|\.format_version|byteorder|archive_format|models/|version)",
    re.DOTALL,
)

_GRAPHLESS = "it is a state_dict, a pickled module or TorchScript"


def _matches(_path: Path, head: bytes) -> bool:
    return _BEGINNING.match(head) is not None or legacy.BEGINNING.match(head) is not None


def _read(path: Path) -> Checkpoint:
    if not _is_zip(path):
        return legacy.read(path)
    return _opened(path, {"export": exported_norms.read, "script": script.read, "pickle": state_dict.read})


def read_network(path: Path) -> Network:
    """Return what a torch.export file computes. Raises as reading it; UnreadableFile for a file without a graph."""
    if not _is_zip(path):
        raise UnreadableFile(f"{path} holds no graph", why=_GRAPHLESS)
    return _opened(path, {"export": exported_network.read_network})


def read_kernels(path: Path) -> tuple[NamedKernel, ...]:
    """Return the kernels that a state_dict or a pickled module names. Raises as reading it."""
    return _opened(path, {"pickle": state_dict.read_kernels}) if _is_zip(path) else legacy.read_kernels(path)


def read_calls(path: Path) -> tuple[exported_norms.ExportedNorm, ...]:
    """Return where the batch norms of a torch.export file are called. Raises as reading it."""
    return _opened(path, {"export": exported_norms.read_norms})


def read_statistics(path: Path) -> tuple[str, Mapping[str, Mapping[str, PickledTensor]]]:
    """Return the folder in the zip of a state_dict, and its running statistics. Raises as reading it."""
    return _opened(path, {"pickle": lambda archive, folder: (folder, state_dict.read_statistics(archive, folder))})


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"PK"


def _opened(path: Path, kinds: dict[str, Callable[[Archive, str], T]]) -> T:
    with open_archive(path) as archive:
        kind, folder = _kind(archive)
        if kind not in kinds:
            raise UnreadableFile(f"{path} holds no graph", why=_GRAPHLESS)
        return kinds[kind](archive, folder)


def _kind(archive: Archive) -> tuple[str, str]:
    """Return what the zip is, and the folder in it, with its slash."""
    names = archive.names()
    folder = names[0].partition("/")[0] + "/"
    if f"{folder}archive_format" in names or f"{folder}models/model.json" in names:
        return "export", folder
    if f"{folder}data.pkl" not in names:
        raise UnreadableFile(f"{archive.label} is not a PyTorch file", why=f"it has no member {folder}data.pkl")
    return ("script" if any(name.startswith(f"{folder}code/") for name in names) else "pickle"), folder


FORMAT = Format(
    "torch",
    "PyTorch checkpoint or module, TorchScript, torch.export",
    (".pt", ".pth", ".pt2", ".th", ".ckpt"),
    _matches,
    _read,
    read_network,
    read_kernels,
)
