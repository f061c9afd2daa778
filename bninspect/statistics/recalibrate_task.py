"""The task of the framework's process: one model file and data to a copy of it with the statistics of the data."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from bninspect import atomic_files, runtimes
from bninspect.arithmetic.formula import unbiased
from bninspect.errors import RuntimeFailure, UsageError
from bninspect.exporters.copies import rewrite
from bninspect.exporters.copies.hdf5_places import WANTED
from bninspect.exporters.copies.rewrite import OpenedFile
from bninspect.exporters.copies.saved_model_folder import OpenedFolder
from bninspect.formats.encodings import npy
from bninspect.formats.tensorflow import saved_model
from bninspect.records import Array, BatchNorm, Checkpoint, Estimator, Statistics, codec
from bninspect.records.recalibrated import Recalibrated, RecalibratedLayer
from bninspect.runtimes.runtime import Stream
from bninspect.safe_text import printable
from bninspect.settings import Settings
from bninspect.statistics import recalibration
from bninspect.statistics.data import preparations, samples
from bninspect.statistics.data.open import opened
from bninspect.statistics.data.samples import Samples
from bninspect.statistics.population import Population
from bninspect.statistics.recalibration import Moments, Plan
from bninspect.statistics.recalibration_doubts import doubts
from bninspect.statistics.recalibration_progress import ShownProgress
from bninspect.verdicts import selection
from bninspect.verdicts.verify_task import run_settings

_SAMPLED = 64
"""About as many samples are looked at to tell whether data is the same."""
_DDOF = {Estimator.BIASED: 0.0, Estimator.UNBIASED: 1.0}


def recalibrate(arguments: Mapping[str, Any], arrays: list[Any], progress: Callable[[str], None]) -> Recalibrated:
    """Write a copy of `arguments["into"]` with the statistics of the data that the settings name."""
    return recalibrate_checkpoint(
        codec.decode(Checkpoint, arguments["checkpoint"], arrays),
        codec.decode(Checkpoint, arguments["into"], arrays),
        Path(arguments["output"]),
        codec.decode(Settings, arguments["settings"]),
        progress,
        resume=bool(arguments["resume"]),
        force=bool(arguments["force"]),
    )


def recalibrate_checkpoint(
    checkpoint: Checkpoint,
    into: Checkpoint,
    output: Path,
    settings: Settings,
    progress: Callable[[str], None] = lambda _: None,
    *,
    resume: bool = False,
    force: bool = False,
) -> Recalibrated:
    """Compute the statistics of data layer after layer, and write a copy of a file with them.

    Args:
        checkpoint: the model, which is run.
        into: the file that is copied: the model's, or a file of weights whose batch norms are the same.
        output: the copy.
        settings: the data, and layers that are to be left as they are.
        progress: told what is going on.
        resume: whether to go on from what an interrupted run has left beside the output.
        force: whether the output may be replaced.

    Raises:
        RuntimeFailure: a layer is not reached, would not be finite, or cannot be replaced in the file; or the framework
            cannot load or run the model.
        UnreadableFile, UsageError, MissingPackage: as `drift_checkpoint`.
    """
    begun = time.monotonic()
    settings = selection.for_model(settings, checkpoint.path)
    layers = [layer for layer in checkpoint.layers if selection.wanted(layer.name, settings)]
    layers = [layer for layer in layers if layer.statistics is Statistics.MOVING and layer.moving_mean is not None]
    if not layers:
        raise UsageError("no layer has stored statistics", why="nothing is to be computed")
    names = _paired(layers, into)
    file = rewrite.opened(into, tuple(names.values()))
    progress(f"{checkpoint.path}: loading the model")
    with (
        runtimes.open_stream(checkpoint, run_settings(settings)) as stream,
        opened(Path(settings.data or ""), stream.inputs, settings.image_size) as data,
    ):
        prepared = preparations.prepared(data, settings.prepare)
        chosen = samples.places(data.count, settings.limit, settings.seed if settings.shuffle else None)
        # Weights of torch are of its convention, whichever export of the model runs.
        kept = Estimator.UNBIASED if runtimes.fitting(into)[0] is runtimes.TORCH else None
        work = _Work(checkpoint, stream, prepared, list(chosen), layers, names, file, kept)
        written, plan, off = work.run(output, progress, resume=resume)
    # The runtime is closed by now: what remains is a matter of bytes.
    content = file.rewritten({names[name].name: values for name, values in written.items()})
    if isinstance(content, bytes):
        atomic_files.write_whole(output, content, force=force, inputs=(Path(checkpoint.path), Path(into.path)))
    else:
        atomic_files.copy_folder(saved_model.folder_of(Path(into.path)), output, content)
    partial(output).unlink(missing_ok=True)
    return Recalibrated(
        path=checkpoint.path,
        output=str(output),
        runtime=stream.title,
        data=data.title,
        samples=len(chosen),
        batch=plan.batch,
        passes=plan.passes,
        depths=len(plan.way.groups),
        seconds=round(time.monotonic() - begun, 3),
        layers=tuple(work.report(layer, written[layer.name], off[layer.name]) for layer in layers),
        notes=(*plan.notes, *work.notes, *stream.notes),
        environment=stream.environment,
    )


def partial(output: Path) -> Path:
    """Return where what has been computed is kept until the output is written."""
    return output.with_name(f"{output.name}.partial.npz")


def _paired(layers: list[BatchNorm], into: Checkpoint) -> Mapping[str, BatchNorm]:
    """Return the layer of a file for each layer of the model, which must hold the same numbers."""
    there = {layer.name: layer for layer in into.layers}
    paired = {}
    for layer in layers:
        other = there.get(layer.name) or _twin(layer, into.layers)
        if other is None or not _equal(layer, other):
            raise RuntimeFailure(
                f"{printable(into.path)} is not of this model",
                why=f"it holds {'other numbers for' if other else 'no layer'} {printable(layer.name)}",
            )
        paired[layer.name] = other
    return paired


def _twin(layer: BatchNorm, others: tuple[BatchNorm, ...]) -> BatchNorm | None:
    found = [other for other in others if _equal(layer, other)]
    return found[0] if len(found) == 1 else None


def _equal(layer: BatchNorm, other: BatchNorm) -> bool:
    return layer.arrays.keys() == other.arrays.keys() and all(
        np.array_equal(array.ravel(), other.arrays[name].ravel()) for name, array in layer.arrays.items()
    )


class _Work:
    """One model, its data and the file that is copied."""

    def __init__(
        self,
        checkpoint: Checkpoint,
        stream: Stream,
        data: Samples,
        chosen: list[int],
        layers: list[BatchNorm],
        names: Mapping[str, BatchNorm],
        file: OpenedFile | OpenedFolder,
        estimator: Estimator | None,
    ) -> None:
        self._checkpoint, self._stream, self._data, self._chosen = checkpoint, stream, data, chosen
        self._layers, self._names, self._file = layers, names, file
        self._all_of = estimator
        self._found: dict[str, Population] = {}
        self.notes: tuple[str, ...] = ()

    def run(
        self, output: Path, progress: Callable[[str], None], *, resume: bool
    ) -> tuple[Moments, Plan, Mapping[str, tuple[float, float]]]:
        """Return the new statistics by layer, how they were computed, and how far a last pass is from them."""
        progress(f"{printable(self._checkpoint.path)}: taking it apart, to plan the work")
        plan = recalibration.plan(self._stream, self._data, self._chosen, self._layers, output.absolute().parent)
        try:
            return self._gone_through(plan, output, progress, resume=resume)
        except RuntimeFailure:
            # It would be the same the next time: there is nothing to go on with.
            partial(output).unlink(missing_ok=True)
            raise
        finally:
            plan.way.close()

    def _gone_through(
        self, plan: Plan, output: Path, progress: Callable[[str], None], *, resume: bool
    ) -> tuple[Moments, Plan, Mapping[str, tuple[float, float]]]:
        label = printable(self._checkpoint.path)
        known = self._left(output) if resume else {}
        shown = ShownProgress(label, plan, len(self._chosen), progress)
        shown.plan()
        written: dict[str, Mapping[str, Array]] = {}
        for group in recalibration.recalibrate(self._stream, self._layers, plan, self._kept, shown.began, known):
            written.update(group)
            self._keep(output, written)
        off = recalibration.inconsistency(
            self._data, self._chosen, self._layers, plan, written, self._kept, shown.began
        )
        self.notes += tuple(doubts({layer.name: layer for layer in self._layers}, self._found))
        worst = max(off, key=lambda name: max(off[name]))
        if not max(off[worst]) <= recalibration.CONSISTENT:
            if known:
                raise RuntimeFailure(
                    f"the statistics of {printable(worst)} are not those of this data",
                    why=f"a last pass is off by {max(off[worst]):.2g}: the interrupted run had other data",
                    hint="run it again without --resume",
                )
            raise RuntimeFailure(
                f"the statistics of {printable(worst)} are not consistent",
                why=f"a last pass is off by {max(off[worst]):.2g}: what arrives there depends on its own statistics",
                hint=f"leave it as it is with --exclude-layer {printable(worst)}",
            )
        return written, plan, off

    def _kept(self, layer: BatchNorm, found: Population) -> Mapping[str, Array]:
        self._found[layer.name] = found
        ddof = _DDOF.get(self._estimator(layer), 1.0)
        values = {"moving_mean": found.mean, "moving_variance": unbiased(found.variance, found.count, ddof=ddof)}
        there = self._names[layer.name].name
        with np.errstate(all="ignore"):
            return {name: values[name].astype(self._file.dtype(there, name).newbyteorder("=")) for name in WANTED}

    def _estimator(self, layer: BatchNorm) -> Estimator:
        return self._all_of or self._stream.estimators.get(layer.name, Estimator.BIASED)

    def report(self, layer: BatchNorm, values: Mapping[str, Array], off: tuple[float, float]) -> RecalibratedLayer:
        """Return what became of a layer."""
        with np.errstate(all="ignore"):
            before = np.asarray(layer.moving_variance, np.float64).ravel() + (layer.epsilon or 0.0)
            shift = np.abs(values["moving_mean"] - np.asarray(layer.moving_mean, np.float64).ravel()) / np.sqrt(before)
            spread = np.abs(np.log((values["moving_variance"].astype(np.float64) + (layer.epsilon or 0.0)) / before))
        return RecalibratedLayer(
            name=layer.name,
            channels=layer.channels,
            values=self._found[layer.name].count,
            estimator=self._estimator(layer),
            mean_moved=_finite(shift.max()),
            variance_moved=_finite(spread.max()),
            mean_off=off[0],
            variance_off=off[1],
        )

    @cached_property
    def _mark(self) -> str:
        """Return what a kept part must have been made of: some samples stand for all, and the last pass tells."""
        places = range(0, len(self._chosen), max(1, len(self._chosen) // _SAMPLED))
        digest = hashlib.sha256()
        for place in places:
            for name, values in self._data.read([self._chosen[place]]).items():
                digest.update(f"{name} {values.dtype} {values.shape}".encode() + np.ascontiguousarray(values).tobytes())
        types = [str(self._file.dtype(self._names[layer.name].name, name)) for layer in self._layers for name in WANTED]
        names = [layer.name for layer in self._layers]
        parts = (self._checkpoint.sha256, self._stream.title, self._chosen, names, types, digest.hexdigest())
        return hashlib.sha256(repr(parts).encode()).hexdigest()

    def _keep(self, output: Path, written: Moments) -> None:
        arrays = {f"{layer}/{name}": one for layer, values in written.items() for name, one in values.items()}
        buffer = io.BytesIO()
        np.savez(buffer, allow_pickle=False, **{"made of": np.array(self._mark)}, **arrays)
        atomic_files.write_whole(partial(output), buffer.getvalue(), force=True)

    def _left(self, output: Path) -> Moments:
        path = partial(output)
        if not path.is_file():
            return {}
        arrays = npy.read(path)
        if str(arrays.pop("made of", np.array(""))) != self._mark:
            self.notes = ("nothing is taken over: what is left was made of another model or of other data",)
            return {}
        found: dict[str, dict[str, Array]] = {}
        for key, values in arrays.items():
            layer, _, name = key.rpartition("/")
            found.setdefault(layer, {})[name] = values
        self.notes = (f"taken over from the interrupted run: {len(found)} of {len(self._layers)} layers",)
        return found


def _finite(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
