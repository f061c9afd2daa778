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


def size(value: Any) -> int:
    """Return the number of bytes of `1500MB`, `2GB` or `1.5GiB`."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMG]?I?B)?", str(value).strip().upper())
    if not found:
        raise click.BadParameter(f"{value!r} is not a size: write 1500MB, 2GB or 1.5GiB")
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


def epsilon(value: Any) -> EpsilonRule:
    """Return the rule of `VALUE`, which is for every layer, or of `LAYER_GLOB=VALUE`."""
    if isinstance(value, EpsilonRule):
        return value
    layers, _, number = str(value).rpartition("=")
    try:
        stated = float(number)
    except ValueError:
        raise click.BadParameter(f"{number!r} is not a number: write 0.001, or 'block*/bn=0.001'") from None
    if not (math.isfinite(stated) and stated >= 0):
        raise click.BadParameter(f"{number} is not an epsilon: an epsilon is finite and not negative")
    return EpsilonRule(layers or "*", stated)


def shape(value: Any) -> tuple[str, tuple[int, ...]]:
    """Return name and shape of the input in `NAME=1,224,224,3`; `1,224,224,3` is the only input."""
    if isinstance(value, tuple):
        return value
    name, _, text = str(value).rpartition("=")
    try:
        dims = tuple(int(part) for part in re.split(r"[,x]", text.strip("()[] ")) if part.strip())
    except ValueError:
        dims = ()
    if not dims or min(dims) < 1:
        raise click.BadParameter(f"{text!r} is not a shape: write 1,224,224,3, the batch first")
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
