"""The wire format: what is written comes back, what is broken is said to be, parts merge as protocol buffers do."""

from __future__ import annotations

import pytest
from helpers.tensorflow_files import message, varint
from hypothesis import given
from hypothesis import strategies as st

from bninspect.errors import BninspectError, DamagedFile, UnsafeFile
from bninspect.formats.encodings import protobuf
from bninspect.formats.encodings.protobuf import Message, field

NUMBERS = st.integers(1, 2000)


@given(st.dictionaries(NUMBERS, st.integers(-(2**63), 2**63 - 1)))
def test_integers_come_back(values: dict[int, int]) -> None:
    read = Message(message(*values.items()))
    assert {number: read.integer(number) for number in values} == values


@given(st.dictionaries(NUMBERS, st.text(max_size=300)))
def test_texts_come_back(values: dict[int, str]) -> None:
    read = Message(message(*values.items()))
    assert {number: read.text(number) for number in values} == values


@given(NUMBERS, st.lists(st.integers(-(2**63), 2**63 - 1)), st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_repeated_integers_come_back_packed_or_not(number: int, single: list[int], packed: list[int]) -> None:
    data = message(*((number, one) for one in single), (number, b"".join(varint(one) for one in packed)))
    assert Message(data).integers(number) == single + packed


@given(NUMBERS, st.floats(width=32, allow_nan=False))
def test_reals_come_back(number: int, value: float) -> None:
    assert Message(message((number, value))).real(number) == value


@given(NUMBERS, st.binary(max_size=400))
def test_what_is_encoded_is_what_others_encode(number: int, data: bytes) -> None:
    assert field(number, data) == message((number, data))


def test_defaults_of_what_is_missing() -> None:
    empty = Message(b"")
    assert (empty.integer(1, 7), empty.real(2, 0.5), empty.text(3), empty.messages(4)) == (7, 0.5, "", [])
    assert not empty.has(1)
    assert empty.message(5).integer(1) == 0


def test_the_last_of_a_scalar_counts() -> None:
    assert Message(message((1, 3), (2, "a"), (1, 4), (2, "b"))).integer(1) == 4
    assert Message(message((1, 3), (2, "a"), (1, 4), (2, "b"))).text(2) == "b"


def test_parts_of_a_singular_message_are_merged() -> None:
    # A graph in two parts is one graph to TensorFlow: a reader that saw the last alone would miss nodes that run.
    data = message((2, message((1, "one"), (3, 1))), (2, message((1, "two"), (3, 2))))
    merged = Message(data).message(2)
    assert merged.texts(1) == ["one", "two"]
    assert merged.integer(3) == 2


def test_a_field_of_another_wire_type_is_passed_over() -> None:
    data = message((1, 5), (1, b"text"))
    assert Message(data).integer(1) == 5
    assert Message(data).text(1) == "text"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"\x0a\x05abc", "goes beyond its message"),
        (b"\x0a", "goes beyond|cut off"),
        (b"\x08", "cut off"),
        (b"\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "more than 64 bits"),
        (b"\x0d\x00\x00", "goes beyond its message"),
        (b"\x0b", "wire type 3"),
        (b"\x00\x01", "field number 0"),
        (b"\x0a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", "goes beyond|64 bits"),
    ],
)
def test_broken_encodings_are_named(data: bytes, why: str) -> None:
    with pytest.raises(DamagedFile, match=why):
        Message(data).integer(1)


def test_text_that_is_not_utf8_is_refused_as_tensorflow_refuses_it() -> None:
    with pytest.raises(DamagedFile, match="UTF-8"):
        Message(message((1, b"\xff\xfe"))).text(1)


def test_millions_of_fields_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf, "MOST_FIELDS", 1000)
    data = message(*((1, 0) for _ in range(1001)))
    with pytest.raises(UnsafeFile, match="over 1,000 fields"):
        Message(data).integers(1)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_an_error_of_ours(data: bytes) -> None:
    try:
        read = Message(data)
        read.integers(1)
        read.texts(2)
        read.entries(3)
        read.message(4).real(1)
    except BninspectError:
        pass
