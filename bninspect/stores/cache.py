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
from urllib.parse import unquote

from bninspect.errors import LimitExceeded, Unreachable
from bninspect.stores.found import Found, RemoteStore
from bninspect.stores.names import Remote

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
    most = LIMIT if limit is None else limit
    if found.size > most:
        raise LimitExceeded(
            f"{target.name} is too large to be downloaded",
            why=f"{found.size} bytes, at most {most} are kept on this machine",
            hint=f"allow more: --cache-size {-(-found.size // 10**9)}GB",
        )
    try:
        if folder is not None:
            yield _kept(Path(folder), target, store, found, most)
            return
        with tempfile.TemporaryDirectory(prefix="bninspect-") as place:
            copy = Path(place) / _file_name(target)
            _download(store, found, copy)
            yield copy
    except OSError as error:
        raise Unreachable(f"{target.name} cannot be kept here", why=error.strerror or str(error)) from error


def _kept(folder: Path, target: Remote, store: RemoteStore, found: Found, most: int) -> Path:
    key = hashlib.sha256(f"{target.url}\0{found.version}\0{found.size}".encode()).hexdigest()[:32]
    place = folder / key
    copy = place / _file_name(target)
    if found.version is not None and copy.is_file() and copy.stat().st_size == found.size:
        os.utime(place)
        return copy
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    _make_room(folder, most - found.size, but=place)
    with tempfile.NamedTemporaryFile(dir=place, delete=False) as partial:
        part = Path(partial.name)
    try:
        _download(store, found, part)
        part.replace(copy)
    finally:
        part.unlink(missing_ok=True)
    return copy


def _download(store: RemoteStore, found: Found, copy: Path) -> None:
    with copy.open("wb") as file:
        store.download(found, file)


def _make_room(folder: Path, most: int, but: Path) -> None:
    """Delete the copies that were not used for longest, until what is left has so many bytes at most."""
    places = [place for place in folder.iterdir() if re.fullmatch(r"[0-9a-f]{32}", place.name) and place != but]
    sizes = {place: sum(file.stat().st_size for file in place.iterdir()) for place in places}
    for place in sorted(places, key=lambda one: one.stat().st_mtime):
        if sum(sizes.values()) <= most:
            return
        del sizes[place]
        shutil.rmtree(place, ignore_errors=True)


def _file_name(target: Remote) -> str:
    """Return the name of the copy: runtimes go by its ending, and nothing else of it may mean anything."""
    last = unquote(target.name.rstrip("/").rpartition("/")[2])
    return re.sub(r"[^A-Za-z0-9_.-]", "_", last).lstrip(".")[-100:] or "model"
