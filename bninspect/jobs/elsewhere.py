"""Models that URLs name: which there are, and how one is read, in parts or as a whole copy."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from bninspect import errors
from bninspect.records import Checkpoint, ModelReport, codec
from bninspect.settings import READ_SECONDS, RUN_SECONDS, Settings
from bninspect.stores import cache, names
from bninspect.stores.found import Found, RemoteStore
from bninspect.stores.names import Remote
from bninspect.stores.store import open_store
from bninspect.workers import tasks
from bninspect.workers.supervisor import Worker

T = TypeVar("T", bound=errors.BninspectError)

_SHARED = frozenset({".pb", ".npz", ".msgpack", ".index"})
"""Endings that other files have too: in a folder elsewhere they are passed over, as nobody looks into the files."""
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
    return name.lower().endswith(tuple(endings))


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
        store = open_store(target, self._settings.timeout or READ_SECONDS)
        found = store.find()
        if found.ranges and not whole:
            return self._in_parts(reader, target, store, found)
        store = open_store(target, self._settings.timeout or RUN_SECONDS)
        settings = self._settings
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

    def named(self, model: ModelReport) -> ModelReport:
        """Return a report that calls its model by its name, not by the copy's."""
        if not self._names:
            return model
        return codec.decode(ModelReport, _replaced(codec.encode(model), self._replace))

    def named_error(self, error: T) -> T:
        """Return an error that calls a model by its name."""
        what, why, hint = map(self._replace, (error.what, error.why, error.hint))
        return type(error)(what, why=why, hint=hint)

    def _replace(self, text: str) -> str:
        for place, name in self._names.items():
            if name not in text:
                text = text.replace(place, name)
        return text


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
