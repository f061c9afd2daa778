"""What of a URL may be seen, and which hosts a list or a server must not send us to."""

from __future__ import annotations

import pytest

from bninspect.errors import UnsafeFile, UsageError
from bninspect.stores import names


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://u:p@host:8/a/b.h5?sig=x#y", "https://host:8/a/b.h5"),
        ("HTTPS://host/a%20b.h5", "https://host/a%20b.h5"),
        ("s3://bucket/a/b.h5", "s3://bucket/a/b.h5"),
        ("s3://bucket/a/*.h5", "s3://bucket/a/*.h5"),
        ("s3://bucket/a?.h5", "s3://bucket/a?.h5"),
        ("s3://key:secret@bucket/a.h5", "s3://bucket/a.h5"),
    ],
)
def test_only_the_place_of_a_model_is_shown(url: str, name: str) -> None:
    assert names.public(url) == name
    assert url == name or "sig" not in repr(names.remote(url))


@pytest.mark.parametrize(
    "host",
    [
        "169.254.169.254",
        "metadata.google.internal",
        "[fe80::1]",
        "100.100.100.200",
        "::ffff:169.254.169.254",
        "2002:a9fe:a9fe::1",
        "64:ff9b::a9fe:a9fe",
        "2852039166",
        "0xa9fea9fe",
        "169.254.43518",
    ],
)
def test_metadata_is_refused_even_at_the_command_line(host: str) -> None:
    target = names.remote("http://example.com/m.h5")
    with pytest.raises(UnsafeFile):
        names.check_host(host, [], target, first=True)
    with pytest.raises(UnsafeFile):
        names.check_host("innocent.example", [host.strip("[]")], target, first=True)
    names.check_host(host, [], names.remote("http://example.com/m.h5", allowed=(host,)), first=True)


@pytest.mark.parametrize("address", ["127.0.0.1", "::1", "::ffff:127.0.0.1", "localhost", "0.0.0.0"])
def test_loopback_is_for_who_types_it(address: str) -> None:
    typed, listed = (names.remote("http://example.com/m.h5", listed=listed) for listed in (False, True))
    names.check_host(address, ["127.0.0.1"], typed, first=True)
    for target, first in ((listed, True), (typed, False)):
        with pytest.raises(UnsafeFile):
            names.check_host(address, [], target, first=first)
    with pytest.raises(UnsafeFile):  # another name, whoever owns it, is not this machine
        names.check_host("innocent.example", [address], typed, first=True)
    names.check_host("mine.example", [address], names.remote("http://m/m", allowed=("mine.example",)), first=True)


def test_urls_that_are_no_single_place() -> None:
    assert names.remote("https://[2001:db8::1]:8/m.h5").name == "https://[2001:db8::1]:8/m.h5"
    for url in (
        "simplecache::s3://b/m.h5",
        "https://[::1]/m.h5::s3://b",
        "zip://a.h5::https://host/z.zip",
        "https:///m.h5",
    ):
        with pytest.raises(UsageError):
            names.remote(url)
    for url in ("file:///etc/passwd", "git://repo/m.h5", "tar://m.h5/x", "ftp://127.0.0.1/m.h5", "smb://[::1]/s/m.h5"):
        with pytest.raises(UnsafeFile):
            names.remote(url, listed=True)
    with pytest.raises(UnsafeFile):
        names.remote("sftp://169.254.169.254/m.h5")
    assert names.remote("sftp://127.0.0.1/m.h5").name == "sftp://127.0.0.1/m.h5"
    assert names.remote("s3://metadata/m.h5", listed=True).name == "s3://metadata/m.h5"  # a bucket
    assert names.remote("file:///m.h5").name == "file:///m.h5"
