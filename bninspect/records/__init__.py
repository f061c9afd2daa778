"""The records that every part of bninspect exchanges. Frozen, plain, NumPy only.

What a file says:        Checkpoint -> BatchNorm, Unread
What a runtime did:      Run, Observation
What came out:           Report -> ModelReport -> LayerReport -> Comparison, Finding

The JSON document is `Report`, field by field (`codec.py` turns one into the other).
"""

from __future__ import annotations

from bninspect.records.compared import (
    Cause,
    Channel,
    Comparison,
    Counterpart,
    Explanation,
    Export,
    Finding,
    Tolerance,
    Worst,
)
from bninspect.records.fitted import DataFit, DataReport, Departure, InputChange
from bninspect.records.observed import Arrival, DeclaredPrecision, Observation, Replay, Run
from bninspect.records.reported import (
    Distribution,
    Heading,
    LayerReport,
    LeftOut,
    ModelReport,
    Option,
    Problem,
    Report,
    Shard,
    Strip,
    Summary,
    Verified,
)
from bninspect.records.stored import BatchNorm, Checkpoint, Unread
from bninspect.records.vocabulary import (
    PARAMETERS,
    Array,
    Estimator,
    Evidence,
    Form,
    LayerStatus,
    Severity,
    Statistics,
    Status,
    in_words,
)

__all__ = [
    "PARAMETERS",
    "Array",
    "Arrival",
    "BatchNorm",
    "Cause",
    "Channel",
    "Checkpoint",
    "Comparison",
    "Counterpart",
    "DataFit",
    "DataReport",
    "DeclaredPrecision",
    "Departure",
    "Distribution",
    "Estimator",
    "Evidence",
    "Explanation",
    "Export",
    "Finding",
    "Form",
    "Heading",
    "InputChange",
    "LayerReport",
    "LayerStatus",
    "LeftOut",
    "ModelReport",
    "Observation",
    "Option",
    "Problem",
    "Replay",
    "Report",
    "Run",
    "Severity",
    "Shard",
    "Statistics",
    "Status",
    "Strip",
    "Summary",
    "Tolerance",
    "Unread",
    "Verified",
    "Worst",
    "in_words",
]
