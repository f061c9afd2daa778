"""Where whole files from elsewhere lie while they are used: in a folder of their own, within a limit, and then gone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bninspect.errors import LimitExceeded, Unreachable
from bninspect.stores import names
from bninspect.stores.names import Remote
from bninspect.stores.remote_file import Found, RemoteStore

LIMIT = 20_000_000_000
"""Bytes that downloads may take."""


@contextlib.contextmanager
def held(target: Remote, store: RemoteStore, found: Found, folder: str | None, limit: int | None) -> Iterator[Path]:
    """Yield the path of a whole copy of a file; it is deleted after, unless `folder` names where copies stay.

    A copy that stayed is used again if the server still says the same version and size of the file.

    Raises:
        LimitExceeded: it is larger than `limit`.
        Whatever the store raises.
    """
    most = require_room(target, found.size, limit)
    try:
        if folder is not None:
            yield _kept(Path(folder), target, store, found, most)
            return
        with tempfile.TemporaryDirectory(prefix="bninspect-") as place:
            copy = Path(place) / names.file_name(target)
            _download_to(copy, store, found)
            yield copy
    except OSError as error:
        raise Unreachable(f"{target.name} cannot be kept here", why=error.strerror or str(error)) from error


def require_room(target: Remote, size: int, limit: int | None) -> int:
    """Return the bytes that downloads may take. Raises LimitExceeded if a model has more."""
    most = LIMIT if limit is None else limit
    if size > most:
        raise LimitExceeded(
            f"{target.name} is too large to be downloaded",
            why=f"{size} bytes, at most {most} are kept on this machine",
            hint=f"allow more: --cache-size {-(-size // 10**9)}GB",
        )
    return most


def put_beside(copy: Path, name: str, store: RemoteStore, found: Found) -> None:
    """Have another file of a model in the folder of a copy; a mark there says of which version it is."""
    place = copy.parent / name
    version = hashlib.sha256(f"{name}\0{found.version}\0{found.size}".encode()).hexdigest()
    mark = copy.parent / f".{version[:32]}"
    if found.version is not None and mark.exists() and place.is_file() and place.stat().st_size == found.size:
        return
    place.parent.mkdir(mode=0o700, exist_ok=True)
    _download_to(place, store, found)
    mark.touch()


def _kept(folder: Path, target: Remote, store: RemoteStore, found: Found, most: int) -> Path:
    key = hashlib.sha256(f"{target.url}\0{found.version}\0{found.size}".encode()).hexdigest()[:32]
    place = folder / key
    copy = place / names.file_name(target)
    if found.version is not None and copy.is_file() and copy.stat().st_size == found.size:
        os.utime(place)
        return copy
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    make_room(folder, most - found.size, but=place)
    _download_to(copy, store, found)
    return copy


def _download_to(copy: Path, store: RemoteStore, found: Found) -> None:
    """Download a file; it is there once all of it is."""
    with tempfile.NamedTemporaryFile(dir=copy.parent, delete=False) as file:
        part = Path(file.name)
        try:
            store.download(found, file)
            part.replace(copy)
        finally:
            part.unlink(missing_ok=True)


def make_room(folder: Path, most: int, but: Path) -> None:
    """Delete the copies that were not used for longest, until what is left has so many bytes at most."""
    places = [place for place in folder.iterdir() if re.fullmatch(r"[0-9a-f]{32}", place.name) and place != but]
    sizes = {place: sum(file.stat().st_size for file in place.rglob("*")) for place in places}
    for place in sorted(places, key=lambda one: one.stat().st_mtime):
        if sum(sizes.values()) <= most:
            return
        del sizes[place]
        shutil.rmtree(place, ignore_errors=True)
