"""The `.cfg` of Darknet: sections in brackets with `name=value` lines."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from bninspect.errors import DamagedFile
from bninspect.safe_text import printable

MOST_BYTES = 1 << 20
MOST_NUMBER = 1 << 30


@dataclass(frozen=True)
class Section:
    """A section of a `.cfg`."""

    kind: str
    options: Mapping[str, str] = field(default_factory=dict)

    def number(self, name: str, otherwise: int) -> int:
        """Return an option that is a whole number. Raises DamagedFile."""
        return _whole(self.options.get(name, str(otherwise)), f"{name} of [{self.kind}]")

    def numbers(self, name: str) -> tuple[int, ...]:
        """Return an option that is a list of whole numbers. Raises DamagedFile."""
        return tuple(_whole(part, f"{name} of [{self.kind}]") for part in self.options.get(name, "").split(",") if part)


def _whole(text: str, what: str) -> int:
    if not re.fullmatch(r"\s*-?[0-9]{1,10}\s*", text) or abs(int(text)) > MOST_NUMBER:
        raise DamagedFile("the .cfg is damaged", why=printable(f"{what} is {text}, which is not a size"))
    return int(text)


def parse(text: str) -> list[Section]:
    """Return the sections of a text. Raises DamagedFile."""
    found: list[tuple[str, dict[str, str]]] = []
    for line in text.splitlines():
        bare = line.strip()
        if bare.startswith("["):
            found.append((bare.strip("[]").lower(), {}))
        elif bare and bare[0] not in "#;":
            name, equals, value = bare.partition("=")
            if not equals or not found:
                raise DamagedFile("the .cfg is damaged", why=printable(f"line {line!r}"))
            found[-1][1][name.strip()] = value.strip()
    if not found or found[0][0] not in {"net", "network"}:
        raise DamagedFile("the .cfg is damaged", why="it does not begin with [net]")
    return [Section(*section) for section in found]
