"""Zip files made by zipfile, then broken byte by byte: what is not right is not read."""

from __future__ import annotations

import io
import random
import struct
import zipfile
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bninspect.errors import BninspectError, DamagedFile, UnknownFormat, UnreadableFile, UnsafeFile
from bninspect.formats.containers import zip_archive, zip_structure
from bninspect.formats.containers.zip_archive import Archive, open_archive

if TYPE_CHECKING:
    from pathlib import Path

HDF5 = b"\x89HDF\r\n\x1a\n"


def _write(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    with zipfile.ZipFile(path, "w", compression) as writer:
        for name, data in members.items():
            writer.writestr(name, data)
    return path


def _all(path: Path) -> dict[str, bytes]:
    with open_archive(path) as found:
        return {name: found.read(name, 1 << 20) for name in found.names()}


def _patched(path: Path, offset: int, data: bytes) -> Path:
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)
    return path


@given(
    members=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=20),
        st.binary(max_size=2000),
        max_size=6,
    ).filter(bool),
    compression=st.sampled_from([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]),
)
@settings(max_examples=60, deadline=None)
def test_members_come_back(
    tmp_path_factory: pytest.TempPathFactory, members: dict[str, bytes], compression: int
) -> None:
    path = _write(tmp_path_factory.mktemp("zip") / "a.zip", members, compression)
    assert _all(path) == members
    with open_archive(path) as found:
        for name, data in members.items():
            assert found.stream(name).read() == data


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("spool", [zip_archive.SPOOL, 1000])
def test_stream_seeks_like_a_file(
    tmp_path: Path, compression: int, spool: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zip_archive, "SPOOL", spool)
    data = random.Random(1).randbytes(300_000)
    path = _write(tmp_path / "a.zip", {"first": b"x" * 77, "w": data, "last": b"y"}, compression)
    expected = io.BytesIO(data)
    chance = random.Random(2)
    with open_archive(path) as found:
        stream = found.stream("w")
        assert stream.seekable()
        for _ in range(300):
            whence = chance.choice([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END])
            low = {io.SEEK_SET: 0, io.SEEK_CUR: -expected.tell(), io.SEEK_END: -len(data)}[whence]
            offset = chance.randint(low, low + len(data) + 50)
            assert stream.seek(offset, whence) == expected.seek(offset, whence)
            count = chance.choice([0, 1, 8, 512, 9000, 100_000])
            assert stream.read(count) == expected.read(count)
            assert stream.tell() == expected.tell()
        with pytest.raises((OSError, ValueError)):
            stream.seek(-1)


def test_names_are_inert(tmp_path: Path) -> None:
    names = ["/etc/passwd", "../../up", "C:\\x", "a/../../b", "folder/", "\x1b[31m"]
    (tmp_path / "in").mkdir()
    path = _write(tmp_path / "in" / "a.zip", {name: name.encode() for name in names})
    assert _all(path) == {name: name.encode() for name in names}
    assert sorted(member.name for member in tmp_path.rglob("*")) == ["a.zip", "in"]


def test_a_missing_member_is_said(tmp_path: Path) -> None:
    with (
        open_archive(_write(tmp_path / "a.zip", {"a": b"1"})) as found,
        pytest.raises(DamagedFile, match="no member b"),
    ):
        found.read("b", 10)


def test_limit_is_of_the_data_not_of_the_announcement(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zip", {"a": bytes(1000)}, zipfile.ZIP_DEFLATED)
    with open_archive(path) as found:
        assert found.read("a", 1000) == bytes(1000)
        with pytest.raises(UnsafeFile, match="1,000 bytes, at most 999"):
            found.read("a", 999)


def test_small_announcement_of_a_large_member(tmp_path: Path) -> None:
    """The directory and the local header agree on 10 bytes, the compressed data holds 100 000."""
    path = _write(tmp_path / "a.zip", {"a": bytes(100_000)}, zipfile.ZIP_DEFLATED)
    directory = path.read_bytes().index(b"PK\x01\x02")
    _patched(path, 22, struct.pack("<L", 10))
    _patched(path, directory + 24, struct.pack("<L", 10))
    with open_archive(path) as found, pytest.raises(DamagedFile, match="not of the 10 bytes"):
        found.read("a", 1 << 20)


def test_a_member_is_not_inflated_beyond_its_announcement(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "a.zip", {"a": bytes(100_000)}, zipfile.ZIP_DEFLATED)
    directory = path.read_bytes().index(b"PK\x01\x02")
    _patched(path, 22, struct.pack("<L", 10))
    _patched(path, directory + 24, struct.pack("<L", 10))
    monkeypatch.setattr(zip_archive, "CHUNK", 100)
    with open_archive(path) as found:
        inflated = found._inflated("a", found._stored("a"))
        monkeypatch.setattr(Archive, "_inflated", lambda *_: inflated)
        with pytest.raises(DamagedFile):
            found.read("a", 1 << 20)
        assert len(b"".join(inflated)) == 100_000 - 100


@pytest.mark.parametrize("chunk", [1, 7, 100, 257, 258, 259, 1000])
@pytest.mark.parametrize("data", [bytes(5000), b"hello" * 999, bytes(range(256)) * 4], ids=["0", "hello", "bytes"])
def test_pieces_of_any_size(tmp_path: Path, data: bytes, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A match of 258 bytes may be cut: its rest comes out when all of the input has gone in."""
    path = _write(tmp_path / "a.zip", {"a": data}, zipfile.ZIP_DEFLATED)
    monkeypatch.setattr(zip_archive, "CHUNK", chunk)
    with open_archive(path) as found:
        monkeypatch.setattr(zip_archive, "EXPANSION", 100_000)
        assert found.read("a", 10_000) == data


def test_decompression_bomb(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zip", {"a": bytes(50 << 20)}, zipfile.ZIP_DEFLATED)
    with open_archive(path) as found:
        with pytest.raises(UnsafeFile, match="bomb"):
            found.read("a", 1 << 30)
        with pytest.raises(UnsafeFile, match="bomb"):
            found.stream("a")


def test_inflated_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zip_archive, "INFLATED_BYTES", 1000)
    path = _write(tmp_path / "a.zip", {"a": random.Random(0).randbytes(1001)}, zipfile.ZIP_DEFLATED)
    with open_archive(path) as found, pytest.raises(UnsafeFile, match="at most 1,000"):
        found.stream("a")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
@pytest.mark.parametrize("how", ["read", "stream"])
def test_a_flipped_bit_is_found(tmp_path: Path, compression: int, how: str) -> None:
    data = random.Random(3).randbytes(5000)
    path = _write(tmp_path / "a.zip", {"a": data}, compression)
    for offset in range(50, 5031, 499):
        original = path.read_bytes()
        _patched(path, offset, bytes([original[offset] ^ 0x10]))
        with open_archive(path) as found, pytest.raises(DamagedFile) as caught:
            found.read("a", 1 << 20) if how == "read" else found.stream("a")
        assert "member a" in caught.value.why
        path.write_bytes(original)
    assert _all(path) == {"a": data}


@pytest.mark.parametrize("chunk", [zip_archive.CHUNK, 1, 7])
def test_data_after_the_compressed_data(tmp_path: Path, chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The deflate stream ends before the member does: another reader could see what follows."""
    monkeypatch.setattr(zip_archive, "CHUNK", chunk)
    monkeypatch.setattr(zip_archive, "EXPANSION", 100_000)
    packed = zipfile.ZipFile(_write(tmp_path / "b.zip", {"a": b"hello" * 10}, zipfile.ZIP_DEFLATED))
    length = packed.getinfo("a").compress_size
    content = bytearray((tmp_path / "b.zip").read_bytes())
    content[31 + length : 31 + length] = b"more"
    grown = struct.pack("<L", length + 4)
    content[18:22] = grown
    directory = content.index(b"PK\x01\x02")
    content[directory + 20 : directory + 24] = grown
    end = content.index(b"PK\x05\x06")
    content[end + 16 : end + 20] = struct.pack("<L", directory)
    (tmp_path / "b.zip").write_bytes(content)
    with open_archive(tmp_path / "b.zip") as found, pytest.raises(DamagedFile, match="compressed data"):
        found.read("a", 1000)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as writer:
        writer.writestr("config.json", "1")
        writer.writestr("config.json", "2")
    with pytest.raises(UnsafeFile, match="two members"), open_archive(tmp_path / "a.zip"):
        pass


def test_names_that_differ_behind_a_nul(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zip", {"config.jsonXa": b"1", "other": b"2"})
    path.write_bytes(path.read_bytes().replace(b"config.jsonXa", b"config.json\0a"))
    with pytest.raises(UnsafeFile), open_archive(path):
        pass


def test_encrypted(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zip", {"a": b"1234"})
    directory = path.read_bytes().index(b"PK\x01\x02")
    _patched(path, directory + 8, b"\x01\x00")
    with pytest.raises(UnsafeFile, match="encrypted"), open_archive(path):
        pass


def test_symbolic_link(tmp_path: Path) -> None:
    info = zipfile.ZipInfo("model.weights.h5")
    info.external_attr = 0o120777 << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as writer:
        writer.writestr(info, "/etc/passwd")
    with pytest.raises(UnsafeFile, match="symbolic link"), open_archive(tmp_path / "a.zip"):
        pass


def test_other_compression(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zip", {"a": b"1234" * 99}, zipfile.ZIP_LZMA)
    with pytest.raises(UnreadableFile, match="compression") as caught, open_archive(path):
        pass
    assert "deflate" in caught.value.hint


LOCAL_FIELDS = {
    "flags": (6, b"\x01\x00"),
    "method": (8, b"\x08\x00"),
    "crc": (14, b"\0\0\0\0"),
    "packed": (18, b"\x03\0\0\0"),
    "size": (22, b"\x03\0\0\0"),
    "name": (30, b"b"),
}


@pytest.mark.parametrize("field", LOCAL_FIELDS)
def test_local_header_that_contradicts_the_directory(tmp_path: Path, field: str) -> None:
    path = _write(tmp_path / "a.zip", {"a": b"1234", "z": b"56"})
    with open_archive(path) as found:
        assert found.names() == ("a", "z")
    _patched(path, *LOCAL_FIELDS[field])
    with pytest.raises(UnsafeFile, match="contradicts"), open_archive(path):
        pass


def test_overlap(tmp_path: Path) -> None:
    """Two directory entries over one local header (CVE-2024-0450): zipfile before 3.11.8 reads both."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as writer:
        writer.writestr("b", b"inner")
    quoted = inner.getvalue()[: inner.getvalue().index(b"PK\x01\x02")]
    path = _write(tmp_path / "a.zip", {"a": quoted, "b": b"inner"})
    content = bytearray(path.read_bytes())
    second = content.rindex(b"PK\x01\x02")
    content[second + 42 : second + 46] = struct.pack("<L", 31)
    path.write_bytes(content)
    with pytest.raises(UnsafeFile, match="overlaps"), open_archive(path):
        pass


def test_member_that_runs_into_the_directory(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zip", {"a": b"1234"})
    directory = path.read_bytes().index(b"PK\x01\x02")
    for offset in (18, directory + 20):
        _patched(path, offset, struct.pack("<2L", 30, 30))
    with pytest.raises(UnsafeFile, match="runs into the directory"), open_archive(path):
        pass


def test_stored_member_of_two_sizes(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zip", {"a": b"1234"})
    directory = path.read_bytes().index(b"PK\x01\x02")
    for offset in (22, directory + 24):
        _patched(path, offset, struct.pack("<L", 3))
    with open_archive(path) as found:
        for read in (lambda: found.read("a", 100), lambda: found.stream("a")):
            with pytest.raises(DamagedFile, match="not of the 3 bytes"):
                read()


@pytest.mark.parametrize("before", [b"\x89HDF\r\n\x1a\n" + bytes(504), b"#!/bin/sh\n"])
def test_data_before_the_zip(tmp_path: Path, before: bytes) -> None:
    path = _write(tmp_path / "a.zip", {"a": b"1234"})
    path.write_bytes(before + path.read_bytes())
    assert zipfile.is_zipfile(path)
    with pytest.raises(UnknownFormat), open_archive(path):
        pass


def test_zip_before_the_zip(tmp_path: Path) -> None:
    """zipfile moves all offsets by what precedes the archive, so the first of two zips would go unseen."""
    path = _write(tmp_path / "a.zip", {"a": b"1234"})
    path.write_bytes(path.read_bytes() * 2)
    with zipfile.ZipFile(path) as reader:
        assert reader.namelist() == ["a"]
    with pytest.raises(UnsafeFile, match="follows other data"), open_archive(path):
        pass


def test_data_after_the_zip(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zip", {"a": b"1234"})
    path.write_bytes(path.read_bytes() + b"\0" * 100)
    with pytest.raises(UnsafeFile, match="bytes follow its end"), open_archive(path):
        pass


def test_archive_comment_is_allowed(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zip", {"a": b"1234"})
    with zipfile.ZipFile(path, "a") as writer:
        writer.comment = b"made by hand"
    assert _all(path) == {"a": b"1234"}


def test_hdf5_hidden_in_a_zip(tmp_path: Path) -> None:
    content = bytes(100) + HDF5 + bytes(5000)
    padded = bytes(512 - 31 - 100) + content
    path = _write(tmp_path / "a.zip", {"a": padded})
    assert path.read_bytes()[512:520] == HDF5
    with pytest.raises(UnsafeFile, match="HDF5 from byte 512"), open_archive(path):
        pass


def test_stored_hdf5_may_start_where_hdf5_may_start(tmp_path: Path) -> None:
    members = {"a": bytes(1024 - 31 - 31), "b": HDF5 + bytes(100)}
    path = _write(tmp_path / "a.zip", members)
    assert path.read_bytes()[1024:1032] == HDF5
    assert _all(path) == members


def test_descriptors_and_zip64(tmp_path: Path) -> None:
    """A writer that cannot seek puts sizes behind the data; one that cannot know them reserves 64 bits."""

    class Unseekable(io.BytesIO):
        def seekable(self) -> bool:
            return False

        def tell(self) -> int:
            raise OSError

        def seek(self, offset: int, whence: int = 0) -> int:
            raise OSError

    behind = Unseekable()
    with zipfile.ZipFile(behind, "w", zipfile.ZIP_DEFLATED) as writer:
        writer.writestr("a", b"1234" * 100)
        writer.writestr("b", b"5678")
    assert behind.getvalue()[6] & 8
    (tmp_path / "behind.zip").write_bytes(behind.getvalue())
    assert _all(tmp_path / "behind.zip") == {"a": b"1234" * 100, "b": b"5678"}

    with (
        zipfile.ZipFile(tmp_path / "wide.zip", "w") as writer,
        writer.open("a", "w", force_zip64=True) as member,
    ):
        member.write(b"1234")
    assert (tmp_path / "wide.zip").read_bytes()[18:26] == b"\xff" * 8
    assert _all(tmp_path / "wide.zip") == {"a": b"1234"}


@pytest.mark.parametrize("members", [3, 0x10000 + 2])
def test_too_many_members(tmp_path: Path, members: int, monkeypatch: pytest.MonkeyPatch) -> None:
    path = _write(tmp_path / "a.zip", {str(number): b"" for number in range(members)})
    assert len(_all(path)) == members
    monkeypatch.setattr(zip_structure, "MEMBERS", members - 1)
    with pytest.raises(UnsafeFile, match=f"{members:,} of at most"), open_archive(path):
        pass
    monkeypatch.undo()
    monkeypatch.setattr(zip_structure, "DIRECTORY_BYTES", 47 * members - 1)
    with pytest.raises(UnsafeFile, match=r"of at most [\d,]+ bytes in its directory"), open_archive(path):
        pass


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "empty file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "LFS"),
        (HDF5, "HDF5"),
        (b"hello", "text"),
    ],
)
def test_no_zip_at_all(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(UnknownFormat) as caught, open_archive(tmp_path / "a.zip"):
        pass
    assert words in caught.value.why


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="cannot be read"), open_archive(tmp_path / "none.zip"):
        pass


def test_truncation_never_passes(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.zip", {"a": random.Random(0).randbytes(700), "b": b"x" * 50})
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(BninspectError):
            _all(path)


def test_no_single_byte_changes_what_is_read(tmp_path: Path) -> None:
    """Whatever byte is changed: the data is the same, or an error says that it is not."""
    members = {"a": b"hello" * 20, "folder/b": b"x" * 50, "c": b"last"}
    path = _write(tmp_path / "a.zip", members, zipfile.ZIP_DEFLATED)
    content = path.read_bytes()
    refused = 0
    for offset in range(len(content)):
        for flip in (0x01, 0x80, 0xFF):
            path.write_bytes(content[:offset] + bytes([content[offset] ^ flip]) + content[offset + 1 :])
            try:
                found = _all(path)
            except BninspectError:
                refused += 1
            else:
                assert found == members, (offset, flip)
    assert refused > 1.5 * len(content)
