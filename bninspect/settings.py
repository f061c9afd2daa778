"""What the user asked for, in one record that every step of the program reads. Imports nothing heavy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

READ_SECONDS = 20.0
RUN_SECONDS = 600.0
DATA_SECONDS = 86400.0
"""For a run over data, which takes as long as there is data."""
START_SECONDS = 120.0
READ_BYTES = 1_500_000_000
TRAINED_BATCH = 32
"""What Keras trains with unless it is told otherwise."""
MAX_EFFECT = 0.25


@dataclass(frozen=True)
class EpsilonRule:
    """An epsilon for the layers whose name fits `layers` and whose file does not state one."""

    layers: str
    value: float


@dataclass(frozen=True)
class ToleranceRule:
    """A tolerance for some layers, instead of the derived bound."""

    layers: str
    """Shell pattern of the layers' names."""
    rtol: float
    atol: float
    models: str = "*"
    """Shell pattern of the models' paths, compared from the right: `m.h5` fits `a/m.h5`."""
    reason: str = ""


@dataclass(frozen=True)
class IgnoreRule:
    """Findings that do not count, and why."""

    rule: str
    """A code or its beginning: `BN113`, `BN1`."""
    reason: str
    layers: str = "*"
    models: str = "*"
    until: str | None = None
    """The last day on which it holds, as 2027-01-31; for ever if there is none."""
    expired: bool = False
    """Whether that day had passed when the command began."""


@dataclass(frozen=True)
class Part:
    """One of several equal parts of a list of models, counted from 1."""

    index: int
    count: int


@dataclass(frozen=True)
class Settings:
    """Options of a command, with their defaults."""

    layers: tuple[str, ...] = ()
    """Shell patterns of the layers to look at; all of them if there is none."""
    exclude_layers: tuple[str, ...] = ()
    epsilon: tuple[EpsilonRule, ...] = ()
    """The first rule that fits a layer applies."""
    accept: tuple[str, ...] = ()
    """Grades of evidence that count as verified besides `model`: `layer`, `numbers`."""
    fail_on: str = "error"
    """Least severity of a finding that fails: error, warning, note or never."""
    select: tuple[str, ...] = ()
    """Prefixes of the rules that count; all of them if there is none."""
    ignore: tuple[str, ...] = ()
    allow_empty: bool = False
    runtime: str | None = None
    precision: str | None = None
    """Coarsest type in which the model may be computed: float64, float32, float16 or bfloat16; any without it."""
    rtol: float | None = None
    """With atol: judge by |difference| <= atol + rtol * |expected| instead of the derived bound."""
    atol: float | None = None
    seed: int = 0
    input: str | None = None
    """A .npy or .npz file with the model's input; seeded random numbers without it."""
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shape by name of the model's input, batch included; the name `""` is the only input."""
    signature: str | None = None
    """Signature of a SavedModel to run; the default one without it."""
    tag: str | None = None
    """Tag of the graph to run of a SavedModel that holds several; `serve` without it."""
    training: bool = False
    """Whether to replay one training step as well."""
    data: str | None = None
    """Data to run the model on: a .npy or .npz file, or a folder of them or of images."""
    limit: int | None = None
    """Samples of the data that are used, the first ones or, with `shuffle`, random ones; all without it."""
    shuffle: bool = False
    """Whether samples are taken in a random order, by `seed`."""
    batch_size: int = 32
    """Samples in a forward pass over data."""
    image_size: tuple[int, int] | None = None
    """Height and width to which images are brought; that of the model's input without it."""
    prepare: str | None = None
    """The preparation of data before it is given to the model, by its name; none without it."""
    trained_batch: int | None = None
    """Batch size of the training that made the statistics; TRAINED_BATCH is assumed without it."""
    max_effect: float | None = None
    """Effect up to which statistics may differ from those of the data; MAX_EFFECT without it."""
    against: tuple[str, ...] = ()
    """Exports of the model, or what a runtime of the user's returned, to hold it against."""
    trust: bool = False
    """Whether a model that holds code may run it."""
    modules: tuple[str, ...] = ()
    """Modules that register the custom classes of a trusted model when they are imported."""
    tolerances: tuple[ToleranceRule, ...] = ()
    """The first one that fits a layer applies, and before rtol and atol."""
    ignores: tuple[IgnoreRule, ...] = ()
    jobs: int = 1
    """Models that are worked on at a time, each in processes of its own."""
    dask: str | None = None
    """Where the scheduler of a Dask cluster is that works on the models, or `local:N`."""
    allow_host: tuple[str, ...] = ()
    """Hosts that models may be fetched from although they are another server's, loopback or link-local."""
    cache: str | None = None
    """A folder in which downloaded models stay; they are deleted without it."""
    cache_size: int | None = None
    """Bytes that downloaded models may take; 20 GB without it."""
    shard: Part | None = None
    """Which part of the models to work on; all of them without it."""
    timeout: float | None = None
    """Seconds for reading and for running one model; READ_SECONDS and RUN_SECONDS without it."""
    max_memory: int | None = None
    """Bytes for reading and for running one model; READ_BYTES and most of this machine's memory without it."""

    @property
    def tolerance(self) -> tuple[float, float] | None:
        """(rtol, atol) if the user insists on them."""
        return None if self.rtol is None or self.atol is None else (self.rtol, self.atol)
