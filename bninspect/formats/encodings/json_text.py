"""JSON from strangers: bounded before it is parsed, and refused where parsers differ on what it says."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from bninspect.errors import DamagedFile, UnsafeFile
from bninspect.safe_text import printable


def load(text: str, subject: str, *, characters: int, containers: int, finite: bool = False) -> Any:
    """Return JSON `text` as Python data.

    Args:
        text: the text.
        subject: what it is, for messages: `m.h5 has a configuration`.
        characters: most that it may have.
        containers: most objects and lists in it; Python makes some 100 bytes of each.
        finite: whether NaN and Infinity are refused, which are not JSON; Keras writes them.

    Raises:
        DamagedFile: it is not JSON, or an object has a key twice.
        UnsafeFile: it is larger or nested deeper than a model needs.
    """
    if len(text) > characters or text.count("{") + text.count("[") > containers:
        why = f"{len(text):,} of at most {characters:,} characters, or over {containers:,} containers"
        raise UnsafeFile(f"{subject} that is too large", why=why)
    try:
        return json.loads(text, object_pairs_hook=_each_once, parse_constant=_refuse if finite else None)
    except RecursionError as error:
        raise UnsafeFile(f"{subject} that is nested too deeply") from error
    # Also raised for an integer of more than 4300 digits.
    except ValueError as error:
        raise DamagedFile(f"{subject} that is not JSON", why=printable(str(error))) from error


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise ValueError(f"the key {twice!r} stands twice in one object")
    return found


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is not JSON")
