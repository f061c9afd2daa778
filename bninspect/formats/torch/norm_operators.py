"""Every operator that torch has for a batch norm, and which of its arguments says what.

The schemas are those of torch 2.13 (native_functions.yaml, aten/src/ATen/native/quantized/library.cpp); a test holds
the table against the installed torch. All have the input first, then weight, bias, mean and variance.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bninspect.records import Statistics

ARRAYS = {"gamma": "weight", "beta": "bias", "moving_mean": "running_mean", "moving_variance": "running_var"}
"""What torch calls the parameters, by their standard name."""


@dataclass(frozen=True)
class NormOperator:
    """One operator, without its namespace and overload."""

    arguments: tuple[str, ...]
    """Their names in order, as in the schema; `mean` and `var` are called running_mean and running_var here."""
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


_PARAMETERS = ("input", *ARRAYS.values())
_TRAINED = NormOperator((*_PARAMETERS, "training", "momentum", "eps", "cudnn_enabled"), "training")
_VENDOR = NormOperator((*_PARAMETERS, "training", "exponential_average_factor", "epsilon"), "training")
_UPDATING = NormOperator((*_PARAMETERS, "momentum", "eps"), statistics=Statistics.BATCH)
_FIXED = NormOperator((*_PARAMETERS, "momentum", "eps"))
_QUANTISED = NormOperator((*_PARAMETERS, "eps", "output_scale", "output_zero_point"))

OPERATORS: Mapping[str, NormOperator] = {
    "batch_norm": _TRAINED,
    "_batch_norm_impl_index": _TRAINED,
    "native_batch_norm": _TRAINED,
    "_native_batch_norm_legit": _TRAINED,
    "_native_batch_norm_legit_functional": _TRAINED,
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
    "quantized_batch_norm": _QUANTISED,
    "quantized::batch_norm": _QUANTISED,
    **{f"quantized::batch_norm{rank}d": _QUANTISED for rank in (1, 2, 3)},
    "quantized::batch_norm_relu": _QUANTISED,
    **{f"quantized::batch_norm{rank}d_relu": _QUANTISED for rank in (1, 2, 3)},
}
"""By name; those of ATen without its namespace."""

PARTS = ("batch_norm_stats", "batch_norm_elemt", "batch_norm_gather_stats", "batch_norm_gather_stats_with_counts")
"""What a synchronised batch norm is made of while it trains: a call of `batch_norm_elemt` is a batch norm by the
statistics of its batch, and the others are a part of it."""
