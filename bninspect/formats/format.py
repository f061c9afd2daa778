"""What a reader of one file format is made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bninspect.records import Checkpoint
from bninspect.records.graph import Network

if TYPE_CHECKING:
    from bninspect.formats.named_kernels import NamedKernel


@dataclass(frozen=True)
class Format:
    """A file format that bninspect reads."""

    name: str
    """Short name, for instance `keras-h5`."""
    title: str
    """What users call it, for instance `Keras HDF5 (.h5)`."""
    suffixes: tuple[str, ...]
    """Usual endings, for finding models in a folder; never what decides the format."""
    matches: Callable[[Path, bytes], bool]
    """Whether `path`, whose first 4 KB are `head` (empty for a folder), is of this format. Never raises."""
    read: Callable[[Path], Checkpoint]
    """Read the whole file. Raises UnreadableFile."""
    network: Callable[[Path], Network] | None = None
    """Read what the file computes, to find batch norms that a converter folded; None where a file holds no graph."""
    kernels: Callable[[Path], tuple[NamedKernel, ...]] | None = None
    """Read the kernels of a file that holds weights alone, by name; None where there are none, or a graph has them."""
