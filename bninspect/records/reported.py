"""What came out: Report -> ModelReport -> LayerReport."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from bninspect.records.compared import Comparison, Counterpart, Explanation, Export, Finding, Tolerance
from bninspect.records.fitted import DataFit, DataReport
from bninspect.records.observed import DeclaredPrecision
from bninspect.records.stored import Unread
from bninspect.records.vocabulary import Estimator, Evidence, LayerStatus, Statistics, Status

_NOTEBOOK: dict[type, Callable[[Any], str]] = {}


def show_in_notebooks(kind: type, render: Callable[[Any], str]) -> None:
    """Have notebooks show records of a kind as `render` makes them. The room of reports, which is above, calls this."""
    _NOTEBOOK[kind] = render


def _shown(record: object) -> str:
    return _NOTEBOOK[type(record)](record)


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
    slopes: Distribution | None = None
    """By what each channel multiplies its input, |gamma| / sqrt(moving_variance + epsilon): extremes and quantiles.
    None where the file does not hold a variance and an epsilon."""
    notes: tuple[str, ...] = ()
    counterpart: Counterpart | None = None
    """What became of it in the file that its model is held against."""
    fit: DataFit | None = None
    """Whether its statistics are those of the data that the model was run on."""

    @property
    def exported(self) -> tuple[Comparison, ...]:
        """The comparisons of its numbers and outputs in the export that its model is held against."""
        return self.counterpart.comparisons if self.counterpart else ()


@dataclass(frozen=True)
class Problem:
    """An error as a report holds it."""

    kind: str
    what: str
    why: str
    hint: str
    exit_code: int


@dataclass(frozen=True)
class LeftOut:
    """Layers of a model that were not looked at because somebody asked for that."""

    count: int
    by: str
    """The option, or the configuration file, that leaves them out."""
    nearest: str = ""
    """The layer that a pattern of --layer which fits none is the most like; empty if none is."""


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
    data: DataReport | None = None
    """The data whose statistics were held against the stored ones."""
    version: str | None = None
    """Of a file elsewhere: its ETag, or what else its store calls a version."""
    bytes_read: int | None = None
    """Of a file elsewhere: bytes of it that were fetched. It has no sha256 if that is not all of it."""
    left_out: LeftOut | None = None
    """None if all layers were looked at."""
    unread: tuple[Unread, ...] = ()
    """Calls of batch norm in the file that are none of the layers: nothing is known of them."""
    precision: DeclaredPrecision | None = None
    """In which the model is computed; None if none of its calls was seen."""

    @property
    def content(self) -> tuple[str, str] | None:
        """What tells the content of its file: its digest or, of one elsewhere that was read in part, its version."""
        if self.sha256 is not None:
            return "sha256", self.sha256
        return None if self.version is None else ("version", self.version)

    @property
    def place(self) -> tuple[str, str]:
        """What tells it from the other models of a report: its path, and that of the export it was held against."""
        return self.path, self.against.path if self.against is not None else ""

    @property
    def unproved(self) -> tuple[str, ...]:
        """What is not proved of the export that it was held against; nothing where it was held against none."""
        return self.against.open if self.against is not None else ()

    def _repr_html_(self) -> str:
        """Return what a notebook shows of it."""
        return _shown(self)


@dataclass(frozen=True)
class Verified:
    """The answer of a framework's process: the report of one model, and what that process runs on."""

    model: ModelReport
    environment: Mapping[str, Any]
    others: tuple[ModelReport, ...] = ()
    """The same model, held against further exports."""


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
    places: tuple[int, ...]
    """Where each model of this part is in the whole list, from 0; what else the report holds comes after them."""


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
class Heading:
    """What is known of a run before its first model: who asks what of which program."""

    schema_version: str = "1.0"
    command: str
    tool: Mapping[str, str]
    environment: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Option] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Report(Heading):
    """The one result of a command: what the terminal, JSON and every other output are made from."""

    summary: Summary
    models: tuple[ModelReport, ...]
    shard: Shard | None = None
    """None if the report is about all models that were named."""

    def _repr_html_(self) -> str:
        """Return what a notebook shows of it."""
        return _shown(self)
