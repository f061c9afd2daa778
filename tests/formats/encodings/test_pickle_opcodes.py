"""The interpreter of pickles: plain values as Python has them, everything else a record, nothing ever run."""

from __future__ import annotations

import contextlib
import datetime as dt
import io
import os
import pickle
import pickletools
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.errors import BninspectError, DamagedFile, UnsafeFile
from bninspect.formats.encodings import pickle_opcodes
from bninspect.formats.encodings.pickle_opcodes import _STEPS, Global, interpret, interpret_next
from bninspect.formats.torch import objects

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(), inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
    ),
    max_leaves=20,
)


def _nothing(_: Any) -> Any:
    raise AssertionError("no persistent id was expected")


def _interpret(data: bytes) -> Any:
    return interpret(data, "m.pt", Global, _nothing)


@given(PLAIN, st.sampled_from([0, 1, 2, 3, 4, 5]))
def test_plain_values_are_what_python_reads(value: Any, protocol: int) -> None:
    found = _interpret(data := pickle.dumps(value, protocol))
    if protocol < 3 and (b"_codecs" in data or b"bytes" in data):
        return  # it has no opcode for bytes: Python writes a call, which is a record here
    assert found == value
    assert type(found) is type(value)


def test_sets_and_what_is_large() -> None:
    value = [{1, "a"}, frozenset((2, b"b")), bytearray(b"abc"), "x" * 300, b"y" * 300, 2**700, True, (1, (2, 3))]
    assert _interpret(pickle.dumps(value, 5)) == value


def test_shared_and_cyclic_values() -> None:
    shared: list[Any] = [1]
    found = _interpret(pickle.dumps({"a": shared, "b": shared}))
    assert found["a"] is found["b"]
    shared.append(shared)
    cyclic = _interpret(pickle.dumps(shared))
    assert cyclic[1] is cyclic


class _Evil:
    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


@pytest.mark.parametrize("protocol", [0, 1, 2, 4, 5])
def test_a_call_is_a_record_of_its_name_and_is_not_made(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    found = _interpret(pickle.dumps({"w": _Evil(f"touch {marker}")}, protocol))["w"]
    assert found.class_name in {"posix.system", "nt.system"}
    assert found.arguments == (f"touch {marker}",)
    assert not marker.exists()


class _Thing:
    def __init__(self) -> None:
        self.size = 3
        self.parts = [1, 2]


class _Slotted:
    __slots__ = ("size",)

    def __init__(self) -> None:
        self.size = 4


class _Listing(list[int]):
    pass


class _Naming(dict[str, int]):
    pass


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_objects_are_records_with_what_was_to_be_in_them(protocol: int) -> None:
    listing, naming = _Listing([1, 2]), _Naming(a=1)
    listing.note = "n"  # type: ignore[attr-defined]
    found = _interpret(pickle.dumps([_Thing(), _Slotted(), listing, naming, dt.date(2020, 1, 2)], protocol))
    assert [one.class_name.rpartition(".")[2] for one in found] == ["_Thing", "_Slotted", "_Listing", "_Naming", "date"]
    assert found[0].state == {"size": 3, "parts": [1, 2]}
    assert found[1].state == {"size": 4}
    assert (found[2].items, found[2].state) == ([1, 2], {"note": "n"})
    assert found[3].entries == {"a": 1}


def test_what_the_caller_knows_is_made_by_the_caller() -> None:
    found = interpret(pickle.dumps(dt.date(2020, 1, 2)), "m.pt", lambda name: Global(name, len), _nothing)
    assert found == 4  # len(the four bytes of a date), and no date


def _nested(levels: int, inner: bytes = b")") -> bytes:
    return inner + b"\x85" * levels


@pytest.mark.parametrize(
    "program",
    [
        b"}" + _nested(200_000) + b"Ns.",  # a key: Python hashes tuples in C, without looking at the depth
        b"\x8f(" + _nested(200_000) + b"\x90.",  # an element of a set
        b"(" + _nested(200_000) + b"\x91.",
        _nested(200_000) + b")R.",  # something that is not a function
        b"]" + b"q\x00h\x00h\x00\x86q\x00" * 60 + b")R.",  # 2^60 elements, were they shown
        b"}]" + b"q\x00h\x00h\x00\x86q\x00" * 60 + b"Ns.",  # or hashed
        b"ctorch\ndevice\n]" + b"q\x00h\x00h\x00\x86q\x00" * 60 + b"\x85R)R.",
    ],
    ids=["key", "element", "frozen", "called", "doubled", "doubled key", "device"],
)
def test_what_is_nested_without_end_is_neither_hashed_nor_shown(program: bytes) -> None:
    with contextlib.suppress(DamagedFile):
        interpret(b"\x80\x02" + program, "m.pt", objects.lookup, _nothing)


def test_more_opcodes_than_a_model_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pickle_opcodes, "MOST_OPCODES", 1000)
    assert _interpret(b"N0" * 499 + b"N.") is None
    with pytest.raises(UnsafeFile, match="over 1,000 opcodes"):
        _interpret(b"N0" * 500 + b"N.")


@pytest.mark.parametrize(
    "program",
    [
        b"\x8b" + struct.pack("<i", 300) + b"\x7f" * 300 + b".",
        b"L" + b"9" * 4000 + b"L\n.",
        b"L" + b"9" * 5000 + b"L\n.",
    ],
)
def test_numbers_that_are_too_large(program: bytes) -> None:
    with pytest.raises(DamagedFile, match=r"a number of|4300 digits"):
        _interpret(program)


def test_a_length_that_lies_makes_no_room() -> None:
    tracemalloc.start()
    for program in (b"\x8e" + struct.pack("<Q", 1 << 40), b"B" + struct.pack("<I", 1 << 31), b"X\xff\xff\xff\x7f"):
        with pytest.raises(DamagedFile):
            _interpret(program + b"abc.")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


def test_errors_show_names_inert() -> None:
    with pytest.raises(DamagedFile) as caught:
        _interpret(b"\x80\x02V\x1b[2J\n\x85N\x93.")
    assert "\x1b" not in str(caught.value)


def test_every_cut_is_an_error() -> None:
    data = pickle.dumps({"a": [1, 2.5, "text", (None, True)], "b": 10**12, "c": {3}, "d": dt.date(2020, 1, 1)}, 4)
    for length in range(len(data)):
        with pytest.raises(BninspectError):
            _interpret(data[:length])


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    with contextlib.suppress(BninspectError):
        interpret(data, "m.pt", Global, lambda reference: reference)


CODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]


@given(st.lists(st.sampled_from(CODES) | st.sampled_from([b"a\n", b"1\n", b"\x00", b"\x01", b"N", b")", b"("])))
def test_any_opcodes_are_a_value_or_an_error(parts: list[bytes]) -> None:
    with contextlib.suppress(BninspectError):
        interpret(b"".join((*parts, b".")), "m.pt", objects.lookup, objects.persistent)


def test_every_opcode_is_known_but_those_for_bytes_beside_the_pickle() -> None:
    assert {opcode.name for opcode in pickletools.opcodes} - _STEPS.keys() == {"STOP", "NEXT_BUFFER", "READONLY_BUFFER"}


def test_memo_that_is_empty() -> None:
    with pytest.raises(DamagedFile, match="not well-formed"):
        _interpret(b"\x80\x02h\x05.")


def test_a_pickle_is_read_to_its_end_and_no_further() -> None:
    stream = io.BytesIO(pickle.dumps([1], 4) + pickle.dumps("two", 2) + b"rest")
    assert [interpret_next(stream, "m.pt", Global, _nothing) for _ in range(2)] == [[1], "two"]
    assert stream.read() == b"rest"
