"""Whether what arrives at a batch norm of a sample depends on that sample alone, bit for bit: tried, not believed."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from bninspect.records import Arrival
from bninspect.runtimes.runtime import Forward
from bninspect.statistics import sample_moments
from bninspect.statistics.data.samples import Batch, Samples


@dataclass(frozen=True, eq=False)
class ModelCalls:
    """What arrived at layers in one forward pass."""

    bits: Mapping[str, list[bytes]]
    """By the layer, in the order in which they were reached, the moments of each sample, call after call."""
    repeated: frozenset[str] = field(default_factory=frozenset)
    """Layers that were called more than once."""
    size: int = 0
    """Bytes of all that arrived."""


def calls(forward: Forward, batch: Batch, layers: Collection[str]) -> ModelCalls:
    """Run a batch, and return what arrived at layers."""
    bits: dict[str, list[bytes]] = {}
    repeated = set()
    size = 0

    def receive(arrival: Arrival) -> None:
        nonlocal size
        if arrival.layer not in layers:
            return
        size += arrival.x.nbytes
        if arrival.layer in bits:
            repeated.add(arrival.layer)
        moments = sample_moments.of_batch(arrival.x, arrival.axis, batch.size, arrival.mask)
        bits.setdefault(arrival.layer, []).extend(
            mean.tobytes() + spread.tobytes() for mean, spread in zip(moments.means, moments.spreads, strict=True)
        )

    forward(batch.arrays, receive, None)
    return ModelCalls(bits, frozenset(repeated), size)


def holds(forward: Forward, data: Samples, batch: Batch, chosen: Sequence[int], plain: ModelCalls) -> bool:
    """Return whether a sample's activations are the same bits at another place in the batch, beside other samples.

    Args:
        forward: runs a batch.
        data: the samples.
        batch: some of them.
        chosen: which.
        plain: what arrived of that batch.
    """
    size = batch.size
    turned = [*chosen[size // 2 :], *chosen[: size // 2]][::-1]
    order = [*range(size // 2, size), *range(size // 2)][::-1]
    others = calls(forward, Batch(data.read(turned), size, size), plain.bits.keys()).bits
    same = calls(forward, Batch(data.read([*chosen[:1]] * size), size, size), plain.bits.keys()).bits
    for name, bits in plain.bits.items():
        for call in range(0, len(bits), size):
            if [bits[call + place] for place in order] != others[name][call : call + size]:
                return False
            if same[name][call] != bits[call]:
                return False
    return True
