"""The batch norms of the source, each with what is around it: what it may be folded into."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bninspect.equivalence import folding
from bninspect.equivalence.folding import ChannelMap
from bninspect.errors import BninspectError
from bninspect.records import (
    BatchNorm,
    Checkpoint,
    graph,
)
from bninspect.records.graph import Kernel, Network, Node, kernel_of

_ACTIVATIONS = """
relu relu6 leakyrelu leaky_relu elu selu gelu silu swish sigmoid tanh hardtanh hardswish hard_swish hardsigmoid
hard_sigmoid softplus mish prelu clip clamp activation softmax exponential softsign relu_ relu6_ hardtanh_ silu_
"""


ACTIVATIONS = frozenset(_ACTIVATIONS.split())
"""What frameworks call functions of one number, in lower case."""


@dataclass(frozen=True, eq=False)
class SourceNorm:
    """A call of a batch norm in the source, and what is around it."""

    layer: BatchNorm
    affine: ChannelMap
    call: Node
    place: int
    """Its position among the operations of the source."""
    kernel: Node | None = None
    """The linear operation whose result it takes, whatever else reads that."""
    through: SourceNorm | None = None
    """The batch norm that comes between that operation and this one."""
    obstacle: str = ""
    """Why it cannot be folded into that operation: `activation` or `consumer`; empty if it can."""
    follower: Node | None = None
    """The linear operation that alone reads its result."""


def norms(source: Network, layers: Mapping[str, BatchNorm]) -> tuple[SourceNorm, ...]:
    """Return the calls of the given layers in the order in which they are made."""
    producers, consumers = source.producers(), source.consumers()
    found: dict[Node, SourceNorm] = {}
    for place, node in enumerate(source.nodes):
        if node.operation != graph.BATCH_NORM or node.layer not in layers:
            continue
        layer = layers[node.layer]
        affine = folding.affine(layer)
        kernel, through, obstacle = _fed_by(node, found, producers, consumers)
        in_front = through.affine.scale.size if through else kernel_of(kernel).outputs if kernel else 0
        if in_front != affine.scale.size:
            # Over several axes it has a slope for each place, where what is in front of it has one for each channel.
            kernel, through, obstacle = None, None, ""
        after = graph.readers(node.outputs[0], consumers)
        follower = after[0] if len(after) == 1 and after[0].kernel is not None and not after[0].layer else None
        found[node] = SourceNorm(layer, affine, node, place, kernel, through, obstacle, follower)
    return tuple(found.values())


def _fed_by(
    node: Node,
    found: Mapping[Node, SourceNorm],
    producers: Mapping[str, Node],
    consumers: Mapping[str, tuple[Node, ...]],
) -> tuple[Node | None, SourceNorm | None, str]:
    """Return the linear operation behind which a batch norm comes, and the batch norm and what else is between them."""
    origin = graph.origin(node.inputs[0], producers)
    between = ""
    if origin is not None and origin.operation in ACTIVATIONS and len(origin.inputs) == 1:
        between, origin = "activation", graph.origin(origin.inputs[0], producers)
    if origin is None:
        return None, None, ""
    through = found.get(origin)
    if through is None and (origin.kernel is None or origin.layer):
        return None, None, ""
    if origin.activation:
        between = "activation"
    if not between and len(graph.readers(origin.outputs[0], consumers)) > 1:
        between = "consumer"
    return (origin, None, between) if through is None else (through.kernel, through, through.obstacle or between)


def fed(norm: SourceNorm) -> Kernel:
    """Return the linear operation behind which a batch norm comes, with the batch norms between them folded into it."""
    assert norm.kernel is not None  # noqa: S101 - narrows the type
    if norm.through is None:
        return kernel_of(norm.kernel)
    inner = folding.behind(folding.plain(fed(norm.through)), norm.through.affine)
    return replace(kernel_of(norm.kernel), weights=inner.weights, bias=inner.bias)


def with_bias(norm: SourceNorm) -> SourceNorm:
    """Return a batch norm of what comes in before the bias of the kernel in front of it was added."""
    assert norm.kernel is not None  # noqa: S101 - only such batch norms are asked for
    return replace(norm, affine=norm.affine.behind(folding.zero_bias(kernel_of(norm.kernel))))


def known_layers(checkpoint: Checkpoint) -> dict[str, BatchNorm]:
    """Return the layers whose scale and shift the file states, by name."""
    known = {}
    for layer in checkpoint.layers:
        try:
            folding.affine(layer)
        except BninspectError:
            continue
        known[layer.name] = layer
    return known
