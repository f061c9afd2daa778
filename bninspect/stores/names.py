"""URLs of models, and what of them may be shown: user information and query strings hold passwords and signatures."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import socket
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from bninspect.errors import UnsafeFile, UsageError
from bninspect.safe_text import printable

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")
_IPV6 = re.compile(r"(?<=://)(?:[^/@]*@)?\[[0-9A-Fa-f:.%]*\]")
"""A host that is an address with colons; elsewhere two of them chain one store to another."""
WEB = ("http", "https")
_LOCAL = frozenset({"file", "local", "asynclocal", "dask", "dir", "git", "memory", "data"})
_WITHIN = frozenset({"zip", "tar", "libarchive", "reference", "cached", "blockcache", "filecache", "simplecache"})
_OTHERS = frozenset({"async_wrapper", "asyncwrapper", "generic"})
_HERE = _LOCAL | _WITHIN | _OTHERS
"""Protocols of fsspec that read files of this machine, or whatever else their options say."""
_HOSTS = frozenset({"ftp", "sftp", "ssh", "smb", "hdfs", "arrow_hdfs", "webhdfs", "webdav", "jupyter", "jlab", "root"})
"""Protocols whose URLs name a host, as the web's do; others name buckets, which their store's own client finds."""
_METADATA = frozenset({"metadata", "metadata.google.internal", "instance-data", "100.100.100.200", "fd00:ec2::254"})
"""Where clouds hand credentials to whoever runs on their machines, besides the link-local 169.254.169.254."""
_INNER = "variables"
"""The folder in that of a SavedModel."""
_LONGEST = 255
"""Bytes of a file's name."""
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


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


def file_name(target: Remote) -> str:
    """Return the name of a model's file as a path has it: runtimes go by its ending, files beside it by the rest."""
    last = target.name.rpartition("/")[2]
    last = unquote(last) if scheme(target.url) in WEB else last
    return last if _is_plain(last) else re.sub(r"[^A-Za-z0-9_.-]", "_", last).lstrip(".")[-100:] or "model"


def beside(target: Remote, name: str) -> Remote:
    """Return the file `name` in the folder of a model; a SavedModel has its variables in a folder there.

    Raises:
        UnsafeFile: that would be elsewhere, or in another version of the store.
    """
    folder, _, last = name.rpartition("/")
    if folder not in {"", _INNER} or not _is_plain(last):
        raise UnsafeFile(
            f"{target.name} names a file elsewhere", why=f"{printable(name, 200)!r} is not the name of a file beside it"
        )
    if scheme(target.url) in WEB:
        parts = urlsplit(target.url)
        url = urlunsplit(parts._replace(path=f"{parts.path.rpartition('/')[0]}/{quote(name)}", fragment=""))
    else:
        place, _, version = target.url.partition("?versionId=")
        if version:
            raise UnsafeFile(
                f"{target.name} is a model in several files",
                why="its URL names a version, which is one of one file",
                hint="name it without a version",
            )
        url = f"{place.rpartition('/')[0]}/{name}"
    return replace(target, url=url, name=public(url))


def _is_plain(name: str) -> bool:
    return (
        0 < len(name.encode("utf-8", "replace")) <= _LONGEST
        and name not in {".", ".."}
        and not set(name) & set("/\\:\0")
        and name.isprintable()
    )


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
    if "::" in _IPV6.sub("", url) or (
        not urlsplit(url).netloc.strip("@:") and scheme(url) not in {"file", "local", "memory"}
    ):
        raise UsageError(f"{name} is not a URL of one model", hint="name the file itself: s3://bucket/model.h5")
    if listed and scheme(url) in _HERE:
        raise UnsafeFile(f"{name} is refused", why="a list must not name files of this machine by URL")
    target = Remote(url, name, listed, allowed)
    if scheme(url) in _HOSTS:
        check_host(urlsplit(url).hostname or "", [], target, first=True)
    return target


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
    """Refuse a host of the web that a list, another server or a name must not send us to.

    Args:
        host: its name or address, as the URL has it.
        addresses: where it is, those that are connected to; none if that is not known yet.
        target: the model.
        first: whether the model's own URL names it; a redirect does otherwise.

    Raises:
        UnsafeFile: it is a link-local or metadata address or, unless somebody has typed that very host, of this
            machine: whoever owns a name may have it lead here, after it led elsewhere.
    """
    if host.lower() in map(str.lower, target.allowed):
        return
    typed = first and not target.listed and bool(_forbidden(host, here=False))
    for address in [host, *addresses]:
        if reason := _forbidden(address, here=typed):
            raise UnsafeFile(
                f"{target.name} is not fetched from {printable(host)}",
                why=f"{printable(address)} is {reason}",
                hint=f"if that is meant: --allow-host {printable(host)}",
            )


def _forbidden(address: str, *, here: bool) -> str:
    """Return what an address is that nobody is sent to; `here`: this machine may be meant."""
    if address.lower() in _METADATA:
        return "where a cloud hands out credentials"
    ip = _ip(address.strip("[]").partition("%")[0])
    if ip is None:
        return "this machine" if not here and address.lower().rstrip(".").endswith("localhost") else ""
    for inner in (ip, *_within(ip)):
        if inner.is_link_local or str(inner) in _METADATA:
            return "a link-local address, such as a cloud's metadata service has"
        if inner.is_multicast or (inner.is_unspecified and not here):
            return "not the address of a server"
        if inner.is_loopback and not here:
            return "a loopback address"
    return ""


def _ip(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Return an address however it is written: `2130706433` and `127.1` are 127.0.0.1 for a socket; None for a name."""
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(text)
    with contextlib.suppress(OSError, UnicodeError):
        return ipaddress.IPv4Address(socket.inet_aton(text))
    return None


def _within(ip: ipaddress.IPv4Address | ipaddress.IPv6Address) -> tuple[ipaddress.IPv4Address, ...]:
    """Return the IPv4 addresses that an IPv6 address stands for: mapped, 6to4, and by NAT64 (RFC 6052)."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ()
    translated = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
    return tuple(inner for inner in (ip.ipv4_mapped, ip.sixtofour, translated) if inner is not None)
