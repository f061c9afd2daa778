"""What the operators of frameworks are called that are batch norms: what a graph calls so must be read or counted."""

from __future__ import annotations

import re

_CALLED = re.compile(r"(?i:batch_?(?:re)?norm|spatial_?bn)|(?<![A-Z])A?BN(?![a-z])|(?<![A-Za-z])bn(?![A-Za-z])")


def is_called_norm(name: str) -> bool:
    """Return whether an operator, a function or a module of this name is meant to be a batch norm."""
    return _CALLED.search(name) is not None
