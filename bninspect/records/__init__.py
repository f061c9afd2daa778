"""The records that every part of bninspect exchanges. Frozen, plain, NumPy only.

What a file says:        Checkpoint -> BatchNorm, Unread
What a runtime did:      Run, Observation
What came out:           Report -> ModelReport -> LayerReport -> Comparison, Finding

The JSON document is `Report`, field by field (`codec.py` turns one into the other).
"""

from __future__ import annotations

from bninspect.records.compared import Cause as Cause
from bninspect.records.compared import Channel as Channel
from bninspect.records.compared import Comparison as Comparison
from bninspect.records.compared import Counterpart as Counterpart
from bninspect.records.compared import Explanation as Explanation
from bninspect.records.compared import Export as Export
from bninspect.records.compared import Finding as Finding
from bninspect.records.compared import Tolerance as Tolerance
from bninspect.records.compared import Worst as Worst
from bninspect.records.fitted import DataFit as DataFit
from bninspect.records.fitted import DataReport as DataReport
from bninspect.records.fitted import Departure as Departure
from bninspect.records.fitted import InputChange as InputChange
from bninspect.records.observed import Arrival as Arrival
from bninspect.records.observed import DeclaredPrecision as DeclaredPrecision
from bninspect.records.observed import Observation as Observation
from bninspect.records.observed import Replay as Replay
from bninspect.records.observed import Run as Run
from bninspect.records.reported import Distribution as Distribution
from bninspect.records.reported import Heading as Heading
from bninspect.records.reported import LayerReport as LayerReport
from bninspect.records.reported import LeftOut as LeftOut
from bninspect.records.reported import ModelReport as ModelReport
from bninspect.records.reported import Option as Option
from bninspect.records.reported import Problem as Problem
from bninspect.records.reported import Report as Report
from bninspect.records.reported import Shard as Shard
from bninspect.records.reported import Strip as Strip
from bninspect.records.reported import Summary as Summary
from bninspect.records.reported import Verified as Verified
from bninspect.records.stored import BatchNorm as BatchNorm
from bninspect.records.stored import Checkpoint as Checkpoint
from bninspect.records.stored import Unread as Unread
from bninspect.records.vocabulary import PARAMETERS as PARAMETERS
from bninspect.records.vocabulary import Array as Array
from bninspect.records.vocabulary import Estimator as Estimator
from bninspect.records.vocabulary import Evidence as Evidence
from bninspect.records.vocabulary import Form as Form
from bninspect.records.vocabulary import LayerStatus as LayerStatus
from bninspect.records.vocabulary import Severity as Severity
from bninspect.records.vocabulary import Statistics as Statistics
from bninspect.records.vocabulary import Status as Status
from bninspect.records.vocabulary import in_words as in_words
