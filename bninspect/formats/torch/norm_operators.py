"""Every operator that torch has for a batch norm, and which of its arguments says what.

The schemas are those of torch 2.13 (native_functions.yaml, aten/src/ATen/native/quantized/library.cpp); a test holds
the table against the installed torch. All have the input first, then weight, bias, mean and variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bninspect.formats.torch.running_statistics import FIELDS
from bninspect.records import Statistics


@dataclass(frozen=True)
class NormOperator:
    """One operator, without its namespace and overload."""

    arguments: tuple[str, ...]
    """Their names in order, as in the schema but for those of `STANDARD`."""
    training: str = ""
    """The argument that says that it normalises by moments of its own input; empty where none does."""
    statistics: Statistics = Statistics.MOVING
    """What it normalises by where `training` does not say otherwise."""
    moments: Statistics = Statistics.BATCH
    """What it normalises by if `training` is true or there are no running statistics."""

    @property
    def epsilon(self) -> str:
        """Return the name of the argument that is epsilon."""
        return "epsilon" if "epsilon" in self.arguments else "eps"

    @property
    def momentum(self) -> str:
        """Return the name of the argument that is the weight of the new; an operator may have none."""
        return "exponential_average_factor" if "exponential_average_factor" in self.arguments else "momentum"


_PARAMETERS = ("input", *FIELDS.values())
_TRAINED = NormOperator((*_PARAMETERS, "training", "momentum", "eps", "cudnn_enabled"), "training")
_NATIVE = NormOperator((*_PARAMETERS, "training", "momentum", "eps"), "training")
_VENDOR = NormOperator((*_PARAMETERS, "training", "exponential_average_factor", "epsilon"), "training")
_UPDATING = NormOperator((*_PARAMETERS, "momentum", "eps"), statistics=Statistics.BATCH)
_FIXED = NormOperator((*_PARAMETERS, "momentum", "eps"))
_ELEMENTS = NormOperator((*_PARAMETERS[:3], "running_mean", "invstd", "eps"), statistics=Statistics.BATCH)
"""The last step of a synchronised batch norm while it trains."""
_QUANTISED = NormOperator((*_PARAMETERS, "eps", "output_scale", "output_zero_point"))

OPERATORS: Mapping[str, NormOperator] = {
    "batch_norm": _TRAINED,
    "_batch_norm_impl_index": _TRAINED,
    "native_batch_norm": _NATIVE,
    "_native_batch_norm_legit": _NATIVE,
    "_native_batch_norm_legit_functional": _NATIVE,
    "_native_batch_norm_legit_no_training": _FIXED,
    "_batch_norm_no_update": _FIXED,
    "_batch_norm_with_update": _UPDATING,
    "_batch_norm_with_update_functional": _UPDATING,
    "cudnn_batch_norm": _VENDOR,
    "miopen_batch_norm": _VENDOR,
    "instance_norm": NormOperator(
        (*_PARAMETERS, "use_input_stats", "momentum", "eps", "cudnn_enabled"),
        "use_input_stats",
        moments=Statistics.SAMPLE,
    ),
    "batch_norm_elemt": _ELEMENTS,
    "quantized_batch_norm": _QUANTISED,
    "quantized::batch_norm": _QUANTISED,
    **{f"quantized::batch_norm{rank}d": _QUANTISED for rank in (1, 2, 3)},
    "quantized::batch_norm_relu": _QUANTISED,
    **{f"quantized::batch_norm{rank}d_relu": _QUANTISED for rank in (1, 2, 3)},
    "onednn::qbatch_norm2d": NormOperator(
        (
            "input",
            "qx_scale",
            "qx_zero_point",
            *_PARAMETERS[1:],
            "eps",
            "output_scale",
            "output_zero_point",
            "output_dtype",
        )
    ),
}
"""By name; those of ATen without its namespace."""

STANDARD = {"qx": "input", "mean": "running_mean", "var": "running_var"}
"""What some schemas call arguments, and what they are called here."""
PARTS = frozenset(
    (
        *("batch_norm_stats", "batch_norm_gather_stats", "batch_norm_gather_stats_with_counts"),
        *("batch_norm_update_stats", "quantized::instance_norm"),
    )
)
"""Operators that are not a batch norm: those that gather what `batch_norm_elemt` normalises by, and one of samples."""
