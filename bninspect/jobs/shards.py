"""A list of models in equal parts for several machines, and their reports joined again."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from bninspect.records import Shard
from bninspect.settings import Part


def chosen(models: Sequence[str], part: Part | None) -> tuple[tuple[str, ...], Shard | None]:
    """Return the models of one part, in their order, and what its report says of it.

    Parts differ by at most one model, and no model is in two of them. Dealt out in the order of the paths' digests,
    so that neighbours, which are often of one size, are spread.

    Args:
        models: the whole list, by paths that are the same on every machine.
        part: None for all of them.
    """
    if part is None:
        return tuple(models), None
    dealt = sorted(models, key=_digest)
    mine = set(dealt[part.index - 1 :: part.count])
    places = tuple(place for place, path in enumerate(models) if path in mine)
    listing = _digest("\0".join(sorted(models)))
    return tuple(models[place] for place in places), Shard(part.index, part.count, len(models), listing, places)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
