"""What a file computes, as far as batch norms may hide in it: linear operations with their weights, what feeds what.

Frameworks store the same weights in different orders. Here all of them are (taps, inputs per group, outputs), where the
taps are the places of the kernel, 1 for a dense layer, and a depthwise convolution is one with a group per input: what
a batch norm multiplies is always the last axis.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from bninspect.errors import DamagedFile
from bninspect.records import Array, BatchNorm

CONVOLUTION, DEPTHWISE, TRANSPOSED, DENSE = "convolution", "depthwise convolution", "transposed convolution", "dense"
BATCH_NORM = "batch norm"
"""A batch norm, or the constant scale and shift that a converter made of one."""
ALL, EACH_SAMPLE = "all", "each sample"
NARROW = ("float16", "bfloat16")
"""Types coarser than float32 in which operations compute."""
PASSING = ("identity", "reshape", "transpose", "cast")
"""Operations that leave every number as it is."""


@dataclass(frozen=True, eq=False)
class Kernel:
    """The constants of a linear operation, in the order that the module's docstring defines."""

    weights: Array
    bias: Array | None = None
    groups: int = 1
    """0 where nobody says, as in files that hold weights alone."""
    dtype: str = "float32"
    """Type to which the weights were rounded."""
    weight_step: Array | None = None
    """Quantisation step of the weights of each output channel, which are whole multiples of it; None for floats."""
    bias_step: Array | None = None
    narrow: bool = False
    """Whether the operation computes in that type, so that what is folded into it may have been computed in it."""
    apart: Array | None = None
    """A scale of each output that is in the weights and that the file keeps apart: it was rounded by itself."""
    step_dtype: str = "float32"
    """Type to which the steps of the weights were rounded."""
    counted: str = ""
    """Type in which places between the ends of their range were found for the weights; empty where they were divided by
    their step."""
    flushed: float = 0.0
    """Weights smaller than this were stored as zero."""

    @property
    def outputs(self) -> int:
        """Number of output channels."""
        return int(self.weights.shape[2])


@dataclass(frozen=True)
class Geometry:
    """How a kernel moves over its input: numbers for every axis but those of batch and channels."""

    size: tuple[int, ...] = ()
    """Places of the kernel; none for a dense layer."""
    stride: tuple[int, ...] = ()
    padding: tuple[tuple[int, int], ...] | str = ()
    """Zeros before and behind each axis, or `same` or `same lower`, which depend on the length of the input."""
    dilation: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    """Of a transposed convolution, how much longer its output is."""
    channel_axis: int = -1
    """Where the channels of input and output are."""


@dataclass(frozen=True, eq=False)
class Quantisation:
    """What the stored integers of a value stand for: `scale * (stored - zero)`."""

    scale: Array
    zero: Array
    dtype: str
    axis: int = 0
    """Axis along which scale and zero run, if there are several."""
    levels: int | None = None
    """Of floats that stand on even steps, how many steps there are, the first at 0; None for integers."""


@dataclass(frozen=True)
class ActivationLimits:
    """An operation that cuts its input off and does nothing else, as relu and relu6 do."""

    low: float
    high: float


@dataclass(frozen=True, eq=False)
class Node:
    """One operation. Values that flow have names; constants are in `kernel`."""

    name: str
    operation: str
    """One of this module's names, or the framework's own in lower case."""
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    kernel: Kernel | None = None
    layer: str = ""
    """Name of the `BatchNorm` that a batch norm is a call of."""
    activation: str = ""
    """What is applied to the result as part of the operation, for instance `relu`; empty if nothing is."""
    padded: bool = False
    """Whether a convolution sees zeros beyond the border of its input."""
    folded: bool = False
    """Whether a batch norm is no more than the scale and shift that a converter made of it."""
    norm: BatchNorm | None = None
    """Of a batch norm that survived as one, what the file says of it."""
    geometry: Geometry | None = None
    """Of an operation with a kernel, where the file states it."""
    limits: ActivationLimits | None = None
    """Where the operation, or its activation, is one that cuts off."""
    setting: str = ""
    """Of an operation that saturates, along which axis it works, such as `axis -1`; empty where nobody says."""
    quantises_input: str = ""
    """Of what the range is by which the operation quantises what it takes to 8 bits on the way: `ALL` of it, or of
    `EACH_SAMPLE`; empty if it does not."""
    factor: str = ""
    """Of a scale and shift, the value that its input is multiplied by on the way; one of its inputs."""
    rounds: Mapping[str, Array] = field(default_factory=dict)
    """Values between the pieces that were joined to this one, and how much of their rounding reaches each channel."""
    order: tuple[int, ...] = ()
    """Of a transposition, and of an operation with one behind it: axis of the operation's own result, by its axis."""
    within: int = 0
    """Of branches that data chooses, or a loop with such, how many kernels and batch norms their graphs hold."""
    magnitude: Array | None = None
    """Sum of the sizes of all that the pieces add to each channel, where that is more than the size of the bias."""
    constants: str = ""
    """Type to which the numbers were rounded that it takes beside those of its kernel; empty where nobody says."""
    window: tuple[int, ...] = ()
    """Of an average over windows, how long they are; empty where it is over whole axes, or nobody says."""
    tensor: str = ""
    """Name of its result, where the file gives the operation itself none."""

    @property
    def place(self) -> str:
        """What it is and what it is called, for people: `convolution 'operator 3' (model/conv2d_1/Relu)`."""
        return f"{self.operation} '{self.name}'" + (f" ({self.tensor})" if self.tensor else "")


@dataclass(frozen=True)
class Value:
    """An input or output of a network."""

    name: str
    shape: tuple[int | None, ...]
    """Batch included; None where the length is open."""
    dtype: str


@dataclass(frozen=True, eq=False)
class Network:
    """The operations of a model in the order in which they are computed."""

    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    quantised: Mapping[str, Quantisation] = field(default_factory=dict)
    """The values that are integers standing for real numbers, or floats rounded to what integers could stand for."""
    dequantised: Mapping[str, Quantisation] = field(default_factory=dict)
    """The values that are floats made of such integers, no more: behind a DequantizeLinear."""
    fixed_point: bool = False
    """Whether its kernels bring sums of integers to the step of a value by integers alone, as LiteRT's do."""

    def producers(self) -> Mapping[str, Node]:
        """Return the node that makes each value."""
        return self._producers

    @cached_property
    def _producers(self) -> Mapping[str, Node]:
        return {value: node for node in self.nodes for value in node.outputs}

    def consumers(self) -> Mapping[str, tuple[Node, ...]]:
        """Return the nodes that take each value."""
        return self._consumers

    @cached_property
    def _consumers(self) -> Mapping[str, tuple[Node, ...]]:
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                found.setdefault(value, []).append(node)
        return {value: tuple(nodes) for value, nodes in found.items()}


def convolution(weights: Array, groups: int = 1) -> Array:
    """Return the weights of a convolution, stored as (outputs, inputs per group, places...), in our order."""
    _require_rank(weights, 3)
    if groups < 1 or weights.shape[0] % groups:
        raise DamagedFile("a convolution contradicts itself", why=f"{weights.shape[0]} outputs in {groups} groups")
    if not weights.size:
        raise DamagedFile("a convolution contradicts itself", why=f"its weights have shape {weights.shape}")
    outputs, inputs = weights.shape[:2]
    return weights.reshape(outputs, inputs, -1).transpose(2, 1, 0)


def transposed(weights: Array, groups: int = 1) -> Array:
    """Return the weights of a transposed convolution, stored as (inputs, outputs per group, places...), in our order.

    Of group g the inputs are those from g * inputs / groups on, and the outputs likewise, so that the channel that a
    batch norm multiplies has its group in front: g * outputs per group + o. Scaling `weights[:, o]` instead is a
    known defect of converters.
    """
    _require_rank(weights, 3)
    inputs, each = weights.shape[:2]
    if groups < 1 or inputs % groups:
        raise DamagedFile("a transposed convolution contradicts itself", why=f"{inputs} inputs in {groups} groups")
    split = weights.reshape(groups, inputs // groups, each, -1)
    return split.transpose(3, 1, 0, 2).reshape(-1, inputs // groups, groups * each)


def dense(weights: Array) -> Array:
    """Return the weights of a dense layer, stored as (inputs, outputs), in our order."""
    if weights.ndim != 2:
        raise DamagedFile("a dense layer contradicts itself", why=f"its weights have shape {weights.shape}")
    return weights[np.newaxis]


def _require_rank(weights: Array, least: int) -> None:
    if weights.ndim < least:
        raise DamagedFile("a convolution contradicts itself", why=f"its weights have shape {weights.shape}")


def kernel_of(operation: Node) -> Kernel:
    """Return the kernel of an operation that is known to have one."""
    assert operation.kernel is not None  # noqa: S101 - narrows the type
    return operation.kernel


def origin(value: str, producers: Mapping[str, Node]) -> Node | None:
    """Return the node whose numbers `value` holds, whatever reshaped or passed them on; None for an input."""
    seen: set[str] = set()
    while value not in seen:
        seen.add(value)
        node = producers.get(value)
        # A reshape may take the shape as well, as it is computed.
        if node is None or node.operation not in PASSING or (len(node.inputs) != 1 and node.operation != "reshape"):
            return node
        if not node.inputs:
            return node
        value = node.inputs[0]
    return None


def leading_to(values: Iterable[str], network: Network, ends: Container[str] = ()) -> tuple[Node, ...]:
    """Return the operations that lead to some values, the last first; what makes one of `ends` is not followed."""
    producers = network.producers()
    found: dict[int, Node] = {}
    waiting = list(values)
    while waiting:
        node = producers.get(waiting.pop())
        if node is not None and id(node) not in found:
            found[id(node)] = node
            waiting += [name for name in node.inputs if name not in ends]
    return tuple(found.values())


def readers(value: str, consumers: Mapping[str, Iterable[Node]]) -> tuple[Node, ...]:
    """Return the nodes that compute with the numbers of `value`, whatever reshapes or passes them on between."""
    found: list[Node] = []
    waiting, seen = [value], set()
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        for node in consumers.get(one, ()):
            if node.operation in PASSING:
                waiting.extend(node.outputs)
            else:
                found.append(node)
    return tuple(found)


def first_after(
    values: Iterable[str], network: Network, wanted: Container[str], *, across_kernels: bool = True
) -> Iterator[str]:
    """Yield the first values among those `wanted` that some reach, whatever computes between, themselves included."""
    consumers = network.consumers()
    waiting, known = list(values), set[str]()
    while waiting:
        value = waiting.pop()
        if value in known:
            continue
        known.add(value)
        if value in wanted:
            yield value
            continue
        readers_of = (node for node in consumers.get(value, ()) if across_kernels or node.kernel is None)
        waiting += [name for node in readers_of for name in node.outputs]
