"""The records that every part of bninspect exchanges. Frozen, plain, NumPy only.

What a file says:        Checkpoint -> BatchNorm
What a runtime did:      Run, Observation
What came out:           Report -> ModelReport -> LayerReport -> Comparison, Finding

The JSON document is `Report`, field by field (`wire.py` turns one into the other).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, TypeAlias

from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]

PARAMETERS = ("gamma", "beta", "moving_mean", "moving_variance")


class Severity(StrEnum):
    """How much a finding matters; `--fail-on` names the least that fails."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class LayerStatus(StrEnum):
    """What is known of a layer after `verify`."""

    VERIFIED = "verified"
    MISMATCH = "mismatch"
    UNVERIFIED = "unverified"


class Status(StrEnum):
    """The verdict on a model or on a whole report."""

    PASS = "pass"  # noqa: S105 - a verdict
    FAIL = "fail"
    ERROR = "error"
    EMPTY = "empty"


class Evidence(StrEnum):
    """How the numbers of the runtime came about.

    MODEL: the framework loaded the file itself with its own loader and ran it.
    LAYER: the framework's batch-norm layer was run on the parameters that we read.
    """

    MODEL = "model"
    LAYER = "layer"


class Statistics(StrEnum):
    """Which mean and variance a layer normalises with at inference."""

    MOVING = "moving"
    BATCH = "batch"
    SAMPLE = "sample"
    FOLDED = "folded"
    """None any more: a converter left gamma * x + beta, with mean, variance and epsilon already in gamma and beta."""


class Estimator(StrEnum):
    """How the variance of a batch is estimated that goes into the moving variance."""

    BIASED = "biased"
    """Sum of squares divided by n."""
    UNBIASED = "unbiased"
    """Divided by n - 1."""
    OVERCORRECTED = "overcorrected"
    """Divided by n - (1 + epsilon)."""


class Form(StrEnum):
    """The order of operations of a kernel; it decides the rounding bound (bounds.py), never the verdict.

    CENTRED: (x - mean) * scale + beta.
    AFFINE: x * scale + shift, scale and shift from one rounded 1/sqrt.
    FOLDED: x * scale + shift, both rounded on their own, for instance by a converter.
    UNKNOWN: whichever of CENTRED and AFFINE allows more.
    """

    CENTRED = "centred"
    AFFINE = "affine"
    FOLDED = "folded"
    UNKNOWN = "unknown"


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """One batch-norm layer as its file states it: never judged, repaired or defaulted. `None` = the file does not say.

    Arrays are read-only, in the stored dtype, of shape (C,) with one value per channel, or, for a layer that
    normalises over several axes, of the full rank that the file holds, such as (1, 6, 1, 3). bfloat16, which NumPy
    lacks, is widened to float32: exact, and `dtype` still says bfloat16. A negative variance must be representable.
    """

    name: str
    """The path of the layer in its model: names of nested models and the layer's own, joined by `/`."""
    gamma: Array | None
    beta: Array | None
    moving_mean: Array | None
    moving_variance: Array | None
    """`None` only where the file should hold the array and does not: then `notes` says so."""
    epsilon: float | None = None
    momentum: float | None = None
    axis: tuple[int, ...] | None = None
    """As stored, negative or not, always as a tuple: `-1` is `(-1,)`."""
    scale: bool | None = None
    """Whether the configuration says that there is a gamma; `None` when there is no configuration."""
    center: bool | None = None
    dtype: str = "float32"
    """Stored dtype of the arrays: float16, bfloat16, float32 or float64; mixed ones are joined by `+`."""
    location: str = ""
    """Where in the file the arrays are, for instance `model_weights/bn/bn`."""
    class_name: str = ""
    """Class in the configuration, for instance `SyncBatchNormalization`; empty when there is none."""
    statistics: Statistics = Statistics.MOVING
    undecided: Array | None = None
    """The one array that may be gamma or beta: a weights-only file with three arrays does not tell."""
    epsilon_source: str | None = None
    """`file`, or the option that supplied it, for instance `--epsilon`; `None` while epsilon is unknown."""
    notes: tuple[str, ...] = ()

    @property
    def channels(self) -> int:
        """Number of channels; for a layer over several axes the product of their lengths. 0 if no array is there."""
        for array in (self.moving_mean, self.moving_variance, self.gamma, self.beta):
            if array is not None:
                return int(array.size)
        return 0

    @property
    def arrays(self) -> dict[str, Array]:
        """The parameters that are there, by their standard name, in the order gamma, beta, mean, variance."""
        return {name: array for name in PARAMETERS if (array := getattr(self, name)) is not None}


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that a reader takes from one file. Layers are in the model's order."""

    path: str
    format: str
    """Name of the format, for instance `keras-h5`."""
    writer: str
    """Who wrote the file, for instance `Keras 2.4.0`; empty when it does not say."""
    layers: tuple[BatchNorm, ...]
    notes: tuple[str, ...] = ()
    architecture: str | None = None
    """The model's configuration as the JSON text of the file; `None` when only weights are there."""
    code: tuple[str, ...] = ()
    """What in the configuration is, or may run, code: `Lambda 'lambda_1'`. A runtime refuses it without `--trust`."""
    sha256: str | None = None
    bytes: int = 0


@dataclass(frozen=True, eq=False)
class Replay:
    """What a call that asked for training did to the moving statistics, and what is known of how it does that."""

    after: Mapping[str, Array]
    """`moving_mean` and `moving_variance` after the call; before it, they were those of `Observation.loaded`."""
    momentum: float
    """As the loaded layer has it."""
    estimator: Estimator
    """The variance that this kernel is known to average."""
    kept: str = "float32"
    """Type in which the moving statistics are kept: float16, bfloat16, float32 or float64."""
    decay: str = "float32"
    """Type to which the kernel rounds 1 - momentum."""
    one_pass: bool = False
    """Whether it computes the variance as E[x^2] - E[x]^2."""
    mask: Array | None = None
    """Which values count, of a shape that broadcasts against x; None if all do."""
    mask_ignored: bool = False
    """Whether it was called with a mask that this kernel does not honour."""
    trainable: bool = True
    """Whether the layer may be trained at all."""


@dataclass(frozen=True, eq=False)
class Observation:
    """One batch-norm call as a runtime made it: what went in, with what, what came out. No verdict."""

    layer: str
    """Name of the stored layer (`BatchNorm.name`)."""
    observed: str
    """`in-model` or `probed`, and of a training step `training` or `training-probed`."""
    x: Array
    """Input as the kernel saw it, (any shape); float16/32/64. bfloat16 is widened to float32."""
    y: Array
    """Output, of the same shape as x."""
    axis: tuple[int, ...]
    """Axes of x that the parameters run along, normalised to 0 <= axis < x.ndim."""
    arithmetic: str = "float32"
    """Type in which the kernel computes: float32 or float64 (float16, bfloat16 where it really does)."""
    output: str = "float32"
    """Type to which the kernel rounds its result."""
    form: Form = Form.UNKNOWN
    epsilon: float | None = None
    """As the loaded layer has it."""
    loaded: Mapping[str, Array] = field(default_factory=dict)
    """Parameters as the runtime loaded them, by standard name; bfloat16 widened to float32."""
    training: bool = False
    """Whether the layer normalised by the statistics of its batch."""
    replay: Replay | None = None
    """Of a call that asked for training."""


@dataclass(frozen=True)
class Run:
    """How a runtime dealt with one model."""

    runtime: str
    """Name and version, for instance `tf-keras 2.21.0`."""
    evidence: Evidence
    reason: str = ""
    """Why the evidence is not `model`."""
    unobserved: Mapping[str, str] = field(default_factory=dict)
    """Layers without an observation in the model, and why."""
    unreplayed: Mapping[str, str] = field(default_factory=dict)
    """Layers whose training step was asked for and could not be replayed in the model, and why."""
    unlisted: tuple[str, ...] = ()
    """Batch-norm layers of the loaded model that are none of the stored ones: nothing vouches for them."""
    notes: tuple[str, ...] = ()
    """What the user should know: shapes chosen for unknown dimensions, a cleaned configuration ..."""
    environment: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Worst:
    """The element that is the furthest from the formula in units of its bound, with the numbers of the arithmetic.

    In a training step `moving_mean` and `moving_variance` are those of the batch, and of an update `x` is the old
    value. Non-finite numbers are None.
    """

    index: tuple[int, ...]
    channel: int
    x: float | None
    expected: float | None
    actual: float | None
    bound: float | None
    gamma: float | None = None
    beta: float | None = None
    moving_mean: float | None = None
    moving_variance: float | None = None
    epsilon: float | None = None


@dataclass(frozen=True)
class Channel:
    """A channel among those that are the furthest from the formula. Non-finite numbers are None."""

    channel: int
    ratio: float | None
    """Its largest |actual - expected| / bound; None when a violation is not finite."""
    gamma: float | None
    beta: float | None
    moving_mean: float | None
    moving_variance: float | None


@dataclass(frozen=True)
class Comparison:
    """What the formula and a runtime say about the same elements, in numbers only."""

    observed: str
    reference: str
    elements: int
    violations: int
    """Elements beyond their bound, and those where a finite number met a non-finite one or NaN met anything."""
    ratio: float | None
    """Largest |actual - expected| / bound; None when a violation is not finite."""
    max_abs: float | None
    max_ulp: float | None
    """Largest distance in units in the last place of the output type."""
    nonfinite: int
    """Elements where either side is not finite."""
    worst: Worst | None
    channels: tuple[int, ...] = ()
    """Channels with violations, the worst first; at most 16."""
    calls: int = 1
    """Calls of the layer that were joined into this comparison."""
    channel_ratios: tuple[float | None, ...] = ()
    """Largest ratio in each of at most 128 equal steps along the channels; None where a violation is not finite."""
    worst_channels: tuple[Channel, ...] = ()
    """The channels with the largest ratios, the worst first; at most 8."""

    @property
    def title(self) -> str:
        """How and what was compared, in words that no other comparison of its layer has: `training moving_mean`."""
        return self.observed if self.reference == "formula" else f"{self.observed} {self.reference}"

    @property
    def agrees(self) -> bool:
        """True only if elements were compared, all of them finite and within the bound."""
        return self.elements > 0 and self.violations == 0 and self.ratio is not None and self.ratio <= 1.0


@dataclass(frozen=True)
class Finding:
    """One judgement: what was found, how bad it is, the figures behind it, what to do."""

    rule: str
    severity: Severity
    message: str
    evidence: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""
    ignored: str | None = None
    """The reason for which the user's configuration ignores it; None = it counts."""


@dataclass(frozen=True)
class Strip:
    """The values of one parameter array along its channels, in at most 128 equal steps, to 5 digits."""

    channels: int
    """Neighbouring channels that share a step; fewer in the last one."""
    low: tuple[float | None, ...]
    """Smallest finite value in each step; None if there is none."""
    high: tuple[float | None, ...]
    """Largest finite value in each step; empty where a step is one channel: it is the smallest."""
    nonfinite: tuple[int, ...]
    """Steps that hold a value that is not finite."""


@dataclass(frozen=True)
class Cause:
    """One reading of the same parameters under which the whole difference vanishes."""

    name: str
    """Stable identifiers of the deviations, joined by ` + `: `epsilon-outside`, `gamma-ignored + epsilon=1e-05`."""
    sentence: str
    """What the kernel does, in plain words."""
    ratio: float
    """Largest |actual - predicted| in units of the rounding bound of this reading; at most 1."""
    explains: float = 1.0
    """Share of the values that were looked at and that the formula does not explain."""
    details: Mapping[str, Any] = field(default_factory=dict)
    """Numbers of the reading: `epsilon`, `factor` with the interval `low` to `high` it may lie in ..."""
    ties: tuple[str, ...] = ()
    """Names of the other causes that fit as well."""
    separated_by: str = ""
    """What further observation would tell it from the first of them."""


@dataclass(frozen=True)
class Explanation:
    """The answer on one layer."""

    matches: bool
    """Whether the formula itself explains everything: there is nothing to explain."""
    causes: tuple[Cause, ...]
    """All that fit, the simplest and most common first. Empty if none does."""
    tried: int
    """Number of hypotheses that were tried."""
    elements: int
    """Number of values that were looked at."""
    remarks: tuple[str, ...] = ()
    """What can be said of the difference otherwise: whether it is affine, where it is, what comes nearest."""

    @property
    def sentence(self) -> str:
        """The answer in one line."""
        if self.matches:
            return "the formula explains every value"
        if not self.causes:
            return f"none of {self.tried} hypotheses fits"
        first, *others = self.causes
        if not others:
            return first.sentence
        rest = "1 other" if len(others) == 1 else f"{len(others)} others"
        return f"{first.sentence}, or {rest} that cannot be told apart here"


@dataclass(frozen=True)
class Distribution:
    """The values of one parameter array."""

    minimum: float | None
    quantiles: tuple[float | None, ...]
    """At 5, 25, 50, 75 and 95 percent, of the finite values; empty where only the extremes were asked for."""
    maximum: float | None
    nonfinite: int
    counts: tuple[int, ...]
    """Histogram of the finite values in equal bins from minimum to maximum."""
    strip: Strip | None = None
    smallest_positive: float | None = None
    """Of a variance: its smallest value above zero."""
    log_counts: tuple[int, ...] = ()
    """Of a variance: histogram of the values above zero, in bins equal in their logarithm up to the maximum."""


@dataclass(frozen=True)
class Tolerance:
    """What a user allows instead of the proven bound: |difference| <= atol + rtol * |expected|."""

    rtol: float
    atol: float
    reason: str = ""


@dataclass(frozen=True)
class Counterpart:
    """What became of a layer in an export of its model."""

    status: LayerStatus
    own: LayerStatus | None
    """The layer's status in its own runtime, whatever the export holds."""
    how: str
    """`folded`, `folded forward`, `scale and shift` or `batch norm`; empty if no place was found."""
    place: str = ""
    """What the export's operation is, and its name: `convolution 'operator 3'`."""
    sentence: str = ""
    """What is wrong, in plain words; empty if nothing is."""
    inherited: str = ""
    """The earlier layer whose defect makes this one's output differ, though its own numbers are right."""
    comparisons: tuple[Comparison, ...] = ()
    """Of `weights` and `bias` with what they should be, and of the `output` with that of the source."""
    explanation: Explanation | None = None
    """What converters do that would explain the numbers; None if they are right."""


@dataclass(frozen=True)
class Export:
    """The file that a model was held against."""

    path: str
    sha256: str | None
    bytes: int
    format: str
    writer: str
    runtime: str | None
    """Name and version of the runtime that ran it; None if none did."""
    same: bool
    """Whether it is an export of this model at all."""
    outputs: tuple[Comparison, ...] = ()
    """Of the outputs of the two models, also with the runtime's default optimisation."""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class LayerReport:
    """What is known of one layer. `status` is None for commands that only read."""

    name: str
    location: str
    channels: int
    axis: int | tuple[int, ...] | None
    """A number, or a list of them where the layer normalises over several axes."""
    epsilon: float | None
    epsilon_source: str | None
    momentum: float | None
    dtype: str
    scale: bool
    center: bool
    class_name: str = ""
    statistics: Statistics = Statistics.MOVING
    status: LayerStatus | None = None
    reason: str = ""
    """Why the layer is unverified."""
    known: str = ""
    """Why a status other than `verified` does not fail: it was the same in the baseline."""
    tolerance: Tolerance | None = None
    """By what the layer was judged; None for the proven bound."""
    comparisons: tuple[Comparison, ...] = ()
    findings: tuple[Finding, ...] = ()
    estimator: Estimator | None = None
    """Which variance of a batch a training step was seen to average; None if none was replayed, or if none tells."""
    explanation: Explanation | None = None
    """Why the layer's outputs are not those of the formula; None if they are, or if that was not examined."""
    parameters: Mapping[str, Distribution] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    counterpart: Counterpart | None = None
    """What became of it in the file that its model is held against."""


@dataclass(frozen=True)
class Problem:
    """An error as a report holds it."""

    kind: str
    what: str
    why: str
    hint: str
    exit_code: int


@dataclass(frozen=True)
class ModelReport:
    """What is known of one model file."""

    path: str
    sha256: str | None
    bytes: int
    format: str
    writer: str
    status: Status
    runtime: str | None = None
    evidence: Evidence | None = None
    error: Problem | None = None
    seconds: float = 0.0
    notes: tuple[str, ...] = ()
    layers: tuple[LayerReport, ...] = ()
    findings: tuple[Finding, ...] = ()
    """Findings about the model as a whole."""
    against: Export | None = None
    """The export that the model was held against."""

    def _repr_html_(self) -> str:
        """Return what a notebook shows of it."""
        from bninspect.reports.html import fragment

        return fragment.of_model(self)


@dataclass(frozen=True)
class Verified:
    """The answer of a framework's process: the report of one model, and what that process runs on."""

    model: ModelReport
    environment: Mapping[str, Any]


@dataclass(frozen=True)
class Option:
    """The value of an option and where it came from: command line, environment, file or default."""

    value: Any
    source: str


@dataclass(frozen=True)
class Shard:
    """Which part of a list of models a report is about."""

    index: int
    """From 1."""
    count: int
    models: int
    """Number of models in the whole list."""
    digest: str
    """SHA-256 of the whole list: parts belong together only if theirs is the same."""


@dataclass(frozen=True)
class Summary:
    """The counts of a report."""

    models: int
    layers: int
    verified: int
    mismatch: int
    unverified: int
    findings: Mapping[str, int]
    status: Status
    exit_code: int


@dataclass(frozen=True, kw_only=True)
class Report:
    """The one result of a command: what the terminal, JSON and every other output are made from."""

    schema_version: str = "1.0"
    command: str
    tool: Mapping[str, str]
    environment: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)
    summary: Summary
    models: tuple[ModelReport, ...]
    shard: Shard | None = None
    """None if the report is about all models that were named."""

    def _repr_html_(self) -> str:
        """Return what a notebook shows of it."""
        from bninspect.reports.html import fragment

        return fragment.of_report(self)
