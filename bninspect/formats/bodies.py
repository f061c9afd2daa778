"""What is in the graphs of loops and of branches that data chooses: nobody sees it run, so it must be counted."""

from __future__ import annotations

import re
from collections.abc import Iterable

from bninspect.formats.norm_names import is_called_norm

_LINEAR = re.compile(r"(?i)conv(?!ert)|gemm|mat_?mul|fully ?connected|linear|addmm|einsum|(?:^|::)(?:b|baddb)?mm$")


def held(operations: Iterable[str]) -> int:
    """Return how many operations, by their names in whatever framework, have a kernel or are batch norms."""
    return sum(1 for name in operations if _LINEAR.search(name) is not None or is_called_norm(name))
