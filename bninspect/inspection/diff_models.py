"""Two models, layer by layer: which layers belong together, and what became of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from bninspect.inspection.diff_changes import borrowed
from bninspect.inspection.diff_layers import LayerDifference, Verdict, difference, same_arrays, same_map
from bninspect.records import Array, BatchNorm, Checkpoint, Statistics, Unread
from bninspect.safe_text import printable


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The result of `diff`. Layers are in the order of the second file, those that are gone come last."""

    schema_version: str = "1.0"
    command: str = "diff"
    exit_code: int
    """0 where every layer is equal or maps x alike, 1 where one changed, 3 where that depends on what a file lacks."""
    before: str
    after: str
    """Paths of the two files."""
    layers: tuple[LayerDifference, ...]
    epsilon_not_compared: int
    """Matched layers whose epsilon neither file states."""
    unread: tuple[Unread, ...] = ()
    """Calls of batch norm in either file that its reader did not read: nobody compared them."""

    @property
    def counts(self) -> Counter[Verdict]:
        """How many layers there are of each verdict."""
        return Counter(layer.verdict for layer in self.layers)


def diff(before: Checkpoint, after: Checkpoint) -> Difference:
    """Compare the parameters and settings of two models.

    Layers are matched by name; those left over by equal parameters, then by the same map of x, then by their width
    and order.
    """
    pairs = _matched(before.layers, after.layers)
    same = before.format == after.format
    compared = ((difference(old, new, by, one_format=same), old, new) for old, new, by in pairs)
    held = {(layer.name, name): array for layer in before.layers for name, array in layer.arrays.items()}
    found = {id(new): _confused(found, old, new, before.layers, held) for found, old, new in compared}
    taken = {id(old) for old, _, _ in pairs}
    layers = [found.get(id(new)) or _alone(new, Verdict.ADDED) for new in after.layers]
    layers += [_alone(old, Verdict.REMOVED) for old in before.layers if id(old) not in taken]
    harmless = {Verdict.EQUAL, Verdict.SAME_MAP}
    return Difference(
        exit_code=3
        if any(layer.verdict is Verdict.UNSTATED for layer in layers) or before.unread or after.unread
        else 0
        if all(layer.verdict in harmless for layer in layers)
        else 1,
        before=before.path,
        after=after.path,
        layers=tuple(layers),
        epsilon_not_compared=sum(_lack_epsilon(old, new) for old, new, _ in pairs),
        unread=(*before.unread, *after.unread),
    )


def _alone(layer: BatchNorm, verdict: Verdict) -> LayerDifference:
    old, new = (None, layer.name) if verdict is Verdict.ADDED else (layer.name, None)
    return LayerDifference(old, new, "", verdict, layer.channels)


def _lack_epsilon(old: BatchNorm, new: BatchNorm) -> bool:
    return all(layer.epsilon is None and layer.statistics is not Statistics.FOLDED for layer in (old, new))


def _confused(
    found: LayerDifference,
    old: BatchNorm,
    new: BatchNorm,
    layers: Sequence[BatchNorm],
    held: Mapping[tuple[str, str], Array],
) -> LayerDifference:
    """Say of a changed layer if it holds what another layer held."""
    if found.verdict is not Verdict.CHANGED:
        return found
    other = next((layer for layer in layers if layer is not old and same_arrays(layer, new)), None)
    if other is None:
        said = borrowed(old, new, held)
        return found if said is None else replace(found, reasons=(said,))
    return replace(found, reasons=(f"it holds the parameters that {printable(other.name)} held",))


def _matched(before: Sequence[BatchNorm], after: Sequence[BatchNorm]) -> list[tuple[BatchNorm, BatchNorm, str]]:
    pairs: list[tuple[BatchNorm, BatchNorm, str]] = []
    old, new = list(before), list(after)

    def match(a: BatchNorm, b: BatchNorm, by: str) -> None:
        pairs.append((a, b, by))
        old.remove(a)
        new.remove(b)

    names = {layer.name: layer for layer in before}
    for b in after:
        if b.name in names:
            match(names.pop(b.name), b, "name")
    for alike in (same_arrays, same_map):
        for b in tuple(new):
            a = next((a for a in old if a.channels == b.channels and alike(a, b)), None)
            if a is not None:
                match(a, b, "parameters")
    rest = SequenceMatcher(None, [a.channels for a in old], [b.channels for b in new], autojunk=False)
    blocks = [(tuple(old)[i : i + size], tuple(new)[j : j + size]) for i, j, size in rest.get_matching_blocks()]
    for some, others in blocks:
        for a, b in zip(some, others, strict=True):
            match(a, b, "order")
    return pairs
