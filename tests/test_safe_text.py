"""Names from files are inert wherever they are shown."""

from __future__ import annotations

import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bninspect import safe_text


@given(st.text(st.characters(), max_size=400))
def test_what_is_shown_is_printable_and_short(text: str) -> None:
    shown = safe_text.printable(text)
    assert shown.isprintable()
    assert len(shown) <= safe_text.LONGEST
    shown.encode()  # a lone surrogate would raise


@given(st.text(st.characters(categories=("L", "N", "P", "S")), max_size=safe_text.LONGEST))
def test_a_harmless_name_is_left_alone(text: str) -> None:
    assume(not re.search(r"^:|##", text))
    assert safe_text.printable(text) == text


@pytest.mark.parametrize("name", ["a\n::error::b", "\x1b[2Jx", "\u202eevil", "\r##vso[task]", "\ud800", "\x00"])
def test_what_terminals_and_ci_would_act_on_is_escaped(name: str) -> None:
    assert not re.search(r"[\x00-\x1f\x7f\u202e\ud800]", safe_text.printable(name))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("::error::x.h5", r"\x3a:error::x.h5"),
        ("  ::add-mask::x", r"  \x3a:add-mask::x"),
        ("##[error]x", r"#\x23[error]x"),
        ("a ##VSO[task.complete]x", r"a #\x23VSO[task.complete]x"),
        ("###teamcity[x]", r"##\x23teamcity[x]"),
    ],
)
def test_what_is_a_command_by_itself_is_none_any_more(name: str, shown: str) -> None:
    assert safe_text.printable(name) == shown == safe_text.printable(shown)


def test_a_long_name_keeps_both_ends() -> None:
    shown = safe_text.printable("model/" + "x" * 5000 + "/bn", 40)
    assert shown.startswith("model/")
    assert shown.endswith("/bn")
    assert len(shown) == 40


def test_patterns_span_nested_models_and_mind_case() -> None:
    assert safe_text.matches("outer/inner/bn", ("*bn",))
    assert safe_text.matches("a[1]", ("a*",))
    assert not safe_text.matches("BN", ("bn",))
    assert not safe_text.matches("bn", ())


def test_what_was_probably_meant_is_the_likest_name_with_the_same_letters_in_place() -> None:
    rules = ("BN102", "BN301", "BN312")
    assert safe_text.nearest("BN1O2", rules) == safe_text.nearest("BN1_2", rules) == "BN102"
    assert safe_text.nearest("batch_normalisation_1", ("batch_normalization", "batch_normalization_1")) == (
        "batch_normalization_1"
    )
    assert safe_text.nearest("zzz", rules) == safe_text.nearest("BN1", ()) == ""
