"""Names of operators that must be read or counted as batch norms, or hide some; and layers of one name apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

_CALLED = re.compile(r"(?i:batch_?(?:re)?norm|spatial_?bn)|(?<![A-Z])A?BN(?![a-z])|(?<![A-Za-z])bn(?![A-Za-z])")
_COMPILED = re.compile(
    r"(com\.microsoft::)?(EPContext|Snpe)|TRTEngineOp|XlaCallModule|XlaLaunch|NeuronOp|edgetpu-custom-op|ethos-u"
)
"""Operators of ONNX Runtime, TensorFlow and TFLite that hold a part of the model as a program for some device."""
COMPILED = "it holds a compiled part of the model, in which no batch norm can be seen"


def holds_compiled(name: str) -> bool:
    """Return whether an operator of this name holds a part of a model in a form that nobody reads here."""
    return _COMPILED.fullmatch(name) is not None


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
