"""Files of every other store that fsspec knows: S3, Google Cloud Storage, Azure, SFTP, Hugging Face ...

Where they are and who we are, the store's own client knows from its configuration and environment. Nothing of that is
asked for here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import IO, Any, TypeVar

import fsspec

from bninspect.errors import DamagedFile, Unreachable, UsageError
from bninspect.stores import names
from bninspect.stores.names import Remote
from bninspect.stores.remote_file import Found, Span, changed, fetching

CHUNK = 4 << 20
_VERSIONS = (
    "ETag",
    "etag",
    "VersionId",
    "generation",
    "md5Hash",
    "content_md5",
    "sha256",
    "blob_id",
    "mtime",
    "created",
)
T = TypeVar("T")


class Objects:
    """A file of a store. Args: the model, and the seconds that each call may take."""

    def __init__(self, target: Remote, seconds: float) -> None:
        self._target = target
        self._seconds = seconds
        try:
            self._files: Any
            self._files, self._path = fsspec.core.url_to_fs(target.url)
        except ValueError as error:
            why = names.without_secrets(str(error), target.url)
            raise UsageError(f"{target.name} cannot be read", why=why) from error

    def find(self) -> Found:
        """Return what the store says of the file."""

        def ask() -> Found:
            self._files.invalidate_cache()
            said = self._files.info(self._path)
            if said.get("type") == "directory" or said.get("size") is None:
                raise UsageError(f"{self._target.name} is not a file")
            version = next((str(said[key]) for key in _VERSIONS if said.get(key)), None)
            return Found(int(said["size"]), version)

        return self._in_time(ask)

    def look(self) -> Found | None:
        """Return what the store says of the file; None if there is none."""
        try:
            return self.find()
        except UsageError:
            return None  # a folder
        except Unreachable as error:
            if isinstance(error.__cause__, (FileNotFoundError, PermissionError)):
                return None
            raise

    def parts(self, found: Found, spans: Sequence[Span]) -> list[bytes]:
        """Return parts of the file, as many at a time as the store's client likes."""

        def fetch() -> list[bytes]:
            starts = [start for start, _ in spans]
            ends = [start + length for start, length in spans]
            data = self._files.cat_ranges([self._path] * len(spans), starts, ends, on_error="raise")
            return [bytes(part) for part in data]

        parts = self._in_time(fetch)
        for (_, length), part in zip(spans, parts, strict=True):
            if len(part) != length:
                raise DamagedFile(
                    f"{self._target.name} is not what the store says",
                    why=f"{length} bytes were asked for, and {len(part)} came",
                )
        self._require_same(found)
        return parts

    def download(self, found: Found, target: IO[bytes]) -> None:
        """Write the whole file."""

        def fetch() -> int:
            received = 0
            with self._files.open(self._path, "rb", block_size=CHUNK, cache_type="readahead") as source:
                while received <= found.size and (chunk := source.read(CHUNK)):
                    received += len(chunk)
                    target.write(chunk)
            return received

        if (received := self._in_time(fetch)) != found.size:
            why = f"{received} bytes of {found.size} came"
            raise DamagedFile(f"{self._target.name} is not what the store says", why=why)
        self._require_same(found)

    def search(self) -> tuple[str, ...]:
        """Return the URLs of the files that the URL, a folder or a pattern, stands for."""

        def ask() -> list[str]:
            pattern = any(sign in self._path for sign in "*?[")
            found = self._files.glob(self._path) if pattern else self._files.find(self._path)
            return [str(self._files.unstrip_protocol(path)) for path in sorted(found)]

        return tuple(self._in_time(ask))

    def _require_same(self, found: Found) -> None:
        if (now := self.find()) != found:
            raise changed(self._target, found, now)

    def _in_time(self, call: Callable[[], T]) -> T:
        pool = ThreadPoolExecutor(1)
        try:
            with fetching(self._target, self._seconds, Exception):
                return pool.submit(call).result(self._seconds)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
