"""What `drift` and `recalibrate` say of ten nets that are really trained here, and what they cost.

    python benchmarks/drift.py null|power|recalibrate|cost [FOLDER]

prints the tables of docs/explanation/statistics.md. The nets are kept in FOLDER, by default one in the temporary files.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from drift_cost import cost
from trained_nets import CAFFE, DEVIATION, MEAN, RECIPES, Array, TrainedNet, build_torch, trained

from bninspect import formats, runtimes
from bninspect.records import Checkpoint, ModelReport
from bninspect.settings import Settings
from bninspect.statistics.drift import drift_stream
from bninspect.statistics.recalibrate_task import recalibrate_checkpoint
from bninspect.verdicts.verify_task import run_settings

Run = Callable[..., ModelReport]


@contextmanager
def opened(path: Path) -> Iterator[Run]:
    """Load a model once, and yield a function that holds it against data."""
    checkpoint: Checkpoint = formats.read(path)
    settings = Settings()
    with tempfile.TemporaryDirectory() as folder, runtimes.open_stream(checkpoint, run_settings(settings)) as stream:

        def run(x: Array, **options: Any) -> ModelReport:
            np.save(Path(folder) / "data.npy", x)
            chosen = Settings(data=str(Path(folder) / "data.npy"), **options)
            return drift_stream(checkpoint, stream, chosen).model

        yield run


def verdicts(model: ModelReport) -> str:
    """Return the verdicts of the layers."""
    return "".join(
        {"fits": "f", "differs": "D", "unverified": "u"}[one.fit.verdict] if one.fit else "-" for one in model.layers
    )


def figures(model: ModelReport) -> str:
    """Return the largest effects of mean and variance of each layer, with the standard errors."""

    def shown(value: float | None, digits: int) -> str:
        return "inf" if value is None else f"{value:.{digits}f}"

    fits = [one.fit for one in model.layers if one.fit]
    return "  ".join(
        f"{shown(fit.mean.effect, 3)}/{shown(fit.variance.effect, 3)}"
        f" (z {shown(fit.mean.z, 1)}/{shown(fit.variance.z, 1)})"
        for fit in fits
    )


def null(nets: Iterator[TrainedNet]) -> None:
    """Hold each net against its own data, and the nets that have not settled against theirs."""
    for net in nets:
        print(f"## {net.recipe.name}")
        for stage, path in net.paths.items():
            with opened(path) as run:
                tenth = net.seen[np.random.default_rng(1).permutation(len(net.seen))[: len(net.seen) // 10]]
                parts = {"seen": net.seen, "tenth": tenth, "unseen": net.unseen}
                for what, raw in parts.items() if stage == "settled" else [("seen", net.seen), ("unseen", net.unseen)]:
                    model = run(net.given(raw))
                    about = model.data
                    named = "; ".join(one.name for one in about.changes) if about else ""
                    shown = max((one.fit.resolution or 0) for one in model.layers if one.fit)
                    print(
                        f"{stage:9} {what:7} {verdicts(model):5} {figures(model)}  shows {shown:.2f}  {named}",
                        flush=True,
                    )


def changed(net: TrainedNet, raw: Array) -> Iterator[tuple[str, Array, tuple[str, ...]]]:
    """Yield changes of prepared data, with the names by which each may rightly be explained."""
    x = net.given(raw)
    kind = net.recipe.preparation
    lay = net.laid_out
    image = raw.ndim == 4 and raw.shape[-1] == 3
    ranges = {"unit": (0.0, 1.0, "0..1"), "signed": (-1.0, 1.0, "-1..1"), "raw": (0.0, 255.0, "0..255")}
    if kind in ranges:
        low, high, own = ranges[kind]
        for other in ranges.values():
            if other[2] != own:
                share = (x - low) / (high - low)
                yield f"{other[2]} for {own}", share * (other[1] - other[0]) + other[0], (f"scale {other[2]} to {own}",)
        yield "inverted", low + high - x, ("inverted",)
        if image:
            torch = (lay(raw / 255) - lay(np.broadcast_to(MEAN, raw.shape))) / lay(
                np.broadcast_to(DEVIATION, raw.shape)
            )
            yield "ImageNet torch", torch, (f"torch to {own}",)
            caffe = lay(raw[..., ::-1] - CAFFE)
            yield "ImageNet caffe", caffe, (f"caffe to {own}",)
    if image:
        axis = 1 if net.recipe.framework == "torch" else -1
        yield "channels reversed", np.flip(x, axis), ("channels-reversed",)
        if kind == "unit":
            yield "reversed and 0..255", np.flip(x, axis) * 255, ("channels-reversed + scale 0..255 to 0..1",)
    if kind in {"torch", "caffe"}:
        yield "0..255 for " + kind, lay(raw), (f"{kind} from 0..255",)
        yield "0..1 for " + kind, lay(raw / 255), (f"{kind} from 0..1",)
        yield "BGR 0..255 for " + kind, lay(raw[..., ::-1]), (f"channels-reversed + {kind} from 0..255",)
    if raw.ndim == 4 and raw.shape[1] == raw.shape[2]:
        yield "transposed", np.swapaxes(x, *((2, 3) if net.recipe.framework == "torch" else (1, 2))), ("transposed",)
    if image and net.recipe.framework != "torch":
        yield "NCHW values as NHWC", np.ascontiguousarray(x.transpose(0, 3, 1, 2)).reshape(x.shape), ("layout",)
    if kind == "decibel":
        yield "power for decibel", lay(raw), ("decibel",)
        yield "amplitude for decibel", lay(np.sqrt(raw)), ("decibel of amplitude",)
        yield "log for decibel", lay(np.log(raw)), ("decibel from log",)
    if kind == "standardised":
        yield "not standardised", raw, ("standardised by sample",)


def power(nets: Iterator[TrainedNet]) -> None:
    """Hold each settled net against data that is prepared otherwise: which change is named?"""
    for net in nets:
        print(f"## {net.recipe.name}")
        with opened(net.paths["settled"]) as run:
            for what, x, right in changed(net, net.unseen):
                model = run(np.ascontiguousarray(x, np.float32))
                found = [one.name for one in model.data.changes] if model.data else []
                word = (
                    "right"
                    if found[:1] and found[0] in right
                    else "tie"
                    if set(found) & set(right)
                    else "none"
                    if not found
                    else "WRONG"
                )
                print(f"{what:24} {verdicts(model):5} {word:6} {found}  {figures(model)[:40]}", flush=True)


def recalibrate(nets: Iterator[TrainedNet]) -> None:
    """Recalibrate nets with averaged weights: how consistent the result is, and what other ways make of them."""
    for net in nets:
        path = net.paths["averaged"]
        checkpoint: Checkpoint = formats.read(path)
        x = net.given(net.seen)
        with tempfile.TemporaryDirectory() as folder:
            outputs = []
            for number, part in enumerate((x, x[np.random.default_rng(0).permutation(len(x))])):
                np.save(Path(folder) / "data.npy", part)
                outputs.append(Path(folder) / f"{number}{path.suffix}")
                settings = Settings(data=str(Path(folder) / "data.npy"))
                done = recalibrate_checkpoint(checkpoint, checkpoint, outputs[-1], settings)
            same = outputs[0].read_bytes() == outputs[1].read_bytes()
            off = max(max(layer.mean_off, layer.variance_off) for layer in done.layers)
            moved = max(layer.mean_moved or 0 for layer in done.layers)
            with opened(outputs[0]) as run:
                after = verdicts(run(x))
            print(
                f"{net.recipe.name:44} off {off:.1e}, same bytes {same}, moved {moved:.2f}, drift {after}", flush=True
            )
            if net.recipe.framework == "torch":
                _other_ways(net, x, formats.read(outputs[0]))


def _other_ways(net: TrainedNet, x: Array, exact: Checkpoint) -> None:
    """Print the worst error of two common ways, in deviations and in logarithm of variance."""
    import torch

    program = torch.export.load(net.paths["averaged"])
    for size in (4, 16, 64):
        batches = [torch.from_numpy(x[start : start + size]) for start in range(0, len(x) - 1, size)]
        model = build_torch(net.recipe, x)
        model.load_state_dict({**program.state_dict}, strict=False)
        torch.optim.swa_utils.update_bn(batches, model)
        print(f"  update_bn, batch {size}: {_errors(model, exact)}", flush=True)
        model.load_state_dict({**program.state_dict}, strict=False)
        _total_variance(model, batches)
        print(f"  total variance in training mode, batch {size}: {_errors(model, exact)}", flush=True)


def _total_variance(model: Any, batches: list[Any]) -> None:
    """Pool means and mean squares of training batches, as fvcore's precise_bn does."""
    import torch

    norms = [one for one in model.modules() if isinstance(one, (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d))]
    sums: dict[int, list[Any]] = {id(one): [0.0, 0.0, 0] for one in norms}

    def see(norm: Any, taken: Any) -> None:
        x = taken[0].double().transpose(0, 1).flatten(1)
        total = sums[id(norm)]
        total[0], total[1], total[2] = total[0] + x.sum(1), total[1] + x.square().sum(1), total[2] + x.shape[1]

    handles = [one.register_forward_pre_hook(see) for one in norms]
    model.train()
    with torch.no_grad():
        for batch in batches:
            model(batch)
    for norm, handle in zip(norms, handles, strict=True):
        first, second, count = sums[id(norm)]
        handle.remove()
        norm.running_mean.copy_(first / count)
        norm.running_var.copy_((second / count - (first / count).square()) * (count / (count - 1)))
    model.eval()


def _errors(model: Any, exact: Checkpoint) -> str:
    named = dict(model.named_modules())
    worst_mean = worst_variance = 0.0
    for layer in exact.layers:
        variance = np.asarray(layer.moving_variance, np.float64)
        mean, other = (getattr(named[layer.name], one).double().numpy() for one in ("running_mean", "running_var"))
        worst_mean = max(worst_mean, float((np.abs(mean - layer.moving_mean) / np.sqrt(variance)).max()))
        worst_variance = max(worst_variance, float(np.abs(np.log(other / variance)).max()))
    return f"mean {worst_mean:.4f}, log variance {worst_variance:.3f}"


PARTS: Mapping[str, Callable[[Iterator[TrainedNet]], None]] = {
    "null": null,
    "power": power,
    "recalibrate": recalibrate,
    "cost": cost,
}


def main(arguments: list[str]) -> int:
    """Run one part."""
    folder = Path(arguments[1]) if len(arguments) > 1 else Path(tempfile.gettempdir()) / "bninspect-nets"
    folder.mkdir(parents=True, exist_ok=True)
    PARTS[arguments[0]](trained(recipe, folder) for recipe in RECIPES)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
