"""Names that repeat are told apart, whatever numbers they have already."""

from __future__ import annotations

from bninspect.formats.norm_names import distinct


def test_equal_names_are_counted() -> None:
    assert list(distinct(["a", "b", "a", "a#2", "a"], "#")) == ["a", "b", "a#2", "a#2#2", "a#3"]
    assert list(distinct(["a", "a~2", "a", "a"])) == ["a", "a~2", "a~3", "a~4"]
