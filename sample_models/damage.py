"""Breaks a good model file in the ways in which files break on their way to a deployment."""

from __future__ import annotations

import hashlib
import shutil
import zipfile
from pathlib import Path


def set_value(source: Path, target: Path, at: tuple[str, str, int], value: float) -> None:
    """Copy the HDF5 model `source` and set one channel of one parameter.

    Args:
        source: a whole model, HDF5.
        target: the copy.
        at: layer, parameter and channel.
        value: what to write there, for instance a negative variance.
    """
    import h5py

    layer, parameter, channel = at
    shutil.copyfile(source, target)
    with h5py.File(target, "r+") as file:
        group = file["model_weights"][layer]
        name = next(name for name in group.attrs["weight_names"] if parameter in name)
        group[name][channel] = value


def truncate(source: Path, target: Path, fraction: float) -> None:
    """Keep the first `fraction` of the bytes, as an interrupted download does."""
    content = source.read_bytes()
    target.write_bytes(content[: int(len(content) * fraction)])


def point(source: Path, target: Path) -> None:
    """Write what a clone without Git LFS leaves in the place of `source`."""
    content = source.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    lines = ("version https://git-lfs.github.com/spec/v1", f"oid sha256:{digest}", f"size {len(content)}", "")
    target.write_bytes("\n".join(lines).encode())


def flip_bit(source: Path, target: Path, member: str, parameter: bytes) -> None:
    """Flip the lowest bit of the first value of `parameter`, stored uncompressed in `member` of the archive.

    Only the checksum of the archive can tell: the value stays plausible.
    """
    content = bytearray(source.read_bytes())
    with zipfile.ZipFile(source) as archive:
        start = archive.getinfo(member).header_offset
    at = content.index(parameter, start)
    content[at] ^= 1
    target.write_bytes(content)
