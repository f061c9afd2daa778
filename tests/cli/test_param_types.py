"""Values of options: what they mean, and what is refused with a word of what to write instead."""

from __future__ import annotations

from typing import Any

import click
import pytest

from bninspect.cli.param_types import Target, epsilon, shape, size
from bninspect.settings import EpsilonRule


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (size, "1500MB", 1_500_000_000),
        (size, "1.5 GiB", 1_610_612_736),
        (size, "2gb", 2_000_000_000),
        (size, "123", 123),
        (epsilon, "0.001", EpsilonRule("*", 0.001)),
        (epsilon, "block*/bn=1e-5", EpsilonRule("block*/bn", 1e-5)),
        (epsilon, "a=b=0", EpsilonRule("a=b", 0.0)),
        (shape, "1,224,224,3", ("", (1, 224, 224, 3))),
        (shape, "image=2x8x8", ("image", (2, 8, 8))),
        (shape, "(1, 5)", ("", (1, 5))),
        (Target(("json", "text")), "json=a=b.json", ("json", "a=b.json")),
    ],
)
def test_values(kind: Any, text: str, value: Any) -> None:
    assert click.types.convert_type(kind).convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (size, "lots"),
        (size, "-1GB"),
        (epsilon, "nan"),
        (epsilon, "-1e-3"),
        (epsilon, "bn=inf"),
        (epsilon, "bn"),
        (shape, "1,?,3"),
        (shape, ""),
        (shape, "0,3"),
        (Target(("json",)), "html=x"),
        (Target(("json",)), "json="),
    ],
)
def test_refused(kind: Any, text: str) -> None:
    with pytest.raises(click.BadParameter):
        click.types.convert_type(kind).convert(text, None, None)
