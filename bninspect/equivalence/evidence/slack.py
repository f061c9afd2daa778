"""By how much a value of an export may be off because the export rounds what lies between to integers or to float16.

Every operation is proved on its own input. What remains is what comes between two proved tensors: each quantised value
on the way is off by at most a step (half a one of rounding, and half a one that a kernel with tables or two roundings
may add), and what follows passes that on, multiplied by how steep it is.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

import numpy as np

from bninspect.arithmetic.bounds import precision
from bninspect.equivalence import tensors
from bninspect.records import Array
from bninspect.records.graph import NARROW, ActivationLimits, Network, Node, leading_to

_PASSED = """
identity reshape transpose cast relu relu6 clip pool max minimum maximum min concatenation concat pad padv2 slice split
gather flatten squeeze mean average globalaveragepool averagepool maxpool resize upsample crop tile expand select view
index dropout unpack pack stack strided space depth batch broadcast reduce leaky elu tanh hardtanh flatten_ contiguous
neg abs softplus softsign mirror reverse flip reducemean reducemax reducemin globalmaxpool averagepool2d amax amin
leakyrelu
"""
_SLOPES = {"logistic": 0.25, "sigmoid": 0.25, "softmax": 0.5, "hard swish": 1.5, "hardswish": 1.5, "hardsigmoid": 0.2}
_SLOPES |= {"gelu": 1.13, "silu": 1.1, "swish": 1.1, "mish": 1.09, "log softmax": 2.0, "logsoftmax": 2.0}
"""Steepest slopes: hard swish at 3, swish at 2.4, gelu at sqrt(2); softmax and its logarithm for the largest input."""
_MICROSOFT = "com.microsoft::"
_WIDE_TABLES = {"tanh": 16.0, "logistic": 8.0, "gelu": 3.0}
_WIDE_SOFTMAX = 2.0
"""Steps that LiteRT's kernels for int16 may be off, of softmax for each number that it sums. Measured, not derived: all
65,536 inputs at five scales (tanh 12.1 at 2^-12, where it is computed in fixed point, 2.7 elsewhere; logistic 6.3;
gelu 2.2), and 3,000 random ones of 5 and 32 numbers (softmax 8.0 and 55.4)."""
_SHAPES = ("shape", "size", "rank")
"""Operations that only look at how long something is."""
_ROUNDING = ("identity", "quantize")
"""Operations that round floats to steps and do nothing else."""
_HALF = 0.5 + 2.0**-6
"""Steps: the place, one of 2^16 at most, is looked for in float32, by a quotient or by a product with a reciprocal."""
_COMBINING = ("add", "sub", "mul", "div")
"""Operations that combine what flows with a number, which may have been rounded."""
_BOUNDED = ("logistic", "sigmoid", "softmax", "tanh", "hardsigmoid", "l2 normalization")
"""Operations whose results end where their type ends."""


class Slack:
    """What rounding may have done to each value of an export, 0 for those that are given.

    Args:
        network: what the export computes.
        values: what its runtime had, integers as they are.
        given: values that are exact: what comes behind is judged from them on.
        proved: those of them that came out of an operation which is proved by itself.
    """

    def __init__(
        self, network: Network, values: Mapping[str, Array], given: Container[str], proved: Container[str] = ()
    ) -> None:
        self._network = network
        self._values = values
        self._given = given
        self._proved = proved
        self._producers = network.producers()
        self._found: dict[str, float] = {}
        self.unknown = ""
        """The last operation that was met of which no bound is known."""

    def arriving(self, name: str) -> float:
        """Return by how much a value may be off as it is computed from what is given, whether it is itself given.

        Less what is cut off where it ends itself: whoever asks cuts his own off as well.
        """
        node = self._producers.get(name)
        if name in self._proved or node is None:
            return 0.0
        for one in node.inputs:
            self.of(one)
        return self._made(node, name) - self._cut(node, name)

    def of(self, name: str) -> float:
        """Return by how much a value may be off; infinite where an operation is not known."""
        if name in self._given or name not in self._producers:
            return 0.0
        # Without recursion: a graph may be thousands of operations long.
        waiting = [name]
        while waiting:
            value = waiting[-1]
            if value in self._found:
                waiting.pop()
                continue
            node = self._producers[value]
            missing = [one for one in node.inputs if self._is_open(one)]
            if missing and value not in missing:
                waiting += missing
                continue
            self._found[value] = self._made(node, value)
            waiting.pop()
        return self._found[name]

    def is_cut(self, name: str) -> bool:
        """Return whether a value on the way from what is given stands at the end of its type, and may be beyond it."""
        nodes = leading_to([name], self._network, self._given)
        return any(self._ends_at(node, value) for node in nodes for value in node.outputs)

    def _ends_at(self, node: Node, value: str) -> bool:
        quantised, array = self._network.quantised.get(value), self._values.get(value)
        if quantised is None or array is None or array.dtype.kind not in "iu" or _plain(node) in _BOUNDED:
            return False
        taken = [tensors.grid(one, self._network) for one in node.inputs]
        if len(taken) == 1 and taken[0] is not None and tensors.is_same_grid(taken[0], quantised):
            return False
        (low, high), step = tensors.reach(quantised), tensors.step(value, self._network)
        below, above = tensors.at_ends(tensors.real(array, quantised), quantised)
        limits = node.limits or ActivationLimits(-np.inf, np.inf)
        return bool(
            (limits.low < low.min() - step and below.any()) or (limits.high > high.max() + step and above.any())
        )

    def _is_open(self, name: str) -> bool:
        return name not in self._given and name in self._producers and name not in self._found

    def _made(self, node: Node, value: str) -> float:
        taken = [0.0 if one in self._given else self._found.get(one, 0.0) for one in node.inputs]
        rounded = self._rounding(value) * self._table(node, value) * self._placed(node, value)
        numbers = self._of_weights(node) + self._of_constants(node, value)
        return self._passed(node, taken) + rounded + self._cut(node, value) + numbers

    def _cut(self, node: Node, value: str) -> float:
        """Return by how much floats that are rounded to even steps were cut off, which both values show."""
        quantised = self._network.quantised.get(value)
        if quantised is None or quantised.levels is None or not {value, node.inputs[0]} <= self._values.keys():
            return 0.0
        before, after = (self._values[one].astype(np.float64) for one in (node.inputs[0], value))
        if before.shape != after.shape:
            self.unknown = node.operation
            return float("inf")
        with np.errstate(all="ignore"):
            lost = float(np.abs(after - before).max(initial=0.0))
        return max(0.0, lost - tensors.step(value, self._network))

    def _table(self, node: Node, value: str) -> float:
        """Return how many steps a function may be off that a kernel looks up in a table or computes in fixed point."""
        quantised, array = self._network.quantised.get(value), self._values.get(value)
        if quantised is None or quantised.dtype != "int16" or array is None:
            return 1.0
        if node.operation == "softmax":
            return max(1.0, _WIDE_SOFTMAX * (array.shape[-1] if array.ndim else 1))
        return _WIDE_TABLES.get(node.operation, 1.0)

    def _placed(self, node: Node, value: str) -> float:
        """Return the part of a step that is lost where floats are only rounded: none of what stands on these steps."""
        quantised, before = self._network.quantised.get(value), node.inputs[0] if len(node.inputs) == 1 else ""
        array = self._values.get(before)
        if quantised is None or quantised.levels is not None or array is None or array.dtype.kind != "f":
            return 1.0
        if node.operation not in _ROUNDING:
            return 1.0
        known = tensors.grid_of_origin(before, self._network)
        return 0.0 if known is not None and tensors.is_same_grid(known, quantised) else _HALF

    def _of_weights(self, node: Node) -> float:
        """Return what quantised weights and an input that is quantised on the way do to a kernel that is not given."""
        kernel = node.kernel
        if kernel is None or not node.inputs or (kernel.weight_step is None and kernel.dtype == "float32"):
            return 0.0
        largest = self._largest(node.inputs[0])
        taps, inputs, _ = kernel.weights.shape
        most = largest * float(np.abs(kernel.weights).sum(axis=(0, 1)).max(initial=0.0))
        if kernel.weight_step is None:
            return most * precision(kernel.dtype).unit
        off: float = taps * inputs * largest * float(np.abs(kernel.weight_step).max(initial=0.0)) / 2
        return off + most / 254 if node.quantises_input else off

    def _of_constants(self, node: Node, value: str) -> float:
        """Return what rounding a number does that is multiplied with or added: a part of what comes out or goes in."""
        if node.constants not in NARROW or node.operation not in _COMBINING:
            return 0.0
        return 2 * precision(node.constants).unit * max(self._largest(one) for one in (value, *node.inputs))

    def _rounding(self, value: str) -> float:
        half = tensors.step(value, self._network)
        array = self._values.get(value)
        if half or array is None or array.dtype.kind != "f" or not array.size:
            return half
        unit = precision(array.dtype.name).unit
        # What float32 loses is allowed for elsewhere.
        return 2 * unit * float(np.abs(array).max(initial=0.0)) if unit > precision("float32").unit else 0.0

    def _passed(self, node: Node, taken: list[float]) -> float:
        most = max(taken, default=0.0)
        if most == 0.0 or node.operation in _SHAPES:
            return 0.0
        operation = _plain(node)
        words = operation.replace("_", " ").split()
        if operation in {"add", "sub", "sum"} and len(taken) > 1:
            return sum(taken)
        if operation in {"add", "sub"} and node.constants:
            return most
        if operation == "mul" and len(taken) == 2:
            sizes = [self._largest(one) for one in node.inputs]
            return taken[0] * sizes[1] + taken[1] * sizes[0]
        if operation == "div" and len(taken) == 2:
            least = self._smallest(node.inputs[1]) - taken[1]
            return (taken[0] + self._largest(node.outputs[0]) * taken[1]) / least if least > 0 else float("inf")
        if operation == "exp":
            return most * self._largest(node.outputs[0]) * float(np.exp(min(most, 1.0))) if most <= 1 else float("inf")
        if operation in _SLOPES:
            return _SLOPES[operation] * most
        if node.kernel is not None:
            return most * float(np.abs(node.kernel.weights).sum(axis=(0, 1)).max(initial=0.0))
        if any(word in _PASSED_WORDS for word in words) or node.limits is not None:
            return most
        self.unknown = node.operation
        return float("inf")

    def _largest(self, name: str) -> float:
        if name not in self._values:
            return float("inf")
        values = tensors.real(self._values[name], self._network.quantised.get(name))
        return float(np.abs(values.astype(np.float64)).max(initial=0.0))

    def _smallest(self, name: str) -> float:
        if name not in self._values:
            return 0.0
        values = tensors.real(self._values[name], self._network.quantised.get(name))
        return float(np.abs(values.astype(np.float64)).min(initial=np.inf))


_PASSED_WORDS = frozenset(_PASSED.split())


def _plain(node: Node) -> str:
    """Return what an operation on quantised values is called without them."""
    return node.operation.removeprefix(_MICROSOFT).removeprefix("qlinear")
