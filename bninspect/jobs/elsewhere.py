"""Models that URLs name: which there are, and how one is read, in parts or as a whole copy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from bninspect import errors
from bninspect.records import Checkpoint, codec
from bninspect.settings import READ_SECONDS, RUN_SECONDS, Settings
from bninspect.stores import cache, names
from bninspect.stores.found import Found, RemoteStore
from bninspect.stores.names import Remote
from bninspect.stores.store import open_store
from bninspect.workers import tasks
from bninspect.workers.supervisor import Worker

T = TypeVar("T", bound=errors.BninspectError)
R = TypeVar("R")

_SHARED = frozenset({".pb", ".npz", ".msgpack", ".index"})
"""Endings that other files have too: in a folder elsewhere they are passed over, as nobody looks into the files."""
_PART = re.compile(r"(^|/)(saved_model\.pb|[^/]+\.index|[^/]+\.index\.json)$", re.IGNORECASE)
"""Files that are nothing without others: the graph of a SavedModel, the index of a checkpoint or of shards."""
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
    models = {each.name: each for each in found if pattern or _is_model(each.name)}
    return Listing(models, () if models else (target.name,), (target.name,))


def _is_model(name: str) -> bool:
    from bninspect.formats import FORMATS

    endings = {ending for known in FORMATS for ending in known.suffixes} - _SHARED
    # What belongs to several files is an error that is seen: passed over, it would look as if it had been checked.
    return name.lower().endswith(tuple(endings)) or _PART.search(name) is not None


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
        with _in_one_file(target):
            store = open_store(target, self._settings.timeout or READ_SECONDS)
            found = store.find()
            if found.ranges and not whole:
                return self._in_parts(reader, target, store, found)
            return self._as_a_copy(reader, target, found)

    def _as_a_copy(self, reader: Worker, target: Remote, found: Found) -> Checkpoint:
        settings = self._settings
        store = open_store(target, settings.timeout or RUN_SECONDS)
        copy = str(self._copies.enter_context(cache.held(target, store, found, settings.cache, settings.cache_size)))
        self._names[copy] = target.name
        checkpoint = reader.call(tasks.read_file, Checkpoint, {"path": copy, "digest": True})
        return replace(checkpoint, version=found.version, bytes_read=found.size)

    def _in_parts(self, reader: Worker, target: Remote, store: RemoteStore, found: Found) -> Checkpoint:
        received = 0

        def supply(spans: list[tuple[int, int]]) -> list[bytes]:
            nonlocal received
            received += sum(length for _, length in spans)
            return store.parts(found, spans)

        self._names[target.name.replace("//", "/")] = target.name  # as a path has it
        checkpoint = reader.call(tasks.read_parts, Checkpoint, {"path": target.name, "size": found.size}, supply=supply)
        return replace(checkpoint, path=target.name, version=found.version, bytes_read=received)

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that were allowed by name."""
        return self._settings.allow_host

    def named(self, result: R) -> R:
        """Return a result that calls its model by its name, not by the copy's."""
        if not self._names:
            return result
        return codec.decode(type(result), _replaced(codec.encode(result), self._replace))

    def named_error(self, error: T) -> T:
        """Return an error that calls a model by its name."""
        what, why, hint = map(self._replace, (error.what, error.why, error.hint))
        return type(error)(what, why=why, hint=hint)

    def _replace(self, text: str) -> str:
        for place, name in self._names.items():
            if name not in text:
                text = text.replace(place, name)
        return text


@contextmanager
def _in_one_file(target: Remote) -> Iterator[None]:
    """Refuse a model of several files: of a URL one is fetched, and the others must be of the same version."""
    try:
        if not _PART.search(target.name):
            yield
            return
        why = "this file is nothing without those that belong to it"
    except errors.MissingSibling as error:
        why = error.why
    raise errors.UnreadableFile(
        f"{target.name} is part of a model in several files, and a URL is one file",
        why=why,
        hint="download all of its files into one folder, and name the model there",
    )


def _replaced(value: Any, replace_in: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return replace_in(value)
    if isinstance(value, dict):
        return {key: _replaced(entry, replace_in) for key, entry in value.items()}
    return [_replaced(entry, replace_in) for entry in value] if isinstance(value, (list, tuple)) else value


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
