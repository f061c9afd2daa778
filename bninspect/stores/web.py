"""Files of web servers: by ranges, within limits, and wherever a server may send us but not elsewhere.

fsspec gives the session, and with it the user's own configuration of headers and proxies. Requests are made here: its
own would follow any redirect, and take as many bytes as a server sends.

Ranges, If-Match and Content-Range: RFC 9110, sections 13 and 14.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import IO, Any, TypeVar, cast
from urllib.parse import urljoin, urlsplit

import aiohttp
import fsspec
from aiohttp.abc import AbstractResolver
from fsspec.asyn import sync

from bninspect.errors import DamagedFile, Unreachable, UnreadableFile, UnsafeFile
from bninspect.safe_text import printable
from bninspect.stores import names
from bninspect.stores.names import Remote
from bninspect.stores.remote_file import Found, Span, changed, fetching

AT_ONCE = 8
REDIRECTS = 5
CHUNK = 1 << 20
_ABSENT = frozenset({403, 404, 410})
"""What is answered where there is no such file: buckets say 403 to whom they do not list their files."""
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
T = TypeVar("T")


class Web:
    """A file of a web server. Args: the model, and the seconds that each call may take."""

    def __init__(self, target: Remote, seconds: float) -> None:
        self._target = target
        self._seconds = seconds
        self._first = True
        """Whether the server that is asked is the one of the model's own URL."""
        self._files: Any = fsspec.filesystem(
            urlsplit(target.url).scheme.lower(), get_client=self._client, skip_instance_cache=True
        )

    def find(self) -> Found:
        """Return what the server says of the file, by asking for its first byte."""
        return self._in_time(self._find)

    def look(self) -> Found | None:
        """Return what the server says of the file; None if there is none."""
        return self._in_time(self._look)

    def parts(self, found: Found, spans: Sequence[Span]) -> list[bytes]:
        """Return parts of the file, several of them at a time."""

        async def fetch() -> list[bytes]:
            slots = asyncio.Semaphore(AT_ONCE)
            return list(await asyncio.gather(*(self._part(found, span, slots) for span in spans)))

        return self._in_time(fetch)

    def download(self, found: Found, target: IO[bytes]) -> None:
        """Write the whole file."""

        async def fetch() -> None:
            async with self._response({}) as response:
                self._require(response, 200)
                self._require_same(found, _described(response), response)
                received = 0
                async for chunk in response.content.iter_chunked(CHUNK):
                    received += len(chunk)
                    if received > found.size:
                        raise self._lie(f"more than the {found.size} bytes that it announced came")
                    target.write(chunk)
                if received < found.size:
                    raise self._lie(f"{received} bytes of {found.size} came")

        self._in_time(fetch)

    async def _find(self) -> Found:
        async with self._response({"Range": "bytes=0-0"}) as response:
            return self._described(response)

    async def _look(self) -> Found | None:
        async with self._response({"Range": "bytes=0-0"}) as response:
            return None if response.status in _ABSENT else self._described(response)

    def _described(self, response: aiohttp.ClientResponse) -> Found:
        if response.status not in {200, 206}:
            self._require(response, 206)
        return _described(response) or self._unsized()

    def _unsized(self) -> Found:
        raise UnreadableFile(
            f"{self._target.name} cannot be fetched",
            why="the server does not say how long the file is",
            hint="download the file, and name the copy",
        )

    async def _part(self, found: Found, span: Span, slots: asyncio.Semaphore) -> bytes:
        start, length = span
        asked = {"Range": f"bytes={start}-{start + length - 1}"}
        if found.version and not found.version.startswith("W/") and found.version.startswith('"'):
            asked["If-Match"] = found.version
        async with slots, self._response(asked) as response:
            if response.status == 412:
                raise changed(self._target, found, Found(found.size, response.headers.get("ETag")))
            self._require(response, 206)
            self._require_same(found, _described(response), response)
            given = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if given is None or (int(given[1]), int(given[2])) != (start, start + length - 1):
                raise self._lie(f"bytes {start} to {start + length - 1} were asked for, and others came")
            data = bytearray()
            async for chunk in response.content.iter_chunked(CHUNK):
                data += chunk
                if len(data) > length:
                    break
            if len(data) != length:
                raise self._lie(
                    f"{length} bytes were asked for, and {'more' if len(data) > length else len(data)} came"
                )
            return bytes(data)

    def _require(self, response: aiohttp.ClientResponse, status: int) -> None:
        if response.status != status:
            raise Unreachable(
                f"{self._target.name} cannot be fetched",
                why=printable(f"the server answers {response.status} {response.reason}", 200),
                hint="the URL, and what fsspec is configured to send with it, decide what a server gives"
                if response.status in {401, 403, 404}
                else "",
            )
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise self._lie("it was asked for the file as it is, and sends it encoded")

    def _require_same(self, before: Found, now: Found | None, response: aiohttp.ClientResponse) -> None:
        now = now or Found(before.size, response.headers.get("ETag") or before.version)  # how long it is will be seen
        if (now.size, now.version) != (before.size, before.version):
            raise changed(self._target, before, now)

    def _lie(self, why: str) -> DamagedFile:
        return DamagedFile(f"the server does not send {self._target.name} as it says", why=why)

    @asynccontextmanager
    async def _response(self, headers: dict[str, str]) -> AsyncIterator[aiohttp.ClientResponse]:
        """Yield the answer to a GET, after redirects that stay on the host or lead where that is allowed."""
        session: aiohttp.ClientSession = await self._files.set_session()
        url, first = self._target.url, True
        own = {**self._files.kwargs}
        needed = {**headers, "Accept-Encoding": "identity"}
        sent = {**own.pop("headers", {}), **needed}
        async with AsyncExitStack() as others:
            for _ in range(REDIRECTS + 1):
                self._first = first
                names.check_host(urlsplit(url).hostname or "", [], self._target, first=first)
                async with session.get(url, headers=sent, allow_redirects=False, **own) as response:
                    if response.status not in {301, 302, 303, 307, 308}:
                        yield response
                        return
                    before = url
                    url = self._redirected(url, response.headers.get("Location", ""))
                if urlsplit(url).hostname != urlsplit(before).hostname:
                    first = False
                    # What the user has for one host, such as a token, is not for another one.
                    session, own, sent = await others.enter_async_context(await self._client()), {}, needed
        raise UnsafeFile(f"{self._target.name} is not fetched", why=f"more than {REDIRECTS} redirects")

    def _redirected(self, before: str, location: str) -> str:
        url = urljoin(before, location)
        old, new = urlsplit(before), urlsplit(url)
        where = printable(names.public(url), 200)
        if new.scheme not in names.WEB or (old.scheme == "https" and new.scheme == "http"):
            raise UnsafeFile(f"{self._target.name} is not fetched", why=f"its server redirects to {where}")
        upgraded = (new.hostname, old.port, new.port, new.scheme) == (old.hostname, None, None, "https")
        if (old.hostname, old.port) != (new.hostname, new.port) and not upgraded and not self._is_allowed(new.hostname):
            raise UnsafeFile(
                f"{self._target.name} is not fetched",
                why=f"its server redirects to another host or port: {where}",
                hint=f"if that is meant: --allow-host {printable(str(new.hostname))}",
            )
        return url

    def _is_allowed(self, host: str | None) -> bool:
        return str(host).lower() in map(str.lower, self._target.allowed)

    async def _client(self, **options: Any) -> aiohttp.ClientSession:
        """Return the session that fsspec asks for, in which no name leads to an address that is refused."""
        options.pop("loop", None)
        options.setdefault("timeout", aiohttp.ClientTimeout(total=self._seconds))
        return aiohttp.ClientSession(connector=aiohttp.TCPConnector(resolver=_Guarded(self)), **options)

    def check(self, host: str, addresses: list[str]) -> None:
        """Raise UnsafeFile if a name leads where it must not."""
        names.check_host(host, addresses, self._target, first=self._first)

    def _in_time(self, call: Callable[[], Awaitable[T]]) -> T:
        async def limited() -> T:
            try:
                return await asyncio.wait_for(call(), self._seconds)
            finally:
                await (await self._files.set_session()).close()
                self._files._session = None  # noqa: SLF001 - the next call has connections of its own

        with fetching(self._target, self._seconds, aiohttp.ClientError, OSError, ValueError):
            return cast(T, sync(self._files.loop, limited))


class _Guarded(AbstractResolver):
    """Resolves names, and refuses those that lead where a server must not send us. So it holds for each connection."""

    def __init__(self, web: Web) -> None:
        self._web = web
        self._own = aiohttp.ThreadedResolver()

    async def resolve(self, host: str, port: int = 0, family: Any = 0) -> list[Any]:
        found = await self._own.resolve(host, port, family)
        self._web.check(host, [str(place["host"]) for place in found])
        return list(found)

    async def close(self) -> None:
        await self._own.close()


def _described(response: aiohttp.ClientResponse) -> Found | None:
    """Return what the headers say of the whole file; None if they do not say its length."""
    version = response.headers.get("ETag") or response.headers.get("Last-Modified")
    if response.status == 206:
        given = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
        return Found(int(given[3]), version) if given else None
    length = response.content_length
    return None if length is None else Found(length, version, ranges=False)
