"""Batch norms that are one operation."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bninspect.formats.tensorflow import tensor
from bninspect.formats.tensorflow.graph.expressions import Expressions
from bninspect.formats.tensorflow.graph.flatten import FlatNode
from bninspect.formats.tensorflow.norms.moments import FlatMoments
from bninspect.formats.tensorflow.norms.site import NormSite, shortest
from bninspect.records import PARAMETERS, Form, Statistics

# Operation -> positions of x, gamma, beta, mean, variance; the attribute for epsilon and the operation's own default.
_FUSED: Mapping[str, tuple[tuple[int, ...], str, float]] = {
    "FusedBatchNorm": ((0, 1, 2, 3, 4), "epsilon", 1e-4),
    "FusedBatchNormV2": ((0, 1, 2, 3, 4), "epsilon", 1e-4),
    "FusedBatchNormV3": ((0, 1, 2, 3, 4), "epsilon", 1e-4),
    "BatchNormWithGlobalNormalization": ((0, 4, 3, 1, 2), "variance_epsilon", 0.0),
}
# What Grappler makes of a convolution and a batch norm: x, filter, then gamma, beta, mean, variance.
_MERGED = re.compile(r"_(Mkl(Native)?)?Fused(Conv|Depthwise|MatMul|BatchNorm)")


def fused(node: FlatNode, expressions: Expressions, moments: FlatMoments) -> NormSite | None:
    """Return the call that one operation is by itself; None if it is not a batch norm, or not known to be one."""
    if _MERGED.match(node.op):
        return _merged(node, expressions)
    if node.op not in _FUSED or len(node.inputs) < 5:
        return None
    order, attribute, default = _FUSED[node.op]
    x, *rest = (node.inputs[position] for position in order)
    leaves = {name: expressions.leaf(one) for name, one in zip(PARAMETERS, rest, strict=True)}
    if node.op == "BatchNormWithGlobalNormalization" and not node.node.flag("scale_after_normalization", default=False):
        leaves["gamma"] = None
    trains = node.op != "BatchNormWithGlobalNormalization" and node.node.flag("is_training", default=True)
    if trains:
        if moments.is_of_samples(node):
            return None
        leaves = {name: leaf for name, leaf in leaves.items() if leaf and expressions.is_named(leaf)}
    computed = not trains and not (leaves["moving_mean"] and leaves["moving_variance"])
    output = tensor.float_name(node.node.dtype("T"))
    return NormSite(
        name=node.node.name,
        nodes=(node.name,),
        x=x,
        y=(node.name, 0),
        parameters={name: leaf for name, leaf in leaves.items() if leaf is not None},
        epsilon=shortest(node.node.real(attribute, default)),
        axis=(1,) if node.node.text("data_format", "NHWC").startswith("NC") else (-1,),
        form=Form.CENTRED,
        statistics=Statistics.BATCH if trains else Statistics.COMPUTED if computed else Statistics.MOVING,
        output=output or "float32",
        # The kernel computes in float32 also where x and y are narrower.
        arithmetic="float64" if output == "float64" else "float32",
    )


def _merged(node: FlatNode, expressions: Expressions) -> NormSite | None:
    fused = [bytes(part) for part in node.node.attribute("fused_ops").message(1).chunks(2)]
    skipped = 1 if "BatchNorm" in node.op else 2
    if b"FusedBatchNorm" not in fused and skipped == 2:
        return None
    leaves = [expressions.leaf(source) for source in node.inputs[skipped : skipped + 4]]
    return NormSite(
        name=node.node.name,
        nodes=(node.name,),
        x=node.inputs[0],
        y=(node.name, 0),
        parameters={name: leaf for name, leaf in zip(PARAMETERS, leaves, strict=False) if leaf is not None},
        epsilon=shortest(node.node.real("epsilon", 1e-4)),
        axis=(1,) if node.node.text("data_format", "NHWC").startswith("NC") else (-1,),
        hidden=f"merged with its neighbours in one operation, {node.op}",
    )
