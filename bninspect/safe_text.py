"""Names, paths and messages that came out of a file, made inert for people and machines to read."""

from __future__ import annotations

import difflib
import fnmatch
import re
from collections.abc import Iterable

LONGEST = 200
# GitHub takes `::` at the beginning of a line for a command, blanks before it or not; older runners of it `##[`, Azure
# Pipelines `##vso[` and TeamCity `##teamcity[`, wherever in a line they stand.
_COMMAND = re.compile(r"^( *):(?=:)|##(?=[a-z]*\[)", re.IGNORECASE)


def printable(text: str, limit: int = LONGEST) -> str:
    r"""Return `text` with everything that is not printable as an escape, shortened in its middle to `limit` characters.

    Control characters, line ends, bidirectional marks and lone surrogates become `\xNN`, `\uNNNN` or `\UNNNNNNNN`, so
    a name can neither move the cursor nor begin a line that a CI system takes for a command (CWE-117, CWE-150). Nor
    can what is such a command itself, as `::error::` and `##vso[...]` are: one of its characters becomes an escape.
    """
    if len(text) > 4 * limit:
        text = text[: 2 * limit] + text[-2 * limit :]
    safe = "".join(character if character.isprintable() else _escape(character) for character in text)
    safe = _COMMAND.sub(lambda found: "#\\x23" if found[0] == "##" else f"{found[1]}\\x3a", safe)
    if len(safe) <= limit:
        return safe
    head = (limit - 1) // 2
    return safe[:head] + "…" + safe[-(limit - 1 - head) :]


def _escape(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def matches(name: str, globs: tuple[str, ...]) -> bool:
    """Return whether `name` fits one of the shell patterns; `*` also spans the `/` of nested models."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in globs)


def nearest(typed: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Return the known name that was probably meant by a mistyped one; empty if none is like it.

    Of names that have as much in common with it the one counts that has it in the same places: BN130 for BN13, not
    BN313.

    Args:
        typed: what was given.
        known: what there is.
        cutoff: least likeness of what is returned, from 0 to 1.
    """

    def likeness(name: str) -> tuple[float, int]:
        alike = difflib.SequenceMatcher(None, name, typed).ratio()
        return alike, sum(a == b for a, b in zip(name, typed, strict=False))

    return max((name for name in known if likeness(name)[0] >= cutoff), key=likeness, default="")
