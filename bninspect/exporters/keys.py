"""Names of arrays in an export: what people type for ordinary layers, and inert for hostile ones."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

LONGEST = 240
"""In bytes of UTF-8: with the name of an array and `.npy` behind it, the limit of most file systems is kept."""


def keys(names: Iterable[str]) -> list[str]:
    """Return a key for each layer name, all different; an ordinary name such as `block1/bn` is its own key.

    What an unzipping tool could take for a way out of its folder, or a terminal for a command, is percent-encoded:
    backslashes, colons, control and other unprintable characters, `.`, `..` and empty parts between slashes, and so
    the leading slash of an absolute path. A name that is too long ends in a digest, a repeated one in `~2`, `~3` ...
    """
    taken: dict[str, None] = {}
    for name in names:
        key = escaped = _shortened("/".join(map(_escaped, name.split("/"))))
        count = 1
        while key in taken:
            count += 1
            key = f"{escaped}~{count}"
        taken[key] = None
    return list(taken)


def _escaped(part: str) -> str:
    if part in {"", ".", ".."}:
        return part.replace(".", "%2E") or "%"
    return "".join(
        character if character.isprintable() and character not in "%\\:" else _encoded(character) for character in part
    )


def _encoded(character: str) -> str:
    return "".join(f"%{byte:02X}" for byte in character.encode("utf-8", "surrogatepass"))


def _shortened(key: str) -> str:
    data = key.encode()
    if len(data) <= LONGEST:
        return key
    digest = hashlib.sha256(data).hexdigest()[:16]
    return f"{data[: LONGEST - 20].decode(errors='ignore')}~{digest}"
