"""Values of options: what they mean, and what is refused with a word of what to write instead."""

from __future__ import annotations

from typing import Any

import click
import pytest

from bninspect.cli.param_types import Epsilon, Shape, Size, Target
from bninspect.settings import EpsilonRule


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        (Size(), "1500MB", 1_500_000_000),
        (Size(), "1.5 GiB", 1_610_612_736),
        (Size(), "2gb", 2_000_000_000),
        (Size(), "123", 123),
        (Epsilon(), "0.001", EpsilonRule("*", 0.001)),
        (Epsilon(), "block*/bn=1e-5", EpsilonRule("block*/bn", 1e-5)),
        (Epsilon(), "a=b=0", EpsilonRule("a=b", 0.0)),
        (Shape(), "1,224,224,3", ("", (1, 224, 224, 3))),
        (Shape(), "image=2x8x8", ("image", (2, 8, 8))),
        (Shape(), "(1, 5)", ("", (1, 5))),
        (Target(("json", "text")), "json=a=b.json", ("json", "a=b.json")),
    ],
)
def test_values(kind: Any, text: str, value: Any) -> None:
    assert kind.convert(text, None, None) == value


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (Size(), "lots"),
        (Size(), "-1GB"),
        (Epsilon(), "nan"),
        (Epsilon(), "-1e-3"),
        (Epsilon(), "bn=inf"),
        (Epsilon(), "bn"),
        (Shape(), "1,?,3"),
        (Shape(), ""),
        (Shape(), "0,3"),
        (Target(("json",)), "html=x"),
        (Target(("json",)), "json="),
    ],
)
def test_refused(kind: Any, text: str) -> None:
    with pytest.raises(click.BadParameter):
        kind.convert(text, None, None)
