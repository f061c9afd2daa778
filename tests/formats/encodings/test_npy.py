"""Reading .npy and .npz: what NumPy wrote comes back, and whatever else a file holds ends in an error."""

from __future__ import annotations

import io
import struct
import tracemalloc
import warnings
import zipfile
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from bninspect.errors import (
    BninspectError,
    DamagedFile,
    LimitExceeded,
    UnknownFormat,
    UnreadableFile,
    UnsafeFile,
)
from bninspect.formats.encodings import npy

if TYPE_CHECKING:
    from pathlib import Path

TWO = np.array([1, 2], dtype=np.float32)

DTYPES = [
    kind + order if kind in "<>" else kind
    for kind in ("<", ">")
    for order in ("f2", "f4", "f8", "i2", "i4", "i8", "u2", "u4", "u8", "U3")
] + ["?", "i1", "u1", "S5"]


def _saved(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def _with_header(text: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> bytes:
    """A .npy file with a header of one's own."""
    header = text.encode("latin-1")
    length = struct.pack("<H" if version == (1, 0) else "<I", len(header))
    return b"\x93NUMPY" + bytes(version) + length + header + data


def _header(descr: object = "<f4", shape: object = (2,), fortran: object = False) -> str:
    return f"{{'descr': {descr!r}, 'fortran_order': {fortran!r}, 'shape': {shape!r}, }}\n"


arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=5))
)


@given(array=arrays, fortran=st.booleans())
def test_what_numpy_saves_comes_back(array: np.ndarray[Any, Any], fortran: bool) -> None:
    array = np.asarray(array, order="F" if fortran else "C")
    found = npy.parse(_saved(array))
    assert found.dtype == array.dtype.newbyteorder("=")
    assert found.dtype.isnative
    assert found.shape == array.shape
    assert found.tobytes() == array.astype(found.dtype).tobytes()
    assert not found.flags.writeable


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_versions_of_the_format(version: tuple[int, int]) -> None:
    buffer = io.BytesIO()
    array = np.arange(6.0).reshape(2, 3)
    np.lib.format.write_array(buffer, array, version=version)
    np.testing.assert_array_equal(npy.parse(buffer.getvalue()), array)


def test_other_writers_space_the_header_differently() -> None:
    data = TWO.tobytes()
    text = "{'shape':(2,),'fortran_order':False,'descr':'<f4'}"
    np.testing.assert_array_equal(npy.parse(_with_header(text, data)), [1, 2])


def test_read_names_what_a_file_holds(tmp_path: Path) -> None:
    one, two = np.arange(3.0), np.eye(2, dtype=np.float16)
    np.save(tmp_path / "x.npy", one)
    np.savez(tmp_path / "x.npz", one, named=two)
    np.savez_compressed(tmp_path / "packed.npz", packed=two)
    # The content decides, not the ending.
    (tmp_path / "x.npy").rename(tmp_path / "single.npz")
    (tmp_path / "x.npz").rename(tmp_path / "several.dat")

    single = npy.read(tmp_path / "single.npz")
    several = npy.read(tmp_path / "several.dat")
    assert list(single) == [""]
    np.testing.assert_array_equal(single[""], one)
    assert set(several) == {"arr_0", "named"}
    np.testing.assert_array_equal(several["arr_0"], one)
    np.testing.assert_array_equal(several["named"], two)
    np.testing.assert_array_equal(npy.read(tmp_path / "packed.npz")["packed"], two)


def test_pickles_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.array([{}, []], dtype=object), allow_pickle=True)
    np.savez(tmp_path / "x.npz", x=np.array([None], dtype=object))
    np.save(tmp_path / "fields.npy", np.zeros(2, dtype=[("a", "f4"), ("b", "O")]), allow_pickle=True)
    for name in ("x.npy", "x.npz", "fields.npy"):
        with pytest.raises(UnsafeFile, match="pickle") as caught:
            npy.read(tmp_path / name)
        assert "float32" in caught.value.hint


@pytest.mark.parametrize(
    "array",
    [
        np.zeros(2, dtype=[("a", "f4"), ("b", "i4")]),
        np.zeros(2, dtype="f4,f4"),
        np.zeros(2, dtype="V2"),
        np.zeros(2, dtype="complex64"),
        np.zeros(2, dtype="M8[s]"),
        np.zeros(2, dtype=np.longdouble),
    ],
    ids=lambda array: str(array.dtype),
)
def test_other_types_are_refused(array: np.ndarray[Any, Any]) -> None:
    with pytest.raises(UnreadableFile, match="is of a type that is not read"):
        npy.parse(_saved(array, allow_pickle=True))


@pytest.mark.parametrize(
    "text",
    [
        _header(shape=(3,)),
        _header(shape=(1,)),
        _header(shape=(1 << 40, 1 << 40)),
        _header(shape=(0, 1 << 62, 1 << 62)),
        _header(shape=(1 << 80, 0)),
        _header(shape=(-2, -1)),
        _header(shape=(True, 2)),
        _header(shape=(2.0,)),
        _header(shape=[2]),
        _header(shape=2),
        _header(shape=(1,) * 40 + (2,)),
        _header(fortran=1),
        _header() + "garbage",
        _header().replace("}", "'more': 1}"),
        _header().replace("'descr'", "'dtype'"),
        "{'descr': '<f4', 'fortran_order': False}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': __import__('os')}",
        "(" * 9000,
        "-" * 9000 + "1",
        "[" * 5000 + "]" * 5000,
        "{'descr': '\\d', 'fortran_order': 0in(1), 'shape': (2,)}",
        "1" * 9000,
        "\0",
        "",
    ],
    ids=lambda text: text[:40],
)
def test_contradictory_headers(text: str) -> None:
    with pytest.raises(DamagedFile):
        npy.parse(_with_header(text, TWO.tobytes()))


@pytest.mark.parametrize("descr", ["<U0", "|S0", "<f3", "", "f4f4", "<U99999999999999999999", "O", ",", [], None])
def test_strange_types(descr: object) -> None:
    with pytest.raises(UnreadableFile):
        npy.parse(_with_header(_header(descr=descr, shape=(0,))))


def test_bytes_that_no_value_has() -> None:
    with pytest.raises(DamagedFile, match="boolean"):
        npy.parse(_with_header(_header(descr="|b1"), b"\x01\x02"))
    with pytest.raises(DamagedFile, match="Unicode"):
        npy.parse(_with_header(_header(descr="<U1", shape=()), struct.pack("<I", 0x110000)))
    with pytest.raises(DamagedFile, match="Unicode"):
        npy.parse(_with_header(_header(descr=">U1", shape=()), struct.pack(">I", 0x110000)))


def test_headers_cannot_warn() -> None:
    """What Python says of odd source texts is not for the user's standard error."""
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        with pytest.raises(UnreadableFile):
            npy.parse(_with_header("{'descr': '<f4\\d', 'fortran_order': False, 'shape': (2,)}", TWO.tobytes()))
    assert not heard


def test_long_headers_are_not_parsed() -> None:
    with pytest.raises(DamagedFile, match="a header of 10001 bytes"):
        npy.parse(_with_header(_header().ljust(10_001), TWO.tobytes()))
    with pytest.raises(DamagedFile, match="a header of"):
        npy.parse(b"\x93NUMPY\x02\x00\xff\xff\xff\xff{")


def test_declared_size_is_not_allocated(tmp_path: Path) -> None:
    (tmp_path / "bomb.npy").write_bytes(_with_header(_header(shape=(1 << 28,)), b"\0" * 64))
    tracemalloc.start()
    try:
        with pytest.raises(DamagedFile, match="1073741824"):
            npy.read(tmp_path / "bomb.npy")
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_what_is_too_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(npy, "LARGEST", 1000)
    np.save(tmp_path / "x.npy", np.zeros(200))
    with pytest.raises(LimitExceeded):
        npy.read(tmp_path / "x.npy")
    np.savez(tmp_path / "x.npz", a=np.zeros(80), b=np.zeros(80))  # each is small enough, both are not
    with pytest.raises(UnsafeFile):
        npy.read(tmp_path / "x.npz")


def test_bomb_in_a_zip(tmp_path: Path) -> None:
    np.savez_compressed(tmp_path / "bomb.npz", x=np.zeros(1 << 20))
    with pytest.raises(UnsafeFile, match="bomb"):
        npy.read(tmp_path / "bomb.npz")


def test_what_is_no_numpy_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    (tmp_path / "pointer").write_text("version https://git-lfs.github.com/spec/v1\n")
    with zipfile.ZipFile(tmp_path / "other.zip", "w") as archive:
        archive.writestr("readme.txt", "text")
    with pytest.raises(UnknownFormat, match="an empty file"):
        npy.read(tmp_path / "empty")
    with pytest.raises(UnknownFormat, match="Git LFS pointer") as caught:
        npy.read(tmp_path / "pointer")
    assert caught.value.hint == "git lfs pull"
    with pytest.raises(UnreadableFile, match=r"'readme\.txt' is not an array"):
        npy.read(tmp_path / "other.zip")
    for missing in (tmp_path / "missing", tmp_path):
        with pytest.raises(UnreadableFile, match="no such file"):
            npy.read(missing)


def test_every_truncation(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.arange(5.0))
    np.savez(tmp_path / "x.npz", a=np.arange(5.0), b=np.arange(3))
    for name in ("x.npy", "x.npz"):
        whole = (tmp_path / name).read_bytes()
        for size in range(len(whole)):
            (tmp_path / "cut").write_bytes(whole[:size])
            with pytest.raises(UnreadableFile):
                npy.read(tmp_path / "cut")
    (tmp_path / "longer").write_bytes((tmp_path / "x.npy").read_bytes() + b"\0")
    with pytest.raises(DamagedFile):
        npy.read(tmp_path / "longer")


@given(
    position=st.integers(min_value=0),
    value=st.binary(min_size=1, max_size=8),
    array=arrays,
)
@example(position=8, value=b"\0\0", array=np.zeros(2))
def test_changed_bytes(position: int, value: bytes, array: np.ndarray[Any, Any]) -> None:
    data = bytearray(_saved(array))
    position %= len(data)
    data[position : position + len(value)] = value
    try:
        found = npy.parse(bytes(data))
    except BninspectError:
        return
    assert found.nbytes <= len(data)
    assert found.dtype.kind in "?biufSU"
    found.tolist()


@given(st.binary(max_size=300))
def test_any_header(text: bytes) -> None:
    try:
        npy.parse(_with_header(text.decode("latin-1")))
    except UnreadableFile:
        return
    raise AssertionError("no header of random bytes describes an array")
