"""What in an exported program is, or may run, code: operators that do more than compute, texts that torch evaluates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from bninspect.formats.torch.pure_operators import is_pure
from bninspect.safe_text import printable

if TYPE_CHECKING:
    from bninspect.formats.torch.exported_program import ExportedProgram

_CALLING = """
associative_scan cond hints_wrapper invoke_subgraph map_impl scan strict_mode tag_activation_checkpoint while_loop
wrap wrap_activation_checkpoint wrap_with_autocast wrap_with_set_grad_enabled
"""
"""Higher-order operators that do nothing but call graphs of the file, whose nodes are judged by themselves."""
_PURE = frozenset(f"higher_order::{name}" for name in _CALLING.split())
_LENGTHS = """
add and_ eq floordiv ge getitem gt le lshift lt mod mul ne neg or_ pos pow rshift sub truediv
"""
_SYMBOLIC = """
_sym_sqrt sym_float sym_int sym_ite sym_max sym_min sym_not sym_sum
"""
_PYTHON = frozenset(
    (*(f"_operator.{name}" for name in _LENGTHS.split()), *(f"torch.{name}" for name in _SYMBOLIC.split()))
)
"""Functions of Python that compute with lengths (torch/_export/serde/serialize.py: _SYM_OPS)."""
_EXPRESSION = re.compile(
    r"(?:Symbol\('[su]\d+'(?:, (?:positive|integer|nonnegative)=True)*\)|[su]\d+|\d+|[-+*/(), ]|Max|Min|Mod|FloorDiv)*"
)
"""Lengths that depend on others. torch hands these texts to sympy, which evaluates whatever they say."""


def code_in(program: ExportedProgram) -> tuple[str, ...]:
    """Return in words what torch must not be given without the user's trust."""
    impure = dict.fromkeys(call.operation for call in program.calls if not _computes(call.operation))
    return tuple(f"operation {printable(name)}" for name in impure) + _evaluated(program.module)


def _computes(operation: str) -> bool:
    return is_pure(operation) or operation in _PURE or operation in _PYTHON


def _evaluated(module: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the texts in the file that torch would evaluate as Python and that are not plain lengths."""
    texts = [str(text) for text in module.get("guards_code") or ()]
    texts += [str(key) for key in module.get("range_constraints") or ()]
    waiting: list[Any] = [module]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            texts += [str(part[key]) for key in ("expr_str", "as_expr_str") if key in part]
            waiting.extend(part.values())
        elif isinstance(part, list):
            waiting.extend(part)
    odd = dict.fromkeys(text for text in texts if not _EXPRESSION.fullmatch(text))
    return tuple(f"expression {printable(text, 60)}" for text in odd)
