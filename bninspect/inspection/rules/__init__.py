"""Judgements on stored parameters alone. One function per rule; its docstring is its manual page.

A rule takes one layer and returns its finding, or None. It never raises, whatever the file holds. A new rule is one
function and one line in `RULES`: stored.py (what the file holds), statistics.py (what training left), setting.py
(epsilon, momentum, training), deployment.py (what will not survive float16, folding or int8).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from bninspect import safe_text
from bninspect.inspection.rules import deployment, inference_words, statistics, stored
from bninspect.inspection.rules import settings as setting
from bninspect.records import BatchNorm, Finding, Statistics
from bninspect.settings import Settings

Rule = Callable[[BatchNorm], Finding | None]

RULES: Mapping[str, Rule] = MappingProxyType(
    {
        "BN101": stored.nonfinite_parameter,
        "BN102": stored.negative_variance,
        "BN103": stored.missing_parameter,
        "BN104": stored.contradicting_parameter,
        "BN105": stored.differing_shapes,
        "BN106": stored.no_denominator,
        "BN110": statistics.zero_variance,
        "BN111": statistics.never_updated,
        "BN112": statistics.untrained,
        "BN113": statistics.variance_below_epsilon,
        "BN114": statistics.few_updates,
        "BN115": statistics.noise_variance,
        "BN116": statistics.dead_channels,
        "BN120": setting.momentum_of_other_convention,
        "BN121": setting.unknown_epsilon,
        "BN122": setting.clamped_epsilon,
        "BN123": setting.batch_statistics,
        "BN124": setting.wired_training,
        "BN125": setting.virtual_batch_axis,
        "BN130": deployment.float16_overflow,
        "BN131": deployment.float16_precision,
        "BN132": deployment.bfloat16_precision,
        "BN133": deployment.cancellation,
        "BN134": deployment.int8_spread,
    }
)


def check(layer: BatchNorm, writer: str = "") -> tuple[Finding, ...]:
    """Return what the rules find in one layer, in the order of their codes.

    Of a layer whose statistics a converter folded there is only a scale and a shift to judge.

    Args:
        layer: to look at.
        writer: what wrote its file, so that a hint speaks the words of that framework.
    """
    rules = (RULES["BN101"],) if layer.statistics is Statistics.FOLDED else RULES.values()
    found = (finding for rule in rules if (finding := rule(layer)) is not None)
    return tuple(
        replace(one, hint=inference_words.hint(writer, layer.class_name)) if one.rule == "BN123" else one
        for one in found
    )


def judged(findings: tuple[Finding, ...], layer: str, settings: Settings) -> tuple[Finding, ...]:
    """Return the findings in a layer of that name, those marked as ignored that the settings take out."""
    return tuple(
        replace(finding, ignored=reason) if (reason := _ignored(finding.rule, layer, settings)) else finding
        for finding in findings
    )


def _ignored(rule: str, layer: str, settings: Settings) -> str | None:
    if settings.select and not rule.startswith(settings.select):
        return "not in --select"
    for known in settings.ignores:
        if rule.startswith(known.rule) and safe_text.matches(layer, (known.layers,)):
            return f"{known.reason} (until {known.until})" if known.until else known.reason
    return "--ignore" if rule.startswith(settings.ignore) else None
