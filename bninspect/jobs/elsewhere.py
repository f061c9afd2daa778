"""Models that URLs name: which there are, and how one is read, in parts or as a whole copy."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from bninspect import errors
from bninspect.jobs import called
from bninspect.records import Checkpoint
from bninspect.settings import READ_SECONDS, RUN_SECONDS, Settings
from bninspect.stores import cache, names
from bninspect.stores.model_files import ModelFiles
from bninspect.stores.names import Remote
from bninspect.stores.store import open_store
from bninspect.workers import tasks
from bninspect.workers.supervisor import Worker

T = TypeVar("T", bound=errors.BninspectError)
R = TypeVar("R")

_SHARED = frozenset({".pb", ".npz", ".msgpack", ".index", ".json", ".xml", ".param", ".weights"})
"""Endings that other files have too: in a folder elsewhere they are passed over, as nobody looks into the files."""
_BESIDE = {".index": ".data-00000-of-", ".xml": ".bin", ".param": ".bin", ".weights": ".cfg"}
"""What stands beside a file with such an ending, under the same name, where it is a model."""
_WHOLE = ("saved_model.pb", "model.json")
"""Names under which only models are written."""
_PART = re.compile(r"(^|/)(saved_model\.pb|checkpoint|[^/]*\.(index|meta|data-\d{5}-of-\d{5}))$")
"""Files that may be read without others, as another model."""
_KERAS_SHARD = re.compile(r"_\d{5}\.weights\.h5$")
_SIGNS = "*?["


@dataclass(frozen=True)
class Listing:
    """The models that some URLs stand for."""

    models: Mapping[str, Remote]
    """By the name that reports give them."""
    vain: tuple[str, ...]
    """The names of those that stand for nothing."""
    searched: tuple[str, ...] = ()
    """The names of folders and patterns."""


def find(url: str, settings: Settings, *, listed: bool) -> Listing:
    """Return the models that a URL stands for: itself, what is in a folder, or what fits a pattern.

    Raises as names.remote and as the store.
    """
    target = names.remote(url, listed=listed, allowed=settings.allow_host)
    web = names.scheme(url) in names.WEB
    place = target.name.partition("://")[2]
    pattern, folder = any(sign in place for sign in _SIGNS), place.endswith("/")
    if not pattern and not folder:
        return Listing({target.name: target}, ())
    if web:
        raise errors.UsageError(
            f"{target.name} is not one file",
            why="a web server does not say which files it has",
            hint="name each file, or list them in a file for --files-from",
        )
    from bninspect.stores.objects import Objects

    store = open_store(target, settings.timeout or READ_SECONDS)
    assert isinstance(store, Objects)  # noqa: S101 - every store but the web
    found = [names.remote(each, listed=listed, allowed=settings.allow_host) for each in store.search()]
    every = sorted(each.name for each in found)
    models = {each.name: each for each in found if pattern or _is_model(each.name, every)}
    return Listing(models, () if models else (target.name,), (target.name,))


def _is_model(name: str, every: Sequence[str]) -> bool:
    """Return whether a file is a model, or the one by which a model of several files goes.

    `every`: the names of all files of the folder, in order.
    """
    from bninspect.formats import FORMATS

    folder, _, last = name.rpartition("/")
    if folder.endswith("/variables") and _has(every, f"{folder.removesuffix('variables')}saved_model.pb"):
        return False
    stem, dot, ending = name.rpartition(".")
    if last in _WHOLE or ((other := _BESIDE.get(dot + ending)) and _has(every, stem + other)):
        return True
    if _KERAS_SHARD.search(name) and _has(every, f"{_KERAS_SHARD.sub('', name)}.weights.json"):
        return False
    endings = {ending for known in FORMATS for ending in known.suffixes} - _SHARED
    return name.lower().endswith(tuple(endings))


def _has(every: Sequence[str], beginning: str) -> bool:
    """Return whether one of the names, which are in order, begins so."""
    place = bisect_left(every, beginning)
    return place < len(every) and every[place].startswith(beginning)


def list_of_models(url: str, settings_hosts: tuple[str, ...] = ()) -> bytes:
    """Return the content of a list of models at a URL. Raises as the store; LimitExceeded for more than 16 MB."""
    target = names.remote(url, allowed=settings_hosts)
    store = open_store(target, READ_SECONDS)
    found = store.find()
    with cache.held(target, store, found, None, 16_000_000) as copy:
        return copy.read_bytes()


class RemoteReading:
    """Reads models elsewhere for one pair of processes; the copies that it makes last until `close`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._copies = ExitStack()
        self._names: dict[str, str] = {}

    def close(self) -> None:
        """Delete the copies."""
        self._copies.close()
        self._names.clear()

    def read(self, reader: Worker, target: Remote, *, whole: bool) -> Checkpoint:
        """Read a model. `whole`: by a copy, on whose path it is run; in parts otherwise, if the server gives parts.

        Raises:
            Unreachable, LimitExceeded, UnsafeFile, MissingPackage: it cannot be fetched.
            UnreadableFile, WorkerDied: it cannot be read.
        """
        files = ModelFiles(target, self._settings.timeout or READ_SECONDS)
        if files.first.ranges and not whole:
            return self._in_parts(reader, target, files)
        return self._as_a_copy(reader, target, files)

    def of_place(self, reader: Worker, place: str, *, whole: bool) -> Checkpoint:
        """Read a model here, or one elsewhere as `read` does; errors call it by its name."""
        if not names.is_url(place):
            return reader.call(tasks.read_file, Checkpoint, {"path": place, "digest": True})
        try:
            return self.read(reader, names.remote(place, allowed=self._settings.allow_host), whole=whole)
        except errors.BninspectError as error:
            raise self.named_error(error) from None

    def _as_a_copy(self, reader: Worker, target: Remote, files: ModelFiles) -> Checkpoint:
        settings, seconds = self._settings, self._settings.timeout or RUN_SECONDS
        held = cache.held(target, open_store(target, seconds), files.first, settings.cache, settings.cache_size)
        copy = self._copies.enter_context(held)
        self._name(copy, target)
        arguments = {"path": str(copy), "digest": True}
        try:
            # What was kept beside the copy may be of an earlier version.
            if _PART.search(target.name) or len(list(copy.parent.iterdir())) > 1:
                raise errors.MissingSibling(f"{target.name} is one of several files")
            checkpoint = reader.call(tasks.read_file, Checkpoint, arguments)
        except errors.MissingSibling:
            # Which files it needs is known once it has been read.
            if not files.first.ranges:
                raise errors.UnreadableFile(
                    f"{target.name} is a model in several files",
                    why="which files it needs, parts of it tell, and its server sends whole files only",
                    hint="download its folder, and name the model there",
                ) from None
            self._in_parts(reader, target, files)
            files.complete(copy, seconds, settings.cache, settings.cache_size)
            checkpoint = reader.call(tasks.read_file, Checkpoint, arguments)
            files.require_same()
        return replace(checkpoint, version=files.version, bytes_read=files.size)

    def _in_parts(self, reader: Worker, target: Remote, files: ModelFiles) -> Checkpoint:
        path = Path(target.name).parent / files.name
        self._name(path, target)
        checkpoint = reader.call(
            tasks.read_parts, Checkpoint, {"path": str(path), "size": files.first.size}, supply=files
        )
        files.require_same()
        return replace(checkpoint, path=target.name, version=files.version, bytes=files.size, bytes_read=files.received)

    def _name(self, path: Path, target: Remote) -> None:
        """Take note of how a path, and those beside it, are called."""
        self._names[str(path)] = target.name
        self._names[f"{path.parent}/"] = f"{target.name.rpartition('/')[0]}/"

    def named(self, result: R) -> R:
        """Return a result that calls its model by its name, not by the copy's."""
        return called.result(result, self._names)

    def named_error(self, error: T) -> T:
        """Return an error that calls a model by its name."""
        return called.error(error, self._names)


def together(listings: Iterable[Listing]) -> Listing:
    """Return several listings as one. Raises UsageError for two models of one name: nobody could tell them apart."""
    models: dict[str, Remote] = {}
    vain: list[str] = []
    searched: list[str] = []
    for listing in listings:
        for name, target in listing.models.items():
            if models.setdefault(name, target).url != target.url:
                raise errors.UsageError(
                    f"two models are called {name}",
                    why="their URLs differ in user or query only, which no report shows",
                    hint="check them in two runs",
                )
        vain += listing.vain
        searched += listing.searched
    return Listing(models, tuple(vain), tuple(searched))
