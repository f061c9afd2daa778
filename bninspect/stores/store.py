"""Which store a URL needs; each is imported when it is asked for."""

from __future__ import annotations

from bninspect.errors import MissingPackage
from bninspect.stores.names import WEB, Remote, scheme
from bninspect.stores.remote_file import RemoteStore


def open_store(target: Remote, seconds: float) -> RemoteStore:
    """Return the store of a model; each of its calls takes at most so many seconds.

    Raises MissingPackage if what it needs is not installed.
    """
    try:
        if scheme(target.url) in WEB:
            from bninspect.stores.web import Web

            return Web(target, seconds)
        from bninspect.stores.objects import Objects

        return Objects(target, seconds)
    except ImportError as error:
        raise MissingPackage(
            f"{target.name} needs a package that is not installed",
            why=str(error),
            hint="pip install 'bninspect[remote]'",
        ) from error
