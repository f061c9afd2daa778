"""What a runtime is made of, and what a run of it may be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from bninspect.records import (
    Array,
    Arrival,
    BatchNorm,
    Checkpoint,
    DeclaredPrecision,
    Estimator,
    Form,
    Observation,
    Run,
)
from bninspect.records.graph import Network
from bninspect.runtimes.dissection import Dissection

Sink: TypeAlias = Callable[[Observation], None]
"""Takes one observation while the layer's arrays are alive; what it keeps of them stays in memory."""

Receive: TypeAlias = Callable[[Arrival], None]
"""Takes what arrives at a batch norm while its array is alive; what it keeps of it stays in memory."""

Forward: TypeAlias = Callable[[Mapping[str, Array], Receive, frozenset[str] | None], None]
"""Runs one batch, given by the names of the inputs. With names of layers it may end when it has reached them all.

Raises RuntimeFailure if the runtime cannot run it."""

Begin: TypeAlias = Callable[[], Sink]
"""Starts an attempt: the sink that it returns replaces every earlier one, whose observations no longer count."""


@dataclass(frozen=True, eq=False)
class RunSettings:
    """How to run a model."""

    runtime: str | None = None
    """Name of the only runtime to try; the one that fits the file without it."""
    seed: int = 0
    """Of the random input and of nothing else."""
    batch: int = 1
    """Samples in the random input, where the model leaves the number open."""
    input: Path | Mapping[str, Array] | None = None
    """The model's input instead of random numbers: a .npy or .npz file, or arrays keyed as in one."""
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    """Shape of an input by its name, batch included; the name `""` is the only input."""
    signature: str | None = None
    """Signature of a SavedModel to run; the default one without it."""
    tag: str | None = None
    """Tag of the graph to take from a SavedModel that holds several; `serve` without it."""
    memory: int | None = None
    """Bytes that the process may have, if the user has set a limit."""
    training: bool = False
    """Whether to replay one training step as well."""
    trust: bool = False
    """Whether a model that holds code may run it."""
    modules: tuple[str, ...] = ()
    """Modules to import before loading, which register the custom classes of a trusted model."""


@dataclass(frozen=True)
class Input:
    """One input that a model takes."""

    name: str
    shape: tuple[int | None, ...]
    """Batch included; None where the model leaves the length open."""
    dtype: str
    """NumPy's name, or bfloat16 or string."""
    below: int | None = None
    """The values are whole numbers >= 0 and less than this."""
    content: bytes | None = None
    """What a text is like that the model can decode, for instance a WAV file; None if any text will do."""

    @property
    def is_open(self) -> bool:
        """Whether the model leaves the length of a dimension other than the batch open."""
        return None in self.shape[1:]


@dataclass(frozen=True, eq=False)
class Session:
    """A file that a runtime has loaded."""

    title: str
    """Name and version of the runtime."""
    inputs: tuple[Input, ...]
    outputs: tuple[str, ...]
    compute: Callable[[Mapping[str, Array], Sequence[str]], Mapping[str, Array]]
    """Run the file, without optimisation, on input by name, and return the named values."""
    optimised: Callable[[Mapping[str, Array]], Mapping[str, Array]]
    """Run the file as the runtime does by default, and return its outputs."""
    form: Form
    alone: Callable[[BatchNorm, Array], Array] | None = None
    """Run the runtime's own operation on stored parameters; the axis of the channels is 1. None if it has none."""
    environment: Mapping[str, Any] = field(default_factory=dict)
    deployed: DeclaredPrecision | None = None
    """How `optimised` computes, where that is with less precision than the file has."""
    replay: Callable[[Mapping[str, Array], Mapping[str, Array], Sequence[str]], Mapping[str, Array]] | None = None
    """Run the file with some values on the way given, and return the named ones as computed; None if it cannot."""
    network: Network | None = None
    """What the file computes, where only the runtime can tell; None where our reader can."""


@dataclass(frozen=True, eq=False)
class Stream:
    """A model that a runtime has loaded, in inference mode."""

    title: str
    """Name and version of the runtime."""
    inputs: tuple[Input, ...]
    forward: Forward
    unobserved: Mapping[str, str] = field(default_factory=dict)
    """Layers of which nothing can be seen, and why."""
    notes: tuple[str, ...] = ()
    environment: Mapping[str, Any] = field(default_factory=dict)
    noisy: Forward | None = None
    """As `forward`, with the noise that the model adds in training and not in inference; None if it has none."""
    noise: tuple[str, ...] = ()
    """Names of the layers that add it: dropout, augmentation."""
    assign: Callable[[str, Mapping[str, Array]], None] | None = None
    """Give a layer, by its name, another moving_mean and moving_variance; None where the runtime cannot do that."""
    estimators: Mapping[str, Estimator] = field(default_factory=dict)
    """The variance that training keeps in a layer, where it is not the biased one."""
    dissect: Callable[[Mapping[str, Array]], Dissection] | None = None
    """Take the model apart, for data of one shape; None where the runtime cannot. Raises RuntimeFailure if it cannot
    take this model apart."""
    held: Callable[[Mapping[str, Array]], int] | None = None
    """Return the bytes that a forward pass on data holds at a time; None where that is one array after the other."""


@dataclass(frozen=True)
class Runtime:
    """A framework that runs models."""

    name: str
    """Short name, for instance `tf-keras`."""
    title: str
    """What users call it, for instance `Keras 2 (tf-keras)`."""
    package: str
    """Package to import, for instance `tf_keras`."""
    requires: tuple[str, ...]
    """Further packages without which it does not work."""
    install: str
    """Command that installs it."""
    formats: tuple[str, ...]
    """Formats of which it may load whole models."""
    observe: Callable[[Checkpoint, RunSettings, Begin], Run]
    """Load the file itself, run the model, then every layer alone.

    Raises UnreadableFile if the file is no longer what was read, UsageError if the settings do not fit the model's
    inputs, RuntimeFailure if the framework cannot load or run the model."""
    observe_layers: Callable[[Checkpoint, RunSettings, Begin], Run]
    """Run the framework's own layer, alone, on the parameters that we read."""
    open: Callable[[Checkpoint, RunSettings], Session] | None = None
    """Load a file whose values have names, to run it as an export of another model; None where they have none."""
    stream: Callable[[Checkpoint, RunSettings], AbstractContextManager[Stream]] | None = None
    """Load a file to run data through it, batch by batch. Raises as `observe`."""
