"""What a page has room for: failing models first, then passing ones; details of failing layers, then of others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from bninspect.reports.html import model as model_part
from bninspect.reports.html.element import Markup

MOST_BYTES = 900_000
"""Of the sections about models. A page is sent by mail and kept with a build: it stays below a megabyte."""
MOST_FOR_PASSES = 450_000
"""Up to which size the details of layers that pass are added."""


def sections(models: Sequence[model_part.Shown], taken: int) -> list[Markup]:
    """Return the sections of the first models, as many as there is room for, with details of layers where it lasts.

    Args:
        models: in the order of the page.
        taken: bytes of the page besides.
    """
    chosen: list[model_part.Shown] = []
    used = taken
    for shown in models:
        used += len(model_part.section(shown, {}))
        if used > MOST_BYTES and chosen:
            break
        chosen.append(shown)
    details: list[dict[int, Markup]] = [{} for _ in chosen]
    for index, place, most in _in_turn(chosen):
        if used < most:
            found = model_part.layer_details(chosen[index], place)
            if used + len(found) <= most:
                details[index][place] = found
                used += len(found)
    return [model_part.section(shown, found) for shown, found in zip(chosen, details, strict=True)]


def _in_turn(models: Sequence[model_part.Shown]) -> Iterator[tuple[int, int, int]]:
    """Yield the places of model and layer, and the size up to which there is room: what fails comes first."""
    failing = [set(shown.failing) for shown in models]
    for index, places in enumerate(failing):
        yield from ((index, place, MOST_BYTES) for place in sorted(places))
    for index, shown in enumerate(models):
        others = set(range(len(shown.model.layers))) - failing[index]
        yield from ((index, place, MOST_FOR_PASSES) for place in sorted(others))
