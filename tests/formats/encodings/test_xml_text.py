"""XML from strangers: what is whole is read, and nothing is expanded, fetched or piled up."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bninspect.errors import BninspectError, DamagedFile, UnsafeFile
from bninspect.formats.encodings import xml_text

NAMES = st.text("abcxyz_", min_size=1, max_size=5)
TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)


@st.composite
def elements(draw: st.DrawFn, depth: int = 3) -> ET.Element:
    made = ET.Element(draw(NAMES), draw(st.dictionaries(NAMES, TEXTS, max_size=3)))
    made.text = draw(TEXTS)
    for _ in range(draw(st.integers(0, 3)) if depth else 0):
        made.append(draw(elements(depth - 1)))
    return made


def _same(own: xml_text.XmlElement, other: ET.Element) -> bool:
    return (
        own.tag == other.tag
        and own.attributes == other.attrib
        and len(own.children) == len(other)
        and all(_same(*pair) for pair in zip(own.children, other, strict=True))
    )


@given(elements())
def test_tree_is_what_elementtree_reads(made: ET.Element) -> None:
    data = ET.tostring(made, "utf-8")
    assert _same(xml_text.parse(data), ET.fromstring(data))


def test_paths_lead_to_elements_in_order() -> None:
    root = xml_text.parse(b"<a><b><c>1</c><c> 2 </c></b><b/><b><c>3</c></b></a>")
    assert [one.text for one in root.every("b", "c")] == ["1", "2", "3"]
    assert root.first("b", "d") is None


@pytest.mark.parametrize(
    "data",
    [
        b'<!DOCTYPE net [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><net>&b;</net>',
        b'<!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/hostname">]><net>&a;</net>',
        b'<!DOCTYPE net SYSTEM "http://localhost/x.dtd"><net/>',
        b'<!DOCTYPE net [<!ENTITY % a SYSTEM "file:///etc/hostname"> %a;]><net/>',
        b"<a>" * (xml_text.MOST_DEPTH + 1),
    ],
)
def test_document_types_and_towers_are_refused(data: bytes) -> None:
    with pytest.raises(UnsafeFile):
        xml_text.parse(data)


def test_number_of_elements_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xml_text, "MOST_ELEMENTS", 100)
    assert len(xml_text.parse(b"<a>" + b"<b/>" * 99 + b"</a>").children) == 99
    with pytest.raises(UnsafeFile, match="at most 100 elements"):
        xml_text.parse(b"<a>" + b"<b/>" * 100 + b"</a>")


@pytest.mark.parametrize(
    "data", [b"", b"<a>", b"<a></b>", b"<a/><b/>", b"text", b'<?xml version="1.0" encoding="x"?><a/>']
)
def test_what_is_not_whole_is_damaged(data: bytes) -> None:
    with pytest.raises(DamagedFile):
        xml_text.parse(data)


@given(st.binary(max_size=40))
def test_any_bytes_end_in_a_tree_or_an_error_of_ours(data: bytes) -> None:
    try:
        xml_text.parse(b"<net>" + data + b"</net>")
    except BninspectError:
        return
