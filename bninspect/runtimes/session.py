"""A run of a file whose graph names every value: fetch what goes in and out of each batch norm; each layer alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bninspect.errors import RuntimeFailure
from bninspect.records import (
    Array,
    BatchNorm,
    Checkpoint,
    DeclaredPrecision,
    Evidence,
    Form,
    Observation,
    Run,
    Statistics,
)
from bninspect.runtimes import inputs, probe
from bninspect.runtimes.runtime import Begin, Input, RunSettings, Session, Sink
from bninspect.safe_text import printable

GROUP = 64
"""Batch norms that are fetched in one run."""
SAME = 1e-3
"""Optimisation may change the outputs by this much of the largest: it changes the order of operations alone."""


@dataclass(frozen=True, eq=False)
class CallSite:
    """A place in the graph where a stored layer is called."""

    layer: BatchNorm
    x: str
    y: str
    loaded: Mapping[str, str] = field(default_factory=dict)
    """Value that holds each parameter, by the parameter's standard name."""
    unseen: bool = False
    """Whether the runtime does not show what it loaded: its results alone tell."""
    subtracts: bool = False
    """Whether the graph subtracts what the layer says is added."""
    activation: str = ""
    """What the graph applies to the result before anybody can see it: relu or relu6."""
    form: Form | None = None
    """The order of operations, where the graph spells them out; None for that of the runtime's operator."""
    missed: str = "its input and output are not floats that NumPy knows"
    """Why x or y is not among what was computed, if it is not."""


def observe(
    session: Session,
    calls: Sequence[CallSite],
    unobserved: Mapping[str, str],
    checkpoint: Checkpoint,
    settings: RunSettings,
    begin: Begin,
) -> Run:
    """Observe every call in the model, and every layer alone.

    Raises:
        UsageError: the settings do not fit the model's inputs.
        RuntimeFailure: the runtime cannot run the model.
    """
    data, notes = ready(session, settings)
    sink = begin()
    wanted = {layer.name for layer in checkpoint.layers}
    asked = [call for call in calls if call.layer.name in wanted]
    missing = dict(unobserved)
    for group in (asked[start : start + GROUP] for start in range(0, len(asked), GROUP)):
        names = dict.fromkeys(name for call in group for name in (call.x, call.y, *call.loaded.values()))
        values = session.compute(data, list(names))
        for call in group:
            if call.x in values and call.y in values and values[call.y].dtype.kind == "f":
                sink(_observation(session, call, values))
            else:
                missing[call.layer.name] = call.missed
    failed = _probe(session, [call.layer for call in asked], sink)
    notes += tuple(_optimisation(session, data))
    return Run(
        session.title,
        Evidence.MODEL,
        unobserved=missing,
        notes=notes + failed,
        environment=session.environment,
        precision=session.deployed,
    )


def observe_alone(
    title: str, form: Form, alone: Callable[[BatchNorm, Array], Array], checkpoint: Checkpoint, begin: Begin
) -> Run:
    """Run a runtime's own batch norm, which computes in the order `form`, on the parameters that we read."""
    session = Session(title, (), (), lambda _data, _names: {}, lambda _: {}, form, alone)
    sink = begin()
    missing: dict[str, str] = {}
    for layer in checkpoint.layers:
        for failure in _probe(session, [layer], sink):
            missing[layer.name] = failure
    return Run(title, Evidence.LAYER, unobserved=missing)


def ready(session: Session, settings: RunSettings) -> tuple[Mapping[str, Array], tuple[str, ...]]:
    """Return input that the model accepts, of the first size that it does, and notes on what was chosen."""
    ours = settings.input is None and any(source.is_open for source in session.inputs)
    failures: list[RuntimeFailure] = []
    for attempt in range(inputs.ATTEMPTS if ours else 1):
        data, notes = inputs.prepared(session.inputs, settings, attempt)
        # TorchScript does not say what it takes: then there is one input, without a name.
        data = {source.name: as_taken(data[source.name], source) for source in session.inputs} or data
        try:
            session.compute(data, session.outputs)
        except RuntimeFailure as failure:
            failures.append(failure)
        else:
            return data, notes
    first = failures[0]
    why = first.why + inputs.other_shape(session.inputs, settings)
    raise RuntimeFailure(first.what, why=why, hint=first.hint) from first


def as_taken(values: Array, one: Input) -> Array:
    """Return values in the type that an input takes."""
    return values if one.dtype in {"string", "bfloat16"} else values.astype(np.dtype(one.dtype), copy=False)


def described(name: str, shape: Sequence[int | None], dtype: str) -> Input:
    """Return an input of a graph, which states no more than name, shape and type."""
    whole = dtype not in {"string", "bfloat16"} and np.dtype(dtype).kind in "iu"
    return Input(name, tuple(shape), dtype, (256 if len(shape) >= 4 else 2) if whole else None)


def _observation(session: Session, call: CallSite, values: Mapping[str, Array]) -> Observation:
    x, y, layer = values[call.x], values[call.y], call.layer
    folded = layer.statistics is Statistics.FOLDED
    flat = layer.axis is not None and len(layer.axis) == 1
    loaded = {name: values[value].reshape(-1) if flat else values[value] for name, value in call.loaded.items()}
    if call.unseen:
        loaded = dict(layer.arrays)
    if call.subtracts and "beta" in loaded:
        loaded["beta"] = -loaded["beta"]
    # A multiplication rounds to the type of its input; a batch norm of float16 computes in float32.
    arithmetic = x.dtype.name if folded or x.dtype == np.float64 else "float32"
    axis = layer.axis or (1,)
    if layer.channels == 1 and (x.ndim <= max(axis) or x.shape[axis[0]] != 1):
        # One channel is everything: ONNX takes an input of rank 1 so, and a single number multiplies any shape.
        x, y, axis = x.reshape(-1, 1), y.reshape(-1, 1), (1,)
    return Observation(
        layer=layer.name,
        observed="in-model",
        x=x,
        y=_before(call, x, y) if call.activation else y,
        axis=tuple(number % x.ndim for number in axis),
        arithmetic=arithmetic,
        output=y.dtype.name,
        form=call.form or session.form,
        loaded=loaded,
    )


_LIMITS = {"relu": (0.0, np.inf), "relu6": (0.0, 6.0)}
VISIBLE = ("", *_LIMITS)
"""Activations behind which a result can still be told."""


def _before(call: CallSite, x: Array, y: Array) -> Array:
    """Return y as it was before a fused activation, as far as that can be known.

    What the activation cut off is gone. There the sum of our own is put in if it is beyond the limit as well, and y is
    left as it is if not: an element that should not have been cut off is then off by what it was cut.
    """
    low, high = _LIMITS[call.activation]
    arrays = call.layer.arrays
    own = x * arrays["gamma"].astype(x.dtype) + arrays["beta"].astype(x.dtype)
    cut = ((y <= low) & (own <= low)) | ((y >= high) & (own >= high))
    return np.where(cut, own, y)


def _probe(session: Session, layers: Sequence[BatchNorm], sink: Sink) -> tuple[str, ...]:
    """Run each layer alone, where the runtime has an operation for it; return what failed."""
    if session.alone is None:
        return ()
    failed = []
    for layer in dict.fromkeys(layers):
        if layer.statistics is not Statistics.MOVING or layer.epsilon is None or layer.moving_mean is None:
            continue
        if layer.moving_mean.ndim != 1:
            failed.append(f"{printable(layer.name)} does not run alone: it has a mean and variance for every element")
            continue
        dtype = "float64" if layer.dtype == "float64" else "float32"
        # The operation has its channels along axis 1; counted from the end that is another one for every rank.
        rank = 1 - layer.axis[0] if layer.axis is not None and layer.axis[0] < 0 else 4
        try:
            for points in probe.points(layer.arrays, layer.epsilon, (1,), rank, dtype):
                x = points.astype(dtype)
                sink(
                    Observation(
                        layer=layer.name,
                        observed="probed",
                        x=x,
                        y=session.alone(layer, x),
                        axis=(1,),
                        arithmetic=dtype,
                        output=dtype,
                        form=session.form,
                        loaded=layer.arrays,
                    )
                )
        except RuntimeFailure as failure:
            failed.append(f"{printable(layer.name)} does not run alone: {failure.why}")
    return tuple(failed)


def said(precision: DeclaredPrecision) -> str:
    """Return in words in which type a model is computed, and why."""
    return f"{precision.dtype} ({precision.why})" if precision.why else precision.dtype


def _optimisation(session: Session, data: Mapping[str, Array]) -> Iterator[str]:
    """Say by how much the runtime's default optimisation changes the outputs of the model."""
    plain, fast = session.compute(data, session.outputs), session.optimised(data)
    worst, where = 0.0, ""
    for name in session.outputs:
        before, after = plain[name], fast[name]
        if before.dtype.kind != "f" or not before.size:
            continue
        with np.errstate(all="ignore"):
            largest = float(np.abs(before.astype(np.float64)).max())
            # What is not a number, or infinite, in both runs has not changed.
            same = (before == after) | (np.isnan(before) & np.isnan(after))
            change = float(np.where(same, 0.0, np.abs(after.astype(np.float64) - before)).max())
        relative = change / largest if largest > 0 else change
        if not relative <= worst:
            worst, where = relative, name
    if session.deployed is not None:
        changes = f"its outputs then change by {worst:.2g} of their largest, and what is smaller does not show in them"
        yield f"by default it computes in {said(session.deployed)}: what is compared was computed in float32; {changes}"
    elif not worst <= SAME:
        changed = f"output {printable(where)!r} changes by {worst:.2g} of its largest"
        yield f"with the runtime's default optimisation {changed}"
