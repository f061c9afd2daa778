"""What is in branches that data chooses: nobody sees all of them run, so what they hold must be counted.

The body of a loop runs whatever the data are, and what comes out of it is compared; unless it has branches itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from bninspect.formats.norm_names import is_called_norm

_LINEAR = re.compile(r"(?i)conv(?!ert)|gemm|mat_?mul|fully ?connected|linear|addmm|einsum|(?:^|::)(?:b|baddb)?mm$")


_CHOOSES = re.compile(r"(?i)(?:^|[.:])(?:stateless)?(?:if|case|cond)$")


def held(outer: str, inside: Iterable[str]) -> int:
    """Return how many operations inside another one have a kernel or are batch norms; none if no data chooses.

    Args:
        outer: the operation that has graphs, by its name in whatever framework.
        inside: names of the operations in them, at any depth.
    """
    names = tuple(inside)
    if not any(_CHOOSES.search(name) for name in (outer, *names)):
        return 0
    return sum(1 for name in names if _LINEAR.search(name) is not None or is_called_norm(name))
