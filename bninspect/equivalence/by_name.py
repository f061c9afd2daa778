"""What a file that holds weights alone would compute, as far as names say: each batch norm and the kernel beside it.

Nobody says what feeds what. Beside a batch norm is the kernel of as many outputs whose name is the nearest: in the
same module, and there of the same number (`conv1`, `bn1`), or of the number before (`0` and `1` of a sequence). A wrong
guess fits no numbers of the other file, and leaves the batch norm unverified.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Sequence

from bninspect.arithmetic.norm_kernel import norm_kernel
from bninspect.formats.named_kernels import NamedKernel
from bninspect.records import BatchNorm
from bninspect.records.graph import BATCH_NORM, Network, Node

_NUMBER = re.compile(r"(\D*)(\d+)$")


def network(kernels: Sequence[NamedKernel], layers: Iterable[BatchNorm], other: Collection[str] = ()) -> Network:
    """Return kernels and batch norms as a network in which each batch norm takes what the kernel beside it returns.

    Args:
        kernels: of the file, in its order.
        layers: its batch norms.
        other: names of kernels of which the second reading is taken, where they have one that is possible.
    """
    beside: dict[str, NamedKernel] = {}
    for layer in layers:
        taken = {one.name for one in beside.values()}
        fitting = [one for one in kernels if one.name not in taken and _outputs(one, layer.channels)]
        if fitting:
            beside[layer.name] = max(fitting, key=lambda one: _nearness(layer.name, one.name))
    channels = {one.name: layer.channels for layer in layers if (one := beside.get(layer.name)) is not None}
    nodes = [_kernel(one, channels.get(one.name), second=one.name in other) for one in kernels]
    for layer in layers:
        x = beside[layer.name].name if layer.name in beside else f"{layer.name} taken"
        y = f"{layer.name} returned"
        nodes.append(Node(layer.name, BATCH_NORM, (x,), (y,), norm_kernel(layer), layer.name, norm=layer))
    return Network((), (), tuple(nodes))


def _outputs(kernel: NamedKernel, channels: int) -> bool:
    return any(one.outputs == channels for _, one in kernel.readings)


def _kernel(named: NamedKernel, channels: int | None, *, second: bool) -> Node:
    possible = [one for one in named.readings if channels in {None, one[1].outputs}]
    operation, kernel = possible[1 if second and len(possible) > 1 else 0]
    return Node(named.name, operation, (f"{named.name} taken",), (named.name,), kernel)


def _nearness(norm: str, kernel: str) -> tuple[int, bool, int]:
    """Return how near two names are: modules in common, whether the next parts belong together, how far they are."""
    own, other = re.split(r"[./]", norm), re.split(r"[./]", kernel)
    shared = 0
    while shared < min(len(own), len(other)) and own[shared] == other[shared]:
        shared += 1
    (word, number), (kernel_word, kernel_number) = (_numbered(one[shared : shared + 1]) for one in (own, other))
    apart = number - kernel_number
    return shared, apart == (0 if word or kernel_word else 1), -abs(apart)


def _numbered(part: Sequence[str]) -> tuple[str, int]:
    """Return a part of a name as its word and its number, -1 without one."""
    found = _NUMBER.search(part[0]) if part else None
    return (found[1], int(found[2])) if found else ("".join(part), -1)
