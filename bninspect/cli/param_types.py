"""Types of option values."""

from __future__ import annotations

import math
import os
import re
from typing import Any

import click

from bninspect.cli import complete_values
from bninspect.settings import EpsilonRule
from bninspect.stores.names import is_url

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}


class Size(click.ParamType):  # type: ignore[type-arg]  # older click has none
    """Bytes: `1500MB`, `2GB`, `1.5GiB`."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number of bytes."""
        found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?I?B)?", str(value).strip().upper())
        if not found:
            self.fail(f"{value!r} is not a size: write 1500MB, 2GB or 1.5GiB", param, ctx)
        return int(float(found[1]) * _UNITS[found[2] or ""])


class Finite(click.FloatRange):
    """A number that is neither infinite nor NaN, which no range keeps out: NaN would be a limit that never comes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not finite", param, ctx)
        return number


class ModelPath(click.Path):
    """A file or folder that exists, or the prefix of a TensorFlow checkpoint: `model.ckpt` for `model.ckpt.index`."""

    def __init__(self) -> None:
        super().__init__(exists=True, readable=False)  # what cannot be opened is an error of that model alone

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return the path as it was given."""
        if is_url(str(value)) or os.path.isfile(f"{value}.index"):  # noqa: PTH113
            return value
        return super().convert(value, param, ctx)


class Epsilon(click.ParamType):  # type: ignore[type-arg]  # older click has none
    """`VALUE` for every layer, or `LAYER_GLOB=VALUE`."""

    name = "[layer_glob=]value"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> EpsilonRule:
        """Return the rule."""
        if isinstance(value, EpsilonRule):
            return value
        layers, _, number = str(value).rpartition("=")
        try:
            epsilon = float(number)
        except ValueError:
            self.fail(f"{number!r} is not a number: write 0.001, or 'block*/bn=0.001'", param, ctx)
        if not (math.isfinite(epsilon) and epsilon >= 0):
            self.fail(f"{number} is not an epsilon: an epsilon is finite and not negative", param, ctx)
        return EpsilonRule(layers or "*", epsilon)


class Shape(click.ParamType):  # type: ignore[type-arg]  # older click has none
    """`1,224,224,3` for the only input, or `NAME=1,224,224,3`."""

    name = "[name=]dims"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, tuple[int, ...]]:
        """Return the input's name and shape."""
        if isinstance(value, tuple):
            return value
        name, _, text = str(value).rpartition("=")
        try:
            dims = tuple(int(part) for part in re.split(r"[,x]", text.strip("()[] ")) if part.strip())
        except ValueError:
            dims = ()
        if not dims or min(dims) < 1:
            self.fail(f"{text!r} is not a shape: write 1,224,224,3, the batch first", param, ctx)
        return name, dims


class Target(click.ParamType):  # type: ignore[type-arg]  # older click has none
    """`FORMAT=PATH`."""

    name = "format=path"

    def __init__(self, formats: tuple[str, ...]) -> None:
        self.choices = formats

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Return format and path."""
        if isinstance(value, tuple):
            return value
        kind, _, path = str(value).partition("=")
        if kind not in self.choices:
            self.fail(f"{kind!r} is not a format: write FORMAT=PATH, with {', '.join(self.choices)}", param, ctx)
        if not path:
            self.fail(f"{value!r} does not name a file: write {kind}=PATH", param, ctx)
        return kind, path

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002
        param: click.Parameter,  # noqa: ARG002
        incomplete: str,
    ) -> list[click.shell_completion.CompletionItem]:
        """Offer each format with a path."""
        return complete_values.reports(self.choices, incomplete)
