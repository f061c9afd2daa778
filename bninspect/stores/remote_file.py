"""What a place of models offers, whichever protocol it speaks, and what it says of a file."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Protocol

from bninspect.errors import BninspectError, DamagedFile, LimitExceeded, Unreachable
from bninspect.stores import names
from bninspect.stores.names import Remote

Span = tuple[int, int]
"""First byte and length."""


@dataclass(frozen=True)
class Found:
    """What a server says of a file, before any of it is believed."""

    size: int
    version: str | None
    """ETag, or the store's own version; None if the server says none."""
    ranges: bool = True
    """Whether parts of it can be had."""


class RemoteStore(Protocol):
    """One file at a URL. All methods raise Unreachable, LimitExceeded, UnsafeFile or UnreadableFile."""

    def find(self) -> Found:
        """Return what the server says of it."""
        ...

    def look(self) -> Found | None:
        """Return the same; None if there is no such file, or if nobody may know."""
        ...

    def parts(self, found: Found, spans: Sequence[Span]) -> list[bytes]:
        """Return parts of the file that was found, each of exactly that length."""
        ...

    def download(self, found: Found, target: IO[bytes]) -> None:
        """Write the whole file that was found."""
        ...


def changed(target: Remote, before: Found, after: Found) -> DamagedFile:
    """Return the error of a file that is no longer what it was when it was found."""
    return DamagedFile(
        f"{target.name} changed while it was read",
        why=f"it was {before.size} bytes of version {before.version}, and is {after.size} of {after.version}",
        hint="run the command again once it has been written",
    )


@contextmanager
def fetching(target: Remote, seconds: float, *failures: type[Exception]) -> Iterator[None]:
    """Raise LimitExceeded for what takes longer than it may, Unreachable for other failures; our own errors stay."""
    try:
        yield
    except BninspectError:
        raise
    except TimeoutError as error:
        raise LimitExceeded(
            f"{target.name} was not fetched within {seconds:g} s",
            why="the time limit ends what stalls, whatever the cause",
            hint=f"give it more time: --timeout {max(60, round(5 * seconds))}",
        ) from error
    except failures as error:
        why = names.without_secrets(f"{type(error).__name__}: {error}", target.url)
        raise Unreachable(f"{target.name} cannot be fetched", why=why) from error
