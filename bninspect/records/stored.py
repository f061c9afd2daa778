"""What a file says: Checkpoint -> BatchNorm, Unread."""

from __future__ import annotations

from dataclasses import dataclass

from bninspect.records.vocabulary import PARAMETERS, Array, Statistics


@dataclass(frozen=True, eq=False)
class BatchNorm:
    """One batch-norm layer as its file states it: never judged, repaired or defaulted. `None` = the file does not say.

    Arrays are read-only, in the stored dtype, of shape (C,) with one value per channel, or, for a layer that
    normalises over several axes, of the full rank that the file holds, such as (1, 6, 1, 3). bfloat16, which NumPy
    lacks, is widened to float32: exact, and `dtype` still says bfloat16. A negative variance must be representable.
    """

    name: str
    """The path of the layer in its model: names of nested models and the layer's own, joined by `/`."""
    gamma: Array | None = None
    beta: Array | None = None
    moving_mean: Array | None = None
    moving_variance: Array | None = None
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
    wired: bool = False
    """Whether `training=True` is hard-wired so that callers disagree: `model(x)` and exports normalise by the batch."""
    undecided: Array | None = None
    """The one array that may be gamma or beta: a weights-only file with three arrays does not tell."""
    epsilon_source: str | None = None
    """`file`, or the option that supplied it, for instance `--epsilon`; `None` while epsilon is unknown."""
    notes: tuple[str, ...] = ()
    outside_root: bool = False
    """Whether the file's own operations add epsilon to the deviation instead of the variance."""

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


@dataclass(frozen=True)
class Unread:
    """Calls of batch norm that a file makes and that are none of its layers, because their reader stops there.

    Nothing vouches for them: whatever the verdict on the layers, one such record makes it "could not check" (exit 3).
    """

    where: str
    """The function, graph or module that makes the calls; `--layer` and `--exclude-layer` are matched against it."""
    count: int
    """Calls that are written there, each once however often it runs; 0 if nobody can see how many there are."""
    reason: str
    """Why they are not read."""
    known: str = ""
    """Why they do not fail, in a report: there were as many in the baseline."""


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
    version: str | None = None
    """Of a file elsewhere: its ETag, or what else its store calls a version."""
    bytes_read: int | None = None
    """Of a file elsewhere: bytes of it that were fetched. It has no sha256 if that is not all of it."""
    empty: str = ""
    """What it may mean that there is no layer, where the format can tell."""
    unread: tuple[Unread, ...] = ()
    """What the file calls a batch norm, at any depth, and is not among the layers."""
