"""The interpreter of pickles: plain values as Python has them, everything else refused, nothing ever run."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import pickle
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.errors import BninspectError, DamagedFile, UnsafeFile
from bninspect.formats.encodings.pickle_opcodes import Global, interpret
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
    return interpret(data, "m.pt", objects.of_state_dict, _nothing)


@given(PLAIN, st.sampled_from([2, 3, 4, 5]))
def test_plain_values_are_what_python_reads(value: Any, protocol: int) -> None:
    data = pickle.dumps(value, protocol)
    if protocol == 2 and b"c__builtin__\nbytes" in data:
        # It has no opcode for bytes; Python then writes a call, which is refused like any other.
        with pytest.raises(UnsafeFile, match=r"__builtin__\.bytes"):
            _interpret(data)
        return
    if protocol == 2 and b"c_codecs\n" in data:
        _interpret(data)  # a call that torch allows: nothing stands for what it gives
        return
    found = _interpret(data)
    assert found == value
    assert type(found) is type(value)


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


@pytest.mark.parametrize("protocol", [2, 4])
def test_a_call_is_refused_by_name_and_not_made(tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    with pytest.raises(UnsafeFile, match=r"names (posix|nt)\.system") as caught:
        _interpret(pickle.dumps({"w": _Evil(f"touch {marker}")}, protocol))
    assert "state_dict" in caught.value.hint
    assert not marker.exists()


@pytest.mark.parametrize(
    ("value", "name"),
    [(dt.date(2020, 1, 1), "datetime.date"), (Path("x"), "pathlib"), (getattr, "builtins.getattr"), ({1}, "")],
)
def test_everything_else_is_refused(value: Any, name: str) -> None:
    with pytest.raises(UnsafeFile) as caught:
        _interpret(pickle.dumps(value, 4))
    assert name in caught.value.why


def _nested(levels: int, inner: bytes = b")") -> bytes:
    return inner + b"\x85" * levels


@pytest.mark.parametrize(
    "program",
    [
        b"}" + _nested(200_000) + b"Ns.",  # a key: Python hashes tuples in C, without looking at the depth
        b"ccollections\nOrderedDict\n]" + _nested(200_000) + b"N\x86a\x85R.",
        _nested(200_000) + b")R.",  # something that is no function, shown in an error
        b"]" + b"q\x00h\x00h\x00\x86q\x00" * 60 + b")R.",  # 2^60 elements, were they shown
        b"ctorch\ndevice\n]" + b"q\x00h\x00h\x00\x86q\x00" * 60 + b"\x85R)R.",
    ],
    ids=["key", "pair", "called", "doubled", "device"],
)
def test_what_is_nested_without_end_is_neither_hashed_nor_shown(program: bytes) -> None:
    with pytest.raises((DamagedFile, UnsafeFile)):
        _interpret(b"\x80\x02" + program)


def test_a_type_of_storage_is_not_called() -> None:
    with pytest.raises(UnsafeFile, match=r"calls torch\.FloatStorage"):
        _interpret(b"\x80\x02ctorch\nFloatStorage\n)R.")


def test_names_are_shown_inert() -> None:
    with pytest.raises(UnsafeFile) as caught:
        _interpret(b"\x80\x02cevil\n\x1b[2J::error::x\n.")
    assert "\x1b" not in caught.value.why


def test_class_of_the_file_itself_becomes_an_instance() -> None:
    program = b"\x80\x02c__torch__.m\nNet\n)\x81}(X\x01\x00\x00\x00aK\x03ub."
    found = interpret(program, "m.pt", objects.of_script, _nothing)
    assert (found.class_name, found.state) == ("__torch__.m.Net", {"a": 3})


def test_every_cut_is_an_error() -> None:
    data = pickle.dumps({"a": [1, 2.5, "text", (None, True)], "b": 10**12}, 2)
    for length in range(len(data)):
        with pytest.raises(BninspectError):
            _interpret(data[:length])


@given(st.binary(max_size=40))
def test_any_bytes_are_a_value_or_an_error(data: bytes) -> None:
    with contextlib.suppress(BninspectError):
        interpret(data, "m.pt", Global, lambda reference: reference)


def test_memo_that_is_empty() -> None:
    with pytest.raises(DamagedFile, match="not well-formed"):
        _interpret(b"\x80\x02h\x05.")
