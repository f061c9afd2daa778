"""One cell of the table of converters: a pattern, a converter, and what stands in the cache of them."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converter_list import BY_NAME, CONVERTERS, Converter, Family, taken


class NothingToTake(Exception):
    """The converter whose file another takes has written none."""


@dataclass(frozen=True)
class Cell:
    """A converter and a pattern of a family."""

    cache: Path
    family: Family
    pattern: str
    converter: Converter

    @property
    def source(self) -> Path:
        """The folder of the model."""
        return source_folder(self.cache, self.family, self.pattern)

    @property
    def folder(self) -> Path:
        """The folder of what the converter writes."""
        return self.cache / "exports" / self.family / self.converter.name / self.pattern

    @property
    def taken(self) -> Path:
        """The file that the converter takes, where it is not the model.

        Raises:
            NothingToTake: the converter before has refused.
        """
        before = self.before
        name = before.told("conversion").get("file") if before else None
        if before is None or not name:
            raise NothingToTake
        return before.folder / str(name)

    @property
    def before(self) -> Cell | None:
        """The cell whose file the converter takes; None if it takes the model."""
        name = taken(self.converter, self.family)
        return Cell(self.cache, self.family, self.pattern, BY_NAME[name]) if name else None

    def told(self, step: str) -> dict[str, Any]:
        """Return what is known of a step: conversion, outputs, verdict; nothing if it has not been done."""
        path = self.folder / f"{step}.json"
        return dict(json.loads(path.read_text())) if path.exists() else {}

    def tell(self, step: str, **known: Any) -> None:
        """Keep what is known of a step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{step}.json").write_text(json.dumps(known))


def source_folder(cache: Path, family: str, pattern: str) -> Path:
    """Return the folder of a pattern's model, inputs and outputs."""
    return cache / "sources" / family / pattern


def patterns_of(cache: Path, family: str) -> list[str]:
    """Return the patterns of a family whose models have been written."""
    return sorted(path.parent.name for path in (cache / "sources" / family).glob("*/expected.npz"))


def cells(cache: Path, names: list[str] | None = None) -> list[Cell]:
    """Return every cell, or those of some converters."""
    return [
        Cell(cache, family, pattern, converter)
        for converter in CONVERTERS
        if not names or converter.name in names
        for family in converter.families
        for pattern in patterns_of(cache, family)
    ]


def shortened(message: str, limit: int = 150) -> str:
    """Return an error's first telling words on one line, without the folders of a machine."""
    plain = re.sub(r"\x1b\[[0-9;]*m", "", message)
    plain = re.sub(r"(?<![\w.])(?:/[\w.+@-]+){2,}/?", "...", plain)
    plain = re.sub(r"0x[0-9a-f]{6,}", "0x...", " ".join(plain.split()))
    return plain if len(plain) <= limit else plain[: limit - 3].rstrip() + "..."
