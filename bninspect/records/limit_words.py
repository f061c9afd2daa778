"""How far an error is from its limit, in words. A ratio is the largest error in units of its rounding bound."""

from __future__ import annotations

import math
from collections.abc import Mapping

_NEAR = 1.1
"""Up to here more digits are said: 1.03 and 1.0000001 are over the limit, and must not be rounded to 1."""
_MOST = 1_000_000_000
"""Beyond this a number says no more than that everything is wrong; the JSON report has it."""


def of_limit(ratio: float | None) -> str:
    """Return `72 % of the limit`, `14,000 times the limit`; `not finite` for None."""
    if ratio is None or math.isnan(ratio):
        return "not finite"
    return f"{_percent(ratio)} % of the limit" if ratio <= 1.0 else f"{_times(ratio)} times the limit"


def of_limits(ratios: Mapping[str, float | None]) -> str:
    """Return `weights 24 %, bias 15 % of the limit`: errors by the name of what is off, the unit said once."""
    parts = [f"{name} {of_limit(ratio)}" for name, ratio in ratios.items()]
    for unit in ("% of the limit", "times the limit"):
        if all(part.endswith(unit) for part in parts):
            short = unit.split()[0] if unit[0] == "%" else ""
            parts[:-1] = [f"{part.removesuffix(unit)}{short}".strip() for part in parts[:-1]]
    return ", ".join(parts)


def _percent(ratio: float) -> str:
    if 0.0 < ratio < 0.001:
        return "under 0.1"
    if ratio >= 0.995:
        return f"{math.floor(ratio * 1000) / 10:g}"  # never rounded up to the limit
    return f"{100 * ratio:.1f}" if 0.0 < ratio < 0.1 else f"{100 * ratio:.0f}"


def _times(ratio: float) -> str:
    if ratio < _NEAR:
        digits = next((digits for digits in (4, 9, 17) if float(f"{ratio:.{digits}g}") > 1.0), 17)
        return f"{ratio:.{digits}g}"
    if ratio < 10:
        return f"{ratio:.2g}"
    return f"{float(f'{ratio:.2g}'):,.0f}" if ratio <= _MOST else f"over {_MOST:,}"
