"""URLs of models, and what of them may be shown: user information and query strings hold passwords and signatures."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from urllib.parse import urlsplit, urlunsplit

from bninspect.errors import UnsafeFile, UsageError
from bninspect.safe_text import printable

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
WEB = ("http", "https")
_METADATA = frozenset({"metadata", "metadata.google.internal", "instance-data", "100.100.100.200", "fd00:ec2::254"})
"""Where clouds hand credentials to whoever runs on their machines, besides the link-local 169.254.169.254."""


@dataclass(frozen=True)
class Remote:
    """A model somewhere else."""

    url: str = field(repr=False)
    """As it was given: it may hold a password."""
    name: str
    """The same without user information, query and fragment: what reports call it."""
    listed: bool = False
    """Whether a list names it and nobody at the command line."""
    allowed: tuple[str, ...] = ()
    """Hosts that were allowed by name."""


def is_url(text: str) -> bool:
    """Return whether a text is a URL and not a path."""
    return _URL.match(text) is not None


def scheme(url: str) -> str:
    """Return the protocol of a URL, in small letters."""
    return url.partition("://")[0].lower()


def remote(url: str, *, listed: bool = False, allowed: tuple[str, ...] = ()) -> Remote:
    """Return the model at a URL.

    Raises:
        UsageError: it is not a URL of one place.
        UnsafeFile: a list must not name it.
    """
    name = public(url)
    if "::" in url or (not urlsplit(url).netloc.strip("@:") and scheme(url) not in {"file", "local", "memory"}):
        raise UsageError(f"{name} is not a URL of one model", hint="name the file itself: s3://bucket/model.h5")
    if listed and scheme(url) in {"file", "local"}:
        raise UnsafeFile(f"{name} is refused", why="a list must not name files of this machine by URL")
    return Remote(url, name, listed, allowed)


def public(url: str) -> str:
    """Return a URL without what may be secret."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{scheme(url)}://"
    path = parts.path
    if parts.scheme.lower() not in WEB:  # there a question mark may belong to the name, or to a pattern
        path = url.partition("://")[2][len(parts.netloc) :].partition("?versionId=")[0]
    return urlunsplit((parts.scheme.lower(), parts.netloc.rpartition("@")[2], path, "", ""))


def without_secrets(text: str, url: str) -> str:
    """Return a text, such as a library's error, without the secret parts of a URL."""
    parts = urlsplit(url)
    for secret in (url, parts.query, parts.netloc.rpartition("@")[0], parts.fragment, parts.password or ""):
        if secret:
            text = text.replace(secret, public(url) if secret == url else "...")
    return printable(text, 300)


def check_host(host: str, addresses: list[str], target: Remote, *, first: bool) -> None:
    """Refuse a host of the web that a list or another server must not send us to.

    Args:
        host: its name or address, as the URL has it.
        addresses: where it is; none if that is not known yet.
        target: the model.
        first: whether the model's own URL names it; a redirect does otherwise.

    Raises:
        UnsafeFile: it is a link-local, metadata or, unless somebody has typed it, loopback address.
    """
    if host.lower() in map(str.lower, target.allowed):
        return
    for address in [host, *addresses]:
        if reason := _forbidden(address, typed=first and not target.listed):
            raise UnsafeFile(
                f"{target.name} is not fetched from {printable(host)}",
                why=f"{printable(address)} is {reason}",
                hint=f"if that is meant: --allow-host {printable(host)}",
            )


def _forbidden(address: str, *, typed: bool) -> str:
    if address.lower() in _METADATA:
        return "where a cloud hands out credentials"
    try:
        ip = ipaddress.ip_address(address.strip("[]").partition("%")[0])
    except ValueError:
        return "this machine" if not typed and address.lower().endswith("localhost") else ""
    ip = getattr(ip, "ipv4_mapped", None) or ip
    if ip.is_link_local or str(ip) in _METADATA:
        return "a link-local address, such as a cloud's metadata service has"
    if ip.is_multicast or (ip.is_unspecified and not typed):
        return "not the address of a server"
    return "a loopback address" if ip.is_loopback and not typed else ""
