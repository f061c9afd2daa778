"""Names: which operators are called batch norms, so that they must be read or counted, and layers of one name apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

_CALLED = re.compile(r"(?i:batch_?(?:re)?norm|spatial_?bn)|(?<![A-Z])A?BN(?![a-z])|(?<![A-Za-z])bn(?![A-Za-z])")


def is_called_norm(name: str) -> bool:
    """Return whether an operator, a function or a module of this name is meant to be a batch norm."""
    return _CALLED.search(name) is not None


def distinct(names: Iterable[str], mark: str = "~") -> Iterator[str]:
    """Yield names, those that were there before with a number behind them: the second is `name~2`."""
    taken: set[str] = set()
    # Counted on, not anew for each: a hundred thousand nodes may have one name.
    counts: Counter[str] = Counter()
    for name in names:
        own = name
        while own in taken:
            counts[name] += 1
            own = f"{name}{mark}{counts[name] + 1}"
        taken.add(own)
        yield own
